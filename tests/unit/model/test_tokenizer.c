/* Encoding and decoding on vocabularies small enough to see through, against a second, naive encoder on random ones,
 * and as properties of bora-tiny's own vocabulary. SentencePiece's own answers are in test_tokenizer_golden.c. */
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

#define SPACE      "\xe2\x96\x81"
#define PIECES_MAX 400

/* ---- fixtures ------------------------------------------------------------------------------------------------ */

/* A vocabulary under construction; a piece's score defaults to minus its id, so that earlier ones are better. */
typedef struct draft {
    const char *pieces[PIECES_MAX];
    uint32_t sizes[PIECES_MAX];
    float scores[PIECES_MAX];
    int32_t types[PIECES_MAX];
    char byte_names[256][8];
    bora_vocab vocab;
} draft;

static int32_t draft_add(draft *d, const char *piece, int32_t type)
{
    size_t id = d->vocab.n_pieces++;
    assert_true(id < PIECES_MAX);
    d->pieces[id] = piece;
    d->sizes[id] = (uint32_t)strlen(piece);
    d->scores[id] = -(float)id;
    d->types[id] = type;
    return (int32_t)id;
}

/* <unk>, <s>, </s>, and no options. */
static void draft_init(draft *d)
{
    *d = (draft){.vocab = {.pieces = d->pieces,
                           .piece_sizes = d->sizes,
                           .scores = d->scores,
                           .types = d->types,
                           .unk_id = 0,
                           .bos_id = 1,
                           .eos_id = 2}};
    draft_add(d, "<unk>", BORA_PIECE_UNKNOWN);
    draft_add(d, "<s>", BORA_PIECE_CONTROL);
    draft_add(d, "</s>", BORA_PIECE_CONTROL);
}

/* The byte pieces; id of the first. */
static int32_t draft_add_bytes(draft *d)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        (void)snprintf(d->byte_names[byte], sizeof d->byte_names[byte], "<0x%02X>", byte); /* 6 characters */
        draft_add(d, d->byte_names[byte], BORA_PIECE_BYTE);
    }
    return (int32_t)d->vocab.n_pieces - 256;
}

static bora_tokenizer *draft_make(const draft *d)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new(&d->vocab, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

/* Asserts that text becomes the pieces whose names are joined by '|'; byte pieces as themselves. */
static void assert_encodes_n(const bora_tokenizer *tokenizer, const char *text, size_t size, const char *expected)
{
    bora_tokens ids = {0};
    bora_text joined = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_tokenizer_encode(tokenizer, text, size, &ids, &err), BORA_OK);
    assert_int_equal(bora_text_append(&joined, "", 0, &err), BORA_OK);
    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        const char *piece = bora_tokenizer_piece(tokenizer, ids.ids[i], &n);
        assert_non_null(piece);
        assert_int_equal(bora_text_append(&joined, "|", i ? 1 : 0, &err), BORA_OK);
        assert_int_equal(bora_text_append(&joined, piece, n, &err), BORA_OK);
    }
    assert_string_equal(joined.bytes, expected);
    bora_text_release(&joined);
    bora_tokens_release(&ids);
}

static void assert_encodes(const bora_tokenizer *tokenizer, const char *text, const char *expected)
{
    assert_encodes_n(tokenizer, text, strlen(text), expected);
}

static void assert_decodes(const bora_tokenizer *tokenizer, const int32_t *ids, size_t n, const char *expected)
{
    bora_text text = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_tokenizer_decode(tokenizer, ids, n, &text, &err), BORA_OK);
    assert_string_equal(text.bytes, expected);
    bora_text_release(&text);
}

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

/* ---- encoding ------------------------------------------------------------------------------------------------ */

static void test_encode_merges(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    static const char *const pieces[] = {"bc", "ab", "abc", "aa", "cd", "a", "b", "c", "d"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        draft_add(&d, pieces[i], BORA_PIECE_NORMAL);
    d.scores[5] = 7; /* abc: the best, but it takes ab or bc to get there */
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "", "");
    assert_encodes(tokenizer, "a", "a");
    assert_encodes(tokenizer, "abc", "abc");
    assert_encodes(tokenizer, "abcd", "abc|d");
    assert_encodes(tokenizer, "bcd", "bc|d"); /* bc before cd */
    assert_encodes(tokenizer, "aaa", "aa|a"); /* equal scores: the leftmost */
    assert_encodes(tokenizer, "aaaa", "aa|aa");
    assert_encodes(tokenizer, "aaab", "aa|ab"); /* ab first, then what is left */
    assert_encodes(tokenizer, "aab", "a|ab");
    bora_tokenizer_free(tokenizer);
}

static void test_encode_user_defined(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    static const char *const users[] = {"@@@", "@@", "#" SPACE, "a#"};
    static const char *const pieces[] = {"@", "a", "b", "@a", "ab", SPACE, "#", SPACE "a"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        draft_add(&d, pieces[i], BORA_PIECE_NORMAL);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(users); i++)
        draft_add(&d, users[i], BORA_PIECE_USER_DEFINED);
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "@", "@");
    assert_encodes(tokenizer, "@@", "@@");
    assert_encodes(tokenizer, "@@@", "@@@");
    assert_encodes(tokenizer, "@@@@", "@@@|@");
    assert_encodes(tokenizer, "@@@@@", "@@@|@@");
    assert_encodes(tokenizer, "@a", "@a");
    assert_encodes(tokenizer, "@@a", "@@|a"); /* never part of a merge */
    assert_encodes(tokenizer, "a@@b", "a|@@|b");
    assert_encodes(tokenizer, "# a", "#" SPACE "|a");
    assert_encodes(tokenizer, "#a", "#|a");
    assert_encodes(tokenizer, "a# a", "a#|" SPACE "a"); /* found from left to right */
    bora_tokenizer_free(tokenizer);
}

static void test_encode_never_control(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    int32_t bytes = draft_add_bytes(&d);
    draft_add(&d, "[INST]", BORA_PIECE_CONTROL);
    draft_add(&d, "!", BORA_PIECE_CONTROL);
    static const char *const pieces[] = {"<", "s",  ">",  "<s", "s>", "/",    "[",     "I",  "N",
                                         "S", "T",  "]",  "IN", "ST", "INST", "[INST", "0",  "x",
                                         "A", "<0", "xA", "A>", "u",  "n",    "k",     "un", "unk"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        draft_add(&d, pieces[i], BORA_PIECE_NORMAL);
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "<s>", "<s|>");
    assert_encodes(tokenizer, "</s>", "<|/|s>");
    assert_encodes(tokenizer, "[INST]", "[INST|]");
    assert_encodes(tokenizer, "<0x0A>", "<0|x|0|A>");
    assert_encodes(tokenizer, "<unk>", "<|unk|>");
    assert_encodes(tokenizer, "!", "<0x21>"); /* a control piece of one character is an unknown character */
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), bytes + 256);
    assert_int_equal(bora_tokenizer_control(tokenizer, "!"), bytes + 257);
    assert_int_equal(bora_tokenizer_control(tokenizer, "INST"), -1);
    assert_int_equal(bora_tokenizer_control(tokenizer, "<unk>"), -1);
    assert_int_equal(bora_tokenizer_control(tokenizer, "<0x0A>"), -1);
    assert_int_equal(bora_tokenizer_control(tokenizer, ""), -1);
    bora_tokenizer_free(tokenizer);
}

static void test_encode_bytes(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    draft_add_bytes(&d);
    draft_add(&d, "a", BORA_PIECE_NORMAL);
    draft_add(&d, "\xef\xbf\xbd", BORA_PIECE_UNUSED); /* U+FFFD, and a lone unused piece, stay what they are */
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "a\xc3\xa9", "a|<0xC3>|<0xA9>");
    assert_encodes_n(tokenizer, "a\0a", 3, "a|<0x00>|a");
    assert_encodes(tokenizer, "a a", "a|<0xE2>|<0x96>|<0x81>|a");
    assert_encodes(tokenizer, "a" SPACE "a", "a|<0xE2>|<0x96>|<0x81>|a");
    assert_encodes(tokenizer, "\xf0\x9f\x98\x80", "<0xF0>|<0x9F>|<0x98>|<0x80>");
    static const char *const bad[] = {
        "\xff", "\x80", "\xc3", "\xc0\x80", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    static const char expected[] = "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|";
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        char pieces[64];
        (void)snprintf(pieces, sizeof pieces, "%.*sa", (int)strlen(bad[i]) * 4, expected); /* fits */
        char text[8];
        (void)snprintf(text, sizeof text, "%sa", bad[i]);
        assert_encodes(tokenizer, text, pieces);
    }
    bora_tokenizer_free(tokenizer);
}

static void test_encode_unknown(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    draft_add(&d, "a", BORA_PIECE_NORMAL);
    draft_add(&d, "xy", BORA_PIECE_NORMAL); /* made of characters that are unknown alone */
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "a?a", "a|<unk>|a");
    assert_encodes(tokenizer, "??a??\xc3\xa9", "<unk>|a|<unk>");
    assert_encodes(tokenizer, "xya", "xy|a");
    assert_encodes(tokenizer, "yxy", "<unk>|xy");
    bora_tokenizer_free(tokenizer);
}

static void test_encode_spaces(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    static const char *const pieces[] = {SPACE "a", SPACE, "a", SPACE SPACE, "a b", "b"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        draft_add(&d, pieces[i], BORA_PIECE_NORMAL);
    bora_tokenizer *plain = draft_make(&d);
    assert_encodes(plain, "a", "a");
    assert_encodes(plain, "   a", SPACE SPACE "|" SPACE "a");
    assert_encodes(plain, SPACE "a", SPACE "a");
    assert_encodes(plain, "a b", "a|" SPACE "|b"); /* a piece with a plain space in it is out of reach */
    bora_tokenizer_free(plain);
    d.vocab.add_dummy_prefix = true;
    bora_tokenizer *prefixed = draft_make(&d);
    assert_encodes(prefixed, "", "");
    assert_encodes(prefixed, "a", SPACE "a");
    assert_encodes(prefixed, " a", SPACE "|" SPACE "a");
    assert_encodes(prefixed, " ", SPACE SPACE);
    assert_encodes(prefixed, "\n", SPACE "|<unk>");
    bora_tokenizer_free(prefixed);
    d.vocab.remove_extra_whitespaces = true;
    bora_tokenizer *squeezed = draft_make(&d);
    assert_encodes(squeezed, "", "");
    assert_encodes(squeezed, "   ", "");
    assert_encodes(squeezed, SPACE, "");
    assert_encodes(squeezed, "  a   a  ", SPACE "a|" SPACE "a");
    assert_encodes(squeezed, "b" SPACE " b" SPACE, SPACE "|b|" SPACE SPACE "|b");
    bora_tokenizer_free(squeezed);
}

static void test_encode_unused(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    draft_add(&d, "ab", BORA_PIECE_UNUSED); /* on the way to abc, and taken apart where it stays */
    draft_add(&d, "cd", BORA_PIECE_UNUSED);
    draft_add(&d, "abcd", BORA_PIECE_UNUSED);
    static const char *const pieces[] = {"abx", "a", "b", "c", "d", "x"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pieces); i++)
        draft_add(&d, pieces[i], BORA_PIECE_NORMAL);
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_encodes(tokenizer, "abx", "abx");
    assert_encodes(tokenizer, "ab", "a|b");
    assert_encodes(tokenizer, "abcd", "a|b|c|d");
    assert_encodes(tokenizer, "xabcdabx", "x|a|b|c|d|abx");
    bora_tokenizer_free(tokenizer);
}

/* BPE as one would write it down: look at all neighbours, merge the best (leftmost) pair, again from the start. */
static size_t encode_naively(const draft *d, const char *text, int32_t *ids)
{
    size_t n = strlen(text), starts[64];
    assert_true(n < 64);
    for (size_t i = 0; i <= n; i++)
        starts[i] = i;
    for (;;) {
        size_t best_at = n, best_id = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t size = starts[i + 2] - starts[i];
            for (size_t id = 0; id < d->vocab.n_pieces; id++)
                if (d->types[id] == BORA_PIECE_NORMAL && d->sizes[id] == size &&
                    memcmp(d->pieces[id], text + starts[i], size) == 0 &&
                    (best_at == n || d->scores[id] > d->scores[best_id])) {
                    best_at = i;
                    best_id = id;
                }
        }
        if (best_at == n)
            break;
        memmove(starts + best_at + 1, starts + best_at + 2, (n - best_at - 1) * sizeof *starts);
        n--;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t id = 0; id < d->vocab.n_pieces; id++)
            if (d->types[id] == BORA_PIECE_NORMAL && d->sizes[id] == starts[i + 1] - starts[i] &&
                memcmp(d->pieces[id], text + starts[i], d->sizes[id]) == 0)
                ids[i] = (int32_t)id;
    return n;
}

static void test_encode_against_naive(void **state)
{
    (void)state;
    uint64_t seed = 20240607;
    bora_error err = {{0}};
    for (int round = 0; round < 300; round++) {
        draft d;
        char names[80][8];
        draft_init(&d);
        for (size_t i = 0; i < 80; i++) {
            /* The three letters first, then random strings of up to 5 of them. */
            size_t size = i < 3 ? 1 : 2 + random_below(&seed, 4);
            for (size_t j = 0; j < size; j++)
                names[i][j] = (char)('a' + (i < 3 ? i : random_below(&seed, 3)));
            names[i][size] = '\0';
            bool known = false;
            for (size_t id = 3; id < d.vocab.n_pieces; id++)
                known |= strcmp(d.pieces[id], names[i]) == 0;
            if (!known)
                d.scores[draft_add(&d, names[i], BORA_PIECE_NORMAL)] = (float)random_below(&seed, 12);
        }
        bora_tokenizer *tokenizer = draft_make(&d);
        for (int repeat = 0; repeat < 20; repeat++) {
            char text[64];
            size_t size = 1 + random_below(&seed, 60);
            for (size_t j = 0; j < size; j++)
                text[j] = (char)('a' + random_below(&seed, 3));
            text[size] = '\0';
            int32_t expected[64];
            size_t n = encode_naively(&d, text, expected);
            bora_tokens ids = {0};
            assert_int_equal(bora_tokenizer_encode(tokenizer, text, size, &ids, &err), BORA_OK);
            assert_int_equal(ids.n, n);
            assert_memory_equal(ids.ids, expected, n * sizeof *expected);
            bora_tokens_release(&ids);
        }
        bora_tokenizer_free(tokenizer);
    }
}

/* ---- decoding ------------------------------------------------------------------------------------------------ */

static void test_decode(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    d.vocab.add_dummy_prefix = true;
    const int32_t byte = draft_add_bytes(&d);
    const int32_t a = draft_add(&d, SPACE "a", BORA_PIECE_NORMAL);
    const int32_t b = draft_add(&d, "b" SPACE, BORA_PIECE_USER_DEFINED);
    const int32_t space = draft_add(&d, SPACE, BORA_PIECE_NORMAL);
    const int32_t plain = draft_add(&d, " c", BORA_PIECE_UNUSED);
    bora_tokenizer *tokenizer = draft_make(&d);
#define DECODES(text, ...)                                                                                             \
    do {                                                                                                               \
        const int32_t list[] = {__VA_ARGS__};                                                                          \
        assert_decodes(tokenizer, list, BORA_ARRAY_SIZE(list), (text));                                                \
    } while (0)
    assert_decodes(tokenizer, NULL, 0, "");
    DECODES("a", a);
    DECODES("a", 1, 2, a);
    DECODES("a a", a, a);
    DECODES("b  a", b, a);
    DECODES(" a", space, a); /* the one space has been dropped */
    DECODES(" c", plain);    /* a plain space is no mark */
    DECODES(" \xe2\x81\x87 ", 0);
    DECODES(" \xe2\x81\x87  a", 0, a);
    DECODES("\xc3\xa9 a", byte + 0xc3, byte + 0xa9, a);
    DECODES("\xef\xbf\xbd\xef\xbf\xbd\x41", byte + 0xe2, byte + 0x82, byte + 0x41);
    DECODES("\xef\xbf\xbd\xef\xbf\xbd", byte + 0xc3, 1, byte + 0xa9); /* a control piece ends the run */
    DECODES("\xef\xbf\xbd a\xef\xbf\xbd", byte + 0xc3, a, byte + 0xa9);
    DECODES("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", byte + 0xf0, byte + 0x9f, byte + 0x98);
    DECODES("\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80", byte + 0xf0, byte + 0x9f, byte + 0xf0, byte + 0x9f, byte + 0x98,
            byte + 0x80);
    bora_tokenizer_free(tokenizer);

    d.vocab.remove_extra_whitespaces = true; /* spaces go on vanishing until there is text */
    tokenizer = draft_make(&d);
    DECODES("a a", space, 1, space, a, a);
    bora_tokenizer_free(tokenizer);
    d.vocab.remove_extra_whitespaces = d.vocab.add_dummy_prefix = false;
    tokenizer = draft_make(&d);
    DECODES("  a", space, a);
    bora_tokenizer_free(tokenizer);
#undef DECODES
}

static void test_decoder_state(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    d.vocab.add_dummy_prefix = true;
    const int32_t byte = draft_add_bytes(&d);
    const int32_t a = draft_add(&d, SPACE "a", BORA_PIECE_NORMAL);
    bora_tokenizer *tokenizer = draft_make(&d);
    bora_error err = {{0}};
    bora_text text = {0};
    bora_decoder decoder, fork;

    bora_decoder_init(&decoder, tokenizer, true); /* goes on: the space stays */
    assert_int_equal(bora_decoder_push(&decoder, a, &text, &err), BORA_OK);
    assert_string_equal(text.bytes, " a");
    assert_int_equal(bora_decoder_push(&decoder, byte + 0xe2, &text, &err), BORA_OK);
    assert_int_equal(bora_decoder_push(&decoder, byte + 0x82, &text, &err), BORA_OK);
    assert_string_equal(text.bytes, " a");

    bora_decoder before = decoder; /* a bad id changes nothing */
    assert_int_equal(bora_decoder_push(&decoder, -1, &text, &err), BORA_E_INVAL);
    assert_int_equal(bora_decoder_push(&decoder, a + 1, &text, &err), BORA_E_INVAL);
    assert_memory_equal(&before, &decoder, sizeof decoder);
    assert_int_equal(text.size, 2);

    fork = decoder; /* two streams go on differently */
    assert_int_equal(bora_decoder_push(&decoder, byte + 0xac, &text, &err), BORA_OK);
    assert_string_equal(text.bytes, " a\xe2\x82\xac");
    text.size = 0;
    assert_int_equal(bora_decoder_flush(&fork, &text, &err), BORA_OK);
    assert_string_equal(text.bytes, "\xef\xbf\xbd\xef\xbf\xbd");
    assert_int_equal(bora_decoder_flush(&fork, &text, &err), BORA_OK); /* nothing is left */
    assert_int_equal(text.size, 6);
    const int32_t bad[] = {a, a + 1};
    assert_int_equal(bora_tokenizer_decode(tokenizer, bad, 2, &text, &err), BORA_E_INVAL);
    assert_int_equal(text.size, 6);
    bora_text_release(&text);
    bora_tokenizer_free(tokenizer);
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void assert_refused(const draft *d, const char *word)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_tokenizer_new(&d->vocab, &tokenizer, &err), BORA_E_FORMAT);
    assert_null(tokenizer);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
    assert_int_equal(bora_tokenizer_new(&d->vocab, &tokenizer, NULL), BORA_E_FORMAT);
}

static void test_vocabulary_refused(void **state)
{
    (void)state;
    draft d;
#define DRAFT()                                                                                                        \
    do {                                                                                                               \
        draft_init(&d);                                                                                                \
        draft_add(&d, "a", BORA_PIECE_NORMAL);                                                                         \
    } while (0)
    DRAFT();
    bora_tokenizer_free(draft_make(&d));
    DRAFT();
    d.vocab.n_pieces = 0;
    assert_refused(&d, "0 pieces");
    DRAFT();
    d.vocab.n_pieces = (size_t)BORA_VOCAB_MAX + 1;
    assert_refused(&d, "pieces");
    DRAFT();
    d.vocab.bos_id = 4;
    assert_refused(&d, "BOS is piece 4 of 4");
    DRAFT();
    d.vocab.eos_id = -2;
    assert_refused(&d, "EOS is piece -2");
    DRAFT();
    d.vocab.unk_id = -1; /* the piece of that type is found without its id */
    bora_tokenizer_free(draft_make(&d));
    d.types[0] = BORA_PIECE_CONTROL;
    assert_refused(&d, "neither");
    DRAFT();
    d.vocab.unk_id = 1; /* "?" would become <s> */
    assert_refused(&d, "unknown is piece 1");
    draft_add_bytes(&d); /* it is never used */
    bora_tokenizer_free(draft_make(&d));
    DRAFT();
    d.sizes[3] = 0;
    assert_refused(&d, "piece 3 has 0 bytes");
    DRAFT();
    char large[BORA_PIECE_SIZE_MAX + 1];
    memset(large, 'x', sizeof large);
    d.pieces[3] = large;
    d.sizes[3] = sizeof large;
    assert_refused(&d, "1025 bytes");
    d.sizes[3]--;
    bora_tokenizer_free(draft_make(&d));
    DRAFT();
    d.pieces[3] = "\xff";
    assert_refused(&d, "not UTF-8");
    DRAFT();
    d.pieces[3] = "\xc3\xa9"; /* cut by its size of 1 */
    assert_refused(&d, "not UTF-8");
    DRAFT();
    d.scores[3] = NAN;
    assert_refused(&d, "not a number");
    DRAFT();
    d.types[3] = 0;
    assert_refused(&d, "unknown type 0");
    DRAFT();
    d.types[3] = 7;
    assert_refused(&d, "unknown type 7");
    DRAFT();
    draft_add(&d, "a", BORA_PIECE_USER_DEFINED);
    assert_refused(&d, "pieces 3 and 4 are the same");
    DRAFT();
    draft_add(&d, "<s>", BORA_PIECE_CONTROL);
    assert_refused(&d, "pieces 1 and 4 are the same");
    DRAFT();
    draft_add(&d, "<s>", BORA_PIECE_NORMAL); /* text and control apart: two things */
    bora_tokenizer_free(draft_make(&d));
    DRAFT();
    draft_add(&d, "<0x41>", BORA_PIECE_BYTE);
    assert_refused(&d, "1 of the 256 byte pieces");
    static const char *const names[] = {"<0x4>", "<0x4g>", "<0x4a>", "<0x441>", "(0x41>", "<0x41)", "A"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        DRAFT();
        draft_add(&d, names[i], BORA_PIECE_BYTE);
        assert_refused(&d, "not spelled <0x00>");
    }
#undef DRAFT
}

static void test_encode_limit(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = tiny_load();
    bora_tokens ids = {0};
    bora_error err = {{0}};
    /* The size alone is looked at. */
    assert_int_equal(bora_tokenizer_encode(tokenizer, "", BORA_TEXT_SIZE_MAX + 1, &ids, &err), BORA_E_LIMIT);
    assert_int_equal(ids.n, 0);
    bora_tokens_release(&ids);
    bora_tokenizer_free(tokenizer);
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static void test_allocation_failures(void **state)
{
    (void)state;
    draft d;
    draft_init(&d);
    draft_add_bytes(&d);
    draft_add(&d, "ab", BORA_PIECE_UNUSED);
    draft_add(&d, "a", BORA_PIECE_NORMAL);
    draft_add(&d, "b", BORA_PIECE_NORMAL);
    draft_add(&d, "||", BORA_PIECE_USER_DEFINED);
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    uint64_t n = 0;
    bora_status status = BORA_E_NOMEM;
    while (status == BORA_E_NOMEM) {
        (void)bora_memory_fail_at(++n);
        status = bora_tokenizer_new(&d.vocab, &tokenizer, &err);
        assert_true(status == BORA_OK || !tokenizer);
    }
    (void)bora_memory_fail_at(0);
    assert_int_equal(status, BORA_OK);
    assert_true(n > 5);

    char text[600];
    memset(text, 'a', sizeof text);
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = i % 5 ? 'b' : '|';
    bora_tokens ids = {0};
    assert_int_equal(bora_tokens_push(&ids, 77, &err), BORA_OK);
    n = 0;
    for (status = BORA_E_NOMEM; status == BORA_E_NOMEM;) {
        (void)bora_memory_fail_at(++n);
        status = bora_tokenizer_encode(tokenizer, text, sizeof text, &ids, &err);
        (void)bora_memory_fail_at(0);
        assert_true(status == BORA_OK || ids.n == 1);
    }
    assert_int_equal(status, BORA_OK);
    assert_true(n > 4);
    assert_int_equal(ids.ids[0], 77);

    bora_text back = {0};
    assert_int_equal(bora_text_append(&back, "kept", 4, &err), BORA_OK);
    n = 0;
    for (status = BORA_E_NOMEM; status == BORA_E_NOMEM;) {
        (void)bora_memory_fail_at(++n);
        status = bora_tokenizer_decode(tokenizer, ids.ids + 1, ids.n - 1, &back, &err);
        (void)bora_memory_fail_at(0);
        if (status != BORA_OK)
            assert_string_equal(back.bytes, "kept");
    }
    assert_int_equal(status, BORA_OK);
    assert_true(n > 1);
    assert_int_equal(back.size, 4 + sizeof text);
    assert_memory_equal(back.bytes + 4, text, sizeof text);

    (void)bora_memory_fail_at(1);
    bora_text empty = {0};
    assert_int_equal(bora_tokenizer_decode(tokenizer, NULL, 0, &empty, &err), BORA_E_NOMEM);
    assert_null(empty.bytes);
    (void)bora_memory_fail_at(0);
    assert_int_equal(bora_text_reserve(&empty, SIZE_MAX, &err), BORA_E_NOMEM);
    assert_int_equal(bora_tokens_append(&ids, NULL, SIZE_MAX, &err), BORA_E_NOMEM);
    bora_text_release(&back);
    bora_tokens_release(&ids);
    bora_tokenizer_free(tokenizer);
    bora_tokenizer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_merges),
        cmocka_unit_test(test_encode_user_defined),
        cmocka_unit_test(test_encode_never_control),
        cmocka_unit_test(test_encode_bytes),
        cmocka_unit_test(test_encode_unknown),
        cmocka_unit_test(test_encode_spaces),
        cmocka_unit_test(test_encode_unused),
        cmocka_unit_test(test_encode_against_naive),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decoder_state),
        cmocka_unit_test(test_vocabulary_refused),
        cmocka_unit_test(test_encode_limit),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
