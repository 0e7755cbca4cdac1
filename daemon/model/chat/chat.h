/* Chat layouts: how messages become tokens, token by token and not by a text template.
 *
 * Two ways in. bora_chat_encode gives mistral-common's exact layout of a whole conversation. bora_chat_encode_turn
 * gives the tokens that one more user message adds to a session, whose history is append-only: it equals
 * bora_chat_encode except that v3's system prompt stands before the first user message and stays there. */
#ifndef BORA_CHAT_CHAT_H
#define BORA_CHAT_CHAT_H

#include "base/status.h"
#include "model/tokenizer/tokenizer.h"

typedef int bora_chat_layout;
#define BORA_CHAT_AUTO      (-1) /* choose from tokenizer and model; only in options */
#define BORA_CHAT_NONE      0    /* not a chat model */
#define BORA_CHAT_V1        1    /* "[INST] text [/INST]" as text; Mistral 7B v0.1, v0.2, Mixtral 8x7B */
#define BORA_CHAT_V3        3    /* [INST] and [/INST] as control tokens; Mistral 7B v0.3 */

#define BORA_ROLE_SYSTEM    "system"
#define BORA_ROLE_USER      "user"
#define BORA_ROLE_ASSISTANT "assistant"

typedef struct bora_chat_message {
    const char *role;    /* BORA_ROLE_* */
    const char *content; /* UTF-8, zero-terminated */
    bool prefix;         /* the last assistant message is to be continued: no EOS after it */
} bora_chat_message;

/* "none", "v1", "v3"; "auto" for AUTO; "unknown" for any other number. */
const char *bora_chat_layout_name(bora_chat_layout layout);
/* The reverse; false for anything else. */
bool bora_chat_layout_parse(const char *name, bora_chat_layout *ret_layout);
/* What the tokenizer speaks: V3 if it has [INST] and [/INST] as control pieces, V1 otherwise (NONE without BOS or
 * EOS). */
bora_chat_layout bora_chat_layout_choose(const bora_tokenizer *tokenizer);

/* A whole conversation, BOS included, ready for the model to answer (or to go on, with prefix). Messages of the same
 * role in a row are joined by two newlines, as mistral-common does.
 * Errors: INVAL (unknown role, wrong order, last message not of the user: mistral-common's refusals), UNSUPPORTED
 * (layout NONE, or one that the tokenizer cannot speak), NOMEM. ids is as before on failure. */
bora_status bora_chat_encode(bora_chat_layout layout, const bora_tokenizer *tokenizer,
                             const bora_chat_message *messages, size_t n_messages, bora_tokens *ids, bora_error *err);

/* What one user message adds to a session. first: nothing is in the session yet (BOS and, if not NULL, the system
 * prompt are added). close_previous: the history ends in an answer that was cut before EOS, which is added first (never
 * with first). Errors: UNSUPPORTED (as above), INVAL (system given though not first), NOMEM. ids is as before on
 * failure. */
bora_status bora_chat_encode_turn(bora_chat_layout layout, const bora_tokenizer *tokenizer, bool first,
                                  bool close_previous, const char *system, const char *user, bora_tokens *ids,
                                  bora_error *err);

#endif
