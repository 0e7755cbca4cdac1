#include "model/json_keys.h"

#include "model/model_private.h"

#include <string.h>

void bora_json_freep(json_t **value)
{
    json_decref(*value);
}

bora_status bora_json_parse(const char *text, size_t size, json_t **ret_root, bora_error *err)
{
    json_error_t json_err;
    BORA_CLEANUP(bora_json_freep) json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_err);
    if (!root)
        return bora_fail(err, json_error_code(&json_err) == json_error_out_of_memory ? BORA_E_NOMEM : BORA_E_FORMAT,
                         "not JSON: line %d: %s", json_err.line, bora_quote(json_err.text, strlen(json_err.text)).text);
    if (!json_is_object(root))
        return bora_fail(err, BORA_E_FORMAT, "not a JSON object");
    *ret_root = root;
    root = NULL;
    return BORA_OK;
}

const json_t *bora_json_find(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bora_status bora_json_u32(const json_t *object, const char *key, const char *name, bool required, uint32_t min,
                          uint32_t max, uint32_t *ret_number, bora_error *err)
{
    const json_t *value = bora_json_find(object, key);
    if (!value && !required)
        return BORA_OK;
    if (!value)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is missing", key);
    if (!json_is_integer(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not a whole number", key);
    json_int_t number = json_integer_value(value);
    if (number < min || number > max)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' (%s) is %lld, expected %u to %u", key, name, (long long)number,
                         min, max);
    *ret_number = (uint32_t)number;
    return BORA_OK;
}

bora_status bora_json_f32(const json_t *object, const char *key, bool required, float *ret_number, bora_error *err)
{
    const json_t *value = bora_json_find(object, key);
    if (!value && !required)
        return BORA_OK;
    if (!value)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is missing", key);
    if (!json_is_number(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is not a number", key);
    double number = json_number_value(value);
    if (!(number >= 0 && number <= 1e30)) /* well inside a float */
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is %g, expected a positive number", key, number);
    *ret_number = (float)number;
    return BORA_OK;
}

bora_status bora_json_bool(const json_t *object, const char *key, bool *ret_value, bora_error *err)
{
    const json_t *value = bora_json_find(object, key);
    if (value && !json_is_boolean(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is neither true nor false", key);
    *ret_value = value && json_is_true(value);
    return BORA_OK;
}

bora_status bora_json_window(const char *key, const json_t *value, uint32_t *ret_window, bora_error *err)
{
    if (json_is_null(value)) {
        *ret_window = 0;
        return BORA_OK;
    }
    if (!json_is_integer(value))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' holds something that is neither a whole number nor null", key);
    json_int_t number = json_integer_value(value);
    if (number < 1 || number > BORA_POSITIONS_MAX)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is %lld, expected 1 to %u or null", key, (long long)number,
                         BORA_POSITIONS_MAX);
    *ret_window = (uint32_t)number;
    return BORA_OK;
}
