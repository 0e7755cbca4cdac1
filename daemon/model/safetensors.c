/* Reading safetensors: 8 bytes of header length, the header as JSON, the data section. Each entry of the header gives
 * element type, shape (row-major, as ours) and the first and last byte inside the data section. */
#include "model/safetensors.h"

#include <jansson.h>

#include <string.h>

static bora_status dtype_of(const char *name, const json_t *value, uint32_t *ret_dtype, bora_error *err)
{
    const char *text = json_string_value(json_object_get(value, "dtype"));
    if (!text)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has no dtype", name);
    static const struct {
        const char *name;
        uint32_t dtype;
    } known[] = {{"F32", BORA_DTYPE_F32}, {"F16", BORA_DTYPE_F16}, {"BF16", BORA_DTYPE_BF16}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(known); i++) {
        if (strcmp(text, known[i].name) == 0) {
            *ret_dtype = known[i].dtype;
            return BORA_OK;
        }
    }
    return bora_fail(err, BORA_E_UNSUPPORTED, "tensor '%s' is %s, which this version cannot read", name,
                     bora_quote(text, strlen(text)).text);
}

static bool unsigned_of(const json_t *value, uint64_t *ret_number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret_number = (uint64_t)json_integer_value(value);
    return true;
}

static bora_status shape_of(const char *name, const json_t *value, uint64_t shape[4], uint32_t *ret_n_dims,
                            bora_error *err)
{
    const json_t *list = json_object_get(value, "shape");
    if (!json_is_array(list))
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has no shape", name);
    size_t n = json_array_size(list);
    if (n < 1 || n > 4)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has %zu dimensions, expected 1 to 4", name, n);
    for (size_t i = 0; i < n; i++)
        if (!unsigned_of(json_array_get(list, i), &shape[i]))
            return bora_fail(err, BORA_E_FORMAT, "tensor '%s': its shape is not made of whole numbers", name);
    *ret_n_dims = (uint32_t)n;
    return BORA_OK;
}

static bora_status extent_of(const char *name, const json_t *value, size_t size, size_t *ret_begin, size_t *ret_size,
                             bora_error *err)
{
    const json_t *list = json_object_get(value, "data_offsets");
    uint64_t begin, end;
    if (json_array_size(list) != 2 || !unsigned_of(json_array_get(list, 0), &begin) ||
        !unsigned_of(json_array_get(list, 1), &end))
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s': data_offsets is not a pair of whole numbers", name);
    if (begin > end || end > size)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' lies at %llu to %llu, the file has %zu bytes of data", name,
                         (unsigned long long)begin, (unsigned long long)end, size);
    *ret_begin = (size_t)begin;
    *ret_size = (size_t)(end - begin);
    return BORA_OK;
}

/* data [size]: the data section. */
static bora_status add_tensor(bora_model *model, const char *key, const json_t *value, const uint8_t *data, size_t size,
                              bora_error *err)
{
    bora_quoted quoted = bora_quote(key, strlen(key));
    const char *name = quoted.text;
    if (!json_is_object(value))
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is not described by an object", name);
    uint64_t shape[4];
    uint32_t n_dims = 0, dtype = 0;
    size_t begin = 0, n_bytes = 0;
    bora_status st;
    if ((st = dtype_of(name, value, &dtype, err)) != BORA_OK ||
        (st = shape_of(name, value, shape, &n_dims, err)) != BORA_OK ||
        (st = extent_of(name, value, size, &begin, &n_bytes, err)) != BORA_OK ||
        (st = bora_model_entries_add(model, key, strlen(key), shape, n_dims, dtype, data + begin, size - begin, err)) !=
            BORA_OK)
        return st;
    uint64_t expected = model->entries[model->n_entries - 1].info.size;
    if (n_bytes != expected)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has %zu bytes, its shape needs %llu", name, n_bytes,
                         (unsigned long long)expected);
    return BORA_OK;
}

static void json_freep(json_t **value)
{
    json_decref(*value);
}

bora_status bora_safetensors_read(bora_model *model, const void *data, size_t size, bora_error *err)
{
    uint64_t header_size;
    if (size < sizeof header_size)
        return bora_fail(err, BORA_E_FORMAT, "the file has %zu bytes, too few for a header", size);
    memcpy(&header_size, data, sizeof header_size);
    const uint8_t *bytes = (const uint8_t *)data + sizeof header_size;
    const size_t rest = size - sizeof header_size;
    if (header_size > BORA_SAFETENSORS_HEADER_MAX)
        return bora_fail(err, BORA_E_FORMAT, "header length %llu, at most %zu are allowed",
                         (unsigned long long)header_size, BORA_SAFETENSORS_HEADER_MAX);
    if (header_size > rest)
        return bora_fail(err, BORA_E_FORMAT, "header length %llu, the file has %zu bytes after it",
                         (unsigned long long)header_size, rest);
    json_error_t json_err;
    BORA_CLEANUP(json_freep)
    json_t *header = json_loadb((const char *)bytes, (size_t)header_size, JSON_REJECT_DUPLICATES, &json_err);
    if (!header)
        return bora_fail(err, json_error_code(&json_err) == json_error_out_of_memory ? BORA_E_NOMEM : BORA_E_FORMAT,
                         "header: %s", bora_quote(json_err.text, strlen(json_err.text)).text);
    if (!json_is_object(header))
        return bora_fail(err, BORA_E_FORMAT, "header: not a JSON object");
    bora_status st = bora_model_entries_reserve(model, json_object_size(header), err);
    if (st != BORA_OK)
        return st;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        if ((st = add_tensor(model, key, value, bytes + header_size, rest - (size_t)header_size, err)) != BORA_OK)
            return st;
    }
    return BORA_OK;
}
