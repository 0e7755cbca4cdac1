/* Walks the msgpack headers of a frame with a fixed stack. Every value takes at least one byte, so the number of
 * values still owed by all open maps and arrays can never exceed the bytes that are left: a count that promises more
 * is refused where it stands, before anyone reserves room for it. */
#include "check.h"

#include "codec.h"

#include <stdint.h>

enum value_kind { KIND_OTHER, KIND_STRING, KIND_INTEGER, KIND_ARRAY, KIND_MAP };

/* One value's header: what follows it in the same value, and how many values are inside. */
typedef struct header {
    enum value_kind kind;
    uint64_t size;    /* bytes of header and payload */
    uint64_t n_items; /* values inside: 2 per pair of a map */
} header;

static uint64_t read_big_endian(const unsigned char *bytes, unsigned n_bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n_bytes; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* A header whose length or count stands in n_bytes after the type byte. False if they are not there. */
static bool read_length(const unsigned char *bytes, size_t left, unsigned n_bytes, uint64_t *ret)
{
    if (left < 1 + (size_t)n_bytes)
        return false;
    *ret = read_big_endian(bytes + 1, n_bytes);
    return true;
}

/* False: the header is cut off, or (type 0xc1) none. left is at least 1. */
static bool read_header(const unsigned char *bytes, size_t left, header *ret)
{
    unsigned type = bytes[0];
    header found = {KIND_OTHER, 1, 0};
    uint64_t length = 0;
    if (type <= 0x7f || type >= 0xe0) {
        found.kind = KIND_INTEGER;
    } else if (type <= 0x8f) {
        found.kind = KIND_MAP;
        found.n_items = 2 * (uint64_t)(type & 0x0f);
    } else if (type <= 0x9f) {
        found.kind = KIND_ARRAY;
        found.n_items = type & 0x0f;
    } else if (type <= 0xbf) {
        found.kind = KIND_STRING;
        found.size = 1 + (uint64_t)(type & 0x1f);
    } else if (type == 0xc1) {
        return false;
    } else if (type >= 0xc4 && type <= 0xc6) { /* bin 8, 16, 32 */
        unsigned n_bytes = 1u << (type - 0xc4);
        if (!read_length(bytes, left, n_bytes, &length))
            return false;
        found.size = 1 + n_bytes + length;
    } else if (type >= 0xc7 && type <= 0xc9) { /* ext 8, 16, 32: a type byte more */
        unsigned n_bytes = 1u << (type - 0xc7);
        if (!read_length(bytes, left, n_bytes, &length))
            return false;
        found.size = 2 + n_bytes + length;
    } else if (type == 0xca || type == 0xcb) { /* float 32, 64 */
        found.size = type == 0xca ? 5 : 9;
    } else if (type >= 0xcc && type <= 0xd3) { /* uint and int of 8, 16, 32, 64 bits */
        found.kind = KIND_INTEGER;
        found.size = 1 + ((uint64_t)1 << ((type - 0xcc) & 3));
    } else if (type >= 0xd4 && type <= 0xd8) { /* fixext 1, 2, 4, 8, 16 */
        found.size = 2 + ((uint64_t)1 << (type - 0xd4));
    } else if (type >= 0xd9 && type <= 0xdb) { /* str 8, 16, 32 */
        unsigned n_bytes = 1u << (type - 0xd9);
        if (!read_length(bytes, left, n_bytes, &length))
            return false;
        found.kind = KIND_STRING;
        found.size = 1 + n_bytes + length;
    } else if (type >= 0xdc) { /* array 16, 32, map 16, 32 */
        unsigned n_bytes = type & 1 ? 4 : 2;
        if (!read_length(bytes, left, n_bytes, &length))
            return false;
        found.kind = type >= 0xde ? KIND_MAP : KIND_ARRAY;
        found.size = 1 + n_bytes;
        found.n_items = found.kind == KIND_MAP ? 2 * length : length;
    } /* else nil and the booleans: one byte */
    *ret = found;
    return true;
}

bool bora_frame_check(const void *data, size_t size, const char **ret_why)
{
    const unsigned char *bytes = data;
    uint64_t items_left[BORA_FRAME_DEPTH_MAX]; /* values still to come on each open level */
    bool is_map[BORA_FRAME_DEPTH_MAX];
    uint64_t owed = 1; /* values still to come on all levels */
    unsigned depth = 0;
    size_t at = 0;

    while (owed > 0) {
        header head;
        if (at >= size || !read_header(bytes + at, size - at, &head)) {
            *ret_why = size == 0                        ? "the frame is empty"
                       : at < size && bytes[at] == 0xc1 ? "the frame holds a byte that msgpack does not use"
                                                        : "the frame is cut off";
            return false;
        }
        if (head.size > size - at) {
            *ret_why = "the frame is cut off";
            return false;
        }
        if (depth == 0 && head.kind != KIND_MAP) {
            *ret_why = "the frame is no map";
            return false;
        }
        at += (size_t)head.size;
        owed += head.n_items - 1;
        if (owed > size - at) {
            *ret_why = "the frame promises more values than it has bytes";
            return false;
        }
        if (depth > 0) {
            uint64_t *left = &items_left[depth - 1];
            if (is_map[depth - 1] && *left % 2 == 0 && head.kind != KIND_STRING &&
                (depth == 1 || head.kind != KIND_INTEGER)) {
                *ret_why = depth == 1 ? "a key of the frame is no string" : "a key is neither string nor integer";
                return false;
            }
            *left -= 1;
        }
        if (head.kind == KIND_MAP || head.kind == KIND_ARRAY) {
            if (depth == BORA_FRAME_DEPTH_MAX) {
                *ret_why = "the frame is nested too deep";
                return false;
            }
            items_left[depth] = head.n_items;
            is_map[depth] = head.kind == KIND_MAP;
            depth++;
        }
        while (depth > 0 && items_left[depth - 1] == 0)
            depth--;
    }
    if (at != size) {
        *ret_why = "bytes follow the end of the frame";
        return false;
    }
    return true;
}
