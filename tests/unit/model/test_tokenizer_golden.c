/* SentencePiece's own answers for Mistral's v1, v3 and v7 vocabularies and for a 512-piece one: every encoding, every
 * decoding and every chunk of a streamed decoding, exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/tokenizer/tokenizer.h"
#include "support/skip.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_SIZE (1 << 20)

typedef struct golden {
    bora_tokenizer *tokenizer;
    FILE *lines;
    char *line; /* [LINE_MAX_SIZE] */
    size_t n;   /* lines read */
} golden;

static bora_tokenizer *tokenizer_load(const char *data, const char *path)
{
    char *full = bora_format("%s/%s", data, path);
    bora_file file = {0};
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    if (bora_file_map(full, &file, &err) != BORA_OK ||
        bora_tokenizer_parse(file.data, file.size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s: %s", full, err.message);
    bora_file_release(&file);
    bora_free(full);
    return tokenizer;
}

static void golden_open(golden *g, const char *data, const char *model, const char *lines)
{
    char *path = bora_format("%s/golden/tokenizer/%s", data, lines);
    *g = (golden){.tokenizer = tokenizer_load(data, model),
                  .lines = fopen(path, "r"),
                  .line = bora_alloc(LINE_MAX_SIZE)};
    if (!g->lines)
        fail_msg("%s", path);
    bora_free(path);
}

/* The next line's object, NULL at the end. */
static json_t *golden_next(golden *g)
{
    if (!fgets(g->line, LINE_MAX_SIZE, g->lines))
        return NULL;
    json_error_t error;
    json_t *object = json_loads(g->line, JSON_ALLOW_NUL, &error);
    if (!object)
        fail_msg("line %zu: %s", g->n + 1, error.text);
    g->n++;
    return object;
}

static void golden_close(golden *g, size_t n_lines)
{
    assert_int_equal(g->n, n_lines);
    (void)fclose(g->lines); /* was only read */
    bora_free(g->line);
    bora_tokenizer_free(g->tokenizer);
}

static void assert_ids(const golden *g, const bora_tokens *ids, const json_t *expected)
{
    bool same = ids->n == json_array_size(expected);
    for (size_t i = 0; same && i < ids->n; i++)
        same = ids->ids[i] == json_integer_value(json_array_get(expected, i));
    if (same)
        return;
    for (size_t i = 0; i < ids->n; i++)
        fprintf(stderr, " %d", ids->ids[i]);
    fail_msg(": these ids came for line %zu: %.200s", g->n, g->line);
}

static void check_encode(const char *data, const char *model, const char *lines, size_t n_lines)
{
    golden g;
    golden_open(&g, data, model, lines);
    bora_error err = {{0}};
    for (json_t *object; (object = golden_next(&g)); json_decref(object)) {
        const json_t *text = json_object_get(object, "text");
        bora_tokens ids = {0};
        assert_int_equal(bora_tokenizer_encode(g.tokenizer, json_string_value(text), json_string_length(text), &ids,
                                               &err),
                         BORA_OK);
        assert_ids(&g, &ids, json_object_get(object, "ids"));
        bora_tokens_release(&ids);
    }
    golden_close(&g, n_lines);
}

static void assert_chunk(const golden *g, const bora_text *text, size_t from, const json_t *expected)
{
    assert_true(json_is_string(expected));
    size_t size = json_string_length(expected);
    if (text->size - from != size || memcmp(text->bytes + from, json_string_value(expected), size) != 0)
        fail_msg("line %zu: chunk '%s' instead of '%s'", g->n, text->bytes + from, json_string_value(expected));
}

static void check_decode(const char *data, const char *model, const char *lines, size_t n_lines)
{
    golden g;
    golden_open(&g, data, model, lines);
    bora_error err = {{0}};
    for (json_t *object; (object = golden_next(&g)); json_decref(object)) {
        const json_t *ids = json_object_get(object, "ids"), *chunks = json_object_get(object, "chunks");
        size_t n = json_array_size(ids);
        int32_t *list = bora_calloc(n, sizeof *list);
        bora_text streamed = {0}, whole = {0};
        bora_decoder decoder;
        bora_decoder_init(&decoder, g.tokenizer, false);
        for (size_t i = 0; i < n; i++) {
            list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
            size_t from = streamed.size;
            assert_int_equal(bora_decoder_push(&decoder, list[i], &streamed, &err), BORA_OK);
            assert_chunk(&g, &streamed, from, json_array_get(chunks, i));
        }
        size_t from = streamed.size;
        assert_int_equal(bora_decoder_flush(&decoder, &streamed, &err), BORA_OK);
        assert_chunk(&g, &streamed, from, json_object_get(object, "flush"));
        assert_int_equal(bora_tokenizer_decode(g.tokenizer, list, n, &whole, &err), BORA_OK);
        assert_chunk(&g, &whole, 0, json_object_get(object, "text"));
        assert_chunk(&g, &streamed, 0, json_object_get(object, "text"));
        bora_text_release(&streamed);
        bora_text_release(&whole);
        bora_free(list);
    }
    golden_close(&g, n_lines);
}

static void test_encode_v1(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_encode(data, "tokenizers/tokenizer.model.v1", "encode_v1.jsonl", 471);
}

static void test_encode_v3(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_encode(data, "tokenizers/tokenizer.model.v3", "encode_v3.jsonl", 471);
}

static void test_encode_v7(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_encode(data, "tokenizers/tokenizer.model.v7", "encode_v7.jsonl", 471);
}

static void test_encode_tok512(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_encode(data, "models/stories260K/tokenizer.model", "encode_tok512.jsonl", 156);
}

static void test_decode_v1(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_decode(data, "tokenizers/tokenizer.model.v1", "decode_v1.jsonl", 202);
}

static void test_decode_v3(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_decode(data, "tokenizers/tokenizer.model.v3", "decode_v3.jsonl", 202);
}

static void test_decode_v7(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_decode(data, "tokenizers/tokenizer.model.v7", "decode_v7.jsonl", 202);
}

/* What tokenizers/info.json says of each file, in numbers. */
static void check_vocabulary(const char *data, const char *model, size_t n_pieces, size_t n_control, size_t n_user)
{
    bora_tokenizer *tokenizer = tokenizer_load(data, model);
    size_t n_types[7] = {0};
    assert_int_equal(bora_tokenizer_n_pieces(tokenizer), n_pieces);
    for (size_t id = 0; id < n_pieces; id++)
        n_types[bora_tokenizer_piece_type(tokenizer, (int32_t)id)]++;
    assert_int_equal(n_types[BORA_PIECE_NORMAL], 31741);
    assert_int_equal(n_types[BORA_PIECE_UNKNOWN], 1);
    assert_int_equal(n_types[BORA_PIECE_CONTROL], n_control);
    assert_int_equal(n_types[BORA_PIECE_USER_DEFINED], n_user);
    assert_int_equal(n_types[BORA_PIECE_BYTE], 256);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), 2);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), n_user ? 3 : -1);
    assert_int_equal(bora_tokenizer_control(tokenizer, "</s>"), 2);
    bora_tokenizer_free(tokenizer);
}

static void test_vocabulary(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_vocabulary(data, "tokenizers/tokenizer.model.v1", 32000, 2, 0);
    check_vocabulary(data, "tokenizers/tokenizer.model.v3", 32768, 750, 20);
    check_vocabulary(data, "tokenizers/tokenizer.model.v7", 32768, 748, 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_v1),     cmocka_unit_test(test_encode_v3),  cmocka_unit_test(test_encode_v7),
        cmocka_unit_test(test_encode_tok512), cmocka_unit_test(test_decode_v1),  cmocka_unit_test(test_decode_v3),
        cmocka_unit_test(test_decode_v7),     cmocka_unit_test(test_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
