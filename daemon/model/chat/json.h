/* JSON text spelled as Python's json spells it, which is the spelling that models saw in tool messages. */
#ifndef BORA_CHAT_JSON_H
#define BORA_CHAT_JSON_H

#include "base/status.h"
#include "model/tokenizer/tokenizer.h"

/* Appends what json.dumps(json.loads(text), ensure_ascii=False) gives: ", " and ": " between, no other space, keys in
 * their order (of a repeated one the first place and the last value), whole numbers of any length as they are, other
 * numbers in the fewest digits that read back the same, NaN and Infinity too.
 * Errors: FORMAT (no JSON), INVAL (JSON that Python would not take or write either: half a surrogate pair, a whole
 * number of more than 4300 digits, nested too deeply), NOMEM. out is as before on failure. */
bora_status bora_chat_json_respell(const char *json, size_t size, bora_text *out, bora_error *err);
/* Appends text as a JSON string. Errors: NOMEM. */
bora_status bora_chat_json_quote(const char *text, size_t size, bora_text *out, bora_error *err);
/* Appends text as a value: {} if it is empty, respelled if it is JSON, else as a string. Errors: INVAL, NOMEM, as
 * above. */
bora_status bora_chat_json_embed(const char *text, size_t size, bora_text *out, bora_error *err);

#endif
