/* Chat layouts: how messages become tokens, token by token and not by a text template.
 *
 * Two ways in. bora_chat_encode gives mistral-common's exact layout of a whole conversation. bora_chat_encode_turn
 * gives the tokens that one more user message adds to a session, whose history is append-only: it equals
 * bora_chat_encode except that the system prompt of v2 and v3 stands before the first user message and stays there. */
#ifndef BORA_CHAT_CHAT_H
#define BORA_CHAT_CHAT_H

#include "base/status.h"
#include "model/tokenizer/tokenizer.h"

typedef int bora_chat_layout;
#define BORA_CHAT_UNKNOWN   (-2) /* a template that is none of these; never a model's layout */
#define BORA_CHAT_AUTO      (-1) /* choose from tokenizer and model; only in options */
#define BORA_CHAT_NONE      0    /* not a chat model */
#define BORA_CHAT_V1        1    /* "[INST] text [/INST]" as text; Mistral 7B v0.1, v0.2, Mixtral 8x7B */
#define BORA_CHAT_V2        2    /* [INST], [/INST] and the marks of tools as control tokens; the first Mistral Large */
#define BORA_CHAT_V3        3    /* v2 with ids of tool calls; Mistral 7B v0.3, Mixtral 8x22B, Codestral */
#define BORA_CHAT_V7        7    /* v3 with [SYSTEM_PROMPT] and [TOOL_CONTENT]; Mistral Large 2411 */
/* The rules of v3 and v7 on a Tekken tokenizer, whose text begins without a space. */
#define BORA_CHAT_V3_TEKKEN 103 /* Mistral Nemo, Ministral 8B */
#define BORA_CHAT_V7_TEKKEN 107 /* Mistral Small 24B */

/* ---- layouts ------------------------------------------------------------------------------------------------- */

/* What a user may write, for messages: "auto, none, v1, ...". */
#define BORA_CHAT_LAYOUTS   "auto, none, v1, v2, v3, v7, v3-tekken or v7-tekken"
/* "none", "v1", "v3-tekken" ...; "auto" for AUTO; "unknown" for any other number. */
const char *bora_chat_layout_name(bora_chat_layout layout);
/* The reverse; false for anything else. */
bool bora_chat_layout_parse(const char *name, bora_chat_layout *ret_layout);
/* What the tokenizer speaks: V7 if it has [SYSTEM_PROMPT], V3 if it has [INST], each with its end, as control pieces
 * (of Tekken: the -tekken ones), V1 otherwise (NONE without BOS or EOS, and for a Tekken without [INST]). */
bora_chat_layout bora_chat_layout_choose(const bora_tokenizer *tokenizer);
/* Whether the tokenizer can speak the layout (tools aside). Errors: UNSUPPORTED (NONE; pieces are missing, or it is a
 * tokenizer of the other kind), INVAL (not a layout to speak in). */
bora_status bora_chat_layout_check(bora_chat_layout layout, const bora_tokenizer *tokenizer, bora_error *err);
/* Which layout a chat template (tokenizer.chat_template of GGUF, chat_template of tokenizer_config.json) stands for, by
 * the marks that it has in its text; it is not run. UNKNOWN: a template of another family, of a later version whose
 * tool messages differ, or for which the tokenizer has no pieces. */
bora_chat_layout bora_chat_layout_of_template(const char *text, size_t size, const bora_tokenizer *tokenizer);

/* ---- messages ------------------------------------------------------------------------------------------------ */

#define BORA_ROLE_SYSTEM    "system"
#define BORA_ROLE_USER      "user"
#define BORA_ROLE_ASSISTANT "assistant"
#define BORA_ROLE_TOOL      "tool"

/* All texts are UTF-8 and zero-terminated. */
typedef struct bora_chat_call {
    const char *name;
    const char *arguments; /* JSON, respelled as Python writes it; what is not JSON is taken as a string; NULL: {} */
    const char *id;        /* v3 and later: nine letters and digits; NULL or "null": none */
} bora_chat_call;

typedef struct bora_chat_message {
    const char *role;            /* BORA_ROLE_* */
    const char *content;         /* of a tool: its result, up to v3 handled as arguments are; NULL: "" */
    bool prefix;                 /* the last assistant message is to be continued: no EOS after it */
    const bora_chat_call *calls; /* [n_calls] of an assistant; up to v3 instead of content */
    size_t n_calls;
    const char *name; /* of a tool: the function that was called; v2 writes it, the others leave it out; may be NULL */
    const char *call_id; /* of a tool: the call that it answers; needed from v3 on */
} bora_chat_message;

typedef struct bora_chat_tool {
    const char *name;
    const char *description; /* NULL: "" */
    const char *parameters;  /* a JSON schema, respelled; NULL: {} */
} bora_chat_tool;

typedef struct bora_chat {
    const bora_chat_message *messages; /* [n_messages] */
    size_t n_messages;
    const bora_chat_tool *tools; /* [n_tools] that the model may call; v1 leaves them out */
    size_t n_tools;
} bora_chat;

/* A whole conversation, BOS included, ready for the model to answer (or to go on, with prefix). Messages of the same
 * role in a row are joined by two newlines, as mistral-common does.
 * Errors: INVAL (unknown role, wrong order, ids and names that do not fit, last message not of the user or a tool:
 * mistral-common's refusals), UNSUPPORTED (as bora_chat_layout_check; tool messages that the layout or the tokenizer
 * does not have), NOMEM. ids is as before on failure. */
bora_status bora_chat_encode(bora_chat_layout layout, const bora_tokenizer *tokenizer, const bora_chat *chat,
                             bora_tokens *ids, bora_error *err);

/* What one user message adds to a session. first: nothing is in the session yet (BOS and, if not NULL, the system
 * prompt are added). close_previous: the history ends in an answer that was cut before EOS, which is added first (never
 * with first). Errors: UNSUPPORTED (as above), INVAL (system given though not first), NOMEM. ids is as before on
 * failure. */
bora_status bora_chat_encode_turn(bora_chat_layout layout, const bora_tokenizer *tokenizer, bool first,
                                  bool close_previous, const char *system, const char *user, bora_tokens *ids,
                                  bora_error *err);

/* ---- messages as JSON ---------------------------------------------------------------------------------------- */

/* Reads {"messages": [...], "tools": [...]}, or the array of messages alone, in the format of OpenAI's API: role,
 * content (text, null or an array of text parts), tool_calls, tool_call_id, name, and Mistral's prefix. Other members
 * are passed over. Errors: FORMAT (no JSON, or a member of the wrong type, named), UNSUPPORTED (a part that is no
 * text), NOMEM. */
bora_status bora_chat_read(const char *json, size_t size, bora_chat **ret_chat, bora_error *err);
void bora_chat_free(bora_chat *chat); /* one that bora_chat_read made; NULL is a no-op */

#endif
