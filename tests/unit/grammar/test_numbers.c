/* Numbers between bounds, against comparing them. */
#include "grammar_fixture.h"

#include "grammar/numbers.h"

#include <math.h>
#include <stdlib.h>

static const double edges[] = {-1000, -999.5, -125, -100.25, -99,  -10, -9.5, -1.5, -1, -0.125, 0,
                               0.001, 0.125,  0.5,  1,       1.25, 9,   10,   10.1, 99, 100.5,  101};

/* Whether text fits {"type": type, min: lo, max: hi}. */
static void check_all(const char *type, const char *min, double lo, const char *max, double hi,
                      const char *const *texts, size_t n)
{
    char schema[256];
    (void)snprintf(schema, sizeof schema, "{\"type\":\"%s\",\"%s\":%.6g,\"%s\":%.6g}", type, min, lo, max, hi);
    bora_grammar *grammar = NULL;
    bora_error err = {{0}};
    bora_status st = bora_grammar_from_schema(schema, strlen(schema), &grammar, &err);
    bool any = false, open_lo = min[0] == 'e', open_hi = max[0] == 'e';
    for (size_t i = 0; i < n; i++) {
        double value = strtod(texts[i], NULL);
        bool in = (open_lo ? value > lo : value >= lo) && (open_hi ? value < hi : value <= hi);
        any |= in;
        fit how = grammar ? grammar_fit(grammar, texts[i], strlen(texts[i])) : FIT_NOT;
        if ((how == FIT_WHOLE) != in)
            fail_msg("%s: %s is %d", schema, texts[i], how);
    }
    assert_true(st == BORA_OK || (st == BORA_E_INVAL && !any));
    bora_grammar_unref(grammar);
}

#define TEXTS_MAX 2400

static void check_bounds(const char *type, int steps, int from, int to)
{
    static char store[TEXTS_MAX][40];
    const char *texts[TEXTS_MAX];
    size_t n = 0;
    for (int i = from; i <= to; i++, n++) {
        assert_true(n < TEXTS_MAX);
        if (steps == 1)
            (void)snprintf(store[n], sizeof store[n], "%d", i);
        else
            (void)snprintf(store[n], sizeof store[n], "%s%d.%03d", i < 0 ? "-" : "", abs(i) / steps,
                           abs(i) % steps * (1000 / steps));
        texts[n] = store[n];
    }
    static const char *const keys[][2] = {{"minimum", "maximum"}, {"exclusiveMinimum", "exclusiveMaximum"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(edges); i++)
        for (size_t j = i; j < BORA_ARRAY_SIZE(edges); j++)
            check_all(type, keys[(i + j) % 2][0], edges[i], keys[(i + 2 * j) / 2 % 2][1], edges[j], texts, n);
}

static void test_integers(void **state)
{
    (void)state;
    check_bounds("integer", 1, -1020, 120);
}

static void test_numbers_that_are_whole(void **state)
{
    (void)state;
    check_bounds("number", 1, -1020, 120);
}

static void test_numbers_with_fractions(void **state)
{
    (void)state;
    check_bounds("number", 8, -1010, 900);
}

static void test_multiples(void **state)
{
    (void)state;
    for (int of = 1; of <= 1000; of = of * 3 + 1) {
        char schema[192], text[16];
        (void)snprintf(schema, sizeof schema,
                       "{\"type\":\"%s\",\"multipleOf\":%d,\"minimum\":-500,\"exclusiveMaximum\":2001}",
                       of % 2 ? "number" : "integer", of);
        bora_grammar *grammar = schema_compile(schema);
        for (int i = -600; i < 2100; i++) {
            (void)snprintf(text, sizeof text, "%d", i);
            bool in = i >= -500 && i < 2001 && i % of == 0;
            if ((grammar_fit(grammar, text, strlen(text)) == FIT_WHOLE) != in)
                fail_msg("%s: %s", schema, text);
        }
        bora_grammar_unref(grammar);
    }
    const char *large = "{\"multipleOf\":1000}";
    texts_fit(schema_compile(large), large, FIT_WHOLE, TEXTS("0", "-1000", "123456789012345000"));
    texts_fit(schema_compile(large), large, FIT_BEGIN, TEXTS("12345678901234500", "1"));
}

static void test_at_the_ends_of_the_range(void **state)
{
    (void)state;
    const char *schema = "{\"type\":\"integer\",\"minimum\":-1e19,\"maximum\":999999999999999999}";
    texts_fit(schema_compile(schema), schema, FIT_WHOLE, TEXTS("999999999999999999", "-999999999999999999", "0"));
    schema = "{\"type\":\"integer\",\"exclusiveMinimum\":999999999999999997}";
    texts_fit(schema_compile(schema), schema, FIT_WHOLE, TEXTS("999999999999999998", "999999999999999999"));
    texts_fit(schema_compile(schema), schema, FIT_NOT, TEXTS("999999999999999997", "1999", "-", "0"));
    schema = "{\"type\":\"number\",\"minimum\":0.1,\"maximum\":999999999999999}";
    texts_fit(schema_compile(schema), schema, FIT_WHOLE, TEXTS("0.1", "0.10", "999999999999999", "1.00000000000001"));
    texts_fit(schema_compile(schema), schema, FIT_NOT, TEXTS("1000000000000000", "-", "0.09", "999999999999999."));
    schema = "{\"type\":\"number\",\"exclusiveMinimum\":1e-15}";
    texts_fit(schema_compile(schema), schema, FIT_BEGIN, TEXTS("0.0000000000000", "0"));
    /* Both ends of one kind: the tighter one counts. */
    schema = "{\"type\":\"number\",\"minimum\":1,\"exclusiveMinimum\":1,\"maximum\":3,\"exclusiveMaximum\":2.5}";
    texts_fit(schema_compile(schema), schema, FIT_WHOLE, TEXTS("1.1", "2.4"));
    texts_fit(schema_compile(schema), schema, FIT_BEGIN, TEXTS("1", "1.0", "2."));
    texts_fit(schema_compile(schema), schema, FIT_NOT, TEXTS("2.6", "3", "0"));
}

static void test_decimals(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *whole, *fraction;
        bool is_negative;
    } cases[] = {{0.0, "0", "", false},
                 {-0.0, "0", "", false},
                 {1.0, "1", "", false},
                 {-12.5, "12", "5", true},
                 {0.001, "0", "001", false},
                 {1e14, "100000000000000", "", false},
                 {1e-15, "0", "000000000000001", false},
                 {123.456, "123", "456", false},
                 {100.0, "100", "", false}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        bora_decimal decimal;
        assert_true(bora_decimal_read(cases[i].value, &decimal));
        assert_string_equal(decimal.whole, cases[i].whole);
        assert_string_equal(decimal.fraction, cases[i].fraction);
        assert_int_equal(decimal.is_negative, cases[i].is_negative);
    }
    bora_decimal decimal;
    assert_false(bora_decimal_read(1e15, &decimal));
    assert_false(bora_decimal_read(1e-16, &decimal));
    assert_false(bora_decimal_read(1.0 / 3.0, &decimal));
    assert_false(bora_decimal_read(INFINITY, &decimal));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_numbers_that_are_whole),
        cmocka_unit_test(test_numbers_with_fractions),
        cmocka_unit_test(test_multiples),
        cmocka_unit_test(test_at_the_ends_of_the_range),
        cmocka_unit_test(test_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
