/* Half precision: every pattern one way and back, and rounding against arithmetic in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_f16_patterns(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float value = bora_f16_to_f32((uint16_t)bits);
        int exponent = (int)(bits >> 10 & 0x1f);
        double fraction = bits & 0x3ff;
        assert_int_equal(bits_of(value) >> 31, bits >> 15);
        if (exponent == 31 && fraction > 0) {
            assert_true(isnan(value));
            assert_true(bits_of(value) & 0x400000); /* quiet, as the processor's conversion makes it */
            assert_true(isnan(bora_f16_to_f32(bora_f32_to_f16(value))));
            continue;
        }
        double expected = exponent == 31  ? (double)INFINITY
                          : exponent == 0 ? ldexp(fraction, -24)
                                          : ldexp(1024 + fraction, exponent - 25);
        assert_true(fabs((double)value) == expected);
        assert_int_equal(bora_f32_to_f16(value), bits);
    }
}

static void test_bf16_patterns(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float value = bora_bf16_to_f32((uint16_t)bits);
        assert_int_equal(bits_of(value), bits << 16);
        if (isnan(value))
            assert_true(isnan(bora_bf16_to_f32(bora_f32_to_bf16(value))));
        else
            assert_int_equal(bora_f32_to_bf16(value), bits);
    }
}

/* Between every two neighbours of the narrow type: the middle goes to the even one, anything else to the nearer. */
static void test_ties(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) { /* the last step: from 65504 to what would be 65536 */
        float low = bora_f16_to_f32((uint16_t)bits);
        float high = bits == 0x7bff ? 65536.0f : bora_f16_to_f32((uint16_t)(bits + 1));
        float middle = low + (high - low) / 2;
        uint32_t even = bits & 1 ? bits + 1 : bits;
        assert_int_equal(bora_f32_to_f16(middle), even);
        assert_int_equal(bora_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(bora_f32_to_f16(nextafterf(middle, 0)), bits);
        assert_int_equal(bora_f32_to_f16(nextafterf(middle, INFINITY)), bits + 1);
    }
    for (uint32_t bits = 0; bits < 0x7f80; bits++) {
        uint32_t middle = bits << 16 | 0x8000, even = bits & 1 ? bits + 1 : bits;
        assert_int_equal(bora_f32_to_bf16(float_of(middle)), even);
        assert_int_equal(bora_f32_to_bf16(float_of(middle | 0x80000000)), even | 0x8000);
        assert_int_equal(bora_f32_to_bf16(float_of(middle - 1)), bits);
        assert_int_equal(bora_f32_to_bf16(float_of(middle + 1)), bits + 1);
    }
}

static void test_extremes(void **state)
{
    (void)state;
    assert_int_equal(bora_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(bora_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(bora_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(bora_f32_to_f16(-1e-45f), 0x8000);
    assert_int_equal(bora_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(bora_f32_to_bf16(INFINITY), 0x7f80);
    assert_int_equal(bora_f32_to_bf16(3.4e38f), 0x7f80);
    /* NaN whose only bits are those that get cut off */
    assert_true(isnan(bora_f16_to_f32(bora_f32_to_f16(float_of(0x7f800001)))));
    assert_true(isnan(bora_bf16_to_f32(bora_f32_to_bf16(float_of(0xff800001)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_patterns),
        cmocka_unit_test(test_bf16_patterns),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
