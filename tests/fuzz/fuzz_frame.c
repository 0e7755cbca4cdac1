/* A protocol frame: the check by itself, then parsing, then every value asked in every way. */
#include "fuzz/fuzz.h"

#include "check.h"
#include "codec.h"

#include <stdbool.h>
#include <string.h>

static volatile unsigned byte_sum; /* so that the reads are not left out */

static void ask(const bora_value *value)
{
    const char *bytes = NULL;
    size_t size = 0;
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    bool b = false;
    bool is_text = bora_value_text(value, &bytes, &size);
    for (size_t k = 0; is_text && k < size; k++)
        byte_sum += (unsigned char)bytes[k];
    bool is_uint = bora_value_uint(value, &u), is_int = bora_value_int(value, &i),
         is_float = bora_value_float(value, &f);
    FUZZ_CHECK(!is_uint || u > INT64_MAX || (is_int && (uint64_t)i == u));
    FUZZ_CHECK(!(is_uint || is_int) || is_float);
    bool is_bool = bora_value_bool(value, &b);
    FUZZ_CHECK(is_text + is_float + is_bool + bora_value_is_array(value) + bora_value_is_map(value) <= 1);
    char *copy = bora_value_dup(value);
    FUZZ_CHECK(!copy || (is_text && strlen(copy) == size && memcmp(copy, bytes, size) == 0));
    free(copy);
}

static void walk(const bora_value *value, unsigned depth)
{
    FUZZ_CHECK(depth <= BORA_FRAME_DEPTH_MAX || !(bora_value_is_map(value) || bora_value_is_array(value)));
    ask(value);
    uint32_t n = bora_value_count(value);
    FUZZ_CHECK(!bora_value_at(value, n) && !bora_value_key(value, n));
    for (uint32_t i = 0; i < n; i++) {
        const bora_value *key = bora_value_key(value, i);
        FUZZ_CHECK((key != NULL) == bora_value_is_map(value));
        if (key)
            ask(key);
        char *name = bora_value_dup(key);
        if (name)
            (void)bora_value_get(value, name); /* the first of that name, or nil: either is right */
        free(name);
        walk(bora_value_at(value, i), depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why = NULL;
    bool whole = bora_frame_check(data, size, &why);
    FUZZ_CHECK(whole || (why && *why));
    why = NULL;
    bora_frame *frame = bora_frame_parse(data, size, BORA_FRAME_SIZE_MAX, &why);
    FUZZ_CHECK(frame ? whole : why && *why);
    FUZZ_CHECK(frame || !whole || size > BORA_FRAME_SIZE_MAX); /* what the check lets through, msgpack-c reads */
    if (frame) {
        FUZZ_CHECK(bora_value_is_map(bora_frame_root(frame)));
        walk(bora_frame_root(frame), 1);
    }
    bora_frame_free(frame);
    return 0;
}
