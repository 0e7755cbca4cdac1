/* The reader of .model files: what it takes from one, what it refuses, and that a damaged one is an error and nothing
 * worse, whatever byte it is damaged at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/hparams.h"
#include "model/tokenizer/tokenizer.h"

#include <math.h>
#include <string.h>

/* ---- a writer of protobuf ------------------------------------------------------------------------------------ */

/* Bytes under construction; bora_text does that well enough. */
typedef bora_text bytes;

static void put(bytes *b, const void *data, size_t size)
{
    assert_int_equal(bora_text_append(b, data, size, NULL), BORA_OK);
}

static void put_varint(bytes *b, uint64_t value)
{
    uint8_t encoded[10];
    size_t n = 0;
    do {
        encoded[n] = (uint8_t)(value & 0x7f);
        value >>= 7;
        encoded[n++] |= value ? 0x80 : 0;
    } while (value);
    put(b, encoded, n);
}

static void put_int(bytes *b, uint32_t field, uint64_t value)
{
    put_varint(b, field << 3);
    put_varint(b, value);
}

static void put_bytes(bytes *b, uint32_t field, const void *data, size_t size)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, size);
    put(b, data, size);
}

static void put_float(bytes *b, uint32_t field, float value)
{
    put_varint(b, field << 3 | 5);
    put(b, &value, sizeof value);
}

static void put_message(bytes *b, uint32_t field, bytes *message)
{
    put_bytes(b, field, message->bytes, message->size);
    bora_text_release(message);
}

static void put_piece(bytes *model, const char *text, float score, int type)
{
    bytes piece = {0};
    put_bytes(&piece, 1, text, strlen(text));
    put_float(&piece, 2, score);
    if (type != BORA_PIECE_NORMAL)
        put_int(&piece, 3, (uint64_t)type);
    put_message(model, 1, &piece);
}

/* Twenty-odd pieces without byte pieces, every option spelled out; extra fields of every wire type in between. */
static void model_put(bytes *model)
{
    put_piece(model, "<unk>", 0, BORA_PIECE_UNKNOWN);
    put_piece(model, "<s>", 0, BORA_PIECE_CONTROL);
    put_piece(model, "</s>", 0, BORA_PIECE_CONTROL);
    put_piece(model, "[INST]", 0, BORA_PIECE_CONTROL);
    put_piece(model, "@@", 0, BORA_PIECE_USER_DEFINED);
    static const char *const pieces[] = {"ab",
                                         "abc",
                                         "\xe2\x96\x81",
                                         "a",
                                         "b",
                                         "c",
                                         "\xe2\x96\x81"
                                         "a",
                                         "\xc3\xa9"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        put_piece(model, pieces[i], -(float)i, BORA_PIECE_NORMAL);
    bytes trainer = {0};
    put_bytes(&trainer, 1, "corpus.txt", 10);
    put_int(&trainer, 3, 2);
    put_int(&trainer, 4, 13);
    put_float(&trainer, 10, 0.9995f);
    put_int(&trainer, 35, 0);
    put_int(&trainer, 40, 0);
    put_int(&trainer, 41, 1);
    put_int(&trainer, 42, 2);
    put_int(&trainer, 43, UINT64_MAX); /* pad_id -1 */
    put_bytes(&trainer, 44, " \xe2\x81\x87 ", 5);
    put_message(model, 2, &trainer);
    bytes normaliser = {0};
    put_bytes(&normaliser, 1, "identity", 8);
    put_bytes(&normaliser, 2, "", 0);
    put_int(&normaliser, 3, 1);
    put_int(&normaliser, 4, 0);
    put_int(&normaliser, 5, 1);
    put_message(model, 3, &normaliser);
    put_varint(model, 200 << 3 | 1); /* an extension of 8 bytes */
    put(model, "12345678", 8);
}

static bora_tokenizer *parse(const bytes *model)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_parse(model->bytes, model->size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

/* Releases model. */
static void assert_refused(bytes *model, bora_status expected, const char *word)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    bora_status status = bora_tokenizer_parse(model->bytes, model->size, &tokenizer, &err);
    if (status != expected || !strstr(err.message, word))
        fail_msg("status %d, '%s' does not say '%s'", status, err.message, word);
    assert_null(tokenizer);
    bora_text_release(model);
}

static void assert_encodes(const bora_tokenizer *tokenizer, const char *text, const int32_t *expected, size_t n)
{
    bora_tokens ids = {0};
    assert_int_equal(bora_tokenizer_encode(tokenizer, text, strlen(text), &ids, NULL), BORA_OK);
    assert_int_equal(ids.n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ids.ids[i], expected[i]);
    bora_tokens_release(&ids);
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

static void test_parse(void **state)
{
    (void)state;
    bytes model = {0};
    model_put(&model);
    bora_tokenizer *tokenizer = parse(&model);
    assert_int_equal(bora_tokenizer_n_pieces(tokenizer), 13);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), 2);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), 3);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 0), BORA_PIECE_UNKNOWN);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 4), BORA_PIECE_USER_DEFINED);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 5), BORA_PIECE_NORMAL);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, -1), 0);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 13), 0);
    size_t size;
    const char *piece = bora_tokenizer_piece(tokenizer, 7, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(piece, "\xe2\x96\x81", 3);
    assert_null(bora_tokenizer_piece(tokenizer, 13, &size));
    assert_null(bora_tokenizer_piece(tokenizer, -1, &size));
    /* ab goes before the dummy prefix's " a". */
    assert_encodes(tokenizer, "abc  a@@?", (const int32_t[]){7, 6, 7, 11, 4, 0}, 6);
    bora_tokenizer_free(tokenizer);
    bora_text_release(&model);
}

static void test_defaults(void **state)
{
    (void)state;
    /* No normalizer_spec: dummy prefix, extra spaces removed; no ids in trainer_spec: 1 and 2, if control pieces. */
    bytes model = {0}, trainer = {0};
    put_piece(&model, "<unk>", 0, BORA_PIECE_UNKNOWN);
    put_piece(&model, "<s>", 0, BORA_PIECE_CONTROL);
    put_piece(&model, "a", 0, BORA_PIECE_NORMAL);
    put_piece(&model, "\xe2\x96\x81", 0, BORA_PIECE_NORMAL);
    put_int(&trainer, 3, 2);
    put_message(&model, 2, &trainer);
    bora_tokenizer *tokenizer = parse(&model);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), -1); /* piece 2 is no control piece */
    assert_encodes(tokenizer, "  a  a ", (const int32_t[]){3, 2, 3, 2}, 4);
    bora_tokenizer_free(tokenizer);
    /* A later message of the same kind adds to the earlier one: protobuf's rule. */
    put_int(&trainer, 41, UINT64_MAX);
    put_message(&model, 2, &trainer);
    bytes normaliser = {0};
    put_int(&normaliser, 3, 0);
    put_message(&model, 3, &normaliser);
    tokenizer = parse(&model);
    assert_int_equal(bora_tokenizer_bos(tokenizer), -1);
    assert_encodes(tokenizer, "  a  a ", (const int32_t[]){2, 3, 2}, 3);
    bora_tokenizer_free(tokenizer);
    bora_text_release(&model);
}

static void test_unsupported(void **state)
{
    (void)state;
    bytes model = {0}, part = {0};
    put_piece(&model, "<unk>", 0, BORA_PIECE_UNKNOWN);
    assert_refused(&model, BORA_E_UNSUPPORTED, "unigram"); /* the default */
    static const struct {
        uint32_t message, number;
        uint64_t value; /* of a varint; UINT64_MAX: three bytes */
        const char *word;
    } cases[] = {
        {2, 3, 3, "type word"},
        {2, 3, 99, "type unknown"},
        {2, 24, 1, "spaces"},
        {2, 44, UINT64_MAX, "unk_surface"},
        {3, 5, 0, "spaces"},
        {3, 2, UINT64_MAX, "normaliser"},
        {5, 2, UINT64_MAX, "normaliser"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        model_put(&model);
        if (cases[i].value == UINT64_MAX)
            put_bytes(&part, cases[i].number, "xyz", 3);
        else
            put_int(&part, cases[i].number, cases[i].value);
        put_message(&model, cases[i].message, &part);
        assert_refused(&model, BORA_E_UNSUPPORTED, cases[i].word);
    }
}

static void test_wrong_vocabulary(void **state)
{
    (void)state;
    bytes model = {0}, part = {0};
    bora_tokenizer *tokenizer = NULL;
    assert_int_equal(bora_tokenizer_parse(NULL, 0, &tokenizer, NULL), BORA_E_FORMAT);
    put_int(&part, 3, 2);
    put_message(&model, 2, &part);
    assert_refused(&model, BORA_E_FORMAT, "no pieces");
    model_put(&model);
    put_piece(&model, "<unk2>", 0, BORA_PIECE_UNKNOWN);
    assert_refused(&model, BORA_E_FORMAT, "0 and 13 are both unknown");
    put_int(&part, 3, 2);
    put_message(&model, 2, &part);
    put_piece(&model, "a", 0, BORA_PIECE_NORMAL);
    assert_refused(&model, BORA_E_FORMAT, "no unknown piece");
    model_put(&model);
    put_piece(&model, "ab", 0, BORA_PIECE_NORMAL);
    assert_refused(&model, BORA_E_FORMAT, "pieces 5 and 13 are the same");
    model_put(&model);
    put_piece(&model, "", 0, BORA_PIECE_NORMAL);
    assert_refused(&model, BORA_E_FORMAT, "piece 13 has 0 bytes");
    model_put(&model);
    put_message(&model, 1, &part); /* neither text nor score nor type */
    assert_refused(&model, BORA_E_FORMAT, "piece 13 has 0 bytes");
    model_put(&model);
    put_piece(&model, "x", NAN, BORA_PIECE_NORMAL);
    assert_refused(&model, BORA_E_FORMAT, "not a number");
    model_put(&model);
    put_piece(&model, "x", 0, 7);
    assert_refused(&model, BORA_E_FORMAT, "type");
    model_put(&model);
    put_piece(&model, "<0x41>", 0, BORA_PIECE_BYTE);
    assert_refused(&model, BORA_E_FORMAT, "byte_fallback is off");
    model_put(&model);
    put_int(&part, 35, 1);
    put_message(&model, 2, &part);
    assert_refused(&model, BORA_E_FORMAT, "byte_fallback without");
    model_put(&model);
    char large[BORA_PIECE_SIZE_MAX + 2];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    put_piece(&model, large, 0, BORA_PIECE_NORMAL);
    assert_refused(&model, BORA_E_FORMAT, "too long");
    for (size_t i = 0; i <= BORA_VOCAB_MAX; i++)
        put(&model, "\x0a\x00", 2);
    assert_refused(&model, BORA_E_FORMAT, "too many pieces");
}

static void test_wrong_wire_types(void **state)
{
    (void)state;
    bytes model = {0}, part = {0};
    static const uint32_t tops[] = {1, 2, 3, 5};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(tops); i++) {
        model_put(&model);
        put_int(&model, tops[i], 5);
        assert_refused(&model, BORA_E_FORMAT, "wire type 0 instead of 2");
    }
    static const struct {
        uint32_t message, number;
    } numbers[] = {{1, 2}, {1, 3}, {2, 3}, {2, 24}, {2, 35}, {2, 41}, {2, 42}, {3, 3}, {3, 4}, {3, 5}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(numbers); i++) {
        model_put(&model);
        put_bytes(&part, numbers[i].number, "12345", 5);
        put_message(&model, numbers[i].message, &part);
        assert_refused(&model, BORA_E_FORMAT, "wire type 2 instead of");
    }
    static const struct {
        uint32_t message, number;
    } texts[] = {{1, 1}, {2, 44}, {3, 2}, {5, 2}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(texts); i++) {
        model_put(&model);
        put_int(&part, texts[i].number, 5);
        put_message(&model, texts[i].message, &part);
        assert_refused(&model, BORA_E_FORMAT, "wire type 0 instead of 2");
    }
    static const char *const keys[] = {"\x0b", "\x0c", "\x0e", "\x0f", "\x02", "\xff\xff\xff\xff\x7f"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) { /* groups, unknown types, field 0, a field too far */
        model_put(&model);
        put(&model, keys[i], strlen(keys[i]));
        assert_refused(&model, BORA_E_FORMAT, "byte ");
    }
    static const struct {
        const char *bytes;
        size_t size;
    } tails[] = {{"\x20\x80", 2},                                          /* a varint that goes on */
                 {"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},     /* 65 bits */
                 {"\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12}, /* 11 bytes */
                 {"\x21"
                  "1234567",
                  8}, /* 7 bytes of 8 */
                 {"\x25"
                  "123",
                  4}, /* 3 of 4 */
                 {"\x22\x04"
                  "123",
                  5},                                                   /* 3 of 4 */
                 {"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}}; /* of 2^64-1 */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(tails); i++) {
        model_put(&model);
        put(&model, tails[i].bytes, tails[i].size);
        assert_refused(&model, BORA_E_FORMAT, "cut off");
    }
}

/* Cut at every byte: never a crash, and never a model with fewer pieces than the file had begun to name. */
static void test_truncated(void **state)
{
    (void)state;
    bytes model = {0};
    model_put(&model);
    size_t n_ok = 0;
    for (size_t size = 0; size < model.size; size++) {
        uint8_t *copy = bora_alloc(size); /* of its own, so that reading past the end is seen */
        memcpy(copy, model.bytes, size);
        bora_tokenizer *tokenizer = NULL;
        bora_error err = {{0}};
        bora_status status = bora_tokenizer_parse(copy, size, &tokenizer, &err);
        if (status == BORA_OK) {
            n_ok++; /* between two fields after trainer_spec */
            assert_int_equal(bora_tokenizer_n_pieces(tokenizer), 13);
            bora_tokenizer_free(tokenizer);
        } else {
            assert_true(status == BORA_E_FORMAT || status == BORA_E_UNSUPPORTED);
            assert_string_not_equal(err.message, "");
        }
        bora_free(copy);
    }
    assert_int_equal(n_ok, 2);
    bora_text_release(&model);
}

/* Every byte changed to a few others: an error or a tokenizer that works. */
static void test_corrupted(void **state)
{
    (void)state;
    bytes model = {0};
    model_put(&model);
    size_t n_refused = 0;
    for (size_t at = 0; at < model.size; at++) {
        static const uint8_t masks[] = {0x01, 0x02, 0x04, 0x08, 0x80, 0xff};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(masks); i++) {
            model.bytes[at] = (char)((uint8_t)model.bytes[at] ^ masks[i]);
            bora_tokenizer *tokenizer = NULL;
            bora_error err = {{0}};
            bora_status status = bora_tokenizer_parse(model.bytes, model.size, &tokenizer, &err);
            if (status == BORA_OK) {
                bora_tokens ids = {0};
                bora_text back = {0};
                assert_int_equal(bora_tokenizer_encode(tokenizer, "abc a@@\xff", 8, &ids, &err), BORA_OK);
                assert_int_equal(bora_tokenizer_decode(tokenizer, ids.ids, ids.n, &back, &err), BORA_OK);
                bora_tokens_release(&ids);
                bora_text_release(&back);
                bora_tokenizer_free(tokenizer);
            } else {
                n_refused++;
                assert_true(status == BORA_E_FORMAT || status == BORA_E_UNSUPPORTED);
            }
            model.bytes[at] = (char)((uint8_t)model.bytes[at] ^ masks[i]);
        }
    }
    assert_true(n_refused > model.size);
    bora_text_release(&model);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    bytes model = {0};
    model_put(&model);
    bora_status status = BORA_E_NOMEM;
    uint64_t n = 0;
    bora_tokenizer *tokenizer = NULL;
    while (status == BORA_E_NOMEM) {
        (void)bora_memory_fail_at(++n);
        status = bora_tokenizer_parse(model.bytes, model.size, &tokenizer, NULL);
        assert_true(status == BORA_OK || !tokenizer);
    }
    (void)bora_memory_fail_at(0);
    assert_int_equal(status, BORA_OK);
    assert_true(n > 8);
    bora_tokenizer_free(tokenizer);
    bora_text_release(&model);
}

/* bora-tiny's own file, against what its maker says of it. */
static void test_tiny(void **state)
{
    (void)state;
    bora_file file = {0};
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_file_map(BORA_SOURCE_DIR "/tests/models/bora-tiny/tokenizer.model.v3", &file, &err), BORA_OK);
    if (bora_tokenizer_parse(file.data, file.size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), 2);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), 3);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[/INST]"), 4);
    size_t n_bytes = 0;
    for (int32_t id = 0; (size_t)id < bora_tokenizer_n_pieces(tokenizer); id++)
        n_bytes += bora_tokenizer_piece_type(tokenizer, id) == BORA_PIECE_BYTE;
    assert_int_equal(n_bytes, 256);
    bora_tokenizer_free(tokenizer);
    bora_file_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_wrong_vocabulary),
        cmocka_unit_test(test_wrong_wire_types),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_corrupted),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_tiny),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
