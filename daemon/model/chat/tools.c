/* Tool messages as JSON: members in the order, and with the spelling, that Mistral's models were shown. */
#include "model/chat/chat_private.h"
#include "model/chat/json.h"

#include <string.h>

static bora_status add(bora_text *text, const char *string, bora_error *err)
{
    return bora_text_append(text, string, strlen(string), err);
}

static bora_status add_quoted(bora_text *text, const char *string, bora_error *err)
{
    return string ? bora_chat_json_quote(string, strlen(string), text, err) : add(text, "null", err);
}

static bora_status add_embedded(bora_text *text, const char *json, bora_error *err)
{
    return bora_chat_json_embed(json ? json : "", json ? strlen(json) : 0, text, err);
}

bora_status bora_chat_tools_spell(const bora_chat *chat, bora_text *text, bora_error *err)
{
    bora_status st = add(text, "[", err);
    for (size_t i = 0; i < chat->n_tools && st == BORA_OK; i++) {
        const bora_chat_tool *tool = &chat->tools[i];
        const char *description = tool->description ? tool->description : "";
        (void)((st = add(text, i ? ", " : "", err)) == BORA_OK &&
               (st = add(text, "{\"type\": \"function\", \"function\": {\"name\": ", err)) == BORA_OK &&
               (st = add_quoted(text, tool->name, err)) == BORA_OK &&
               (st = add(text, ", \"description\": ", err)) == BORA_OK &&
               (st = add_quoted(text, description, err)) == BORA_OK &&
               (st = add(text, ", \"parameters\": ", err)) == BORA_OK &&
               (st = add_embedded(text, tool->parameters, err)) == BORA_OK && (st = add(text, "}}", err)) == BORA_OK);
    }
    return st == BORA_OK ? add(text, "]", err) : st;
}

bool bora_chat_call_has_id(const bora_chat_call *call)
{
    return call->id && strcmp(call->id, "null") != 0;
}

static bora_status call_spell(unsigned version, const bora_chat_call *call, bora_text *text, bora_error *err)
{
    bora_status st;
    if ((st = add(text, "{\"name\": ", err)) != BORA_OK || (st = add_quoted(text, call->name, err)) != BORA_OK ||
        (st = add(text, ", \"arguments\": ", err)) != BORA_OK ||
        (st = add_embedded(text, call->arguments, err)) != BORA_OK)
        return st;
    if (version > 2 && bora_chat_call_has_id(call) &&
        ((st = add(text, ", \"id\": ", err)) != BORA_OK || (st = add_quoted(text, call->id, err)) != BORA_OK))
        return st;
    return add(text, "}", err);
}

bora_status bora_chat_calls_spell(unsigned version, const bora_chat_message *messages, size_t n, bora_text *text,
                                  bora_error *err)
{
    bora_status st = add(text, "[", err);
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < messages[i].n_calls && st == BORA_OK; c++, first = false) {
            st = first ? BORA_OK : add(text, ", ", err);
            if (st == BORA_OK)
                st = call_spell(version, &messages[i].calls[c], text, err);
        }
    }
    return st == BORA_OK ? add(text, "]", err) : st;
}

bora_status bora_chat_result_spell(unsigned version, const bora_chat_message *message, bora_text *text, bora_error *err)
{
    bora_status st;
    if (version == 2) {
        if ((st = add(text, "[{\"name\": ", err)) != BORA_OK ||
            (st = add_quoted(text, message->name, err)) != BORA_OK ||
            (st = add(text, ", \"content\": ", err)) != BORA_OK ||
            (st = add_embedded(text, message->content, err)) != BORA_OK)
            return st;
        return add(text, "}]", err);
    }
    if ((st = add(text, "{\"content\": ", err)) != BORA_OK ||
        (st = add_embedded(text, message->content, err)) != BORA_OK ||
        (st = add(text, ", \"call_id\": ", err)) != BORA_OK ||
        (st = add_quoted(text, message->call_id, err)) != BORA_OK)
        return st;
    return add(text, "}", err);
}
