/* The codec: what is written is read back, and nothing hostile gets past the check or costs more memory than it is
 * worth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "codec.h"

#define MIB ((size_t)1 << 20)

static bora_frame *parse(const void *data, size_t size)
{
    const char *why = NULL;
    bora_frame *frame = bora_frame_parse(data, size, BORA_FRAME_SIZE_MAX, &why);
    if (!frame)
        assert_non_null(why);
    return frame;
}

static void assert_refused(const void *data, size_t size, const char *part_of_why)
{
    const char *why = NULL;
    bora_frame *frame = bora_frame_parse(data, size, BORA_FRAME_SIZE_MAX, &why);
    assert_null(frame);
    assert_non_null(why);
    if (!strstr(why, part_of_why))
        fail_msg("refused with '%s', not '%s'", why, part_of_why);
}

static void assert_text(const bora_value *value, const char *expected)
{
    const char *bytes = NULL;
    size_t size = 0;
    assert_true(bora_value_text(value, &bytes, &size));
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(bytes, expected, size);
}

/* A frame with every kind of value. */
static void pack_example(bora_pack *pack)
{
    bora_pack_map(pack, NULL);
    bora_pack_uint(pack, "id", UINT64_MAX);
    bora_pack_string(pack, "verb", "generate");
    bora_pack_string(pack, "left_out", NULL);
    bora_pack_int(pack, "min", INT64_MIN);
    bora_pack_int(pack, "small", -3);
    bora_pack_float(pack, "temperature", 0.1);
    bora_pack_bool(pack, "yes", true);
    bora_pack_bool(pack, "no", false);
    bora_pack_text(pack, "zero", "a\0b", 3);
    bora_pack_string(pack, "long", "a string that is longer than thirty-one bytes, so it takes a str8 header");
    bora_pack_array(pack, "stop");
    bora_pack_string(pack, NULL, "\xc3\xa9");
    bora_pack_string(pack, NULL, "");
    bora_pack_end(pack);
    bora_pack_map(pack, "logit_bias");
    bora_pack_int_float(pack, 7, -1.5);
    bora_pack_int_float(pack, -9, 2);
    bora_pack_end(pack);
    bora_pack_array(pack, "sessions");
    bora_pack_map(pack, NULL);
    bora_pack_string(pack, "name", "n");
    bora_pack_end(pack);
    bora_pack_map(pack, NULL);
    bora_pack_end(pack);
    bora_pack_end(pack);
    bora_pack_end(pack);
}

static void test_round_trip(void **state)
{
    (void)state;
    bora_pack pack = {0};
    pack_example(&pack);
    assert_true(bora_pack_ok(&pack));
    bora_frame *frame = parse(pack.data, pack.size);
    assert_non_null(frame);
    bora_pack_release(&pack); /* the frame has its own copy */
    assert_null(pack.data);

    const bora_value *map = bora_frame_root(frame);
    uint64_t whole = 0;
    int64_t number = 0;
    double real = 0;
    bool flag = false;
    assert_int_equal(bora_value_count(map), 12);
    assert_true(bora_value_uint(bora_value_get(map, "id"), &whole));
    assert_true(whole == UINT64_MAX);
    assert_false(bora_value_int(bora_value_get(map, "id"), &number)); /* does not fit */
    assert_true(bora_value_float(bora_value_get(map, "id"), &real));
    assert_text(bora_value_get(map, "verb"), "generate");
    assert_null(bora_value_get(map, "left_out"));
    assert_true(bora_value_int(bora_value_get(map, "min"), &number));
    assert_true(number == INT64_MIN);
    assert_false(bora_value_uint(bora_value_get(map, "small"), &whole));
    assert_true(bora_value_float(bora_value_get(map, "small"), &real));
    assert_true(real == -3);
    assert_true(bora_value_float(bora_value_get(map, "temperature"), &real));
    assert_true(real == 0.1);
    assert_false(bora_value_int(bora_value_get(map, "temperature"), &number));
    assert_true(bora_value_bool(bora_value_get(map, "yes"), &flag) && flag);
    assert_true(bora_value_bool(bora_value_get(map, "no"), &flag) && !flag);
    assert_false(bora_value_bool(bora_value_get(map, "id"), &flag));

    const char *bytes = NULL;
    size_t size = 0;
    assert_true(bora_value_text(bora_value_get(map, "zero"), &bytes, &size));
    assert_int_equal(size, 3);
    assert_null(bora_value_dup(bora_value_get(map, "zero")));
    char *copy = bora_value_dup(bora_value_get(map, "verb"));
    assert_string_equal(copy, "generate");
    free(copy);
    assert_null(bora_value_dup(bora_value_get(map, "id")));

    const bora_value *stops = bora_value_get(map, "stop");
    assert_true(bora_value_is_array(stops));
    assert_int_equal(bora_value_count(stops), 2);
    assert_text(bora_value_at(stops, 0), "\xc3\xa9");
    assert_text(bora_value_at(stops, 1), "");
    assert_null(bora_value_at(stops, 2));
    assert_null(bora_value_key(stops, 0));
    assert_null(bora_value_get(stops, "x"));

    const bora_value *biases = bora_value_get(map, "logit_bias");
    assert_true(bora_value_is_map(biases));
    assert_int_equal(bora_value_count(biases), 2);
    assert_true(bora_value_int(bora_value_key(biases, 1), &number));
    assert_int_equal(number, -9);
    assert_true(bora_value_float(bora_value_at(biases, 0), &real));
    assert_true(real == -1.5);
    assert_null(bora_value_key(biases, 2));

    const bora_value *sessions = bora_value_get(map, "sessions");
    assert_text(bora_value_get(bora_value_at(sessions, 0), "name"), "n");
    assert_int_equal(bora_value_count(bora_value_at(sessions, 1)), 0);
    bora_frame_free(frame);
}

static void test_null_value_has_no_type(void **state)
{
    (void)state;
    uint64_t whole = 0;
    int64_t number = 0;
    double real = 0;
    bool flag = false;
    const char *bytes = NULL;
    size_t size = 0;
    assert_null(bora_value_get(NULL, "x"));
    assert_null(bora_value_at(NULL, 0));
    assert_null(bora_value_key(NULL, 0));
    assert_null(bora_value_dup(NULL));
    assert_int_equal(bora_value_count(NULL), 0);
    assert_false(bora_value_is_map(NULL) || bora_value_is_array(NULL));
    assert_false(bora_value_uint(NULL, &whole) || bora_value_int(NULL, &number) || bora_value_float(NULL, &real) ||
                 bora_value_bool(NULL, &flag) || bora_value_text(NULL, &bytes, &size));
    bora_frame_free(NULL);
}

static void test_nil_counts_as_absent_and_the_first_of_two_keys_counts(void **state)
{
    (void)state;
    const unsigned char bytes[] = {0x83, 0xa1, 'a', 0xc0, 0xa1, 'b', 0x01, 0xa1, 'b', 0x02};
    bora_frame *frame = parse(bytes, sizeof bytes);
    uint64_t number = 0;
    assert_null(bora_value_get(bora_frame_root(frame), "a"));
    assert_true(bora_value_uint(bora_value_get(bora_frame_root(frame), "b"), &number));
    assert_int_equal(number, 1);
    bora_frame_free(frame);
}

static void test_empty_texts_have_bytes_too(void **state)
{
    (void)state;
    const unsigned char bytes[] = {0x81, 0xa0, 0xa0};
    bora_frame *frame = parse(bytes, sizeof bytes);
    const bora_value *value = bora_value_get(bora_frame_root(frame), "");
    const char *text = NULL;
    size_t size = 99;
    assert_true(bora_value_text(value, &text, &size));
    assert_non_null(text);
    assert_int_equal(size, 0);
    char *copy = bora_value_dup(value);
    assert_string_equal(copy, "");
    free(copy);
    bora_frame_free(frame);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    bora_pack pack = {0};
    pack_example(&pack);
    for (size_t size = 0; size < pack.size; size++) {
        /* Of exactly this size, so that a sanitizer sees a read past the end. */
        char *cut = malloc(size ? size : 1);
        assert_non_null(cut);
        memcpy(cut, pack.data, size);
        assert_null(parse(cut, size));
        free(cut);
    }
    bora_pack_release(&pack);
}

static void test_trailing_bytes_are_refused(void **state)
{
    (void)state;
    assert_refused("\x80\xc0", 2, "follow");
    assert_refused("\x81\xa1"
                   "a\x01\x80",
                   5, "follow");
}

static void test_only_a_map_is_a_frame(void **state)
{
    (void)state;
    assert_refused("", 0, "empty");
    assert_refused("\x01", 1, "no map");
    assert_refused("\x90", 1, "no map");
    assert_refused("\xa1x", 2, "no map");
    assert_refused("\xc1", 1, "does not use");
    assert_refused("\x81\xa1x\xc1", 4, "does not use");
}

static void test_size_limit(void **state)
{
    (void)state;
    const char *why = NULL;
    assert_null(bora_frame_parse("\x81\xa1x\x01", 4, 3, &why));
    assert_string_equal(why, "the frame is too long");
    bora_frame *frame = bora_frame_parse("\x81\xa1x\x01", 4, 4, &why);
    assert_non_null(frame);
    bora_frame_free(frame);
}

static void test_hostile_counts_are_refused(void **state)
{
    (void)state;
    struct mallinfo2 before = mallinfo2();
    assert_refused("\x81\xa1x\xdd\xff\xff\xff\xff\x01\x01", 10, "more values"); /* array32 */
    assert_refused("\x81\xa1x\xdf\xff\xff\xff\xff\x01\x01", 10, "more values"); /* map32 */
    assert_refused("\xdf\xff\xff\xff\xff\xa1x\x01", 8, "more values");
    assert_refused("\x81\xa1x\xdc\xff\xff\x01\x01", 8, "more values");      /* array16 */
    assert_refused("\x81\xa1x\xdb\xff\xff\xff\xff\x01\x01", 10, "cut off"); /* str32 */
    assert_refused("\x81\xa1x\xc6\xff\xff\xff\xff\x01\x01", 10, "cut off"); /* bin32 */
    assert_refused("\x81\xa1x\xc9\xff\xff\xff\xff\x01\x01", 10, "cut off"); /* ext32 */
    /* Each count fits what is left, their sum does not. */
    assert_refused("\x82\xa1x\x93\x93\x93\x01\x01\x01\x01\x01", 11, "more values");
    struct mallinfo2 after = mallinfo2();
    assert_true(after.arena + after.hblkhd <= before.arena + before.hblkhd + MIB / 4);
}

static void test_depth(void **state)
{
    (void)state;
    for (unsigned depth = 1; depth <= BORA_FRAME_DEPTH_MAX + 2; depth++) {
        bora_pack pack = {0};
        unsigned char bytes[64] = {0x81, 0xa1, 'x'};
        size_t size = 3;
        bora_pack_map(&pack, NULL);
        for (unsigned i = 1; i < depth; i++) {
            bora_pack_array(&pack, i == 1 ? "x" : NULL);
            bytes[size++] = 0x91;
        }
        bytes[size++] = 0x01;
        for (unsigned i = 0; i < depth; i++)
            bora_pack_end(&pack);
        bora_frame *frame = parse(bytes, size);
        if (depth <= BORA_FRAME_DEPTH_MAX) {
            assert_non_null(frame);
            assert_true(bora_pack_ok(&pack));
        } else {
            assert_null(frame);
            assert_refused(bytes, size, "too deep");
            assert_false(bora_pack_ok(&pack));
        }
        bora_frame_free(frame);
        bora_pack_release(&pack);
    }
    /* A megabyte of nothing but opening. */
    unsigned char *deep = malloc(MIB);
    assert_non_null(deep);
    memset(deep, 0x91, MIB);
    memcpy(deep, "\x81\xa1x", 3);
    assert_refused(deep, MIB, "too deep");
    free(deep);
}

static void test_keys(void **state)
{
    (void)state;
    assert_refused("\x81\x01\x01", 3, "no string");
    assert_refused("\x81\xc0\x01", 3, "no string");
    assert_refused("\x81\x90\x01", 3, "no string");
    assert_refused("\x81\xa1x\x81\xc3\x01", 6, "neither");
    assert_refused("\x81\xa1x\x81\x90\x01", 6, "neither");
    bora_frame *frame = parse("\x81\xa1x\x82\x05\x01\xff\x02", 8); /* integer keys below the first level */
    assert_non_null(frame);
    assert_null(bora_value_get(bora_value_get(bora_frame_root(frame), "x"), "5"));
    bora_frame_free(frame);
}

static void test_only_utf8_is_text(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool is_text;
    } cases[] = {
        {"plain", true},
        {"\xc2\x80", true},          /* U+0080, the first of two bytes */
        {"\xdf\xbf", true},          /* U+07FF */
        {"\xe0\xa0\x80", true},      /* U+0800 */
        {"\xed\x9f\xbf", true},      /* U+D7FF */
        {"\xee\x80\x80", true},      /* U+E000 */
        {"\xf0\x90\x80\x80", true},  /* U+10000 */
        {"\xf4\x8f\xbf\xbf", true},  /* U+10FFFF */
        {"\x80", false},             /* a continuation alone */
        {"\xc3", false},             /* cut off */
        {"\xe2\x82", false},         /* cut off */
        {"\xf0\x9f\x98", false},     /* cut off */
        {"\xc0\xaf", false},         /* overlong */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* a surrogate */
        {"\xf4\x90\x80\x80", false}, /* past the end */
        {"\xf5\x80\x80\x80", false}, /* past the end */
        {"\xff", false},
        {"a\xc3(", false},
        {"\xe2\x28\xa1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bora_pack pack = {0};
        bora_pack_map(&pack, NULL);
        bora_pack_string(&pack, "t", cases[i].bytes);
        bora_pack_end(&pack);
        bora_frame *frame = parse(pack.data, pack.size);
        const char *bytes = NULL;
        size_t size = 0;
        assert_non_null(frame);
        assert_int_equal(bora_value_text(bora_value_get(bora_frame_root(frame), "t"), &bytes, &size), cases[i].is_text);
        bora_frame_free(frame);
        bora_pack_release(&pack);
    }
}

/* The dearest frames are those of one-byte values: 24 bytes of object each. */
static void test_memory_is_a_small_multiple(void **state)
{
    (void)state;
    unsigned char *bytes = malloc(MIB);
    assert_non_null(bytes);
    memset(bytes, 0x01, MIB);
    memcpy(bytes, "\x81\xa1x\xdd", 4);
    uint32_t n = MIB - 8;
    for (unsigned i = 0; i < 4; i++)
        bytes[4 + i] = (unsigned char)(n >> (24 - 8 * i));
    struct mallinfo2 before = mallinfo2();
    bora_frame *frame = parse(bytes, MIB);
    struct mallinfo2 after = mallinfo2();
    assert_non_null(frame);
    assert_int_equal(bora_value_count(bora_value_get(bora_frame_root(frame), "x")), n);
    assert_true(after.uordblks + after.hblkhd <= before.uordblks + before.hblkhd + 40 * MIB);
    bora_frame_free(frame);
    free(bytes);
}

static void test_misuse_spoils_the_pack(void **state)
{
    (void)state;
    bora_pack pack = {0};
    assert_false(bora_pack_ok(&pack)); /* empty */
    bora_pack_map(&pack, NULL);
    assert_false(bora_pack_ok(&pack)); /* open */
    bora_pack_end(&pack);
    assert_true(bora_pack_ok(&pack));
    bora_pack_map(&pack, NULL); /* a second root */
    assert_false(bora_pack_ok(&pack));
    bora_pack_release(&pack);

    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, NULL, 1); /* no key in a map */
    bora_pack_end(&pack);
    assert_false(bora_pack_ok(&pack));
    bora_pack_release(&pack);

    bora_pack_map(&pack, NULL);
    bora_pack_array(&pack, "a");
    bora_pack_uint(&pack, "key", 1); /* a key in an array */
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    assert_false(bora_pack_ok(&pack));
    bora_pack_release(&pack);

    bora_pack_end(&pack); /* nothing is open */
    assert_false(bora_pack_ok(&pack));
    bora_pack_release(&pack);
}

static void test_floats(void **state)
{
    (void)state;
    const unsigned char bytes[] = {0x82, 0xa1, 'a',  0xca, 0x3f, 0x80, 0, 0, 0xa1, 'b',
                                   0xcb, 0x7f, 0xf8, 0,    0,    0,    0, 0, 0};
    bora_frame *frame = parse(bytes, sizeof bytes);
    double real = 0;
    assert_true(bora_value_float(bora_value_get(bora_frame_root(frame), "a"), &real));
    assert_true(real == 1.0);
    assert_true(bora_value_float(bora_value_get(bora_frame_root(frame), "b"), &real));
    assert_true(isnan(real)); /* passed on: what a number means is the verb's to say */
    bora_frame_free(frame);
}

/* The check and msgpack-c must agree: all headers, with enough bytes behind them. */
static void test_every_header_byte(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        unsigned char bytes[64] = {0x81, 0xa1, 'x', (unsigned char)type};
        unsigned n_accepted = 0;
        for (size_t size = 4; size <= sizeof bytes; size++) {
            bora_frame *frame = parse(bytes, size);
            n_accepted += frame != NULL;
            bora_frame_free(frame);
        }
        assert_int_equal(n_accepted, type == 0xc1 ? 0 : 1); /* zeros behind it: exactly one length is right */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_null_value_has_no_type),
        cmocka_unit_test(test_nil_counts_as_absent_and_the_first_of_two_keys_counts),
        cmocka_unit_test(test_empty_texts_have_bytes_too),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_trailing_bytes_are_refused),
        cmocka_unit_test(test_only_a_map_is_a_frame),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_hostile_counts_are_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_only_utf8_is_text),
        cmocka_unit_test(test_memory_is_a_small_multiple),
        cmocka_unit_test(test_misuse_spoils_the_pack),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_every_header_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
