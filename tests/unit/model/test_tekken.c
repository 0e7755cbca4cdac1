/* Tekken on a small vocabulary: what special tokens, bytes and user-defined pieces do, what a damaged tekken.json is
 * told, how much work long texts are, and memory that runs out. Other programs' answers are in test_tekken_golden.c. */
#include "tekken_fixture.h"

#include "model/tokenizer/tokenizer_private.h"

#include <jansson.h>
#include <string.h>

static bora_tokenizer *small; /* for the whole group */

static void encode(const bora_tokenizer *tokenizer, const char *text, size_t size, bora_tokens *ids)
{
    bora_error err = {{0}};
    ids->n = 0;
    if (bora_tokenizer_encode(tokenizer, text, size, ids, &err) != BORA_OK)
        fail_msg("'%.80s': %s", text, err.message);
}

/* ---- what it does ---- */

static void specials(void **state)
{
    (void)state;
    static const char *const names[] = {"<unk>",
                                        "<s>",
                                        "</s>",
                                        "[INST]",
                                        "[/INST]",
                                        "[AVAILABLE_TOOLS]",
                                        "[/AVAILABLE_TOOLS]",
                                        "[TOOL_RESULTS]",
                                        "[/TOOL_RESULTS]",
                                        "[TOOL_CALLS]",
                                        "<pad>",
                                        "[PREFIX]",
                                        "[MIDDLE]",
                                        "[SUFFIX]",
                                        "<SPECIAL_14>"};
    assert_int_equal(bora_tokenizer_kind(small), BORA_TOKENIZER_TEKKEN);
    assert_int_equal(bora_tokenizer_version(small), 3);
    assert_int_equal(bora_tokenizer_n_pieces(small), SMALL_N_PIECES);
    assert_int_equal(bora_tokenizer_bos(small), 1);
    assert_int_equal(bora_tokenizer_eos(small), 2);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++)
        assert_int_equal(bora_tokenizer_control(small, names[i]), i);
    assert_int_equal(bora_tokenizer_control(small, "<SPECIAL_23>"), 23);
    assert_int_equal(bora_tokenizer_control(small, "<SPECIAL_24>"), -1);
    assert_int_equal(bora_tokenizer_control(small, "a"), -1);

    /* No text makes one, and decoding shows none. */
    bora_tokens ids = {0};
    bora_text text = {0};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        encode(small, names[i], strlen(names[i]), &ids);
        for (size_t k = 0; k < ids.n; k++)
            assert_int_equal(bora_tokenizer_piece_type(small, ids.ids[k]), BORA_PIECE_NORMAL);
    }
    const int32_t mixed[] = {1, SMALL_N_SPECIAL + 'a', 3, SMALL_N_SPECIAL + ' ', SMALL_N_SPECIAL + 'b', 0, 2};
    assert_int_equal(bora_tokenizer_decode(small, mixed, BORA_ARRAY_SIZE(mixed), &text, NULL), BORA_OK);
    assert_string_equal(text.bytes, "a b");
    bora_tokens_release(&ids);
    bora_text_release(&text);
}

/* Spaces at the start stay, also where an answer goes on; nothing is put before the text. */
static void no_dummy_space(void **state)
{
    (void)state;
    for (int continues = 0; continues < 2; continues++) {
        bora_tokens ids = {0};
        bora_text text = {0};
        bora_decoder decoder;
        encode(small, "  a", 3, &ids);
        bora_decoder_init(&decoder, small, continues);
        for (size_t i = 0; i < ids.n; i++)
            assert_int_equal(bora_decoder_push(&decoder, ids.ids[i], &text, NULL), BORA_OK);
        assert_string_equal(text.bytes, "  a");
        bora_tokens_release(&ids);
        bora_text_release(&text);
    }
}

static void bad_bytes(void **state)
{
    (void)state;
    bora_tokens bad = {0}, spelled = {0};
    encode(small, "a\xff\xe2\x82 b\xf0\x9f\x98", 9, &bad);
    const char *text = "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    encode(small, text, strlen(text), &spelled);
    assert_int_equal(bad.n, spelled.n);
    assert_memory_equal(bad.ids, spelled.ids, bad.n * sizeof *bad.ids);
    bora_tokens_release(&bad);
    bora_tokens_release(&spelled);
}

static void pieces(void **state)
{
    (void)state;
    size_t size = 0;
    bora_text text = {0};
    const char *piece = bora_tokenizer_piece(small, SMALL_N_SPECIAL + 0xe2, &size);
    assert_true(piece && size == 1 && (uint8_t)piece[0] == 0xe2);
    assert_int_equal(bora_tokenizer_piece_text(small, SMALL_N_SPECIAL + 0xe2, &text, NULL), BORA_OK);
    assert_int_equal(bora_tokenizer_piece_text(small, SMALL_N_SPECIAL + ' ', &text, NULL), BORA_OK);
    assert_int_equal(bora_tokenizer_piece_text(small, 3, &text, NULL), BORA_OK);
    assert_string_equal(text.bytes, "\xef\xbf\xbd [INST]");
    assert_int_equal(bora_tokenizer_piece_text(small, SMALL_N_PIECES, &text, NULL), BORA_E_INVAL);
    assert_int_equal(bora_tokenizer_piece_text(small, -1, &text, NULL), BORA_E_INVAL);
    assert_null(bora_tokenizer_piece(small, SMALL_N_PIECES, &size));
    bora_text_release(&text);
}

/* ---- a vocabulary from arrays ---- */

#define ARRAY_MAX 300

typedef struct draft {
    const char *pieces[ARRAY_MAX];
    uint32_t sizes[ARRAY_MAX];
    int32_t types[ARRAY_MAX];
    char bytes[256];
    bora_vocab vocab;
} draft;

static void draft_add(draft *d, const char *piece, size_t size, int32_t type)
{
    size_t id = d->vocab.n_pieces++;
    d->pieces[id] = piece;
    d->sizes[id] = (uint32_t)size;
    d->types[id] = type;
}

/* <s> and </s>, then the single bytes; rank order is the order of adding. */
static void draft_init(draft *d, const char *pattern)
{
    *d = (draft){.vocab = {.pieces = d->pieces,
                           .piece_sizes = d->sizes,
                           .types = d->types,
                           .bos_id = 0,
                           .eos_id = 1,
                           .unk_id = -1,
                           .pattern = pattern,
                           .pattern_size = strlen(pattern)}};
    draft_add(d, "<s>", 3, BORA_PIECE_CONTROL);
    draft_add(d, "</s>", 4, BORA_PIECE_CONTROL);
    for (unsigned byte = 0; byte < 256; byte++) {
        d->bytes[byte] = (char)byte;
        draft_add(d, &d->bytes[byte], 1, BORA_PIECE_NORMAL);
    }
}

static bora_tokenizer *draft_make(const draft *d)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new(&d->vocab, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

static void draft_refused(const draft *d, const char *names)
{
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    bora_status st = bora_tokenizer_new(&d->vocab, &tokenizer, &err);
    if (st != BORA_E_FORMAT || !strstr(err.message, names))
        fail_msg("status %d '%s', expected one naming '%s'", st, err.message, names);
    assert_null(tokenizer);
}

/* Asserts that text becomes the pieces joined by '|'. */
static void assert_pieces(const bora_tokenizer *tokenizer, const char *text, const char *expected)
{
    bora_tokens ids = {0};
    bora_text joined = {0};
    encode(tokenizer, text, strlen(text), &ids);
    for (size_t i = 0; i < ids.n; i++) {
        size_t size = 0;
        const char *piece = bora_tokenizer_piece(tokenizer, ids.ids[i], &size);
        assert_int_equal(bora_text_append(&joined, "|", i > 0, NULL), BORA_OK);
        assert_int_equal(bora_text_append(&joined, piece, size, NULL), BORA_OK);
    }
    assert_string_equal(joined.bytes, expected);
    bora_tokens_release(&ids);
    bora_text_release(&joined);
}

static void ranks_decide(void **state)
{
    (void)state;
    draft d;
    draft_init(&d, bora_tekken_pattern);
    draft_add(&d, "bc", 2, BORA_PIECE_NORMAL);
    draft_add(&d, "ab", 2, BORA_PIECE_NORMAL);
    draft_add(&d, "aa", 2, BORA_PIECE_NORMAL);
    draft_add(&d, "xyz", 3, BORA_PIECE_NORMAL); /* no merge arrives there */
    draft_add(&d, "a ", 2, BORA_PIECE_NORMAL);  /* the split expression parts them */
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_pieces(tokenizer, "abc", "a|bc");
    assert_pieces(tokenizer, "abab", "ab|ab");
    assert_pieces(tokenizer, "aaa", "aa|a");
    assert_pieces(tokenizer, "aaaa", "aa|aa");
    assert_pieces(tokenizer, "xyz", "xyz");
    assert_pieces(tokenizer, "xyzz", "x|y|z|z");
    assert_pieces(tokenizer, "a a", "a| |a");
    bora_tokenizer_free(tokenizer);
}

static void user_defined(void **state)
{
    (void)state;
    draft d;
    draft_init(&d, bora_tekken_pattern);
    draft_add(&d, "ab", 2, BORA_PIECE_NORMAL);
    draft_add(&d, "<|im|>", 6, BORA_PIECE_USER_DEFINED);
    draft_add(&d, "<|im|>2", 7, BORA_PIECE_USER_DEFINED);
    bora_tokenizer *tokenizer = draft_make(&d);
    assert_pieces(tokenizer, "ab<|im|>ab", "ab|<|im|>|ab");
    assert_pieces(tokenizer, "<|im|>2<|im|><|im|", "<|im|>2|<|im|>|<|||i|m||");
    bora_text text = {0};
    assert_int_equal(bora_tokenizer_decode(tokenizer, (const int32_t[]){0, 259, 258, 1}, 4, &text, NULL), BORA_OK);
    assert_string_equal(text.bytes, "<|im|>ab");
    bora_text_release(&text);
    bora_tokenizer_free(tokenizer);
}

static void arrays_refused(void **state)
{
    (void)state;
    draft d;
    draft_init(&d, bora_tekken_pattern);
    d.types[7] = BORA_PIECE_CONTROL;
    draft_refused(&d, "255 of the 256 single bytes");
    draft_init(&d, bora_tekken_pattern);
    d.pieces[7] = d.pieces[8];
    draft_refused(&d, "pieces 7 and 8 are the same");
    draft_init(&d, bora_tekken_pattern);
    d.sizes[7] = 0;
    draft_refused(&d, "piece 7 has 0 bytes");
    draft_init(&d, bora_tekken_pattern);
    d.sizes[7] = BORA_PIECE_SIZE_MAX + 1;
    draft_refused(&d, "piece 7 has 1025 bytes");
    for (int32_t type = -1; type < 9; type++) {
        draft_init(&d, bora_tekken_pattern);
        draft_add(&d, "ab", 2, type);
        if (type == BORA_PIECE_NORMAL || type == BORA_PIECE_CONTROL || type == BORA_PIECE_USER_DEFINED)
            bora_tokenizer_free(draft_make(&d));
        else
            draft_refused(&d, "piece 258 is of ");
    }
    draft_init(&d, bora_tekken_pattern);
    draft_add(&d, "\xff\xfe", 2, BORA_PIECE_CONTROL);
    draft_refused(&d, "piece 258 is not UTF-8");
    draft_init(&d, bora_tekken_pattern);
    d.vocab.eos_id = 258;
    draft_refused(&d, "EOS is piece 258");
    draft_init(&d, "(");
    draft_refused(&d, "split expression: ");
    draft_init(&d, "");
    draft_refused(&d, "split expression of 0 bytes");
}

/* ---- tekken.json, damaged ---- */

static char *file_text;
static size_t file_size;

static json_t *file_json(void)
{
    json_t *root = json_load_file(TEKKEN_SMALL, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    return root;
}

/* Takes over root. */
static void json_refused(json_t *root, const char *names)
{
    char *text = json_dumps(root, 0);
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    bora_status st = bora_tokenizer_parse_tekken(text, strlen(text), &tokenizer, &err);
    if (st != BORA_E_FORMAT || !strstr(err.message, names))
        fail_msg("status %d '%s', expected one naming '%s'", st, err.message, names);
    assert_null(tokenizer);
    free(text);
    json_decref(root);
}

static bora_tokenizer *json_accepted(json_t *root)
{
    char *text = json_dumps(root, 0);
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_parse_tekken(text, strlen(text), &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    free(text);
    json_decref(root);
    return tokenizer;
}

static void config_damage(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *names;
    } cases[] = {
        {"pattern", NULL, "'pattern' is missing"},
        {"pattern", "7", "'pattern' is missing"},
        {"pattern", "\"[a\"", "split expression"},
        {"pattern", "\"a\\u0000b)\"", "split expression"},
        {"pattern", "\"\"", "split expression of 0 bytes"},
        {"pattern", "\"\\\\C\"", "split expression"},
        {"pattern", "\"(((a{1000}){1000}){1000})\"", "split expression"},
        {"default_vocab_size", NULL, "'default_vocab_size'"},
        {"default_vocab_size", "0", "'default_vocab_size'"},
        {"default_vocab_size", "-1", "'default_vocab_size'"},
        {"default_vocab_size", "1048577", "'default_vocab_size'"},
        {"default_vocab_size", "504.0", "'default_vocab_size'"},
        {"default_vocab_size", "\"504\"", "'default_vocab_size'"},
        {"default_vocab_size", "24", "24 special tokens in a vocabulary of 24"},
        {"default_vocab_size", "521", "496 ranks (num_vocab_tokens is 496), the vocabulary needs 497"},
        {"default_vocab_size", "279", "255 of the 256 single bytes"},
        {"default_num_special_tokens", NULL, "'default_num_special_tokens'"},
        {"default_num_special_tokens", "0", "'default_num_special_tokens'"},
        {"default_num_special_tokens", "504", "504 special tokens in a vocabulary of 504"},
        {"num_vocab_tokens", "479", "num_vocab_tokens is 479"},
        {"num_vocab_tokens", "-9223372036854775808", "'num_vocab_tokens'"},
        {"version", "3", "'version'"},
        {"version", "\"3\"", "'version'"},
        {"version", "\"v\"", "'version'"},
        {"version", "\"v0\"", "'version'"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        json_t *root = file_json(), *config = json_object_get(root, "config");
        if (cases[i].value)
            json_object_set_new(config, cases[i].key,
                                json_loads(cases[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
        else
            json_object_del(config, cases[i].key);
        json_refused(root, cases[i].names);
    }
    for (int i = 0; i < 2; i++) {
        json_t *root = file_json();
        json_object_del(root, i ? "config" : "vocab");
        json_refused(root, "'config' or 'vocab' is missing");
    }
    json_t *root = file_json();
    json_object_set_new(json_object_get(root, "config"), "version", json_string("v13"));
    bora_tokenizer *tokenizer = json_accepted(root);
    assert_int_equal(bora_tokenizer_version(tokenizer), 13);
    bora_tokenizer_free(tokenizer);
}

static void rank_damage(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        const char *key, *value, *names;
    } cases[] = {
        {300, "rank", NULL, "vocab[300] has no rank"},
        {300, "rank", "301", "vocab[300] has the rank 301"},
        {300, "rank", "-1", "vocab[300] has no rank"},
        {300, "rank", "9223372036854775807", "vocab[300] has no rank"},
        {300, "rank", "\"300\"", "vocab[300] has no rank"},
        {300, "token_bytes", NULL, "vocab[300] has no token_bytes"},
        {300, "token_bytes", "[]", "vocab[300] has no token_bytes"},
        {300, "token_bytes", "\"\"", "piece 324 has 0 bytes"},
        {300, "token_bytes", "\"YQ=\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"YQ\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"Y===\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"====\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"YQ==YWI=\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"YR==\"", "vocab[300]: token_bytes is no base64"}, /* bits behind the byte */
        {300, "token_bytes", "\"YWJ=\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"Y-_=\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"YQ==\\n\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"\\u00e9A\\u0000\"", "vocab[300]: token_bytes is no base64"},
        {300, "token_bytes", "\"YQ==\"", "pieces 121 and 324 are the same"},
        {97, "token_bytes", "\"YWJjZGU=\"", "255 of the 256 single bytes"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        json_t *root = file_json(), *element = json_array_get(json_object_get(root, "vocab"), cases[i].at);
        if (cases[i].value)
            json_object_set_new(element, cases[i].key,
                                json_loads(cases[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
        else
            json_object_del(element, cases[i].key);
        json_refused(root, cases[i].names);
    }
    json_t *root = file_json();
    json_array_remove(json_object_get(root, "vocab"), 300); /* a gap */
    json_refused(root, "vocab[300] has the rank 301");
    root = file_json();
    json_array_set_new(json_object_get(root, "vocab"), 300, json_null());
    json_refused(root, "vocab[300] has no rank");

    /* A piece of the size that is allowed at most, and of one byte more. */
    char text[1376];
    memset(text, 'Y', sizeof text);
    for (size_t more = 0; more < 2; more++) {
        memcpy(text + 1364, more ? "YWI=" : "YQ==", 5); /* 1023 bytes before it */
        root = file_json();
        json_object_set_new(json_array_get(json_object_get(root, "vocab"), 300), "token_bytes", json_string(text));
        if (more)
            json_refused(root, "piece 324 has 1025 bytes");
        else
            bora_tokenizer_free(json_accepted(root));
    }
    /* Ranks that are not used may be anything. */
    root = file_json();
    json_array_set_new(json_object_get(root, "vocab"), 490, json_null());
    bora_tokenizer_free(json_accepted(root));
}

static void special_tokens_of_the_file(void **state)
{
    (void)state;
    json_t *list = json_pack("[{s:i,s:s,s:b},{s:i,s:s},{s:i,s:s,s:b}]", "rank", 2, "token_str", "</s>", "is_control", 1,
                             "rank", 1, "token_str", "<s>", "rank", 5, "token_str", "[SYSTEM_PROMPT]", "is_control", 1);
    json_t *root = file_json();
    json_object_set(root, "special_tokens", list);
    bora_tokenizer *tokenizer = json_accepted(root);
    assert_int_equal(bora_tokenizer_bos(tokenizer), 1);
    assert_int_equal(bora_tokenizer_eos(tokenizer), 2);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[SYSTEM_PROMPT]"), 5);
    assert_int_equal(bora_tokenizer_control(tokenizer, "[INST]"), -1);
    assert_int_equal(bora_tokenizer_control(tokenizer, "<SPECIAL_0>"), 0);
    bora_tokenizer_free(tokenizer);

    static const struct {
        const char *key, *value, *names;
    } cases[] = {
        {"rank", "24", "special_tokens[1] has no rank from 0 to 23"},
        {"rank", "-1", "special_tokens[1] has no rank"},
        {"rank", "2", "special_tokens[1] has the rank 2 of another"},
        {"rank", "null", "special_tokens[1] has no rank"},
        {"token_str", "null", "special_tokens[1] has no token_str"},
        {"token_str", "\"\"", "special_tokens[1] has no token_str"},
        {"token_str", "\"</s>\"", "pieces 1 and 2 are the same"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        root = file_json();
        json_t *copy = json_deep_copy(list);
        json_object_set_new(json_array_get(copy, 1), cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        json_object_set_new(root, "special_tokens", copy);
        json_refused(root, cases[i].names);
    }
    root = file_json();
    json_object_set_new(root, "special_tokens", json_integer(3));
    json_refused(root, "'special_tokens' is no list");
    json_decref(list);
}

/* Cut at every byte of its beginning and at some of the rest; nested deeply; not JSON at all. */
static void truncated_and_deep(void **state)
{
    (void)state;
    bora_tokenizer *tokenizer = NULL;
    for (size_t size = 0; size + 2 < file_size; size += size < 600 ? 1 : 997) {
        bora_error err = {{0}};
        assert_int_equal(bora_tokenizer_parse_tekken(file_text, size, &tokenizer, &err), BORA_E_FORMAT);
        assert_true(err.message[0]);
    }
    const size_t n = 1 << 20;
    char *deep = bora_alloc(n);
    memset(deep, '[', n);
    assert_int_equal(bora_tokenizer_parse_tekken(deep, n, &tokenizer, NULL), BORA_E_FORMAT);
    for (size_t i = 0; i + 5 <= n; i += 5)
        memcpy(deep + i, "{\"a\":", 5);
    assert_int_equal(bora_tokenizer_parse_tekken(deep, n, &tokenizer, NULL), BORA_E_FORMAT);
    bora_free(deep);
    static const char *const others[] = {"[]",         "{}",    "7", "null", "{\"config\":[],\"vocab\":{}}",
                                         "\xff\xfe{}", "{}\0{}"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(others); i++)
        assert_int_equal(bora_tokenizer_parse_tekken(others[i], strlen(others[i]), &tokenizer, NULL), BORA_E_FORMAT);
    assert_null(tokenizer);
}

/* ---- work and memory ---- */

static uint64_t n_steps_of(const bora_tokenizer *tokenizer, const char *unit, size_t size)
{
    char *text = bora_alloc(size);
    bora_tokens ids = {0};
    uint64_t n_steps = 0;
    size_t unit_size = strlen(unit);
    size -= size % unit_size;
    for (size_t i = 0; i < size; i++)
        text[i] = unit[i % unit_size];
    assert_int_equal(bora_tokenizer_encode_counting(tokenizer, text, size, &ids, &n_steps, NULL), BORA_OK);
    bora_tokens_release(&ids);
    bora_free(text);
    return n_steps;
}

/* Four times the text is four times the work, and the few levels that a heap of four times the size has more. */
static void work_is_proportional(void **state)
{
    (void)state;
    static const char *const units[] = {"a",        "A",    " ",    "\n", "1",  "!", "Aa", "e ", "the ", "\xe6\x97\xa5",
                                        "\xcc\x81", "tion", "a\n ", "'s", " \t"};
    const size_t size = (size_t)1 << 16;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(units); i++) {
        uint64_t once = n_steps_of(small, units[i], size), four = n_steps_of(small, units[i], 4 * size);
        if (four > 5 * once || once > 100 * size)
            fail_msg("'%s': %llu steps for %zu bytes, %llu for four times as many", units[i], (unsigned long long)once,
                     size, (unsigned long long)four);
    }
}

static void memory_runs_out(void **state)
{
    (void)state;
    const char *text = "The quick brown fox \xf0\x9f\x98\x80 123\n\n\xff";
    size_t n_parse = 0, n_encode = 0;
    for (bora_status st = BORA_E_NOMEM; st != BORA_OK; n_parse++) {
        bora_tokenizer *tokenizer = NULL;
        bora_error err = {{0}};
        (void)bora_memory_fail_at(n_parse + 1);
        st = bora_tokenizer_parse_tekken(file_text, file_size, &tokenizer, &err);
        (void)bora_memory_fail_at(0);
        if (st == BORA_OK) {
            bora_tokenizer_free(tokenizer);
        } else {
            assert_int_equal(st, BORA_E_NOMEM);
            assert_null(tokenizer);
        }
    }
    bora_tokens ids = {0};
    bora_text decoded = {0};
    for (bora_status st = BORA_E_NOMEM; st != BORA_OK; n_encode++) {
        bora_tokens_release(&ids);
        (void)bora_memory_fail_at(n_encode + 1);
        st = bora_tokenizer_encode(small, text, strlen(text), &ids, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && ids.n == 0));
    }
    (void)bora_memory_fail_at(1);
    assert_int_equal(bora_tokenizer_decode(small, ids.ids, ids.n, &decoded, NULL), BORA_E_NOMEM);
    assert_int_equal(bora_tokenizer_piece_text(small, 30, &decoded, NULL), BORA_E_NOMEM);
    (void)bora_memory_fail_at(0);
    assert_true(n_parse > 10 && n_encode > 5);
    bora_tokens_release(&ids);
    bora_text_release(&decoded);
}

static int group_setup(void **state)
{
    (void)state;
    bora_file file = {0};
    if (bora_file_map(TEKKEN_SMALL, &file, NULL) != BORA_OK)
        return -1;
    file_size = file.size;
    file_text = bora_strndup((const char *)file.data, file.size);
    bora_file_release(&file);
    small = tekken_load(TEKKEN_SMALL);
    return file_text ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    bora_free(file_text);
    bora_tokenizer_free(small);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specials),           cmocka_unit_test(no_dummy_space),
        cmocka_unit_test(bad_bytes),          cmocka_unit_test(pieces),
        cmocka_unit_test(ranks_decide),       cmocka_unit_test(user_defined),
        cmocka_unit_test(arrays_refused),     cmocka_unit_test(config_damage),
        cmocka_unit_test(rank_damage),        cmocka_unit_test(special_tokens_of_the_file),
        cmocka_unit_test(truncated_and_deep), cmocka_unit_test(work_is_proportional),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
