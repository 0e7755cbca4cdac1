/* Building and reading frames with msgpack-c.
 *
 * Writing: msgpack-c's packer appends to the pack's buffer. The counts of maps and arrays are not known when they
 * open, so their widest header (type and four bytes) is written and filled in at the end.
 * Reading: bora_frame_check has seen every byte before msgpack-c builds its objects, and strings point into the
 * frame's own copy of the bytes. A bora_value is a msgpack_object under another name. */
#include "codec.h"

#include "check.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---------------------------------------------------------------------------------------- */

#define PACK_MAP32      ((char)0xdf)
#define PACK_ARRAY32    ((char)0xdd)
#define PACK_COUNT_SIZE 4

/* msgpack-c's write callback. */
static int pack_write(void *context, const char *bytes, size_t size)
{
    bora_pack *pack = context;
    if (pack->failed)
        return -1;
    if (size > pack->capacity - pack->size) {
        size_t capacity = pack->capacity ? pack->capacity : 256;
        while (size > capacity - pack->size) {
            if (capacity > SIZE_MAX / 2) {
                pack->failed = true;
                return -1;
            }
            capacity *= 2;
        }
        char *data = realloc(pack->data, capacity);
        if (!data) {
            pack->failed = true;
            return -1;
        }
        pack->data = data;
        pack->capacity = capacity;
    }
    if (size > 0)
        memcpy(pack->data + pack->size, bytes, size);
    pack->size += size;
    return 0;
}

static void pack_writer(bora_pack *pack, msgpack_packer *ret)
{
    msgpack_packer_init(ret, pack, pack_write);
}

static void pack_bytes(bora_pack *pack, const char *bytes, size_t size)
{
    if (size > UINT32_MAX) {
        pack->failed = true;
        return;
    }
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)msgpack_pack_str(&writer, size); /* a failure is remembered in the pack */
    (void)msgpack_pack_str_body(&writer, bytes, size);
}

/* Makes room for one more value of the innermost map or array: counts it, and writes its key if it has one. A value
 * in the wrong place spoils the pack. */
static bool pack_place(bora_pack *pack, const char *key, bool has_key)
{
    if (pack->failed)
        return false;
    bool wants_key = pack->depth > 0 && pack->is_map[pack->depth - 1];
    bool second_root = pack->depth == 0 && pack->size > 0;
    if (wants_key != has_key || second_root || (pack->depth > 0 && pack->n_items[pack->depth - 1] == UINT32_MAX)) {
        pack->failed = true;
        return false;
    }
    if (pack->depth > 0)
        pack->n_items[pack->depth - 1]++;
    if (key)
        pack_bytes(pack, key, strlen(key));
    return !pack->failed;
}

static void pack_open(bora_pack *pack, const char *key, bool is_map)
{
    if (!pack_place(pack, key, key != NULL))
        return;
    if (pack->depth == BORA_FRAME_DEPTH_MAX) {
        pack->failed = true;
        return;
    }
    const char head[1 + PACK_COUNT_SIZE] = {is_map ? PACK_MAP32 : PACK_ARRAY32};
    if (pack_write(pack, head, sizeof head) != 0)
        return;
    pack->open[pack->depth] = pack->size - PACK_COUNT_SIZE;
    pack->n_items[pack->depth] = 0;
    pack->is_map[pack->depth] = is_map;
    pack->depth++;
}

void bora_pack_release(bora_pack *pack)
{
    free(pack->data);
    *pack = (bora_pack){0};
}

bool bora_pack_ok(const bora_pack *pack)
{
    return !pack->failed && pack->depth == 0 && pack->size > 0;
}

void bora_pack_map(bora_pack *pack, const char *key)
{
    pack_open(pack, key, true);
}

void bora_pack_array(bora_pack *pack, const char *key)
{
    pack_open(pack, key, false);
}

void bora_pack_end(bora_pack *pack)
{
    if (pack->failed)
        return;
    if (pack->depth == 0) {
        pack->failed = true;
        return;
    }
    pack->depth--;
    uint32_t n = pack->n_items[pack->depth];
    unsigned char *count = (unsigned char *)pack->data + pack->open[pack->depth];
    for (unsigned i = 0; i < PACK_COUNT_SIZE; i++)
        count[i] = (unsigned char)(n >> (24 - 8 * i));
}

void bora_pack_string(bora_pack *pack, const char *key, const char *value)
{
    if (value)
        bora_pack_text(pack, key, value, strlen(value));
}

void bora_pack_text(bora_pack *pack, const char *key, const char *bytes, size_t size)
{
    if (pack_place(pack, key, key != NULL))
        pack_bytes(pack, bytes, size);
}

void bora_pack_uint(bora_pack *pack, const char *key, uint64_t value)
{
    if (!pack_place(pack, key, key != NULL))
        return;
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)msgpack_pack_uint64(&writer, value);
}

void bora_pack_int(bora_pack *pack, const char *key, int64_t value)
{
    if (!pack_place(pack, key, key != NULL))
        return;
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)msgpack_pack_int64(&writer, value);
}

void bora_pack_float(bora_pack *pack, const char *key, double value)
{
    if (!pack_place(pack, key, key != NULL))
        return;
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)msgpack_pack_double(&writer, value);
}

void bora_pack_bool(bora_pack *pack, const char *key, bool value)
{
    if (!pack_place(pack, key, key != NULL))
        return;
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)(value ? msgpack_pack_true(&writer) : msgpack_pack_false(&writer));
}

void bora_pack_int_float(bora_pack *pack, int64_t key, double value)
{
    if (!pack_place(pack, NULL, true))
        return;
    msgpack_packer writer;
    pack_writer(pack, &writer);
    (void)msgpack_pack_int64(&writer, key);
    (void)msgpack_pack_double(&writer, value);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

struct bora_frame {
    msgpack_unpacked objects; /* its strings point into data */
    char data[];              /* [size] */
};

/* Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF. */
static bool is_utf8(const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < size;) {
        unsigned first = bytes[i];
        if (first < 0x80) {
            i++;
            continue;
        }
        size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        if (first < 0xc2 || first > 0xf4 || n > size - i)
            return false;
        /* Only the second byte has a range of its own; it rules out what is overlong, a surrogate or too large. */
        unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (bytes[i + 1] < low || bytes[i + 1] > high)
            return false;
        for (size_t k = 2; k < n; k++)
            if ((bytes[i + k] & 0xc0) != 0x80)
                return false;
        i += n;
    }
    return true;
}

bora_frame *bora_frame_parse(const void *data, size_t size, size_t size_max, const char **ret_why)
{
    if (size > size_max) {
        *ret_why = "the frame is too long";
        return NULL;
    }
    if (!bora_frame_check(data, size, ret_why))
        return NULL;
    bora_frame *frame = size > SIZE_MAX - sizeof *frame ? NULL : malloc(sizeof *frame + size);
    if (!frame) {
        *ret_why = "out of memory";
        return NULL;
    }
    memcpy(frame->data, data, size);
    msgpack_unpacked_init(&frame->objects);
    size_t end = 0;
    msgpack_unpack_return result = msgpack_unpack_next(&frame->objects, frame->data, size, &end);
    if (result != MSGPACK_UNPACK_SUCCESS || end != size || frame->objects.data.type != MSGPACK_OBJECT_MAP) {
        *ret_why = result == MSGPACK_UNPACK_NOMEM_ERROR ? "out of memory" : "the frame is not msgpack";
        bora_frame_free(frame);
        return NULL;
    }
    return frame;
}

void bora_frame_free(bora_frame *frame)
{
    if (!frame)
        return;
    msgpack_unpacked_destroy(&frame->objects);
    free(frame);
}

static const msgpack_object *object_of(const bora_value *value)
{
    return (const msgpack_object *)(const void *)value;
}

static const bora_value *value_of(const msgpack_object *object)
{
    return (const bora_value *)(const void *)object;
}

static bool has_type(const bora_value *value, msgpack_object_type type)
{
    return value && object_of(value)->type == type;
}

const bora_value *bora_frame_root(const bora_frame *frame)
{
    return value_of(&frame->objects.data);
}

const bora_value *bora_value_get(const bora_value *map, const char *key)
{
    if (!bora_value_is_map(map))
        return NULL;
    size_t size = strlen(key);
    const msgpack_object_map *pairs = &object_of(map)->via.map;
    for (uint32_t i = 0; i < pairs->size; i++) {
        const msgpack_object *found = &pairs->ptr[i].key;
        if (found->type != MSGPACK_OBJECT_STR || found->via.str.size != size ||
            (size && memcmp(found->via.str.ptr, key, size) != 0))
            continue;
        return pairs->ptr[i].val.type == MSGPACK_OBJECT_NIL ? NULL : value_of(&pairs->ptr[i].val);
    }
    return NULL;
}

bool bora_value_text(const bora_value *value, const char **ret_bytes, size_t *ret_size)
{
    if (!has_type(value, MSGPACK_OBJECT_STR))
        return false;
    const msgpack_object_str *text = &object_of(value)->via.str;
    if (!is_utf8(text->ptr, text->size))
        return false;
    *ret_bytes = text->size ? text->ptr : ""; /* msgpack-c has no pointer for an empty one */
    *ret_size = text->size;
    return true;
}

bool bora_value_uint(const bora_value *value, uint64_t *ret)
{
    if (!has_type(value, MSGPACK_OBJECT_POSITIVE_INTEGER))
        return false;
    *ret = object_of(value)->via.u64;
    return true;
}

bool bora_value_int(const bora_value *value, int64_t *ret)
{
    if (has_type(value, MSGPACK_OBJECT_NEGATIVE_INTEGER)) {
        *ret = object_of(value)->via.i64;
        return true;
    }
    if (!has_type(value, MSGPACK_OBJECT_POSITIVE_INTEGER) || object_of(value)->via.u64 > INT64_MAX)
        return false;
    *ret = (int64_t)object_of(value)->via.u64;
    return true;
}

bool bora_value_float(const bora_value *value, double *ret)
{
    if (has_type(value, MSGPACK_OBJECT_FLOAT32) || has_type(value, MSGPACK_OBJECT_FLOAT64)) {
        *ret = object_of(value)->via.f64;
        return true;
    }
    if (has_type(value, MSGPACK_OBJECT_POSITIVE_INTEGER)) {
        *ret = (double)object_of(value)->via.u64;
        return true;
    }
    if (has_type(value, MSGPACK_OBJECT_NEGATIVE_INTEGER)) {
        *ret = (double)object_of(value)->via.i64;
        return true;
    }
    return false;
}

bool bora_value_bool(const bora_value *value, bool *ret)
{
    if (!has_type(value, MSGPACK_OBJECT_BOOLEAN))
        return false;
    *ret = object_of(value)->via.boolean;
    return true;
}

bool bora_value_is_array(const bora_value *value)
{
    return has_type(value, MSGPACK_OBJECT_ARRAY);
}

bool bora_value_is_map(const bora_value *value)
{
    return has_type(value, MSGPACK_OBJECT_MAP);
}

uint32_t bora_value_count(const bora_value *value)
{
    if (bora_value_is_array(value))
        return object_of(value)->via.array.size;
    return bora_value_is_map(value) ? object_of(value)->via.map.size : 0;
}

const bora_value *bora_value_at(const bora_value *value, uint32_t i)
{
    if (i >= bora_value_count(value))
        return NULL;
    return bora_value_is_array(value) ? value_of(&object_of(value)->via.array.ptr[i])
                                      : value_of(&object_of(value)->via.map.ptr[i].val);
}

const bora_value *bora_value_key(const bora_value *map, uint32_t i)
{
    if (!bora_value_is_map(map) || i >= bora_value_count(map))
        return NULL;
    return value_of(&object_of(map)->via.map.ptr[i].key);
}

char *bora_value_dup(const bora_value *value)
{
    const char *bytes = NULL;
    size_t size = 0;
    if (!bora_value_text(value, &bytes, &size) || memchr(bytes, '\0', size))
        return NULL;
    char *copy = malloc(size + 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, size);
    copy[size] = '\0';
    return copy;
}
