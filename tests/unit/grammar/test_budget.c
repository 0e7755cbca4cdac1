/* Random schemas with few tokens to spare: whoever chooses, the answer is whole within them. */
#include "schema_fixture.h"

/* Who chooses among what is allowed. */
typedef enum taste {
    TASTE_ANY,
    TASTE_LONG, /* the token of the most bytes */
    TASTE_OPEN, /* what opens something, or else goes on with it; never what ends */
    TASTES,
} taste;

static bool ends_something(const char *piece, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (strchr("\"]}", piece[i]))
            return true;
    return size == 6 &&
           (memcmp(piece, "<0x22>", 6) == 0 || memcmp(piece, "<0x5D>", 6) == 0 || memcmp(piece, "<0x7D>", 6) == 0);
}

/* How much one of a taste likes a token. */
static uint32_t liking(const bora_tokenizer *tokenizer, taste of, int32_t token, uint64_t *seed)
{
    size_t size = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, token, &size);
    if (of == TASTE_ANY)
        return bora_random_below(seed, 1u << 20);
    if (token == bora_tokenizer_eos(tokenizer))
        return 0;
    if (of == TASTE_LONG)
        return 16 * (uint32_t)(bora_tokenizer_piece_type(tokenizer, token) == BORA_PIECE_BYTE ? 1 : size) +
               bora_random_below(seed, 8);
    bool opens = memchr(piece, '{', size) || memchr(piece, '[', size);
    return (opens ? 3000u : ends_something(piece, size) ? 1000u : 2000u) + bora_random_below(seed, 500);
}

static int32_t choose(const vocabulary_fixture *f, const uint64_t *mask, taste of, uint64_t *seed)
{
    int32_t best = -1;
    uint32_t most = 0;
    for (size_t word = 0; word < f->n_words; word++)
        for (uint64_t bits = mask[word]; bits; bits &= bits - 1) {
            int32_t token = (int32_t)(word * 64 + (size_t)__builtin_ctzll(bits));
            uint32_t like = liking(f->tokenizer, of, token, seed);
            if (best < 0 || like > most) {
                best = token;
                most = like;
            }
        }
    assert_true(best >= 0);
    return best;
}

/* An answer of at most n_max tokens, the end-of-text token included; true if it has ended by that. */
static bool answer_within(const vocabulary_fixture *f, bora_grammar *grammar, uint32_t n_max, taste of, uint64_t *seed,
                          bora_tokens *tokens)
{
    bora_matcher *matcher = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_matcher_new(grammar, f->vocabulary, false, &matcher, &err), BORA_OK);
    bool has_ended = false;
    while (tokens->n < n_max && !has_ended) {
        const uint64_t *mask = NULL;
        if (bora_matcher_mask(matcher, n_max - (uint32_t)tokens->n, &mask, &err) != BORA_OK)
            fail_msg("mask: %s", err.message);
        int32_t token = choose(f, mask, of, seed);
        assert_int_equal(bora_matcher_accept(matcher, token, &err), BORA_OK);
        assert_int_equal(bora_tokens_push(tokens, token, NULL), BORA_OK);
        has_ended = token == bora_tokenizer_eos(f->tokenizer);
    }
    bora_matcher_free(matcher);
    return has_ended;
}

static void judge(const vocabulary_fixture *f, const json_t *schema, const bora_tokens *tokens)
{
    bora_text text = {0};
    assert_int_equal(bora_tokenizer_decode(f->tokenizer, tokens->ids, tokens->n, &text, NULL), BORA_OK);
    must_fit(schema, text.bytes, text.size, "answer");
    bora_text_release(&text);
}

static void answers_are_whole(vocabulary_fixture *f, int n_schemas, uint64_t seed)
{
    size_t n_cut = 0, n_to_the_last = 0;
    for (int i = 0; i < n_schemas; i++) {
        json_t *schema = NULL;
        bora_grammar *grammar = random_grammar(&seed, &schema);
        uint32_t least = grammar_distance(grammar, "", 0) + 1;
        for (taste of = TASTE_ANY; of < TASTES; of++) {
            static const uint32_t spare[] = {0, 1, 5, 40};
            uint32_t n_max = least + spare[bora_random_below(&seed, BORA_ARRAY_SIZE(spare))];
            BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
            if (!answer_within(f, grammar, n_max, of, &seed, &tokens)) {
                char *source = json_dumps(schema, JSON_COMPACT);
                fail_msg("not whole within %u tokens: %s", n_max, source);
            }
            n_to_the_last += tokens.n == n_max;
            judge(f, schema, &tokens);
        }
        /* One that cannot be kept to is no bound: as it always was, the answer may be cut; it need not be. */
        BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
        if (least > 1 && !answer_within(f, grammar, least / 2, TASTE_OPEN, &seed, &tokens))
            n_cut++;
        bora_grammar_unref(grammar);
        json_decref(schema);
    }
    print_message("%zu of %d answers used all their tokens; %zu of %d with half of them were cut\n", n_to_the_last,
                  n_schemas * (int)TASTES, n_cut, n_schemas);
    assert_true(n_to_the_last > (size_t)n_schemas / 4 && n_cut > (size_t)n_schemas / 4); /* it was put to the test */
    vocabulary_release(f);
}

static void test_of_the_embedded_model(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_model();
    answers_are_whole(&f, 300, 2);
}

static void test_of_a_small_tekken(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_file(SMALL_TEKKEN, true);
    answers_are_whole(&f, 300, 3);
}

static void test_of_mistral(void **state)
{
    (void)state;
    const char *folder;
    BORA_TEST_DATA_OR_SKIP(&folder);
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/tokenizers/tokenizer.model.v3", folder);
    vocabulary_fixture f = vocabulary_of_file(path, false);
    answers_are_whole(&f, 25, 4);
}

/* A string without an end, in the middle of the deepest document there is. */
static void test_of_the_deepest(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_model();
    bora_grammar *grammar = notation_compile("root ::= \"[\" root \"]\" | \"{\" [a-z]* \"}\"");
    uint64_t seed = 5;
    for (uint32_t n_max = 3; n_max < 200; n_max++) {
        BORA_CLEANUP(bora_tokens_release) bora_tokens tokens = {0};
        assert_true(answer_within(&f, grammar, n_max, TASTE_OPEN, &seed, &tokens));
    }
    bora_grammar_unref(grammar);
    vocabulary_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_the_embedded_model),
        cmocka_unit_test(test_of_a_small_tekken),
        cmocka_unit_test(test_of_mistral),
        cmocka_unit_test(test_of_the_deepest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
