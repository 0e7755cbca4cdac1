/* Messages to tokens, v1 and v3.
 *
 * Both layouts are the same walk over blocks, where a block is a run of messages of one role joined by two newlines:
 *   BOS, then per user block its instruction, per assistant block its text and EOS.
 * System messages are no blocks: they are taken out, joined, and put before the text of one user block, the first in
 * v1 and the last in v3. They do end the block before them, so that user messages around one stay apart. The layouts
 * differ in how an instruction is written (as text or between control tokens) and in v3's dropping of trailing spaces
 * of answers. All text is encoded as text: nothing in a message becomes a control token. */
#include "model/chat/chat.h"

#include <string.h>

#define SEPARATOR "\n\n"

/* What a layout needs of the tokenizer; filled by speaker_init. */
typedef struct speaker {
    bora_chat_layout layout;
    const bora_tokenizer *tokenizer;
    int32_t bos_id, eos_id;
    int32_t inst_id, end_inst_id; /* v3 */
} speaker;

static const struct {
    bora_chat_layout layout;
    const char *name;
} layouts[] = {{BORA_CHAT_AUTO, "auto"}, {BORA_CHAT_NONE, "none"}, {BORA_CHAT_V1, "v1"}, {BORA_CHAT_V3, "v3"}};

const char *bora_chat_layout_name(bora_chat_layout layout)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++)
        if (layouts[i].layout == layout)
            return layouts[i].name;
    return "unknown";
}

bool bora_chat_layout_parse(const char *name, bora_chat_layout *ret_layout)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        if (strcmp(layouts[i].name, name) == 0) {
            *ret_layout = layouts[i].layout;
            return true;
        }
    }
    return false;
}

bora_chat_layout bora_chat_layout_choose(const bora_tokenizer *tokenizer)
{
    if (bora_tokenizer_bos(tokenizer) < 0 || bora_tokenizer_eos(tokenizer) < 0)
        return BORA_CHAT_NONE;
    bool controls =
        bora_tokenizer_control(tokenizer, "[INST]") >= 0 && bora_tokenizer_control(tokenizer, "[/INST]") >= 0;
    return controls ? BORA_CHAT_V3 : BORA_CHAT_V1;
}

static bora_status speaker_init(speaker *s, bora_chat_layout layout, const bora_tokenizer *tokenizer, bora_error *err)
{
    *s = (speaker){.layout = layout,
                   .tokenizer = tokenizer,
                   .bos_id = bora_tokenizer_bos(tokenizer),
                   .eos_id = bora_tokenizer_eos(tokenizer),
                   .inst_id = bora_tokenizer_control(tokenizer, "[INST]"),
                   .end_inst_id = bora_tokenizer_control(tokenizer, "[/INST]")};
    if (layout == BORA_CHAT_NONE)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no chat layout");
    if (layout != BORA_CHAT_V1 && layout != BORA_CHAT_V3)
        return bora_fail(err, BORA_E_INVAL, "chat layout %d", layout);
    if (s->bos_id < 0 || s->eos_id < 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "chat layout %s: the tokenizer has no BOS or EOS",
                         bora_chat_layout_name(layout));
    if (layout == BORA_CHAT_V3 && (s->inst_id < 0 || s->end_inst_id < 0))
        return bora_fail(err, BORA_E_UNSUPPORTED, "chat layout v3: the tokenizer has no [INST] and [/INST]");
    return BORA_OK;
}

/* ---- pieces of a chat ---------------------------------------------------------------------------------------- */

static bora_status text_add(bora_text *text, const char *string, bora_error *err)
{
    return bora_text_append(text, string, strlen(string), err);
}

/* content as one more paragraph of text; an empty one adds nothing. */
static bora_status text_join(bora_text *text, const char *content, bora_error *err)
{
    bora_status status = text->size && *content ? text_add(text, SEPARATOR, err) : BORA_OK;
    return status == BORA_OK ? text_add(text, content, err) : status;
}

/* One instruction. system: put before the text with two newlines; NULL or empty: none. */
static bora_status user_encode(const speaker *s, const char *system, const char *content, bora_tokens *ids,
                               bora_error *err)
{
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    bool spelled = s->layout == BORA_CHAT_V1;
    bora_status status = spelled ? text_add(&text, "[INST] ", err) : bora_tokens_push(ids, s->inst_id, err);
    if (status == BORA_OK && system && *system) {
        status = text_add(&text, system, err);
        if (status == BORA_OK)
            status = text_add(&text, SEPARATOR, err);
    }
    if (status == BORA_OK)
        status = text_add(&text, content, err);
    if (status == BORA_OK && spelled)
        status = text_add(&text, " [/INST]", err);
    if (status == BORA_OK)
        status = bora_tokenizer_encode(s->tokenizer, text.bytes, text.size, ids, err);
    if (status == BORA_OK && !spelled)
        status = bora_tokens_push(ids, s->end_inst_id, err);
    return status;
}

static bora_status assistant_encode(const speaker *s, const bora_text *text, bool prefix, bora_tokens *ids,
                                    bora_error *err)
{
    size_t size = text->size;
    while (s->layout != BORA_CHAT_V1 && size && text->bytes[size - 1] == ' ')
        size--;
    bora_status status = bora_tokenizer_encode(s->tokenizer, text->bytes, size, ids, err);
    if (status == BORA_OK && !prefix)
        status = bora_tokens_push(ids, s->eos_id, err);
    return status;
}

/* ---- a whole conversation ------------------------------------------------------------------------------------ */

static bool role_is(const bora_chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

/* mistral-common's rules for what may follow what. */
static bora_status messages_check(const bora_chat_message *messages, size_t n, bora_error *err)
{
    if (n == 0)
        return bora_fail(err, BORA_E_INVAL, "a conversation needs at least one message");
    for (size_t i = 0; i < n; i++) {
        bool system = role_is(&messages[i], BORA_ROLE_SYSTEM), assistant = role_is(&messages[i], BORA_ROLE_ASSISTANT);
        if (!system && !assistant && !role_is(&messages[i], BORA_ROLE_USER))
            return bora_fail(err, BORA_E_INVAL, "message %zu: unknown role '%.32s'", i, messages[i].role);
        if (system && i && role_is(&messages[i - 1], BORA_ROLE_ASSISTANT))
            return bora_fail(err, BORA_E_INVAL, "message %zu: a system message after one of the assistant", i);
        if (assistant && !*messages[i].content)
            return bora_fail(err, BORA_E_INVAL, "message %zu: an empty message of the assistant", i);
        if (messages[i].prefix && (!assistant || i + 1 < n))
            return bora_fail(err, BORA_E_INVAL, "message %zu: prefix is for a last message of the assistant", i);
    }
    if (role_is(&messages[n - 1], BORA_ROLE_ASSISTANT)) {
        if (n == 1)
            return bora_fail(err, BORA_E_INVAL, "a conversation must start with a user or system message");
        if (!messages[n - 1].prefix)
            return bora_fail(err, BORA_E_INVAL, "the last message is the assistant's and not a prefix");
    }
    return BORA_OK;
}

/* End of the run of messages of one role that begins at first. */
static size_t block_end(const bora_chat_message *messages, size_t n, size_t first)
{
    size_t end = first + 1;
    while (end < n && role_is(&messages[end], messages[first].role))
        end++;
    return end;
}

/* Index of the message whose block gets the system prompt, among those of the user; n if there is none. */
static size_t system_place(bora_chat_layout layout, const bora_chat_message *messages, size_t n)
{
    size_t place = n;
    for (size_t i = 0; i < n; i = block_end(messages, n, i)) {
        if (!role_is(&messages[i], BORA_ROLE_USER))
            continue;
        place = i;
        if (layout == BORA_CHAT_V1)
            break;
    }
    return place;
}

static bora_status block_encode(const speaker *s, const bora_chat_message *messages, size_t n, const char *system,
                                bora_tokens *ids, bora_error *err)
{
    BORA_CLEANUP(bora_text_release) bora_text text = {0};
    for (size_t i = 0; i < n; i++) {
        bora_status status = text_join(&text, messages[i].content, err);
        if (status != BORA_OK)
            return status;
    }
    return role_is(messages, BORA_ROLE_USER) ? user_encode(s, system, text.bytes, ids, err)
                                             : assistant_encode(s, &text, messages[n - 1].prefix, ids, err);
}

static bora_status messages_encode(const speaker *s, const bora_chat_message *messages, size_t n, bora_tokens *ids,
                                   bora_error *err)
{
    BORA_CLEANUP(bora_text_release) bora_text system = {0};
    bora_status status = BORA_OK;
    size_t first = n; /* message that is not of the system */
    for (size_t i = 0; i < n && status == BORA_OK; i++) {
        if (role_is(&messages[i], BORA_ROLE_SYSTEM))
            status = text_join(&system, messages[i].content, err);
        else if (first == n)
            first = i;
    }
    if (status == BORA_OK)
        status = bora_tokens_push(ids, s->bos_id, err);
    size_t place = system_place(s->layout, messages, n);
    if (status == BORA_OK && (first == n || !role_is(&messages[first], BORA_ROLE_USER))) {
        /* A chat begins with an instruction, an empty one if need be. */
        bool here = place == n || s->layout == BORA_CHAT_V1;
        status = user_encode(s, here ? system.bytes : NULL, "", ids, err);
        if (here)
            place = n;
    }
    for (size_t i = 0; i < n && status == BORA_OK;) {
        size_t end = block_end(messages, n, i);
        if (!role_is(&messages[i], BORA_ROLE_SYSTEM))
            status = block_encode(s, messages + i, end - i, i == place ? system.bytes : NULL, ids, err);
        i = end;
    }
    return status;
}

bora_status bora_chat_encode(bora_chat_layout layout, const bora_tokenizer *tokenizer,
                             const bora_chat_message *messages, size_t n_messages, bora_tokens *ids, bora_error *err)
{
    speaker s;
    bora_status status = speaker_init(&s, layout, tokenizer, err);
    if (status == BORA_OK)
        status = messages_check(messages, n_messages, err);
    if (status != BORA_OK)
        return status;
    size_t n_before = ids->n;
    status = messages_encode(&s, messages, n_messages, ids, err);
    if (status != BORA_OK)
        ids->n = n_before;
    return status;
}

/* ---- one more turn ------------------------------------------------------------------------------------------- */

bora_status bora_chat_encode_turn(bora_chat_layout layout, const bora_tokenizer *tokenizer, bool first,
                                  bool close_previous, const char *system, const char *user, bora_tokens *ids,
                                  bora_error *err)
{
    speaker s;
    bora_status status = speaker_init(&s, layout, tokenizer, err);
    if (status != BORA_OK)
        return status;
    if (system && !first) /* the history is append-only: it is too late */
        return bora_fail(err, BORA_E_INVAL, "a system prompt can stand before the first message only");
    size_t n_before = ids->n;
    if (first)
        status = bora_tokens_push(ids, s.bos_id, err);
    else if (close_previous)
        status = bora_tokens_push(ids, s.eos_id, err);
    if (status == BORA_OK)
        status = user_encode(&s, system, user, ids, err);
    if (status != BORA_OK)
        ids->n = n_before;
    return status;
}
