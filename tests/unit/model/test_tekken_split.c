/* Split expressions: what they cut, what they leave over, words longer than any window, and those that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/tokenizer/split.h"

#include <stdio.h>
#include <string.h>

static bora_split *split_make(const char *pattern)
{
    bora_split *split = NULL;
    bora_error err = {{0}};
    if (bora_split_new(pattern, strlen(pattern), &split, &err) != BORA_OK)
        fail_msg("%s: %s", pattern, err.message);
    return split;
}

/* Asserts that text is cut into the pieces joined by '|'. */
static void assert_cuts(const char *pattern, const char *text, const char *expected)
{
    bora_split *split = split_make(pattern);
    bora_splitter splitter;
    char joined[256];
    size_t n = 0, start = 0, size = 0;
    assert_int_equal(bora_splitter_init(&splitter, split, NULL), BORA_OK);
    bora_splitter_text(&splitter, text, strlen(text));
    for (;;) {
        assert_int_equal(bora_splitter_next(&splitter, &start, &size, NULL), BORA_OK);
        if (size == 0)
            break;
        n += (size_t)snprintf(joined + n, sizeof joined - n, "%s%.*s", n ? "|" : "", (int)size, text + start);
        assert_true(n < sizeof joined);
    }
    joined[n] = '\0';
    assert_string_equal(joined, expected);
    bora_splitter_release(&splitter);
    bora_split_free(split);
}

static void cuts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"Hello world", "Hello| world"},
        {"HelloWorld HTTPServer", "Hello|World| HTTPServer"},
        {"x12 345", "x|1|2| |3|4|5"},
        {"a  b   ", "a| | b|   "},
        {"it's (so)!\n\nyes", "it|'s| (|so|)!\n\n|yes"},
        {"a \n b", "a| \n| b"},
        {"\xc3\x89t\xc3\xa9 E\xcc\x81T\xcc\x81"
         "a",
         "\xc3\x89t\xc3\xa9| E\xcc\x81T\xcc\x81"
         "a"},
        {"a\xc2\xa0\xe3\x80\x80"
         "b",
         "a|\xc2\xa0|\xe3\x80\x80"
         "b"},
        /* U+180E is no white space to Unicode, whatever PCRE2's \s says: with the space before it, a mark. */
        {"a \xe1\xa0\x8e", "a| \xe1\xa0\x8e"},
        {"a\xc2\x85 b", "a|\xc2\x85| b"}, /* U+0085 is one */
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++)
        assert_cuts(bora_tekken_pattern, cases[i][0], cases[i][1]);
}

/* No text is lost where an expression matches nothing, or the empty text, or moves the start of its match. */
static void gaps(void **state)
{
    (void)state;
    assert_cuts("b+",
                "aabb\xc3\xa9"
                "b",
                "a|a|bb|\xc3\xa9|b");
    assert_cuts("b*", "abbc", "a|bb|c");
    assert_cuts("(?=a)|x", "aax", "a|a|x");
    assert_cuts("a\\Kb|c", "abcab", "ab|c|ab");
    assert_cuts("(?<=a)b+|a", "abba", "a|bb|a");
    assert_cuts("\\Ab", "bb", "b|b");
    assert_cuts("[\\\\s]+", "s\\ s", "s\\| |s"); /* an escaped backslash, and an s */
    assert_cuts("[^\\s]+|\\s\\S", "ab c", "ab| c");
    assert_cuts("(a)(b)(c)", "abcab", "abc|a|b");
}

static bora_status run(const char *pattern, const char *text, size_t size, size_t *ret_n_pieces, bora_error *err)
{
    bora_split *split = split_make(pattern);
    bora_splitter splitter;
    size_t n = 0, at = 0, start = 0, piece_size = 1;
    bora_status st = bora_splitter_init(&splitter, split, err);
    bora_splitter_text(&splitter, text, size);
    while (st == BORA_OK && piece_size > 0) {
        st = bora_splitter_next(&splitter, &start, &piece_size, err);
        assert_int_equal(start, at);
        at += st == BORA_OK ? piece_size : 0;
        n += st == BORA_OK && piece_size > 0;
    }
    assert_true(st != BORA_OK || at == size);
    bora_splitter_release(&splitter);
    bora_split_free(split);
    *ret_n_pieces = n;
    return st;
}

#define LONG_SIZE ((size_t)600000)

/* Words that begin in one window and end in another, also where the window's end falls within a character. */
static void long_words(void **state)
{
    (void)state;
    char *text = bora_alloc(LONG_SIZE);
    static const char *const units[] = {
        "a", "A", " ", "!", "\n", "\xc3\xa9", "\xe6\x97\xa5", "\xcc\x81", "\xf0\x9d\x92\x9c"};
    for (size_t u = 0; u < BORA_ARRAY_SIZE(units); u++) {
        size_t unit_size = strlen(units[u]), n = 0;
        for (size_t i = 0; i < LONG_SIZE; i++)
            text[i] = units[u][i % unit_size];
        for (size_t size = 4080; size < 4120; size++) {
            size_t whole = size - size % unit_size;
            assert_int_equal(run(bora_tekken_pattern, text, whole, &n, NULL), BORA_OK);
            assert_int_equal(n, 1);
        }
        assert_int_equal(run(bora_tekken_pattern, text, LONG_SIZE - LONG_SIZE % unit_size, &n, NULL), BORA_OK);
        assert_int_equal(n, 1);
    }
    bora_free(text);
}

/* Those that look ahead without end or try everything are given up, where there is enough to try. */
static void catastrophic(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(?=(?:a|aa)+$)a+b|a",  "(?:a+)+$(?<=b)|a", "(?=.*b)a|a",
                                           "(?:a?){200}a{200}b|a", "(a(?1)?a?)+b|a",   "(?:(?=(a+))a)+b|a"};
    char *text = bora_alloc(LONG_SIZE);
    memset(text, 'a', LONG_SIZE);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(patterns); i++) {
        size_t n = 0;
        bora_error err = {{0}};
        bora_status st = run(patterns[i], text, LONG_SIZE, &n, &err);
        if (st != BORA_E_LIMIT || !strstr(err.message, "split expression"))
            fail_msg("%s: status %d '%s', %zu pieces", patterns[i], st, err.message, n);
        assert_int_equal(run(patterns[i], "b", 1, &n, &err), BORA_OK);
    }
    bora_free(text);
}

static void refused(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "(", "[z-a]", "\\", "a{2,1}", "\\C", "(?<n>a)(?<n>b)", "\\p{Nonsense}", "*", "(?:a{60000}){60000}"};
    bora_split *split = NULL;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(patterns); i++) {
        bora_error err = {{0}};
        if (bora_split_new(patterns[i], strlen(patterns[i]), &split, &err) != BORA_E_FORMAT)
            fail_msg("%s was accepted", patterns[i]);
        assert_true(strstr(err.message, "split expression"));
    }
    static char big[BORA_PATTERN_SIZE_MAX + 1];
    memset(big, 'a', sizeof big);
    assert_int_equal(bora_split_new(big, sizeof big, &split, NULL), BORA_E_FORMAT);
    memset(big, '(', sizeof big);
    assert_int_equal(bora_split_new(big, sizeof big - 1, &split, NULL), BORA_E_FORMAT);
    for (size_t i = 0; i < sizeof big - 1; i += 2)
        memcpy(big + i, "\\s", 2);
    assert_int_equal(bora_split_new(big, sizeof big - 1, &split, NULL), BORA_OK);
    bora_split_free(split);
    bora_split_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts),         cmocka_unit_test(gaps),    cmocka_unit_test(long_words),
        cmocka_unit_test(catastrophic), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
