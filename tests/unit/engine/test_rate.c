/* The engine's speed over the last seconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/rate.h"

#define MS(n) ((uint64_t)(n)*1000000)

static void expect(const bora_rate *rate, uint64_t now_ns, double prompt, double generated)
{
    double is_prompt = -1, is_generated = -1;
    bora_rate_get(rate, now_ns, &is_prompt, &is_generated);
    assert_float_equal(is_prompt, prompt, 1e-6);
    assert_float_equal(is_generated, generated, 1e-6);
}

static void nothing_is_zero(void **state)
{
    (void)state;
    const bora_rate rate = {0};
    expect(&rate, 0, 0, 0);
    expect(&rate, MS(1), 0, 0);
    expect(&rate, MS(1000000), 0, 0);
}

static void steps_in_a_row(void **state)
{
    (void)state;
    bora_rate rate = {0};
    /* 20 tokens per second, from the first step on and as long as one likes. */
    for (uint64_t at = 100000; at < 120000; at += 50) {
        bora_rate_add(&rate, MS(at), MS(at + 50), 0, 1);
        double prompt, generated;
        bora_rate_get(&rate, MS(at + 50), &prompt, &generated);
        assert_float_equal(generated, 20, 1e-6);
        assert_float_equal(prompt, 0, 0);
    }
}

static void a_long_step_is_no_burst(void **state)
{
    (void)state;
    bora_rate rate = {0};
    bora_rate_add(&rate, MS(10200), MS(12200), 512, 4);
    expect(&rate, MS(12200), 256, 2);
    /* Longer than the window: of 60 s at 10 per second, what lies in it. */
    bora_rate_add(&rate, MS(20000), MS(80000), 600, 0);
    expect(&rate, MS(80000) - 1, 10, 0);
}

static void it_falls_to_zero(void **state)
{
    (void)state;
    bora_rate rate = {0};
    bora_rate_add(&rate, MS(1000), MS(2000), 0, 20);
    expect(&rate, MS(2000), 0, 20);
    expect(&rate, MS(3000), 0, 10);
    expect(&rate, MS(5000), 0, 5);
    expect(&rate, MS(6900), 0, 0); /* the slots 1000 and 1500 have left */
    expect(&rate, MS(60000), 0, 0);
    /* The same slots again, later: what was in them does not come back. */
    bora_rate_add(&rate, MS(61000), MS(61500), 0, 1);
    expect(&rate, MS(61500), 0, 2);
}

static void a_step_without_a_length(void **state)
{
    (void)state;
    bora_rate rate = {0};
    bora_rate_add(&rate, MS(1000), MS(1000), 3, 7);
    expect(&rate, MS(2000), 3, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_zero),         cmocka_unit_test(steps_in_a_row),
        cmocka_unit_test(a_long_step_is_no_burst), cmocka_unit_test(it_falls_to_zero),
        cmocka_unit_test(a_step_without_a_length),
    };
    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
