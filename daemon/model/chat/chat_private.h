/* What the files of the chat layouts share. */
#ifndef BORA_CHAT_PRIVATE_H
#define BORA_CHAT_PRIVATE_H

#include "model/chat/chat.h"

/* Whose rules the layout follows: 1, 2, 3 or 7; 0: not a layout to speak in. */
unsigned bora_chat_version(bora_chat_layout layout);

/* check.c: mistral-common's rules for what may follow what, names and ids. Errors: INVAL. */
bora_status bora_chat_check(unsigned version, const bora_chat *chat, bora_error *err);

/* tools.c: the JSON of tool messages, appended to text. Errors: INVAL (JSON that cannot be respelled), NOMEM. */
bora_status bora_chat_tools_spell(const bora_chat *chat, bora_text *text, bora_error *err);
/* All calls of n messages. */
bora_status bora_chat_calls_spell(unsigned version, const bora_chat_message *messages, size_t n, bora_text *text,
                                  bora_error *err);
/* One result, v2 or v3. */
bora_status bora_chat_result_spell(unsigned version, const bora_chat_message *message, bora_text *text,
                                   bora_error *err);
/* "null" stands for none. */
bool bora_chat_call_has_id(const bora_chat_call *call);

#endif
