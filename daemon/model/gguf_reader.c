/* Reading the GGUF container from memory. One cursor moves through header and metadata; every count is compared with
 * the bytes that are left before anything is allocated or skipped, so that a damaged file costs a message. */
#include "model/gguf_reader.h"

#include "base/memory.h"
#include "base/size.h"
#include "model/model_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a fixed-size value; 0 for texts and arrays. */
static const uint8_t sizes[] = {
    [BORA_GGUF_U8] = 1,  [BORA_GGUF_I8] = 1,  [BORA_GGUF_U16] = 2,  [BORA_GGUF_I16] = 2,  [BORA_GGUF_U32] = 4,
    [BORA_GGUF_I32] = 4, [BORA_GGUF_F32] = 4, [BORA_GGUF_BOOL] = 1, [BORA_GGUF_TEXT] = 0, [BORA_GGUF_ARRAY] = 0,
    [BORA_GGUF_U64] = 8, [BORA_GGUF_I64] = 8, [BORA_GGUF_F64] = 8,
};

static const char *type_name(uint32_t type)
{
    static const char *const names[] = {"a u8",   "an i8",  "a u16",    "an i16", "a u32",  "an i32", "an f32",
                                        "a bool", "a text", "an array", "a u64",  "an i64", "an f64"};
    return type < BORA_ARRAY_SIZE(names) ? names[type] : "of unknown type";
}

/* ---- the cursor ---- */

static size_t left(const bora_gguf *gguf)
{
    return gguf->size - gguf->at;
}

static bora_status truncated(const bora_gguf *gguf, const char *what, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "the file ends inside %s (byte %zu)", what, gguf->at);
}

static bora_status take(bora_gguf *gguf, void *to, size_t size, const char *what, bora_error *err)
{
    if (left(gguf) < size)
        return truncated(gguf, what, err);
    memcpy(to, gguf->data + gguf->at, size);
    gguf->at += size;
    return BORA_OK;
}

static bora_status take_text(bora_gguf *gguf, size_t max_size, const char *what, bora_gguf_text *ret_text,
                             bora_error *err)
{
    uint64_t size = 0;
    bora_status st = take(gguf, &size, sizeof size, what, err);
    if (st != BORA_OK)
        return st;
    if (size > left(gguf))
        return bora_fail(err, BORA_E_FORMAT, "%s: a text of %" PRIu64 " bytes, the file has %zu left (byte %zu)", what,
                         size, left(gguf), gguf->at);
    if (size > max_size)
        return bora_fail(err, BORA_E_LIMIT, "%s: a text of %" PRIu64 " bytes, at most %zu are allowed (byte %zu)", what,
                         size, max_size, gguf->at);
    *ret_text = (bora_gguf_text){.bytes = (const char *)gguf->data + gguf->at, .size = (size_t)size};
    gguf->at += (size_t)size;
    return BORA_OK;
}

/* ---- metadata ---- */

static bora_status skip_elements(bora_gguf *gguf, uint32_t type, uint64_t n, const char *what, bora_error *err)
{
    /* A text takes 8 bytes at least: no count can keep this loop busy beyond the file's own size. */
    const size_t size_min = type == BORA_GGUF_TEXT ? 8 : sizes[type];
    if (n > left(gguf) / size_min)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' has %" PRIu64 " elements, more than the file has room for", what,
                         n);
    if (type != BORA_GGUF_TEXT) {
        gguf->at += (size_t)n * size_min;
        return BORA_OK;
    }
    for (uint64_t i = 0; i < n; i++) {
        bora_gguf_text text;
        bora_status st = take_text(gguf, BORA_GGUF_TEXT_SIZE_MAX, what, &text, err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

static bora_status take_array(bora_gguf *gguf, bora_gguf_value *value, const char *key, bora_error *err)
{
    uint64_t n = 0;
    bora_status st;
    if ((st = take(gguf, &value->element_type, sizeof value->element_type, key, err)) != BORA_OK ||
        (st = take(gguf, &n, sizeof n, key, err)) != BORA_OK)
        return st;
    if (value->element_type == BORA_GGUF_ARRAY)
        return bora_fail(err, BORA_E_UNSUPPORTED, "key '%s' is an array of arrays", key);
    if (value->element_type >= BORA_ARRAY_SIZE(sizes))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is an array of unknown type %u", key, value->element_type);
    value->data = gguf->data + gguf->at;
    value->n = (size_t)n; /* compared with the bytes left right away */
    return skip_elements(gguf, value->element_type, n, key, err);
}

static bora_status take_value(bora_gguf *gguf, bora_gguf_value *ret_value, bora_error *err)
{
    bora_gguf_value value = {.n = 1};
    bora_status st = take_text(gguf, BORA_GGUF_KEY_SIZE_MAX, "a metadata key", &value.key, err);
    if (st != BORA_OK)
        return st;
    bora_quoted key = bora_quote(value.key.bytes, value.key.size);
    if (!bora_name_sane(value.key.bytes, value.key.size))
        return bora_fail(err, BORA_E_FORMAT, "'%s' is not a metadata key", key.text);
    if ((st = take(gguf, &value.type, sizeof value.type, key.text, err)) != BORA_OK)
        return st;
    if (value.type >= BORA_ARRAY_SIZE(sizes))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is of unknown type %u", key.text, value.type);
    value.element_type = value.type;
    value.data = gguf->data + gguf->at;
    if (value.type == BORA_GGUF_ARRAY)
        st = take_array(gguf, &value, key.text, err);
    else if (value.type == BORA_GGUF_TEXT || left(gguf) >= sizes[value.type])
        st = skip_elements(gguf, value.type, 1, key.text, err);
    else
        st = truncated(gguf, key.text, err);
    if (st != BORA_OK)
        return st;
    for (size_t i = 0; value.element_type == BORA_GGUF_BOOL && i < value.n; i++)
        if (value.data[i] > 1)
            return bora_fail(err, BORA_E_FORMAT, "key '%s': a bool is %u", key.text, value.data[i]);
    *ret_value = value;
    return BORA_OK;
}

static int text_compare(bora_gguf_text a, bora_gguf_text b)
{
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_key(const void *a, const void *b)
{
    return text_compare(((const bora_gguf_value *)a)->key, ((const bora_gguf_value *)b)->key);
}

static bora_status read_header(bora_gguf *gguf, uint64_t *ret_n_values, bora_error *err)
{
    char magic[4];
    bora_status st;
    if ((st = take(gguf, magic, sizeof magic, "the header", err)) != BORA_OK)
        return st;
    if (memcmp(magic, "GGUF", sizeof magic) != 0)
        return bora_fail(err, BORA_E_FORMAT, "not a GGUF file: its magic is '%s'", bora_quote(magic, 4).text);
    if ((st = take(gguf, &gguf->version, sizeof gguf->version, "the header", err)) != BORA_OK)
        return st;
    if (gguf->version != 2 && gguf->version != 3)
        return bora_fail(err, BORA_E_UNSUPPORTED, "GGUF version %u%s, this build reads 2 and 3", gguf->version,
                         gguf->version > 0xffff ? " (a big-endian file)" : "");
    uint64_t n_values = 0;
    if ((st = take(gguf, &gguf->n_tensors, sizeof gguf->n_tensors, "the header", err)) != BORA_OK ||
        (st = take(gguf, &n_values, sizeof n_values, "the header", err)) != BORA_OK)
        return st;
    /* The least a key with its value takes is 13 bytes, a tensor description 32. */
    if (n_values > left(gguf) / 13)
        return bora_fail(err, BORA_E_FORMAT, "metadata count %" PRIu64 ", more than the file has room for", n_values);
    if (gguf->n_tensors > left(gguf) / 32)
        return bora_fail(err, BORA_E_FORMAT, "tensor count %" PRIu64 ", more than the file has room for",
                         gguf->n_tensors);
    if (n_values > BORA_GGUF_KEYS_MAX)
        return bora_fail(err, BORA_E_LIMIT, "metadata count %" PRIu64 ", at most %u are allowed", n_values,
                         BORA_GGUF_KEYS_MAX);
    *ret_n_values = n_values;
    return BORA_OK;
}

bora_status bora_gguf_read(const void *data, size_t size, bora_gguf *ret_gguf, bora_error *err)
{
    BORA_CLEANUP(bora_gguf_release) bora_gguf gguf = {.data = data, .size = size};
    uint64_t n_values = 0;
    bora_status st = read_header(&gguf, &n_values, err);
    if (st != BORA_OK)
        return st;
    gguf.values = bora_calloc((size_t)n_values, sizeof *gguf.values);
    if (!gguf.values)
        return bora_fail(err, BORA_E_NOMEM, "%" PRIu64 " metadata keys", n_values);
    for (; gguf.n_values < n_values; gguf.n_values++)
        if ((st = take_value(&gguf, &gguf.values[gguf.n_values], err)) != BORA_OK)
            return st;
    qsort(gguf.values, gguf.n_values, sizeof *gguf.values, by_key);
    for (size_t i = 1; i < gguf.n_values; i++)
        if (by_key(&gguf.values[i - 1], &gguf.values[i]) == 0)
            return bora_fail(err, BORA_E_FORMAT, "key '%s' is there twice",
                             bora_quote(gguf.values[i].key.bytes, gguf.values[i].key.size).text);
    *ret_gguf = gguf;
    gguf.values = NULL; /* the caller's now */
    return BORA_OK;
}

void bora_gguf_release(bora_gguf *gguf)
{
    bora_free(gguf->values);
    *gguf = (bora_gguf){0};
}

bora_status bora_gguf_read_tensor(bora_gguf *gguf, bora_gguf_tensor *ret_tensor, bora_error *err)
{
    bora_gguf_tensor tensor = {0};
    bora_status st = take_text(gguf, BORA_TENSOR_NAME_MAX, "a tensor's name", &tensor.name, err);
    if (st != BORA_OK)
        return st;
    bora_quoted name = bora_quote(tensor.name.bytes, tensor.name.size);
    if ((st = take(gguf, &tensor.n_dims, sizeof tensor.n_dims, name.text, err)) != BORA_OK)
        return st;
    if (tensor.n_dims < 1 || tensor.n_dims > 4)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has %u dimensions, expected 1 to 4", name.text,
                         tensor.n_dims);
    if ((st = take(gguf, tensor.dims, tensor.n_dims * sizeof *tensor.dims, name.text, err)) != BORA_OK ||
        (st = take(gguf, &tensor.type, sizeof tensor.type, name.text, err)) != BORA_OK ||
        (st = take(gguf, &tensor.offset, sizeof tensor.offset, name.text, err)) != BORA_OK)
        return st;
    *ret_tensor = tensor;
    return BORA_OK;
}

/* ---- getters ---- */

bool bora_gguf_text_equal(bora_gguf_text text, const char *other)
{
    return text.size == strlen(other) && memcmp(text.bytes, other, text.size) == 0;
}

const bora_gguf_value *bora_gguf_find(const bora_gguf *gguf, const char *key)
{
    bora_gguf_value wanted = {.key = {.bytes = key, .size = strlen(key)}};
    return bsearch(&wanted, gguf->values, gguf->n_values, sizeof wanted, by_key);
}

static bora_status find(const bora_gguf *gguf, const char *key, bool required, const bora_gguf_value **ret_value,
                        bora_error *err)
{
    const bora_gguf_value *value = bora_gguf_find(gguf, key);
    if (!value && required)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is missing", key);
    *ret_value = value;
    return BORA_OK;
}

static bora_status wrong_type(const bora_gguf_value *value, const char *key, const char *expected, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "key '%s' is %s, expected %s", key, type_name(value->type), expected);
}

static bool is_whole(uint32_t type)
{
    return type <= BORA_GGUF_I32 || type == BORA_GGUF_U64 || type == BORA_GGUF_I64;
}

bool bora_gguf_element_u32(const bora_gguf_value *value, size_t i, uint32_t *ret_number)
{
    if (!is_whole(value->element_type))
        return false;
    const size_t size = sizes[value->element_type];
    uint64_t number = 0; /* little-endian, as the machine is */
    memcpy(&number, value->data + i * size, size);
    bool is_signed = value->element_type == BORA_GGUF_I8 || value->element_type == BORA_GGUF_I16 ||
                     value->element_type == BORA_GGUF_I32 || value->element_type == BORA_GGUF_I64;
    if ((is_signed && number >> (8 * size - 1)) || number > UINT32_MAX)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

bora_status bora_gguf_u32(const bora_gguf *gguf, const char *key, const char *name, bool required, uint32_t min,
                          uint32_t max, uint32_t *value, bora_error *err)
{
    const bora_gguf_value *found = bora_gguf_find(gguf, key);
    if (!found && !required)
        return BORA_OK;
    if (!found)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' (%s) is missing", key, name);
    if (!is_whole(found->type))
        return wrong_type(found, key, "a whole number", err);
    uint32_t number = 0;
    if (!bora_gguf_element_u32(found, 0, &number))
        return bora_fail(err, BORA_E_FORMAT, "key '%s' (%s) is negative or huge, expected %u to %u", key, name, min,
                         max);
    if (number < min || number > max)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' (%s) is %u, expected %u to %u", key, name, number, min, max);
    *value = number;
    return BORA_OK;
}

bora_status bora_gguf_f32(const bora_gguf *gguf, const char *key, bool required, float *value, bora_error *err)
{
    const bora_gguf_value *found = NULL;
    bora_status st = find(gguf, key, required, &found, err);
    if (st != BORA_OK || !found)
        return st;
    if (found->type == BORA_GGUF_F32) {
        memcpy(value, found->data, sizeof *value);
    } else if (found->type == BORA_GGUF_F64) {
        double number;
        memcpy(&number, found->data, sizeof number);
        *value = (float)number;
    } else {
        return wrong_type(found, key, "a number with a fraction", err);
    }
    return BORA_OK;
}

bora_status bora_gguf_bool(const bora_gguf *gguf, const char *key, bool *value, bora_error *err)
{
    const bora_gguf_value *found = bora_gguf_find(gguf, key);
    if (!found)
        return BORA_OK;
    if (found->type != BORA_GGUF_BOOL)
        return wrong_type(found, key, "a bool", err);
    *value = found->data[0] != 0;
    return BORA_OK;
}

bora_gguf_text bora_gguf_element_text(const uint8_t **at)
{
    uint64_t size;
    memcpy(&size, *at, sizeof size);
    bora_gguf_text text = {.bytes = (const char *)*at + sizeof size, .size = (size_t)size};
    *at += sizeof size + text.size;
    return text;
}

bora_status bora_gguf_string(const bora_gguf *gguf, const char *key, bool required, bora_gguf_text *value,
                             bora_error *err)
{
    const bora_gguf_value *found = NULL;
    bora_status st = find(gguf, key, required, &found, err);
    if (st != BORA_OK || !found)
        return st;
    if (found->type != BORA_GGUF_TEXT)
        return wrong_type(found, key, "a text", err);
    const uint8_t *at = found->data;
    *value = bora_gguf_element_text(&at);
    return BORA_OK;
}

bora_status bora_gguf_array(const bora_gguf *gguf, const char *key, bool required, uint32_t type, uint32_t other_type,
                            const bora_gguf_value **ret_value, bora_error *err)
{
    const bora_gguf_value *found = NULL;
    bora_status st = find(gguf, key, required, &found, err);
    if (st != BORA_OK)
        return st;
    if (found && found->type != BORA_GGUF_ARRAY)
        return wrong_type(found, key, "an array", err);
    if (found && found->element_type != type && found->element_type != other_type)
        return bora_fail(err, BORA_E_FORMAT, "key '%s' is an array whose elements are %s, expected %s", key,
                         type_name(found->element_type), type_name(type));
    *ret_value = found;
    return BORA_OK;
}
