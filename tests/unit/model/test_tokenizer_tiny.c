/* The tokenizer on the vocabulary of bora-tiny: what holds for any text, and how much work it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/hparams.h"
#include "model/tokenizer/tokenizer_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % n);
}

static bora_tokenizer *tiny_load(void)
{
    bora_file file = {0};
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    if (bora_file_map(BORA_SOURCE_DIR "/tests/models/bora-tiny/tokenizer.model.v3", &file, &err) != BORA_OK ||
        bora_tokenizer_parse(file.data, file.size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_file_release(&file);
    return tokenizer;
}

static bool utf8_valid(const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint8_t lead = (uint8_t)text[at];
        size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
        if (!length || length > size - at)
            return false;
        uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
        for (size_t i = 1; i < length; i++) {
            if (((uint8_t)text[at + i] & 0xc0) != 0x80)
                return false;
            code = code << 6 | ((uint8_t)text[at + i] & 0x3f);
        }
        static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        if (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
        at += length;
    }
    return true;
}

/* Every piece is in memory, and is found by a table that is at least twice as long as the vocabulary. */
static void test_size(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tiny_load();
    const size_t n = bora_tokenizer_n_pieces(tokenizer);
    size_t least = n * (sizeof(float) + sizeof(uint32_t) + 1) + 2 * n * sizeof(bora_piece_slot);
    for (size_t id = 0; id < n; id++) {
        size_t size = 0;
        (void)bora_tokenizer_piece(tokenizer, (int32_t)id, &size);
        least += size;
    }
    assert_in_range(bora_tokenizer_size(tokenizer), least, 2 * least);
    bora_tokenizer_free(tokenizer);
}

static void test_tiny_random_ids(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tiny_load();
    bora_error err = {{0}};
    uint64_t seed = 42;
    size_t n_pieces = bora_tokenizer_n_pieces(tokenizer);
    int32_t first_byte = 0;
    while (bora_tokenizer_piece_type(tokenizer, first_byte) != BORA_PIECE_BYTE)
        first_byte++;
    for (int round = 0; round < 2000; round++) {
        int32_t ids[40];
        size_t n = random_below(&seed, 41);
        bora_text streamed = {0}, whole = {0};
        bora_decoder decoder;
        bora_decoder_init(&decoder, tokenizer, false);
        for (size_t i = 0; i < n; i++) {
            /* Many bytes, and among them many that begin or continue characters. */
            ids[i] = round % 2 ? (int32_t)random_below(&seed, (uint32_t)n_pieces)
                               : first_byte + 0x80 + (int32_t)random_below(&seed, 0x80);
            size_t from = streamed.size;
            assert_int_equal(bora_decoder_push(&decoder, ids[i], &streamed, &err), BORA_OK);
            assert_true(decoder.n_pending < sizeof decoder.pending);
            assert_true(utf8_valid(streamed.bytes + from, streamed.size - from));
        }
        assert_int_equal(bora_decoder_flush(&decoder, &streamed, &err), BORA_OK);
        assert_int_equal(bora_tokenizer_decode(tokenizer, ids, n, &whole, &err), BORA_OK);
        assert_int_equal(streamed.size, whole.size);
        assert_memory_equal(streamed.bytes, whole.bytes, whole.size);
        assert_true(utf8_valid(whole.bytes, whole.size));
        bora_text_release(&streamed);
        bora_text_release(&whole);
    }
    bora_tokenizer_free(tokenizer);
}

static void assert_round_trip(const bora_tokenizer *tokenizer, const char *text, size_t size)
{
    bora_tokens ids = {0};
    bora_text back = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_tokenizer_encode(tokenizer, text, size, &ids, &err), BORA_OK);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_not_equal(bora_tokenizer_piece_type(tokenizer, ids.ids[i]), BORA_PIECE_CONTROL);
    assert_int_equal(bora_tokenizer_decode(tokenizer, ids.ids, ids.n, &back, &err), BORA_OK);
    assert_int_equal(back.size, size);
    assert_memory_equal(back.bytes, text, size);
    bora_tokens_release(&ids);
    bora_text_release(&back);
}

static void test_tiny_round_trip(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tiny_load();
    static const char *const texts[] = {
        "",
        " ",
        "  two  spaces  ",
        "Hello, world!\n\n\tindented",
        "</s>[INST] ignore [/INST] <s><unk>",
        "<0x0A> <0xE2><0x82>",
        "caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x91\xa9\xf0\x9f\x8f\xbd\xe2\x80\x8d\xf0\x9f\x9a\x80",
        "\xef\xbf\xbd\xef\xbb\xbf\xf4\x8f\xbf\xbf\xed\x9f\xbf",
        "\r\n\x01\x7f",
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(texts); i++)
        assert_round_trip(tokenizer, texts[i], strlen(texts[i]));
    assert_round_trip(tokenizer, "nul\0nul\0", 8);
    /* Every control piece, spelled. */
    for (int32_t id = 0; (size_t)id < bora_tokenizer_n_pieces(tokenizer); id++) {
        size_t size;
        const char *piece = bora_tokenizer_piece(tokenizer, id, &size);
        if (bora_tokenizer_piece_type(tokenizer, id) == BORA_PIECE_CONTROL)
            assert_round_trip(tokenizer, piece, size);
    }
    bora_tokenizer_free(tokenizer);
}

/* Two of these would take minutes if anything were quadratic: no clock is needed to notice. */
static void test_tiny_long_words(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    bora_tokenizer *tokenizer = tiny_load();
    char *text = bora_alloc(SIZE);
    uint64_t seed = 7;
    memset(text, 'a', SIZE);
    assert_round_trip(tokenizer, text, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = "etaoinshrdlucmfw"[random_below(&seed, 16)];
    assert_round_trip(tokenizer, text, SIZE);
    memset(text, ' ', SIZE);
    assert_round_trip(tokenizer, text, SIZE);
    memset(text, 0, SIZE);
    assert_round_trip(tokenizer, text, SIZE);
    bora_free(text);
    bora_tokenizer_free(tokenizer);
}

/* Four times the text is four times the work and a little: words, one word, and letters that are no piece. */
static void test_work_is_proportional(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "the ", " ", "ab", "\xe6\x97\xa5", "Z", "\n"};
    const size_t sizes[] = {1u << 16, 1u << 18};
    bora_tokenizer *tokenizer = tiny_load();
    char *text = bora_alloc(sizes[1]);
    for (size_t u = 0; u < BORA_ARRAY_SIZE(units); u++) {
        uint64_t n_steps[2] = {0};
        for (size_t i = 0; i < sizes[1]; i++)
            text[i] = units[u][i % strlen(units[u])];
        for (int i = 0; i < 2; i++) {
            bora_tokens ids = {0};
            assert_int_equal(bora_tokenizer_encode_counting(tokenizer, text, sizes[i], &ids, &n_steps[i], NULL),
                             BORA_OK);
            bora_tokens_release(&ids);
        }
        if (n_steps[1] > 5 * n_steps[0] || n_steps[0] > 100 * sizes[0])
            fail_msg("'%s': %llu steps, %llu for four times as many bytes", units[u], (unsigned long long)n_steps[0],
                     (unsigned long long)n_steps[1]);
    }
    bora_free(text);
    bora_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_tiny_random_ids),
        cmocka_unit_test(test_tiny_round_trip),
        cmocka_unit_test(test_tiny_long_words),
        cmocka_unit_test(test_work_is_proportional),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
