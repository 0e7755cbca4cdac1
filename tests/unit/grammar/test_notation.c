/* The notation: what each form fits, and what each mistake is told. */
#include "grammar_fixture.h"

#include <stdlib.h>

static void check(const char *source, const char *const *whole, const char *const *begin, const char *const * not )
{
    texts_fit(notation_compile(source), source, FIT_WHOLE, whole);
    texts_fit(notation_compile(source), source, FIT_BEGIN, begin);
    texts_fit(notation_compile(source), source, FIT_NOT, not );
}

static void test_forms(void **state)
{
    (void)state;
    check("root ::= \"yes\" | \"no\"", TEXTS("yes", "no"), TEXTS("", "y", "ye", "n"), TEXTS("x", "yess", "yn", " yes"));
    check("root ::= [a-c] [^a-c\\n] .", TEXTS("axy", "cd\n", "b\xc3\xa9\xe2\x82\xac"), TEXTS("a", "ax", "a\xc3"),
          TEXTS("d", "ab", "a\n", "a\xff"));
    check("root ::= \"a\"? \"b\"* \"c\"+", TEXTS("c", "ac", "bbc", "abccc"), TEXTS("", "a", "ab"),
          TEXTS("aa", "cb", "ca"));
    check("root ::= \"a\"{2} | \"b\"{1,3} | \"c\"{2,} | \"d\"{0,1}", TEXTS("aa", "b", "bbb", "cc", "ccccc", "d", ""),
          TEXTS("a", "c"), TEXTS("aaa", "bbbb", "dd"));
    check("root ::= (\"a\" | \"b\" \"c\")+ \"d\"", TEXTS("ad", "bcd", "abcad"), TEXTS("b", "a"), TEXTS("bd", "d"));
    check("# first\nroot ::= a # then\n | b\na ::= \"1\"\nb ::= a a \"2\"", TEXTS("1", "112"), TEXTS("11"),
          TEXTS("2", "12"));
    check("root ::= \"\" | \"\\n\\r\\t\\\\\\\"\\x41\\u00e9\\U0001F600\"",
          TEXTS("", "\n\r\t\\\"A\xc3\xa9\xf0\x9f\x98\x80"), TEXTS("\n", "\n\r\t\\\"A\xc3"), TEXTS("A"));
    check("root ::= [\\]\\-\\x41-\\x43a-]+", TEXTS("]", "-", "ABC", "a-"), TEXTS(""), TEXTS("b", "D"));
    check("root ::= [^\\u0000-\\uD7FF\\uE000-\\U0010FFFE]", TEXTS("\xf4\x8f\xbf\xbf"), TEXTS("\xf4\x8f"),
          TEXTS("a", "\xed", "\xf4\x90"));
}

/* Every code point on either side of the borders of UTF-8, in and out of a range. */
static void test_ranges_of_characters(void **state)
{
    (void)state;
    static const uint32_t edges[] = {0x01,   0x20,   0x7f,   0x80,    0x7ff,   0x800,   0xfff,   0x1000,
                                     0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff, 0x40000, 0xfffff, 0x10ffff};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(edges); i++)
        for (size_t j = i; j < BORA_ARRAY_SIZE(edges); j++) {
            char source[64];
            (void)snprintf(source, sizeof source, "root ::= [\\U%08x-\\U%08x]", edges[i], edges[j]);
            bora_grammar *grammar = notation_compile(source);
            for (size_t k = 0; k < BORA_ARRAY_SIZE(edges); k++)
                for (int step = -1; step <= 1; step++) {
                    uint32_t c = edges[k] + (uint32_t)step;
                    if ((c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
                        continue;
                    char bytes[4];
                    size_t n = bora_character_write(c, bytes), n_read = 0;
                    assert_int_equal(bora_character_read(bytes, n, &n_read), c);
                    assert_int_equal(n_read, n);
                    bool in = c >= edges[i] && c <= edges[j];
                    if ((grammar_fit(grammar, bytes, n) == FIT_WHOLE) != in)
                        fail_msg("%s: U+%04X", source, c);
                }
            bora_grammar_unref(grammar);
        }
    size_t n = 0;
    assert_int_equal(bora_character_read("\xed\xa0\x80", 3, &n), BORA_NONE); /* half of a pair */
    assert_int_equal(bora_character_read("\xc0\x80", 2, &n), BORA_NONE);
    assert_int_equal(bora_character_read("\xe0\x80\x80", 3, &n), BORA_NONE);
    assert_int_equal(bora_character_read("\xf4\x90\x80\x80", 4, &n), BORA_NONE);
    assert_int_equal(bora_character_read("", 0, &n), BORA_NONE);
}

static void test_rules_within_rules(void **state)
{
    (void)state;
    check("root ::= \"(\" root \")\" | \"x\"", TEXTS("x", "(x)", "(((x)))"), TEXTS("(", "((x)"),
          TEXTS(")", "(x))", "x)"));
    /* Two ways that are the same for a while, with rules that are empty, at either side. */
    check("root ::= a \"1\" | b \"2\"\na ::= \"(\" a \")\" | e\nb ::= e \"(\" b \")\" | \"\"\ne ::= \"\"",
          TEXTS("1", "2", "((()))1", "((()))2"), TEXTS("(", "(())"), TEXTS("(1", "3"));
    /* Without sharing, ways to read this double with every parenthesis. */
    check("root ::= l | r\nl ::= \"(\" m \")\" | \"x\"\nr ::= \"(\" m \"]\" | \"x\"\nm ::= l | r",
          TEXTS("x", "((((((((((((((((((((((((((((((x])])])])])])])])])])])])])])])"), TEXTS("(((("),
          TEXTS("[", "(x}"));
    /* What comes last in a rule is not nested: such lists have no bound. */
    char list[1000];
    memset(list, 'a', sizeof list);
    bora_grammar *grammar = notation_compile("root ::= \"a\" root | \"\"");
    assert_int_equal(grammar_fit(grammar, list, sizeof list), FIT_WHOLE);
    bora_grammar_unref(grammar);
}

/* Depth has a bound, and before it everything that was begun can still be ended. */
static void test_depth(void **state)
{
    (void)state;
    bora_grammar *grammar = notation_compile("root ::= \"(\" root \")\" | \"x\"");
    char text[2 * BORA_GRAMMAR_DEPTH_MAX + 8];
    for (size_t depth = BORA_GRAMMAR_DEPTH_MAX - 1; depth <= BORA_GRAMMAR_DEPTH_MAX + 1; depth++) {
        memset(text, '(', depth);
        text[depth] = 'x';
        memset(text + depth + 1, ')', depth);
        fit how = grammar_fit(grammar, text, 2 * depth + 1);
        assert_int_equal(how, depth <= BORA_GRAMMAR_DEPTH_MAX ? FIT_WHOLE : FIT_NOT);
    }
    bora_grammar_unref(grammar);
    /* An end that needs two rules more has to be begun two rules earlier. */
    grammar = notation_compile("root ::= \"(\" root \")\" | a \"!\"\na ::= b \"?\"\nb ::= \"x\"");
    memset(text, '(', BORA_GRAMMAR_DEPTH_MAX);
    assert_int_equal(grammar_fit(grammar, text, BORA_GRAMMAR_DEPTH_MAX - 2), FIT_BEGIN);
    assert_int_equal(grammar_fit(grammar, text, BORA_GRAMMAR_DEPTH_MAX - 1), FIT_NOT);
    bora_grammar_unref(grammar);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *source, *message;
        bora_status status;
    } cases[] = {
        {"", "no rule 'root'", BORA_E_INVAL},
        {"a ::= \"x\"", "no rule 'root'", BORA_E_INVAL},
        {"root", "line 1: a rule begins with NAME ::=", BORA_E_INVAL},
        {"root ::= ", "line 1: an alternative without anything", BORA_E_INVAL},
        {"root ::= \"a\" |", "an alternative without anything", BORA_E_INVAL},
        {"\n\nroot ::= b", "line 3: there is no rule 'b'", BORA_E_INVAL},
        {"root ::= \"a\nb ::= \"c\"", "a text that does not end", BORA_E_INVAL},
        {"root ::= [a", "a class that does not end", BORA_E_INVAL},
        {"root ::= []", "a class without a character", BORA_E_INVAL},
        {"root ::= [b-a]", "a range that goes backwards", BORA_E_INVAL},
        {"root ::= (\"a\"", "does not close", BORA_E_INVAL},
        {"root ::= \"a\")", "opens nowhere", BORA_E_INVAL},
        {"root ::= * \"a\"", "expected a text", BORA_E_INVAL},
        {"root ::= \"a\"{x}", "a repetition is", BORA_E_INVAL},
        {"root ::= \"a\"{2", "a repetition is", BORA_E_INVAL},
        {"root ::= \"a\"{3,2}", "3 at least and 2 at most", BORA_E_INVAL},
        {"root ::= \"a\"{70000}", "more than 65535", BORA_E_LIMIT},
        {"root ::= \"a\"{99999999999999999999}", "more than 65535", BORA_E_LIMIT},
        {"root ::= \"\\q\"", "unknown escape", BORA_E_INVAL},
        {"root ::= \"\\", "unknown escape", BORA_E_INVAL},
        {"root ::= \"\\u12\"", "more hexadecimal digits", BORA_E_INVAL},
        {"root ::= \"\\ud800\"", "no Unicode character", BORA_E_INVAL},
        {"root ::= \"\\U00110000\"", "no Unicode character", BORA_E_INVAL},
        {"root ::= \"\xff\"", "not UTF-8", BORA_E_INVAL},
        {"root ::= [\xc3]", "not UTF-8", BORA_E_INVAL},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2: rule 'root' is defined twice", BORA_E_INVAL},
        {"root ::= root \"a\" | \"b\"", "rule 'root' begins with itself", BORA_E_INVAL},
        {"root ::= e a\ne ::= \"\"\na ::= root \"x\"", "begins with itself", BORA_E_INVAL},
        {"root ::= \"a\" root", "no text fits it", BORA_E_INVAL},
        {"root ::= (\"a\"{50000}){50000} \"b\"{65535} ((\"c\"{60000} | \"dd\"{60000}){60000} \"e\"{60000})",
         "more than 262144 states", BORA_E_LIMIT},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_error err = {{0}};
        bora_grammar *grammar = NULL;
        bora_status st = bora_grammar_from_notation(cases[i].source, strlen(cases[i].source), &grammar, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].message) || grammar)
            fail_msg("%s\nsays %d, '%s'", cases[i].source, st, err.message);
    }
}

static void test_too_much(void **state)
{
    (void)state;
    bora_grammar *grammar = NULL;
    char *large = bora_alloc(BORA_GRAMMAR_SOURCE_MAX + 1);
    memset(large, ' ', BORA_GRAMMAR_SOURCE_MAX + 1);
    assert_int_equal(bora_grammar_from_notation(large, BORA_GRAMMAR_SOURCE_MAX + 1, &grammar, NULL), BORA_E_LIMIT);
    assert_int_equal(bora_grammar_from_notation(large, BORA_GRAMMAR_SOURCE_MAX, &grammar, NULL), BORA_E_INVAL);
    memset(large, '(', BORA_GRAMMAR_SOURCE_MAX);
    memcpy(large, "root ::= ", 9);
    assert_int_equal(bora_grammar_from_notation(large, BORA_GRAMMAR_SOURCE_MAX, &grammar, NULL), BORA_E_LIMIT);
    /* A chain of empty rules, the last one first: found out in one pass, not one for each. */
    size_t n = 0;
    for (unsigned i = 9000; i > 0; i--)
        n += (size_t)snprintf(large + n, BORA_GRAMMAR_SOURCE_MAX + 1 - n, "r%u ::= r%u r%u\n", i, i - 1, i - 1);
    n += (size_t)snprintf(large + n, BORA_GRAMMAR_SOURCE_MAX + 1 - n, "r0 ::= \"\"\nroot ::= r9000 \"x\"");
    assert_true(n < BORA_GRAMMAR_SOURCE_MAX + 1);
    bora_error err = {{0}};
    bora_status st = bora_grammar_from_notation(large, n, &grammar, &err);
    if (st != BORA_OK)
        fail_msg("%s", err.message);
    bora_grammar_unref(grammar);
    bora_free(large);
}

/* More places at once than are looked after: an error of that text, not of the process. */
static void test_too_ambiguous(void **state)
{
    (void)state;
    bora_grammar *grammar = notation_compile("root ::= [ab]* \"a\" [ab]{5000}");
    bora_machine *machine = NULL;
    uint32_t set = 0;
    assert_int_equal(bora_machine_new(grammar, &machine, NULL), BORA_OK);
    assert_int_equal(bora_machine_start(machine, &set, NULL), BORA_OK);
    bora_status st = BORA_OK;
    bora_error err = {{0}};
    size_t n = 0;
    for (; n < 10000 && st == BORA_OK; n++)
        st = bora_machine_step(machine, set, 'a', &set, &err);
    assert_int_equal(st, BORA_E_LIMIT);
    assert_true(n > 2000);
    assert_non_null(strstr(err.message, "too ambiguous"));
    /* And one with less work than that takes. */
    assert_int_equal(bora_machine_start(machine, &set, NULL), BORA_OK);
    bora_machine_budget(machine, 3);
    assert_int_equal(bora_machine_step(machine, set, 'b', &set, &err), BORA_E_LIMIT);
    bora_machine_free(machine);
    bora_grammar_unref(grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_ranges_of_characters),
        cmocka_unit_test(test_rules_within_rules),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_too_ambiguous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
