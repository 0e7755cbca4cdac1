/* Encodings and decodings that other programs made (tests/golden/tekken/make-golden.mjs), exactly: with a small
 * vocabulary of our own always, with Mistral's where `make test-data` has fetched it. */
#include "tekken_fixture.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_SIZE (1 << 16)

typedef void (*line_check)(const bora_tokenizer *tokenizer, const json_t *object, size_t line);

static void each_line(const bora_tokenizer *tokenizer, const char *path, size_t n_lines, line_check check)
{
    FILE *lines = fopen(path, "r");
    static char line[LINE_MAX_SIZE];
    size_t n = 0;
    if (!lines)
        fail_msg("%s", path);
    while (fgets(line, sizeof line, lines)) {
        json_error_t error;
        json_t *object = json_loads(line, JSON_ALLOW_NUL, &error);
        if (!object)
            fail_msg("%s: line %zu: %s", path, n + 1, error.text);
        check(tokenizer, object, ++n);
        json_decref(object);
    }
    (void)fclose(lines); /* was only read */
    assert_int_equal(n, n_lines);
}

static void assert_text(const char *bytes, size_t size, const json_t *expected, size_t line)
{
    if (size != json_string_length(expected) || (size && memcmp(bytes, json_string_value(expected), size) != 0))
        fail_msg("line %zu: '%.*s' instead of '%s'", line, (int)size, bytes, json_string_value(expected));
}

/* What is encoded comes back, too: none of the texts has a byte that is no part of a character. */
static void check_encode(const bora_tokenizer *tokenizer, const json_t *object, size_t line)
{
    const json_t *text = json_object_get(object, "text"), *expected = json_object_get(object, "ids");
    bora_tokens ids = {0};
    bora_text decoded = {0};
    bora_error err = {{0}};
    if (bora_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), &ids, &err) != BORA_OK)
        fail_msg("line %zu: %s", line, err.message);
    bool same = ids.n == json_array_size(expected);
    for (size_t i = 0; same && i < ids.n; i++)
        same = ids.ids[i] == json_integer_value(json_array_get(expected, i));
    if (!same) {
        for (size_t i = 0; i < ids.n; i++)
            fprintf(stderr, " %d", ids.ids[i]);
        fail_msg(": these ids came for line %zu: '%.200s'", line, json_string_value(text));
    }
    assert_int_equal(bora_tokenizer_decode(tokenizer, ids.ids, ids.n, &decoded, &err), BORA_OK);
    assert_text(decoded.bytes, decoded.size, text, line);
    bora_tokens_release(&ids);
    bora_text_release(&decoded);
}

static void check_decode(const bora_tokenizer *tokenizer, const json_t *object, size_t line)
{
    const json_t *ids = json_object_get(object, "ids"), *chunks = json_object_get(object, "chunks");
    const size_t n = json_array_size(ids);
    int32_t list[64];
    bora_text streamed = {0}, whole = {0};
    bora_error err = {{0}};
    bora_decoder decoder;
    assert_true(n <= 64 && json_array_size(chunks) == n + 1);
    bora_decoder_init(&decoder, tokenizer, false);
    for (size_t i = 0; i < n; i++) {
        size_t from = streamed.size;
        list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        assert_int_equal(bora_decoder_push(&decoder, list[i], &streamed, &err), BORA_OK);
        assert_text(streamed.bytes + from, streamed.size - from, json_array_get(chunks, i), line);
    }
    size_t from = streamed.size;
    assert_int_equal(bora_decoder_flush(&decoder, &streamed, &err), BORA_OK);
    assert_text(streamed.bytes + from, streamed.size - from, json_array_get(chunks, n), line);
    assert_int_equal(bora_tokenizer_decode(tokenizer, list, n, &whole, &err), BORA_OK);
    assert_text(whole.bytes, whole.size, json_object_get(object, "text"), line);
    bora_text_release(&streamed);
    bora_text_release(&whole);
}

static void small_encode(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tekken_load(TEKKEN_SMALL);
    each_line(tokenizer, TEKKEN_FOLDER "/small-encode.jsonl", 442, check_encode);
    bora_tokenizer_free(tokenizer);
}

static void small_decode(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tekken_load(TEKKEN_SMALL);
    each_line(tokenizer, TEKKEN_FOLDER "/small-decode.jsonl", 218, check_decode);
    bora_tokenizer_free(tokenizer);
}

#define REAL_OR_SKIP()                                                                                                 \
    do {                                                                                                               \
        if (access(TEKKEN_REAL, R_OK) != 0)                                                                            \
            BORA_SKIP("Mistral's tekken.json is not there, `make test-data` fetches it");                              \
    } while (0)

static void tekken_240718_encode(void **state)
{
    (void)state;
    REAL_OR_SKIP();
    bora_tokenizer *tokenizer = tekken_load(TEKKEN_REAL);
    each_line(tokenizer, TEKKEN_FOLDER "/encode.jsonl", 442, check_encode);
    bora_tokenizer_free(tokenizer);
}

static void tekken_240718_vocabulary(void **state)
{
    (void)state;
    REAL_OR_SKIP();
    bora_tokenizer *tokenizer = tekken_load(TEKKEN_REAL);
    assert_int_equal(bora_tokenizer_kind(tokenizer), BORA_TOKENIZER_TEKKEN);
    assert_int_equal(bora_tokenizer_version(tokenizer), 3);
    assert_int_equal(bora_tokenizer_n_pieces(tokenizer), 131072);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), 2);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), 3);
    assert_int_equal(bora_tokenizer_control(tokenizer, "<SPECIAL_999>"), 999);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 999), BORA_PIECE_CONTROL);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 1000), BORA_PIECE_NORMAL);
    bora_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_encode),
        cmocka_unit_test(small_decode),
        cmocka_unit_test(tekken_240718_encode),
        cmocka_unit_test(tekken_240718_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
