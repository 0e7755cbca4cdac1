/* Masks and tokens: which tokens there are, against asking for each of them; starts, ends, clones, bounds, and memory
 * that runs out. */
#include "vocabulary_fixture.h"

#include "support/schema_random.h"

#define PIECES_MAX 400
#define SPACE      "\xe2\x96\x81"

/* A vocabulary of <unk>, <s>, </s>, maybe the bytes, and words. */
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

static void draft_init(draft *d, bool has_bytes)
{
    *d = (draft){.vocab = {.pieces = d->pieces,
                           .piece_sizes = d->sizes,
                           .scores = d->scores,
                           .types = d->types,
                           .unk_id = 0,
                           .bos_id = 1,
                           .eos_id = 2,
                           .add_dummy_prefix = true}};
    draft_add(d, "<unk>", BORA_PIECE_UNKNOWN);
    draft_add(d, "<s>", BORA_PIECE_CONTROL);
    draft_add(d, "</s>", BORA_PIECE_CONTROL);
    draft_add(d, "[INST]", BORA_PIECE_CONTROL);
    for (unsigned b = 0; b < 256 && has_bytes; b++) {
        (void)snprintf(d->byte_names[b], sizeof d->byte_names[b], "<0x%02X>", b);
        draft_add(d, d->byte_names[b], BORA_PIECE_BYTE);
    }
}

static vocabulary_fixture draft_finish(draft *d)
{
    vocabulary_fixture f = {0};
    bora_error err = {{0}};
    if (bora_tokenizer_new(&d->vocab, &f.own, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f.tokenizer = f.own;
    vocabulary_make(&f);
    return f;
}

static vocabulary_fixture vocabulary_of_words(bool squeezes_spaces)
{
    static draft d;
    draft_init(&d, true);
    d.vocab.remove_extra_whitespaces = squeezes_spaces;
    static const char *const words[] = {SPACE,  SPACE "a", SPACE SPACE, SPACE SPACE "a",
                                        "a",    "ab",      "b" SPACE,   "{\"",
                                        "\":",  "\"}",     "\xc3\xa9",  "\xc3\xa9\xe2\x82\xac",
                                        "1",    "12",      "<0x0A>x",   "[INST]x",
                                        "true", ", ",      SPACE "{"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(words); i++)
        draft_add(&d, words[i], i == 5 ? BORA_PIECE_USER_DEFINED : BORA_PIECE_NORMAL);
    return draft_finish(&d);
}

static bora_matcher *matcher_make(const vocabulary_fixture *f, bora_grammar *grammar, bool continues)
{
    bora_matcher *matcher = NULL;
    assert_int_equal(bora_matcher_new(grammar, f->vocabulary, continues, &matcher, NULL), BORA_OK);
    return matcher;
}

static const uint64_t *mask_within(bora_matcher *matcher, uint32_t n_left)
{
    const uint64_t *mask = NULL;
    bora_error err = {{0}};
    if (bora_matcher_mask(matcher, n_left, &mask, &err) != BORA_OK)
        fail_msg("mask: %s", err.message);
    return mask;
}

static const uint64_t *mask_of(bora_matcher *matcher)
{
    return mask_within(matcher, BORA_TOKENS_ANY);
}

/* ---- each token by itself ---------------------------------------------------------------------------------------- */

/* The bytes that a token adds, by the words of tokenizer.h alone; false: none ever. */
static bool token_bytes(const bora_tokenizer *tokenizer, int32_t token, char *bytes, size_t *size)
{
    size_t n = 0, n_out = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, token, &n);
    int type = bora_tokenizer_piece_type(tokenizer, token);
    if (type == BORA_PIECE_CONTROL || type == BORA_PIECE_UNKNOWN)
        return false;
    if (type == BORA_PIECE_BYTE) {
        unsigned byte = 0;
        assert_int_equal(sscanf(piece, "<0x%2X>", &byte), 1);
        bytes[0] = (char)byte;
        *size = 1;
        return true;
    }
    for (size_t i = 0; i < n; i++)
        if (bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_SENTENCEPIECE && n - i >= 3 &&
            memcmp(piece + i, SPACE, 3) == 0) {
            bytes[n_out++] = ' ';
            i += 2;
        } else {
            bytes[n_out++] = piece[i];
        }
    *size = n_out;
    return true;
}

typedef struct answer {
    char bytes[8192];
    size_t size;
    bool at_start;     /* a space is dropped */
    uint32_t distance; /* to its end */
} answer;

/* Whether the token may come next, and then what the answer is. */
static bool token_fits(const vocabulary_fixture *f, const bora_grammar *grammar, const answer *now, int32_t token,
                       answer *next)
{
    char bytes[BORA_PIECE_SIZE_MAX];
    size_t size = 0;
    if (!token_bytes(f->tokenizer, token, bytes, &size)) {
        next->distance = 0;
        return token == bora_tokenizer_eos(f->tokenizer) && grammar_fit(grammar, now->bytes, now->size) == FIT_WHOLE;
    }
    bool drops = now->at_start && bytes[0] == ' ' && bora_tokenizer_piece_type(f->tokenizer, token) != BORA_PIECE_BYTE;
    *next = *now;
    next->at_start = false;
    memcpy(next->bytes + next->size, bytes + drops, size - drops);
    next->size += size - drops;
    next->distance = grammar_distance(grammar, next->bytes, next->size);
    return next->distance != BORA_DISTANCE_NEVER;
}

/* Walks by chance and compares each mask with asking for every token, whatever is left and with little left. */
static void compare_masks(const vocabulary_fixture *f, bora_grammar *grammar, bool continues, size_t n_steps,
                          uint64_t *seed)
{
    static answer now, next;
    bora_matcher *matcher = matcher_make(f, grammar, continues);
    int32_t n_tokens = (int32_t)bora_tokenizer_n_pieces(f->tokenizer);
    now = (answer){.at_start = !continues && bora_tokenizer_kind(f->tokenizer) == BORA_TOKENIZER_SENTENCEPIECE};
    for (size_t step = 0; step < n_steps; step++) {
        uint32_t distance = grammar_distance(grammar, now.bytes, now.size);
        uint32_t n_left = distance + 1 + bora_random_below(seed, 12);
        const uint64_t *mask = mask_of(matcher);
        static uint64_t whole[4096];
        memcpy(whole, mask, f->n_words * sizeof *whole);
        assert_memory_equal(mask_within(matcher, distance), whole, f->n_words * sizeof *whole); /* one too few */
        assert_memory_equal(mask_within(matcher, 1u << 30), whole, f->n_words * sizeof *whole);
        const uint64_t *within = mask_within(matcher, n_left);
        int32_t chosen = -1;
        uint32_t n_seen = 0;
        for (int32_t t = 0; t < n_tokens; t++) {
            bool fits = token_fits(f, grammar, &now, t, &next);
            bool is_end = t == bora_tokenizer_eos(f->tokenizer);
            if (mask_has(whole, t) != fits)
                fail_msg("token %d after '%.*s' is %d", t, (int)now.size, now.bytes, mask_has(whole, t));
            if (mask_has(within, t) != (fits && (is_end || next.distance + 2 <= n_left)))
                fail_msg("token %d after '%.*s' is %d with %u left", t, (int)now.size, now.bytes, mask_has(within, t),
                         n_left);
            if (fits && t != bora_tokenizer_eos(f->tokenizer) && bora_random_below(seed, ++n_seen) == 0)
                chosen = t;
        }
        for (int32_t t = n_tokens; t < (int32_t)f->n_words * 64; t++)
            assert_false(mask_has(mask, t));
        if (chosen < 0)
            break;
        assert_true(token_fits(f, grammar, &now, chosen, &next));
        now = next;
        assert_int_equal(bora_matcher_accept(matcher, chosen, NULL), BORA_OK);
        assert_int_equal(bora_matcher_is_complete(matcher), grammar_fit(grammar, now.bytes, now.size) == FIT_WHOLE);
    }
    bora_matcher_free(matcher);
}

static const char *const notations[] = {
    "root ::= [^\\u0000]*",
    "root ::= \" \"? \"a\" [ab ]* \"\xc3\xa9\xe2\x82\xac\" .",
    "root ::= \"  a\" | \"a  \" | \"b \" root",
    "root ::= [\\u00e8-\\u00ea\\u20ac\\U0001F600]+ \"<0x0A>x\"? \"[INST]x\"?",
    "root ::= \"{\" (\"\\\"\" [a-z]* \"\\\":\" [0-9]+ (\", \" root)?)? \"}\"",
    "root ::= \"\xe2\x96\x81\" \"x\"",
    "root ::= ([b-z] | \"\\n\" \"a\"{20})*", /* far, then back to where it began */
};

static void compare_all(vocabulary_fixture *f, size_t n_schemas, size_t n_steps)
{
    uint64_t seed = 11;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(notations); i++) {
        bora_grammar *grammar = notation_compile(notations[i]);
        compare_masks(f, grammar, false, n_steps, &seed);
        compare_masks(f, grammar, true, n_steps, &seed);
        bora_grammar_unref(grammar);
    }
    for (size_t i = 0; i < n_schemas; i++) {
        json_t *schema = bora_schema_random(&seed);
        char *text = json_dumps(schema, 0);
        bora_grammar *grammar = schema_compile(text);
        compare_masks(f, grammar, i % 2, n_steps, &seed);
        bora_grammar_unref(grammar);
        free(text);
        json_decref(schema);
    }
    vocabulary_release(f);
}

static void test_masks_of_a_few_words(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_words(false);
    compare_all(&f, 20, 12);
}

static void test_masks_of_a_small_tekken(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_file(SMALL_TEKKEN, true);
    compare_all(&f, 10, 10);
}

static void test_masks_of_the_embedded_model(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_model();
    compare_all(&f, 4, 6);
}

/* ---- starts and ends --------------------------------------------------------------------------------------------- */

static int32_t token_named(const vocabulary_fixture *f, const char *piece, int type)
{
    for (int32_t t = 0; t < (int32_t)bora_tokenizer_n_pieces(f->tokenizer); t++) {
        size_t size = 0;
        const char *other = bora_tokenizer_piece(f->tokenizer, t, &size);
        if (size == strlen(piece) && memcmp(other, piece, size) == 0 &&
            bora_tokenizer_piece_type(f->tokenizer, t) == type)
            return t;
    }
    fail_msg("no token '%s'", piece);
    return -1;
}

static void accept_all(bora_matcher *matcher, const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(bora_matcher_accept(matcher, tokens[i], NULL), BORA_OK);
}

/* The first space, which the user does not see, is not read, but once: and what follows agrees with the decoder. */
static void test_a_space_at_the_start(void **state)
{
    (void)state;
    bora_grammar *grammar = notation_compile("root ::= \"a\" | \" a\"");
    for (int squeezes = 0; squeezes < 2; squeezes++) {
        vocabulary_fixture f = vocabulary_of_words(squeezes);
        int32_t space = token_named(&f, SPACE, BORA_PIECE_NORMAL),
                spaced = token_named(&f, SPACE "a", BORA_PIECE_NORMAL);
        int32_t a = token_named(&f, "a", BORA_PIECE_NORMAL), byte = token_named(&f, "<0x20>", BORA_PIECE_BYTE);
        const struct {
            int32_t tokens[3];
            size_t n;
        } cases[] = {{{spaced}, 1},        {{a}, 1},       {{space, a}, 2},
                     {{space, spaced}, 2}, {{byte, a}, 2}, {{space, byte, a}, 3}};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
            bora_text text = {0};
            bora_matcher *matcher = matcher_make(&f, grammar, false);
            assert_true(mask_has(mask_of(matcher), cases[i].tokens[0]));
            accept_all(matcher, cases[i].tokens, cases[i].n);
            assert_true(bora_matcher_is_complete(matcher));
            assert_int_equal(bora_tokenizer_decode(f.tokenizer, cases[i].tokens, cases[i].n, &text, NULL), BORA_OK);
            assert_int_equal(grammar_fit(grammar, text.bytes, text.size), FIT_WHOLE);
            bora_text_release(&text);
            bora_matcher_free(matcher);
        }
        /* A space that is no text comes once: else it could come for ever. */
        bora_matcher *matcher = matcher_make(&f, grammar, false);
        accept_all(matcher, &space, 1);
        assert_int_equal(mask_has(mask_of(matcher), space), !squeezes);
        assert_int_equal(bora_matcher_accept(matcher, space, NULL), squeezes ? BORA_E_INVAL : BORA_OK);
        bora_matcher_free(matcher);
        matcher = matcher_make(&f, grammar, true);
        accept_all(matcher, &space, 1); /* as text */
        assert_false(mask_has(mask_of(matcher), space) || mask_has(mask_of(matcher), spaced));
        bora_matcher_free(matcher);
        vocabulary_release(&f);
    }
    bora_grammar_unref(grammar);
}

static void test_the_end(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_words(false);
    assert_true(bora_vocabulary_size(f.vocabulary) > 1000 && bora_vocabulary_size(f.vocabulary) < 100000);
    bora_grammar *grammar = notation_compile("root ::= \"a\" \"b\"?");
    assert_true(bora_grammar_size(grammar) > 100 && bora_grammar_size(grammar) < 10000);
    bora_matcher *matcher = matcher_make(&f, grammar, true);
    int32_t eos = bora_tokenizer_eos(f.tokenizer), a = token_named(&f, "a", BORA_PIECE_NORMAL);
    int32_t b = token_named(&f, "<0x62>", BORA_PIECE_BYTE);
    assert_false(mask_has(mask_of(matcher), eos) || bora_matcher_is_complete(matcher) ||
                 bora_matcher_must_end(matcher));
    assert_int_equal(bora_matcher_accept(matcher, eos, NULL), BORA_E_INVAL);
    assert_int_equal(bora_matcher_accept(matcher, -1, NULL), BORA_E_INVAL);
    assert_int_equal(bora_matcher_accept(matcher, 100000, NULL), BORA_E_INVAL);
    assert_int_equal(bora_matcher_accept(matcher, 0, NULL), BORA_E_INVAL);
    assert_int_equal(bora_matcher_accept(matcher, 3, NULL), BORA_E_INVAL);
    accept_all(matcher, &a, 1);
    assert_true(mask_has(mask_of(matcher), eos) && bora_matcher_is_complete(matcher) &&
                !bora_matcher_must_end(matcher));
    const uint64_t *mask = mask_within(matcher, 1); /* nothing but the end */
    for (int32_t t = 0; t < (int32_t)f.n_words * 64; t++)
        assert_int_equal(mask_has(mask, t), t == eos);
    assert_true(mask_has(mask_within(matcher, 0), b)); /* as if there were no bound: there is none to be kept */
    assert_true(mask_has(mask_within(matcher, 2), b));
    accept_all(matcher, &b, 1);
    assert_true(bora_matcher_is_complete(matcher) && bora_matcher_must_end(matcher));
    mask = mask_of(matcher);
    for (int32_t t = 0; t < (int32_t)f.n_words * 64; t++)
        assert_int_equal(mask_has(mask, t), t == eos);
    accept_all(matcher, &eos, 1);
    mask = mask_of(matcher);
    for (size_t i = 0; i < f.n_words; i++)
        assert_int_equal(mask[i], 0);
    assert_true(bora_matcher_is_complete(matcher) && bora_matcher_must_end(matcher));
    assert_int_equal(bora_matcher_accept(matcher, eos, NULL), BORA_E_INVAL);
    bora_matcher_free(matcher);
    bora_grammar_unref(grammar);
    vocabulary_release(&f);
}

static void test_vocabularies_that_do_not_do(void **state)
{
    (void)state;
    static draft d;
    draft_init(&d, true);
    d.vocab.eos_id = -1;
    bora_tokenizer *tokenizer = NULL;
    bora_vocabulary *vocabulary = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_tokenizer_new(&d.vocab, &tokenizer, NULL), BORA_OK);
    assert_int_equal(bora_vocabulary_new(tokenizer, &vocabulary, &err), BORA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no token that ends"));
    bora_tokenizer_free(tokenizer);
    /* Without bytes, a text may need what no token has. */
    draft_init(&d, false);
    int32_t a = draft_add(&d, "a", BORA_PIECE_NORMAL);
    vocabulary_fixture f = draft_finish(&d);
    bora_grammar *grammar = notation_compile("root ::= \"a\" \"b\"");
    bora_matcher *matcher = matcher_make(&f, grammar, true);
    const uint64_t *mask = mask_of(matcher);
    assert_true(mask_has(mask, a));
    accept_all(matcher, &a, 1);
    assert_int_equal(bora_matcher_mask(matcher, BORA_TOKENS_ANY, &mask, &err), BORA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no token of the vocabulary continues"));
    bora_matcher_free(matcher);
    bora_grammar_unref(grammar);
    /* And may not have what would end it in time: nothing is left out for that. */
    grammar = notation_compile("root ::= \"a\"{1,9}");
    matcher = matcher_make(&f, grammar, true);
    accept_all(matcher, &a, 1);
    assert_true(mask_has(mask_within(matcher, 1), a));
    bora_matcher_free(matcher);
    bora_grammar_unref(grammar);
    vocabulary_release(&f);
}

/* ---- clones, bounds, memory -------------------------------------------------------------------------------------- */

static void test_clones_go_their_own_way(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_words(false);
    bora_grammar *grammar = schema_compile("{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"array\",\"items\":{"
                                           "\"type\":\"boolean\"}},{\"type\":\"string\"}]}}");
    bora_matcher *one = matcher_make(&f, grammar, false), *two = NULL;
    bora_grammar_unref(grammar); /* the matchers keep it */
    int32_t open = token_named(&f, "<0x5B>", BORA_PIECE_BYTE), quote = token_named(&f, "<0x22>", BORA_PIECE_BYTE);
    int32_t word = token_named(&f, "true", BORA_PIECE_NORMAL);
    accept_all(one, (const int32_t[]){open, open}, 2);
    assert_int_equal(bora_matcher_clone(one, &two, NULL), BORA_OK);
    assert_memory_equal(mask_of(one), mask_of(two), f.n_words * sizeof(uint64_t));
    accept_all(one, &word, 1);
    assert_true(mask_has(mask_of(two), word) && !mask_has(mask_of(one), word) && !mask_has(mask_of(two), quote));
    bora_matcher_free(one);
    accept_all(two, &word, 1);
    bora_matcher_free(two);
    vocabulary_release(&f);
}

/* So many places that what was found is forgotten on the way, more than once. */
static void test_long_answers_do_not_pile_up(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_words(false);
    bora_grammar *grammar = notation_compile("root ::= \"[\" x \"]\"\nx ::= \"a\"{12000} \"b\"");
    bora_matcher *matcher = matcher_make(&f, grammar, true);
    int32_t open = token_named(&f, "<0x5B>", BORA_PIECE_BYTE), a = token_named(&f, "a", BORA_PIECE_NORMAL);
    int32_t close = token_named(&f, "<0x5D>", BORA_PIECE_BYTE), b = token_named(&f, "<0x62>", BORA_PIECE_BYTE);
    accept_all(matcher, &open, 1);
    for (int i = 0; i < 12000; i++) {
        assert_true(mask_has(mask_of(matcher), a) && !mask_has(mask_of(matcher), b));
        accept_all(matcher, &a, 1);
        assert_true(bora_matcher_size(matcher) < (4 << 20)); /* without forgetting it would be more by far */
    }
    assert_true(!mask_has(mask_of(matcher), a) && mask_has(mask_of(matcher), b));
    accept_all(matcher, (const int32_t[]){b, close}, 2);
    assert_true(bora_matcher_must_end(matcher));
    bora_matcher_free(matcher);
    bora_grammar_unref(grammar);
    vocabulary_release(&f);
}

/* A grammar that is too ambiguous ends its answer with an error; the place stays as it was. */
static void test_too_ambiguous(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_words(false);
    bora_grammar *grammar = notation_compile("root ::= [ab]* \"a\" [ab]{5000}");
    bora_matcher *matcher = matcher_make(&f, grammar, true);
    int32_t a = token_named(&f, "a", BORA_PIECE_NORMAL);
    bora_status st = BORA_OK;
    size_t n = 0;
    for (; n < 10000 && st == BORA_OK; n++)
        st = bora_matcher_accept(matcher, a, NULL);
    assert_int_equal(st, BORA_E_LIMIT);
    assert_int_equal(bora_matcher_accept(matcher, a, NULL), BORA_E_LIMIT);
    const uint64_t *mask = NULL;
    assert_int_equal(bora_matcher_mask(matcher, BORA_TOKENS_ANY, &mask, NULL), BORA_E_LIMIT);
    assert_false(bora_matcher_is_complete(matcher));
    bora_matcher_free(matcher);
    bora_grammar_unref(grammar);
    vocabulary_release(&f);
}

typedef bora_status (*attempt)(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err);

static bora_status try_notation(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err)
{
    (void)f, (void)grammar;
    static const char text[] =
        "root ::= a{2,9} [^x-z]? (b | \"c\")*\na ::= \"(\" root \")\" | b\nb ::= [\\u0100-\\U00010fff]+ \"\"";
    bora_grammar *made = NULL;
    bora_status st = bora_grammar_from_notation(text, sizeof text - 1, &made, err);
    bora_grammar_unref(made);
    return st;
}

static bora_status try_schema(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err)
{
    (void)f, (void)grammar;
    static const char text[] = "{\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":3},\"ab\":{\"pattern\":\"^(x|"
                               "[^y])+\"},\"c\":{\"format\":\"date\"},"
                               "\"d\":{\"enum\":[1,\"a\",{\"b\":[2.5]}]},\"e\":{\"type\":\"integer\",\"minimum\":3,"
                               "\"multipleOf\":7},\"f\":{\"type\":\"number\","
                               "\"maximum\":2.5},\"g\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"array\",\"items\":{"
                               "\"$ref\":\"#\"}}]},\"h\":{\"type\":\"number\"}},"
                               "\"required\":[\"a\",\"z\"],\"additionalProperties\":{\"type\":\"boolean\"}}";
    bora_grammar *made = NULL;
    bora_status st = bora_grammar_from_schema(text, sizeof text - 1, &made, err);
    bora_grammar_unref(made);
    return st;
}

static bora_status try_vocabulary(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err)
{
    (void)grammar;
    bora_vocabulary *made = NULL;
    bora_status st = bora_vocabulary_new(f->tokenizer, &made, err);
    bora_vocabulary_free(made);
    return st;
}

/* An answer from its start to its end, with a clone on the way. */
static bora_status try_answer(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err)
{
    bora_matcher *matcher = NULL, *clone = NULL;
    const uint64_t *mask = NULL;
    bora_status st = bora_matcher_new(grammar, f->vocabulary, false, &matcher, err);
    for (const char *c = "[[\"a\",[]],\"\xc3\xa9\"]"; *c && st == BORA_OK; c++) {
        char name[8];
        (void)snprintf(name, sizeof name, "<0x%02X>", (unsigned)(uint8_t)*c);
        st = bora_matcher_mask(matcher, (uint32_t)strlen(c) + 1, &mask, err); /* none to spare */
        if (st == BORA_OK)
            st = bora_matcher_accept(matcher, token_named(f, name, BORA_PIECE_BYTE), err);
        if (st == BORA_OK && *c == 'a')
            st = bora_matcher_clone(matcher, &clone, err);
    }
    assert_true(st != BORA_OK || bora_matcher_must_end(matcher));
    bora_matcher_free(matcher);
    bora_matcher_free(clone);
    return st;
}

/* Goes on until the machine is renewed. */
static bora_status try_long_answer(const vocabulary_fixture *f, bora_grammar *grammar, bora_error *err)
{
    bora_matcher *matcher = NULL;
    const uint64_t *mask = NULL;
    int32_t a = token_named(f, "<0x61>", BORA_PIECE_BYTE);
    bora_status st = bora_matcher_new(grammar, f->vocabulary, true, &matcher, err);
    for (int i = 0; i < 4500 && st == BORA_OK; i++) {
        st = i > 4000 ? bora_matcher_mask(matcher, BORA_TOKENS_ANY, &mask, err) : BORA_OK;
        if (st == BORA_OK)
            st = bora_matcher_accept(matcher, a, err);
    }
    bora_matcher_free(matcher);
    return st;
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    static const attempt attempts[] = {try_notation, try_schema, try_vocabulary, try_answer, try_long_answer};
    vocabulary_fixture f = vocabulary_of_words(false);
    bora_grammar *grammar =
        schema_compile("{\"type\":\"array\",\"items\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"string\"}]}}");
    bora_grammar *list = notation_compile("root ::= \"a\"{5000}");
    for (size_t i = 0; i < BORA_ARRAY_SIZE(attempts); i++) {
        bora_error err = {{0}};
        uint64_t n = 0;
        for (bora_status st = BORA_E_NOMEM; st != BORA_OK;) {
            (void)bora_memory_fail_at(++n);
            st = attempts[i](&f, attempts[i] == try_long_answer ? list : grammar, &err);
            (void)bora_memory_fail_at(0);
            if (st != BORA_OK && (st != BORA_E_NOMEM || !err.message[0]))
                fail_msg("attempt %zu, allocation %llu: %d '%s'", i, (unsigned long long)n, st, err.message);
        }
        assert_true(n > 5);
    }
    bora_grammar_unref(grammar);
    bora_grammar_unref(list);
    vocabulary_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_of_a_few_words),
        cmocka_unit_test(test_masks_of_a_small_tekken),
        cmocka_unit_test(test_masks_of_the_embedded_model),
        cmocka_unit_test(test_a_space_at_the_start),
        cmocka_unit_test(test_the_end),
        cmocka_unit_test(test_vocabularies_that_do_not_do),
        cmocka_unit_test(test_clones_go_their_own_way),
        cmocka_unit_test(test_long_answers_do_not_pile_up),
        cmocka_unit_test(test_too_ambiguous),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
