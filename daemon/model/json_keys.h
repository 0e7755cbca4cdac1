/* Reading keys of a JSON object with a message that names the key. What params.json and config.json share; private to
 * the layer. A key that is null counts as not there. */
#ifndef BORA_MODEL_JSON_KEYS_H
#define BORA_MODEL_JSON_KEYS_H

#include "base/status.h"

#include <jansson.h>

#include <stdbool.h>

/* An object from text; the caller drops it (bora_json_freep). Errors: FORMAT, NOMEM. */
bora_status bora_json_parse(const char *text, size_t size, json_t **ret_root, bora_error *err);
void bora_json_freep(json_t **value);

/* NULL if it is not there or null. Borrowed. */
const json_t *bora_json_find(const json_t *object, const char *key);

/* Leave *ret_number alone if the key is not there and not required. name: the hyper-parameter, for the message. Errors:
 * FORMAT. */
bora_status bora_json_u32(const json_t *object, const char *key, const char *name, bool required, uint32_t min,
                          uint32_t max, uint32_t *ret_number, bora_error *err);
/* Any number from 0 to 1e30. */
bora_status bora_json_f32(const json_t *object, const char *key, bool required, float *ret_number, bora_error *err);
/* false if it is not there. */
bora_status bora_json_bool(const json_t *object, const char *key, bool *ret_value, bora_error *err);
/* A window: null (0) or 1 .. BORA_POSITIONS_MAX. */
bora_status bora_json_window(const char *key, const json_t *value, uint32_t *ret_window, bora_error *err);

#endif
