/* A chat from JSON in the format of OpenAI's API. Texts are borrowed from the parsed document, which the chat keeps;
 * what must be put together (JSON inside, contents in parts) is kept beside it. */
#include "model/chat/chat_private.h"

#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Zero-terminated texts that the chat owns. */
typedef struct kept {
    struct kept *next;
    bora_text text;
} kept;

typedef struct document {
    bora_chat chat; /* first: what the caller has is a pointer to it */
    json_t *root;
    kept *kept;
    bora_chat_message *messages;
    bora_chat_tool *tools;
    bora_chat_call *calls; /* of all messages */
    size_t n_calls;
} document;

void bora_chat_free(bora_chat *chat)
{
    document *d = (document *)chat;
    if (!d)
        return;
    for (kept *k = d->kept, *next; k; k = next) {
        next = k->next;
        bora_text_release(&k->text);
        bora_free(k);
    }
    bora_free(d->messages);
    bora_free(d->tools);
    bora_free(d->calls);
    json_decref(d->root);
    bora_free(d);
}

static void documentp(document **d)
{
    if (*d)
        bora_chat_free(&(*d)->chat);
}

/* A new empty text; NULL without memory. */
static bora_text *keep(document *d)
{
    kept *k = bora_calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->next = d->kept;
    d->kept = k;
    return &k->text;
}

/* Where in the document something is, for messages. */
typedef struct place {
    const char *list; /* "messages" or "tools" */
    size_t number;
} place;

static bora_status wrong(place at, const char *key, const char *expected, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "%s[%zu].%s: expected %s", at.list, at.number, key, expected);
}

/* A text member; NULL where it is missing or null. */
static bora_status get_text(const json_t *object, place at, const char *key, const char **ret_text, bora_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value) && !json_is_string(value))
        return wrong(at, key, "a text", err);
    *ret_text = json_string_value(value);
    return BORA_OK;
}

/* A member that may be any JSON: a text as it is, the rest written as JSON. */
static bora_status get_json(document *d, const json_t *object, const char *key, const char **ret_text, bora_error *err)
{
    const json_t *value = json_object_get(object, key);
    *ret_text = json_string_value(value);
    if (*ret_text || !value || json_is_null(value))
        return BORA_OK;
    char *dump = json_dumps(value, JSON_ENCODE_ANY);
    bora_text *text = dump ? keep(d) : NULL;
    bora_status st =
        text ? bora_text_append(text, dump, strlen(dump), err) : bora_fail(err, BORA_E_NOMEM, "the chat's JSON");
    free(dump); /* jansson's */
    if (st == BORA_OK)
        *ret_text = text->bytes;
    return st;
}

/* Text parts are joined by two newlines, as messages are. */
static bora_status get_content(document *d, const json_t *message, place at, const char **ret_text, bora_error *err)
{
    const json_t *content = json_object_get(message, "content");
    if (!json_is_array(content))
        return json_is_string(content) || !content || json_is_null(content)
                   ? get_text(message, at, "content", ret_text, err)
                   : wrong(at, "content", "a text or an array of parts", err);
    bora_text *text = keep(d);
    bora_status st = text ? bora_text_append(text, "", 0, err) : bora_fail(err, BORA_E_NOMEM, "a message");
    for (size_t i = 0; i < json_array_size(content) && st == BORA_OK; i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *piece = json_string_value(json_object_get(part, "text"));
        if (type && strcmp(type, "text") != 0)
            return bora_fail(err, BORA_E_UNSUPPORTED,
                             "messages[%zu].content[%zu]: a part of type '%.32s', only text "
                             "is read",
                             at.number, i, type);
        if (!piece)
            return wrong(at, "content", "parts {\"type\": \"text\", \"text\": ...}", err);
        if (*piece && text->size)
            st = bora_text_append(text, "\n\n", 2, err);
        if (st == BORA_OK)
            st = bora_text_append(text, piece, strlen(piece), err);
    }
    if (st == BORA_OK)
        *ret_text = text->bytes;
    return st;
}

/* The calls of one message go behind those before it; there is room. */
static bora_status read_calls(document *d, const json_t *message, place at, bora_chat_message *ret_message,
                              bora_error *err)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    if (!calls || json_is_null(calls))
        return BORA_OK;
    if (!json_is_array(calls))
        return wrong(at, "tool_calls", "an array", err);
    bora_chat_call *first = d->calls + d->n_calls;
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        if (!json_is_object(function))
            return wrong(at, "tool_calls", "calls with a function", err);
        bora_chat_call *c = &first[i];
        bora_status st;
        if ((st = get_text(call, at, "id", &c->id, err)) != BORA_OK ||
            (st = get_text(function, at, "name", &c->name, err)) != BORA_OK ||
            (st = get_json(d, function, "arguments", &c->arguments, err)) != BORA_OK)
            return st;
        d->n_calls++;
    }
    ret_message->calls = first;
    ret_message->n_calls = json_array_size(calls);
    return BORA_OK;
}

static bora_status read_message(document *d, const json_t *message, size_t i, bora_error *err)
{
    place at = {"messages", i};
    bora_chat_message *m = &d->messages[i];
    const json_t *prefix = json_object_get(message, "prefix");
    if (!json_is_object(message))
        return bora_fail(err, BORA_E_FORMAT, "messages[%zu]: expected an object", i);
    if (prefix && !json_is_boolean(prefix))
        return wrong(at, "prefix", "true or false", err);
    m->prefix = json_is_true(prefix);
    bora_status st;
    if ((st = get_text(message, at, "role", &m->role, err)) != BORA_OK)
        return st;
    if (!m->role)
        return wrong(at, "role", "a text", err);
    if ((st = get_text(message, at, "name", &m->name, err)) != BORA_OK ||
        (st = get_text(message, at, "tool_call_id", &m->call_id, err)) != BORA_OK ||
        (st = get_content(d, message, at, &m->content, err)) != BORA_OK)
        return st;
    return read_calls(d, message, at, m, err);
}

static bora_status read_tool(document *d, const json_t *tool, size_t i, bora_error *err)
{
    place at = {"tools", i};
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = json_object_get(function, "parameters");
    if (!json_is_object(function))
        return wrong(at, "function", "an object", err);
    if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
        return wrong(at, "function.parameters", "an object", err);
    bora_chat_tool *t = &d->tools[i];
    bora_status st;
    if ((st = get_text(function, at, "name", &t->name, err)) != BORA_OK ||
        (st = get_text(function, at, "description", &t->description, err)) != BORA_OK)
        return st;
    return get_json(d, function, "parameters", &t->parameters, err);
}

/* Arrays of the sizes that the document asks for. */
static bora_status allocate(document *d, const json_t *messages, const json_t *tools, bora_error *err)
{
    size_t n_messages = json_array_size(messages), n_tools = json_array_size(tools), n_calls = 0;
    for (size_t i = 0; i < n_messages; i++)
        n_calls += json_array_size(json_object_get(json_array_get(messages, i), "tool_calls"));
    if ((n_messages && !(d->messages = bora_calloc(n_messages, sizeof *d->messages))) ||
        (n_tools && !(d->tools = bora_calloc(n_tools, sizeof *d->tools))) ||
        (n_calls && !(d->calls = bora_calloc(n_calls, sizeof *d->calls))))
        return bora_fail(err, BORA_E_NOMEM, "a chat of %zu messages", n_messages);
    d->chat = (bora_chat){.messages = d->messages, .n_messages = n_messages, .tools = d->tools, .n_tools = n_tools};
    return BORA_OK;
}

bora_status bora_chat_read(const char *json, size_t size, bora_chat **ret_chat, bora_error *err)
{
    BORA_CLEANUP(documentp) document *d = bora_calloc(1, sizeof *d);
    if (!d)
        return bora_fail(err, BORA_E_NOMEM, "a chat");
    json_error_t wrong_json = {0};
    d->root = json_loadb(json, size, 0, &wrong_json);
    if (!d->root)
        return bora_fail(err, json_error_code(&wrong_json) == json_error_out_of_memory ? BORA_E_NOMEM : BORA_E_FORMAT,
                         "the chat is no JSON: line %d: %.100s", wrong_json.line, wrong_json.text);
    const json_t *messages = json_is_array(d->root) ? d->root : json_object_get(d->root, "messages");
    const json_t *tools = json_object_get(d->root, "tools");
    if (!json_is_array(messages))
        return bora_fail(err, BORA_E_FORMAT, "messages: expected an array");
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return bora_fail(err, BORA_E_FORMAT, "tools: expected an array");
    bora_status st = allocate(d, messages, tools, err);
    for (size_t i = 0; i < d->chat.n_messages && st == BORA_OK; i++)
        st = read_message(d, json_array_get(messages, i), i, err);
    for (size_t i = 0; i < d->chat.n_tools && st == BORA_OK; i++)
        st = read_tool(d, json_array_get(tools, i), i, err);
    if (st != BORA_OK)
        return st;
    *ret_chat = &bora_steal(&d)->chat;
    return BORA_OK;
}
