/* Messages to tokens.
 *
 * All layouts are one walk over blocks, where a block is a run of messages of one role:
 *   BOS, then per block of the user its instruction, of the assistant its text, its tool calls and EOS, of tools each
 *   result, in v7 of the system each prompt. Messages of a block of the user or the assistant are joined.
 * Before v7 system messages are no blocks: they are taken out, joined, and put before the text of one block of the
 * user, the first in v1 and the last in v2 and v3. They do end the block before them, so that user messages around one
 * stay apart. The tools that may be called stand before the last instruction. The layouts differ also in how an
 * instruction is written (v1 as text, the others between control tokens), in the dropping of trailing spaces of answers
 * (all but v1), and in tool messages (v2 keeps only those after the last instruction, and no ids). All text is encoded
 * as text: nothing in a message becomes a control token. */
#include "model/chat/chat_private.h"

#include <string.h>

#define SEPARATOR "\n\n"

typedef enum mark {
    INST,
    END_INST,
    SYSTEM_PROMPT,
    END_SYSTEM_PROMPT,
    AVAILABLE_TOOLS,
    END_AVAILABLE_TOOLS,
    TOOL_CALLS,
    TOOL_RESULTS,
    END_TOOL_RESULTS,
    TOOL_CONTENT
} mark;

static const char *const mark_names[] = {
    [INST] = "[INST]",
    [END_INST] = "[/INST]",
    [SYSTEM_PROMPT] = "[SYSTEM_PROMPT]",
    [END_SYSTEM_PROMPT] = "[/SYSTEM_PROMPT]",
    [AVAILABLE_TOOLS] = "[AVAILABLE_TOOLS]",
    [END_AVAILABLE_TOOLS] = "[/AVAILABLE_TOOLS]",
    [TOOL_CALLS] = "[TOOL_CALLS]",
    [TOOL_RESULTS] = "[TOOL_RESULTS]",
    [END_TOOL_RESULTS] = "[/TOOL_RESULTS]",
    [TOOL_CONTENT] = "[TOOL_CONTENT]",
};

/* Who turns a chat into ids. */
typedef struct speaker {
    unsigned version;
    const char *name; /* of the layout */
    const bora_tokenizer *tokenizer;
    bora_tokens *ids;
    bora_error *err;
} speaker;

static bora_status speaker_init(speaker *s, bora_chat_layout layout, const bora_tokenizer *tokenizer, bora_tokens *ids,
                                bora_error *err)
{
    *s = (speaker){.version = bora_chat_version(layout),
                   .name = bora_chat_layout_name(layout),
                   .tokenizer = tokenizer,
                   .ids = ids,
                   .err = err};
    return bora_chat_layout_check(layout, tokenizer, err);
}

/* ---- pieces of a chat ---------------------------------------------------------------------------------------- */

static bora_status say_mark(const speaker *s, mark which)
{
    int32_t id = bora_tokenizer_control(s->tokenizer, mark_names[which]);
    return id < 0 ? bora_fail(s->err, BORA_E_UNSUPPORTED, "chat layout %s: the tokenizer has no %s", s->name,
                              mark_names[which])
                  : bora_tokens_push(s->ids, id, s->err);
}

static bora_status say_text(const speaker *s, const char *text, size_t size)
{
    return size ? bora_tokenizer_encode(s->tokenizer, text, size, s->ids, s->err) : BORA_OK;
}

static bora_status say_string(const speaker *s, const char *text)
{
    return text ? say_text(s, text, strlen(text)) : BORA_OK;
}

/* text between two marks. */
static bora_status say_between(const speaker *s, mark begin, const char *text, size_t size, mark end)
{
    bora_status st = say_mark(s, begin);
    if (st == BORA_OK)
        st = say_text(s, text, size);
    return st == BORA_OK ? say_mark(s, end) : st;
}

static bora_status text_add(bora_text *text, const char *string, bora_error *err)
{
    return bora_text_append(text, string, strlen(string), err);
}

/* content as one more paragraph of text; an empty one adds nothing. */
static bora_status text_join(bora_text *text, const char *content, bora_error *err)
{
    if (!content || !*content)
        return BORA_OK;
    bora_status st = text->size ? text_add(text, SEPARATOR, err) : BORA_OK;
    return st == BORA_OK ? text_add(text, content, err) : st;
}

static bora_status say_system(const speaker *s, const char *content)
{
    return say_between(s, SYSTEM_PROMPT, content, content ? strlen(content) : 0, END_SYSTEM_PROMPT);
}

/* One instruction. system: put before the text with two newlines; NULL or empty: none. */
static bora_status say_user(const speaker *s, const char *system, const char *content)
{
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    bora_status st = s->version == 1 ? text_add(&text, "[INST] ", s->err) : BORA_OK;
    if (st == BORA_OK && system && *system && (st = text_add(&text, system, s->err)) == BORA_OK)
        st = text_add(&text, SEPARATOR, s->err);
    if (st == BORA_OK && content)
        st = text_add(&text, content, s->err);
    if (st == BORA_OK && s->version == 1)
        st = text_add(&text, " [/INST]", s->err);
    if (st != BORA_OK)
        return st;
    return s->version == 1 ? say_text(s, text.bytes, text.size) : say_between(s, INST, text.bytes, text.size, END_INST);
}

static bora_status say_tools(const speaker *s, const bora_chat *chat)
{
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    if (s->version == 1 || chat->n_tools == 0)
        return BORA_OK;
    bora_status st = bora_chat_tools_spell(chat, &text, s->err);
    return st == BORA_OK ? say_between(s, AVAILABLE_TOOLS, text.bytes, text.size, END_AVAILABLE_TOOLS) : st;
}

/* ---- a whole conversation ------------------------------------------------------------------------------------ */

/* Where things go. A place is the number of a block's first message plus one; 0 is an empty instruction before all
 * messages, which conversations before v7 get when they begin otherwise. */
typedef struct plan {
    bool lead; /* there is that empty instruction */
    size_t first_user, last_user;
    bora_text system; /* before v7 */
} plan;

static void plan_release(plan *p)
{
    bora_text_release(&p->system);
}

static bool role_is(const bora_chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

/* End of the run of messages of one role that begins at first. */
static size_t block_end(const bora_chat *chat, size_t first)
{
    size_t end = first + 1;
    while (end < chat->n_messages && role_is(&chat->messages[end], chat->messages[first].role))
        end++;
    return end;
}

static bora_status plan_make(const speaker *s, const bora_chat *chat, plan *p)
{
    bool begun = false, found = false;
    for (size_t i = 0; i < chat->n_messages; i = block_end(chat, i)) {
        const bora_chat_message *message = &chat->messages[i];
        bool user = role_is(message, BORA_ROLE_USER);
        if (role_is(message, BORA_ROLE_SYSTEM))
            continue;
        p->lead |= !begun && !user && s->version < 7;
        begun = true;
        if (user && !found)
            p->first_user = i + 1;
        if (user)
            p->last_user = i + 1;
        found |= user;
    }
    p->lead |= !begun && s->version < 7;
    if (p->lead)
        p->first_user = 0;
    bora_status st = BORA_OK;
    for (size_t i = 0; i < chat->n_messages && s->version < 7 && st == BORA_OK; i++)
        if (role_is(&chat->messages[i], BORA_ROLE_SYSTEM))
            st = text_join(&p->system, chat->messages[i].content, s->err);
    return st;
}

/* The instruction at a place, with what stands before it. */
static bora_status user_block(const speaker *s, const bora_chat *chat, const plan *p, size_t place, const char *content)
{
    bora_status st = place == p->last_user ? say_tools(s, chat) : BORA_OK;
    if (st != BORA_OK)
        return st;
    bool with_system = place == (s->version == 1 ? p->first_user : p->last_user);
    return say_user(s, with_system ? p->system.bytes : NULL, content);
}

static bora_status assistant_block(const speaker *s, const plan *p, const bora_chat *chat, size_t first, size_t end,
                                   const bora_text *text)
{
    const bora_chat_message *messages = &chat->messages[first];
    size_t size = text->size, n_calls = 0;
    for (size_t i = first; i < end; i++)
        n_calls += chat->messages[i].n_calls;
    if (n_calls && s->version == 1)
        return bora_fail(s->err, BORA_E_UNSUPPORTED, "message %zu: chat layout v1 has no tool calls", first);
    if (n_calls && size && s->version < 7)
        return bora_fail(s->err, BORA_E_INVAL, "messages %zu to %zu: both text and tool calls, which only v7 can have",
                         first, end - 1);
    if (!n_calls && !size) /* v7: only the block as a whole must not be empty */
        return bora_fail(s->err, BORA_E_INVAL, "message %zu: an empty message of the assistant", first);
    if (n_calls && s->version == 2 && first + 1 < p->last_user)
        return BORA_OK;
    while (s->version > 1 && size && text->bytes[size - 1] == ' ')
        size--;
    bora_status st = say_text(s, text->bytes, size);
    if (st == BORA_OK && n_calls) {
        BORA_CLEANUP(bora_text_release) bora_text calls = {0};
        if ((st = say_mark(s, TOOL_CALLS)) == BORA_OK &&
            (st = bora_chat_calls_spell(s->version, messages, end - first, &calls, s->err)) == BORA_OK)
            st = say_text(s, calls.bytes, calls.size);
    }
    if (st == BORA_OK && !chat->messages[end - 1].prefix)
        st = bora_tokens_push(s->ids, bora_tokenizer_eos(s->tokenizer), s->err);
    return st;
}

static bora_status say_result(const speaker *s, const plan *p, const bora_chat *chat, size_t i)
{
    const bora_chat_message *message = &chat->messages[i];
    if (s->version == 1)
        return bora_fail(s->err, BORA_E_UNSUPPORTED, "message %zu: chat layout v1 has no tool results", i);
    if (s->version == 2 && i + 1 < p->last_user)
        return BORA_OK;
    bora_status st;
    if (s->version == 7) {
        (void)((st = say_mark(s, TOOL_RESULTS)) == BORA_OK && (st = say_string(s, message->call_id)) == BORA_OK &&
               (st = say_mark(s, TOOL_CONTENT)) == BORA_OK && (st = say_string(s, message->content)) == BORA_OK &&
               (st = say_mark(s, END_TOOL_RESULTS)) == BORA_OK);
        return st;
    }
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    st = bora_chat_result_spell(s->version, message, &text, s->err);
    return st == BORA_OK ? say_between(s, TOOL_RESULTS, text.bytes, text.size, END_TOOL_RESULTS) : st;
}

static bora_status block_encode(const speaker *s, const bora_chat *chat, const plan *p, size_t first, size_t end)
{
    const bora_chat_message *message = &chat->messages[first];
    bora_status st = BORA_OK;
    if (role_is(message, BORA_ROLE_SYSTEM)) {
        for (size_t i = first; i < end && s->version >= 7 && st == BORA_OK; i++)
            st = say_system(s, chat->messages[i].content);
        return st;
    }
    if (role_is(message, BORA_ROLE_TOOL)) {
        for (size_t i = first; i < end && st == BORA_OK; i++)
            st = say_result(s, p, chat, i);
        return st;
    }
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    for (size_t i = first; i < end && st == BORA_OK; i++)
        st = text_join(&text, chat->messages[i].content, s->err);
    if (st != BORA_OK)
        return st;
    return role_is(message, BORA_ROLE_USER) ? user_block(s, chat, p, first + 1, text.bytes)
                                            : assistant_block(s, p, chat, first, end, &text);
}

static bora_status chat_encode(const speaker *s, const bora_chat *chat)
{
    BORA_CLEANUP(plan_release) plan p = {0};
    bora_status st = plan_make(s, chat, &p);
    if (st == BORA_OK)
        st = bora_tokens_push(s->ids, bora_tokenizer_bos(s->tokenizer), s->err);
    if (st == BORA_OK && p.lead)
        st = user_block(s, chat, &p, 0, NULL);
    for (size_t i = 0; i < chat->n_messages && st == BORA_OK;) {
        size_t end = block_end(chat, i);
        st = block_encode(s, chat, &p, i, end);
        i = end;
    }
    return st;
}

bora_status bora_chat_encode(bora_chat_layout layout, const bora_tokenizer *tokenizer, const bora_chat *chat,
                             bora_tokens *ids, bora_error *err)
{
    speaker s;
    bora_status st = speaker_init(&s, layout, tokenizer, ids, err);
    if (st == BORA_OK)
        st = bora_chat_check(s.version, chat, err);
    if (st != BORA_OK)
        return st;
    size_t n_before = ids->n;
    st = chat_encode(&s, chat);
    if (st != BORA_OK)
        ids->n = n_before;
    return st;
}

/* ---- one more turn ------------------------------------------------------------------------------------------- */

bora_status bora_chat_encode_turn(bora_chat_layout layout, const bora_tokenizer *tokenizer, bool first,
                                  bool close_previous, const char *system, const char *user, bora_tokens *ids,
                                  bora_error *err)
{
    speaker s;
    bora_status st = speaker_init(&s, layout, tokenizer, ids, err);
    if (st != BORA_OK)
        return st;
    if (system && !first) /* the history is append-only: it is too late */
        return bora_fail(err, BORA_E_INVAL, "a system prompt can stand before the first message only");
    size_t n_before = ids->n;
    if (first)
        st = bora_tokens_push(ids, bora_tokenizer_bos(tokenizer), err);
    else if (close_previous)
        st = bora_tokens_push(ids, bora_tokenizer_eos(tokenizer), err);
    bool apart = s.version >= 7;
    if (st == BORA_OK && system && apart)
        st = say_system(&s, system);
    if (st == BORA_OK)
        st = say_user(&s, apart ? NULL : system, user);
    if (st != BORA_OK)
        ids->n = n_before;
    return st;
}
