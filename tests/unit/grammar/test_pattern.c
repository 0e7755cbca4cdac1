/* Regular expressions against PCRE2: random ones, and random texts. */
#include "grammar_fixture.h"

#include "support/schema_random.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdlib.h>

static void put(char *pattern, size_t size, const char *text)
{
    size_t n = strlen(pattern);
    (void)snprintf(pattern + n, size - n, "%s", text); /* whole: size is ample */
}

/* Of letters a to c, so that random texts often fit. */
static void put_random(char *pattern, size_t size, uint64_t *seed, unsigned depth)
{
    static const char *const atoms[] = {"a",   "b",   "c",  ".",    "[ab]", "[^a]",     "[a-c]",  "\\w",
                                        "\\d", "\\W", "\"", "\\\\", "\\n",  "\xc3\xa9", "[^\\s]", "\\x61"};
    static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,3}", "{2,}", "{0}", "*?", "{0,5}"};
    for (uint32_t n = 1 + bora_random_below(seed, 3); n > 0; n--) {
        if (depth > 0 && bora_random_below(seed, 3) == 0) {
            put(pattern, size, bora_random_below(seed, 2) ? "(" : "(?:");
            put_random(pattern, size, seed, depth - 1);
            put(pattern, size, ")");
        } else {
            put(pattern, size, atoms[bora_random_below(seed, BORA_ARRAY_SIZE(atoms))]);
        }
        if (bora_random_below(seed, 3) == 0)
            put(pattern, size, repeats[bora_random_below(seed, BORA_ARRAY_SIZE(repeats))]);
        if (depth > 0 && n > 1 && bora_random_below(seed, 5) == 0)
            put(pattern, size, "|");
    }
}

/* Anchors stand where they are understood: at the ends of the outermost alternatives, here of one in a group. */
static void random_pattern(char *pattern, size_t size, uint64_t *seed)
{
    pattern[0] = '\0';
    put(pattern, size, bora_random_below(seed, 4) ? "^(" : "(");
    put_random(pattern, size, seed, 3);
    put(pattern, size, bora_random_below(seed, 4) ? ")$" : ")");
}

static void random_text(char *text, size_t size, uint64_t *seed)
{
    static const char *const pieces[] = {"a", "b", "c", "a", "b", "1", " ", "\"", "\\", "\n", "\xc3\xa9", "_"};
    text[0] = '\0';
    for (uint32_t n = bora_random_below(seed, 9); n > 0; n--)
        put(text, size, pieces[bora_random_below(seed, BORA_ARRAY_SIZE(pieces))]);
}

static void test_against_pcre2(void **state)
{
    (void)state;
    uint64_t seed = 7;
    size_t n_fit = 0, n_not = 0;
    pcre2_match_data *data = pcre2_match_data_create(64, NULL);
    for (int i = 0; i < 400; i++) {
        char pattern[2048], text[64];
        int code = 0;
        PCRE2_SIZE at = 0;
        random_pattern(pattern, sizeof pattern, &seed);
        pcre2_code *expected = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                             PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
        assert_non_null(expected);
        json_t *schema = json_pack("{s:s}", "pattern", pattern);
        char *source = json_dumps(schema, 0);
        bora_grammar *grammar = NULL;
        bora_error err = {{0}};
        bora_status st = bora_grammar_from_schema(source, strlen(source), &grammar, &err);
        if (st != BORA_OK)
            fail_msg("%s: %s", source, err.message);
        for (int k = 0; k < 60; k++) {
            random_text(text, sizeof text, &seed);
            json_t *string = json_string(text);
            char *spelled = json_dumps(string, JSON_ENCODE_ANY);
            bool fits = pcre2_match(expected, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL) >= 0;
            if ((grammar_fit(grammar, spelled, strlen(spelled)) == FIT_WHOLE) != fits)
                fail_msg("%s: %s should%s fit", pattern, spelled, fits ? "" : " not");
            n_fit += fits;
            n_not += !fits;
            free(spelled);
            json_decref(string);
        }
        bora_grammar_unref(grammar);
        free(source);
        json_decref(schema);
        pcre2_code_free(expected);
    }
    pcre2_match_data_free(data);
    assert_true(n_fit > 2000 && n_not > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_pcre2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
