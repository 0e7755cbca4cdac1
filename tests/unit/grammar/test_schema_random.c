/* Hundreds of random schemas. Whatever is generated through the mask is a document of its schema, by another
 * program's judgement; and every document of a schema can be generated. */
#include "schema_fixture.h"

#define SCHEMAS   600
#define TOKENS    3000 /* a walk that takes more does not end */
#define AT_LENGTH 40   /* tokens after which a walk would rather end */

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static void test_documents_by_bytes(void **state)
{
    (void)state;
    uint64_t seed = 1;
    size_t n_changed_fit = 0;
    for (int i = 0; i < SCHEMAS; i++) {
        json_t *schema = NULL;
        bora_grammar *grammar = random_grammar(&seed, &schema);
        for (int k = 0; k < 4; k++) {
            char *text = bora_schema_document(schema, &seed);
            size_t size = strlen(text);
            must_fit(schema, text, size, "document");
            if (grammar_fit(grammar, text, size) != FIT_WHOLE) {
                char *source = json_dumps(schema, JSON_COMPACT);
                fail_msg("%s\nis no text of\n%s", text, source);
            }
            /* With one byte changed, it is still a document if it is still a text. */
            for (int change = 0; change < 8 && size > 0; change++) {
                static const char bytes[] = "\"\\{}[],: \n0159-.eEntfu\xc3\xa9";
                size_t at = bora_random_below(&seed, (uint32_t)size);
                char was = text[at];
                text[at] = bytes[bora_random_below(&seed, sizeof bytes - 1)];
                if (grammar_fit(grammar, text, size) == FIT_WHOLE) {
                    must_fit(schema, text, size, "changed document");
                    n_changed_fit++;
                }
                text[at] = was;
            }
            free(text);
        }
        bora_grammar_unref(grammar);
        json_decref(schema);
    }
    assert_true(n_changed_fit > 100); /* it was put to the test */
}

/* The next byte by taste: the first of wanted that fits, else any that fits, from a random one on. */
static uint8_t byte_of_taste(bora_machine *machine, uint32_t set, const char *wanted, uint64_t *seed,
                             uint32_t *ret_next)
{
    uint32_t from = bora_random_below(seed, 256);
    for (unsigned i = 0; i < 256 + strlen(wanted); i++) {
        bool is_wanted = i < strlen(wanted);
        uint8_t byte = is_wanted ? (uint8_t)wanted[i] : (uint8_t)(from + i);
        assert_int_equal(bora_machine_step(machine, set, byte, ret_next, NULL), BORA_OK);
        if (*ret_next != BORA_SET_DEAD)
            return byte;
    }
    fail_msg("nothing fits");
    return 0;
}

/* Opens whatever can be opened until the bound of depth, and some time longer; then what was begun is ended. */
static void test_the_deepest_documents(void **state)
{
    (void)state;
    static char text[20000];
    uint64_t seed = 9;
    size_t n_deep = 0;
    for (int i = 0; i < 120; i++) {
        json_t *schema = i == 0 ? json_object() : bora_schema_random(&seed);
        char *source = json_dumps(schema, JSON_COMPACT);
        bora_grammar *grammar = schema_compile(source);
        bora_machine *machine = NULL;
        uint32_t set = 0, next = 0;
        size_t size = 0, depth = 0;
        assert_int_equal(bora_machine_new(grammar, &machine, NULL), BORA_OK);
        assert_int_equal(bora_machine_start(machine, &set, NULL), BORA_OK);
        for (; size < sizeof text && !bora_machine_is_final(machine, set); size++) {
            if (size > 1500 && bora_machine_is_complete(machine, set))
                break;
            const char *wanted = size > 1500 ? "\"]}@.x" : depth < 70 && bora_random_below(&seed, 2) ? "[{\"" : "{[\"";
            text[size] = (char)byte_of_taste(machine, set, wanted, &seed, &next);
            depth += text[size] == '[' || text[size] == '{';
            set = next;
        }
        assert_true(size < sizeof text && bora_machine_is_complete(machine, set));
        must_fit(schema, text, size, "deep document");
        n_deep += depth >= BORA_GRAMMAR_DEPTH_MAX;
        bora_machine_free(machine);
        bora_grammar_unref(grammar);
        free(source);
        json_decref(schema);
    }
    assert_true(n_deep > 10);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

typedef struct walker {
    vocabulary_fixture *f;
    uint64_t seed;
    int32_t *allowed; /* [n] of the mask at work */
    int32_t *
        closing; /* [n_closing] those of them made of what ends something, here or in the patterns of schema_random.c */
    size_t n, n_closing;
} walker;

static bool is_closing(const bora_tokenizer *tokenizer, int32_t token)
{
    size_t size = 0;
    const char *piece = bora_tokenizer_piece(tokenizer, token, &size);
    if (bora_tokenizer_piece_type(tokenizer, token) == BORA_PIECE_BYTE)
        return strncmp(piece, "<0x22>", 6) == 0 || strncmp(piece, "<0x5D>", 6) == 0 || strncmp(piece, "<0x7D>", 6) == 0;
    for (size_t i = 0; i < size; i++)
        if (!strchr("\"]}@.x", piece[i]) || !piece[i])
            return false;
    return size > 0;
}

static void list_allowed(walker *w, const uint64_t *mask)
{
    w->n = w->n_closing = 0;
    for (size_t word = 0; word < w->f->n_words; word++)
        for (uint64_t bits = mask[word]; bits; bits &= bits - 1) {
            int32_t token = (int32_t)(word * 64 + (size_t)__builtin_ctzll(bits));
            w->allowed[w->n++] = token;
            if (is_closing(w->f->tokenizer, token))
                w->closing[w->n_closing++] = token;
        }
}

static int32_t choose(walker *w, const uint64_t *mask, size_t n_before)
{
    int32_t eos = bora_tokenizer_eos(w->f->tokenizer);
    bool at_length = n_before > AT_LENGTH;
    uint32_t dice = bora_random_below(&w->seed, 100);
    list_allowed(w, mask);
    assert_true(w->n > 0);
    if (mask_has(mask, eos) && (at_length || dice < 30))
        return eos;
    dice = bora_random_below(&w->seed, 100);
    if (w->n_closing > 0 && dice < (at_length ? 80u : 15u))
        return w->closing[bora_random_below(&w->seed, (uint32_t)w->n_closing)];
    return w->allowed[bora_random_below(&w->seed, (uint32_t)w->n)];
}

/* One answer by chance through the mask; its text must be a document. */
static void walk(walker *w, bora_grammar *grammar, const json_t *schema)
{
    bora_matcher *matcher = NULL;
    bora_error err = {{0}};
    bora_tokens tokens = {0};
    bora_text text = {0};
    assert_int_equal(bora_matcher_new(grammar, w->f->vocabulary, false, &matcher, &err), BORA_OK);
    for (;;) {
        const uint64_t *mask = NULL;
        if (bora_matcher_mask(matcher, BORA_TOKENS_ANY, &mask, &err) != BORA_OK)
            fail_msg("mask: %s", err.message);
        int32_t token = choose(w, mask, tokens.n);
        bool must_end = bora_matcher_must_end(matcher);
        assert_int_equal(must_end, w->n == 1 && w->allowed[0] == bora_tokenizer_eos(w->f->tokenizer));
        /* One that is not allowed is not taken, and changes nothing. */
        int32_t other = (int32_t)bora_random_below(&w->seed, (uint32_t)bora_tokenizer_n_pieces(w->f->tokenizer));
        if (!mask_has(mask, other))
            assert_int_equal(bora_matcher_accept(matcher, other, &err), BORA_E_INVAL);
        if (bora_matcher_accept(matcher, token, &err) != BORA_OK)
            fail_msg("token %d: %s", token, err.message);
        assert_int_equal(bora_tokens_push(&tokens, token, NULL), BORA_OK);
        if (token == bora_tokenizer_eos(w->f->tokenizer))
            break;
        if (tokens.n >= TOKENS) {
            (void)bora_tokenizer_decode(w->f->tokenizer, tokens.ids, tokens.n, &text, NULL);
            fail_msg("a walk that does not end: %.600s", text.bytes);
        }
    }
    assert_true(bora_matcher_is_complete(matcher) && bora_matcher_must_end(matcher));
    assert_int_equal(bora_tokenizer_decode(w->f->tokenizer, tokens.ids, tokens.n, &text, NULL), BORA_OK);
    must_fit(schema, text.bytes, text.size, "walk");
    bora_text_release(&text);
    bora_tokens_release(&tokens);
    bora_matcher_free(matcher);
}

/* A document as the tokenizer cuts it: every token is allowed, and then the end. */
static void follow(walker *w, bora_grammar *grammar, const json_t *schema)
{
    bora_matcher *matcher = NULL;
    bora_error err = {{0}};
    bora_tokens tokens = {0};
    char *text = bora_schema_document(schema, &w->seed);
    assert_int_equal(bora_tokenizer_encode(w->f->tokenizer, text, strlen(text), &tokens, &err), BORA_OK);
    assert_int_equal(bora_matcher_new(grammar, w->f->vocabulary, false, &matcher, &err), BORA_OK);
    for (size_t i = 0; i < tokens.n; i++) {
        const uint64_t *mask = NULL;
        if (bora_matcher_mask(matcher, BORA_TOKENS_ANY, &mask, &err) != BORA_OK)
            fail_msg("mask: %s", err.message);
        if (!mask_has(mask, tokens.ids[i]))
            fail_msg("token %zu, %d, of %s", i, tokens.ids[i], text);
        assert_int_equal(bora_matcher_accept(matcher, tokens.ids[i], &err), BORA_OK);
    }
    assert_true(bora_matcher_is_complete(matcher));
    free(text);
    bora_tokens_release(&tokens);
    bora_matcher_free(matcher);
}

static void walk_all(vocabulary_fixture *f, int n_schemas, uint64_t seed)
{
    size_t n_tokens = bora_tokenizer_n_pieces(f->tokenizer);
    walker w = {.f = f, .seed = seed};
    w.allowed = bora_calloc(n_tokens, sizeof *w.allowed);
    w.closing = bora_calloc(n_tokens, sizeof *w.closing);
    for (int i = 0; i < n_schemas; i++) {
        json_t *schema = NULL;
        bora_grammar *grammar = random_grammar(&w.seed, &schema);
        walk(&w, grammar, schema);
        follow(&w, grammar, schema);
        bora_grammar_unref(grammar);
        json_decref(schema);
    }
    bora_free(w.allowed);
    bora_free(w.closing);
    vocabulary_release(f);
}

static void test_walks_of_the_embedded_model(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_model();
    walk_all(&f, SCHEMAS, 2);
}

static void test_walks_of_a_small_tekken(void **state)
{
    (void)state;
    vocabulary_fixture f = vocabulary_of_file(SMALL_TEKKEN, true);
    walk_all(&f, 150, 3);
}

static void test_walks_of_others(void **state)
{
    (void)state;
    static const char *const files[] = {"models/stories260K/tokenizer.model", "tokenizers/tokenizer.model.v1",
                                        "tokenizers/tokenizer.model.v3", "tokenizers/tokenizer.model.v7"};
    const char *folder;
    BORA_TEST_DATA_OR_SKIP(&folder);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(files); i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        vocabulary_fixture f = vocabulary_of_file(path, false);
        walk_all(&f, i == 0 ? 100 : 25, 4 + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_by_bytes),
        cmocka_unit_test(test_the_deepest_documents),
        cmocka_unit_test(test_walks_of_the_embedded_model),
        cmocka_unit_test(test_walks_of_a_small_tekken),
        cmocka_unit_test(test_walks_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
