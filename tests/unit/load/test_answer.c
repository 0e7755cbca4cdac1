/* What counts as the same answer, whole or cut short, and what does not. */
#include "bench/load/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static bora_load_answer alone, got;
static char why[160];

/* n tokens with their number as text, then an end ("" for none) with tail. */
static void make(bora_load_answer *answer, int n, const char *reason, const char *tail)
{
    bora_load_answer_clear(answer);
    for (int i = 0; i < n; i++) {
        char text[16];
        int size = snprintf(text, sizeof text, "%d ", i);
        assert_true(bora_load_answer_token(answer, i * 3, text, (size_t)size));
    }
    if (*reason)
        assert_true(bora_load_answer_done(answer, tail, strlen(tail), reason, strlen(reason)));
}

static bool agrees(uint32_t max_tokens)
{
    return bora_load_answer_agrees(&got, &alone, max_tokens, why);
}

static int tear_down(void **state)
{
    (void)state;
    bora_load_answer_release(&alone);
    bora_load_answer_release(&got);
    return 0;
}

static void test_the_same(void **state)
{
    (void)state;
    make(&alone, 200, "length", "tail");
    make(&got, 200, "length", "tail");
    assert_true(agrees(200));
    make(&got, 150, "length", ""); /* a smaller limit */
    assert_true(agrees(150));
    make(&got, 150, "cancelled", "whatever");
    assert_true(agrees(200));
    make(&got, 0, "", "");
    assert_true(agrees(200));
    make(&got, 250, "length", ""); /* a larger one: it would have gone on alone too */
    assert_true(agrees(250));
    make(&alone, 20, "stop", "end");
    make(&got, 20, "stop", "end");
    assert_true(agrees(64));
    make(&got, 20, "length", ""); /* the limit came just before the end */
    assert_true(agrees(20));
}

static void expect_different(uint32_t max_tokens, const char *what)
{
    assert_false(agrees(max_tokens));
    if (!strstr(why, what))
        fail_msg("'%s' does not say '%s'", why, what);
}

static void test_different(void **state)
{
    (void)state;
    make(&alone, 20, "stop", "end");
    make(&got, 20, "stop", "end");
    got.tokens[7]++;
    expect_different(64, "token 7 is 22, alone it was 21");
    make(&got, 20, "stop", "end");
    got.text[got.ends[6]] = '!';
    expect_different(64, "the text of token 7");
    make(&got, 3, "", ""); /* the same letters, but shown with another token */
    got.ends[0]++;
    expect_different(64, "the text of token 0");
    make(&got, 20, "stop", "End");
    expect_different(64, "the end of the text");
    make(&got, 20, "stop", "end.");
    expect_different(64, "the end of the text");
    make(&got, 19, "stop", "");
    expect_different(64, "after 19 tokens with stop, alone after 20");
    make(&got, 19, "length", "");
    expect_different(64, "after 19 tokens with length");
    make(&got, 20, "context", "end");
    expect_different(64, "with context, alone after 20 with stop");
    make(&got, 21, "length", "");
    expect_different(64, "alone it ended after 20");
    make(&got, 21, "", "");
    expect_different(64, "alone it ended after 20");
    make(&alone, 20, "length", "end");
    make(&got, 21, "length", "");
    expect_different(20, "where 20 were asked for");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_same, tear_down),
        cmocka_unit_test_teardown(test_different, tear_down),
    };
    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
