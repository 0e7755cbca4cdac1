/* Quantising: what comes back is close, closer than by the largest value alone, for rows of any kind; the rest is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernels/dequantize.h"
#include "kernels/quantize.h"
#include "support/blocks.h"

#include <math.h>
#include <stdio.h>

#define N 2048u

/* Bounds of the mean squared error, relative to the mean square, of rows from a normal distribution: a twentieth above
 * what is measured. */
static const double bounds[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_F32] = 0,        [BORA_DTYPE_F16] = 4.5e-8,    [BORA_DTYPE_BF16] = 2.8e-6,
    [BORA_DTYPE_Q8_0] = 2.62e-5, [BORA_DTYPE_Q4_0] = 7.07e-3,  [BORA_DTYPE_Q4_1] = 5.37e-3,
    [BORA_DTYPE_Q5_0] = 1.75e-3, [BORA_DTYPE_Q5_1] = 1.26e-3,  [BORA_DTYPE_Q2_K] = 7.2e-2,
    [BORA_DTYPE_Q3_K] = 2.18e-2, [BORA_DTYPE_Q4_K] = 5.3e-3,   [BORA_DTYPE_Q5_K] = 1.29e-3,
    [BORA_DTYPE_Q6_K] = 3.04e-4, [BORA_DTYPE_IQ4_NL] = 5.8e-3, [BORA_DTYPE_IQ4_XS] = 5.88e-3,
};

static float uniform(uint64_t *state)
{
    return ((float)blocks_random(state) + 0.5f) * 0x1p-31f;
}

static float normal(uint64_t *state)
{
    float radius = sqrtf(-2 * logf(uniform(state)));
    return radius * cosf(6.2831853f * uniform(state));
}

/* Quantises x [n] and back. The bytes start at an odd address and what is behind them stays as it was. */
static void there_and_back(uint32_t dtype, size_t n, const float *x, const float *importance, float *ret_y)
{
    static uint8_t bytes[1 + 4 * N + 8];
    size_t size;
    bora_error err = {""};
    assert_true(n <= N && bora_block_row_size(dtype, n, &size));
    memset(bytes, 0xa5, sizeof bytes);
    if (bora_quantize_row(dtype, n, x, importance, bytes + 1, &err) != BORA_OK)
        fail_msg("%s: %s", bora_block_of(dtype)->name, err.message);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(bytes[1 + size + i], 0xa5);
    bora_dequantize_row(NULL, dtype, bytes + 1, 0, n, ret_y);
}

static double error_of(size_t n, const float *x, const float *y, const float *importance)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = importance ? (double)importance[i] : 1, off = (double)x[i] - (double)y[i];
        error += w * off * off;
        power += w * (double)x[i] * (double)x[i];
    }
    return power > 0 ? error / power : error;
}

static void test_normal_rows(void **state)
{
    (void)state;
    static float x[N], y[N];
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        uint64_t random = 5;
        double sum = 0;
        for (int row = 0; row < 8; row++) {
            for (size_t i = 0; i < N; i++)
                x[i] = normal(&random) * 0.02f; /* about as large as weights are */
            there_and_back(dtype, N, x, NULL, y);
            sum += error_of(N, x, y, NULL) / 8;
        }
        print_message("%-7s NMSE %.3g\n", bora_block_of(dtype)->name, sum);
        if (!(sum <= bounds[dtype]))
            fail_msg("%s: NMSE %g, at most %g", bora_block_of(dtype)->name, sum, bounds[dtype]);
    }
}

/* The scale that the largest value asks for, as simple quantisers do it. */
static double plain_error(uint32_t dtype, const float *x)
{
    static float y[N];
    const float lo = dtype == BORA_DTYPE_Q4_0 ? -8 : dtype == BORA_DTYPE_Q5_0 ? -16 : -127;
    for (size_t block = 0; block < N; block += 32) {
        float largest = 0;
        for (size_t i = 0; i < 32; i++)
            if (fabsf(x[block + i]) > fabsf(largest))
                largest = x[block + i];
        const float d = bora_f16_to_f32(bora_f32_to_f16(largest / lo));
        for (size_t i = 0; i < 32; i++) {
            const float hi = dtype == BORA_DTYPE_Q8_0 ? 127 : -lo - 1;
            y[block + i] = fminf(fmaxf(roundf(x[block + i] / d), lo), hi) * d;
        }
    }
    return error_of(N, x, y, NULL);
}

static void test_search_pays(void **state)
{
    (void)state;
    static const struct {
        uint32_t dtype;
        double gain;
    } cases[] = {{BORA_DTYPE_Q4_0, 0.93}, {BORA_DTYPE_Q5_0, 0.9}, {BORA_DTYPE_Q8_0, 0.9}};
    static float x[N], y[N];
    uint64_t random = 6;
    for (size_t i = 0; i < N; i++)
        x[i] = normal(&random);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        there_and_back(cases[i].dtype, N, x, NULL, y);
        const double searched = error_of(N, x, y, NULL), plain = plain_error(cases[i].dtype, x);
        if (!(searched < cases[i].gain * plain))
            fail_msg("%s: %g, by the largest value %g", bora_block_of(cases[i].dtype)->name, searched, plain);
    }
}

/* What counts more comes out closer. */
static void test_importance(void **state)
{
    (void)state;
    static float x[N], y[N], weighed[N], importance[N];
    uint64_t random = 7;
    for (size_t i = 0; i < N; i++) {
        x[i] = normal(&random);
        importance[i] = uniform(&random) < 0.2f ? 30 : 1;
    }
    for (uint32_t dtype = BORA_DTYPE_Q8_0; dtype < BORA_DTYPE_COUNT; dtype++) {
        there_and_back(dtype, N, x, NULL, y);
        there_and_back(dtype, N, x, importance, weighed);
        const double without = error_of(N, x, y, importance), with = error_of(N, x, weighed, importance);
        if (!(with < without))
            fail_msg("%s: %g with, %g without", bora_block_of(dtype)->name, with, without);
    }
    memset(importance, 0, sizeof importance); /* nothing matters: anything goes, but numbers */
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        there_and_back(dtype, N, x, importance, y);
        for (size_t i = 0; i < N; i++)
            assert_true(isfinite(y[i]));
    }
}

/* Rows unlike those of a model: the largest error, relative to the largest value of the block, stays within half a step
 * of the coarsest type's two bits and the roundings of its scales. */
static void test_odd_rows(void **state)
{
    (void)state;
    enum { ZEROS, ONE, MINUS_ONE, OUTLIER, POSITIVE, NEGATIVE, TINY, HUGE_VALUES, RAMP, SIGNS, N_KINDS };
    static float x[N], y[N];
    for (int kind = 0; kind < N_KINDS; kind++) {
        uint64_t random = (uint64_t)kind;
        float largest = 0;
        for (size_t i = 0; i < N; i++) {
            const float value = normal(&random);
            x[i] = kind == ZEROS         ? 0
                   : kind == ONE         ? 1
                   : kind == MINUS_ONE   ? -1
                   : kind == OUTLIER     ? (i % 256 == 77 ? -40 : value * 0.1f)
                   : kind == POSITIVE    ? fabsf(value) + 3
                   : kind == NEGATIVE    ? -fabsf(value) - 3
                   : kind == TINY        ? value * 1e-30f
                   : kind == HUGE_VALUES ? (i % 2 ? 65504 : -65504)
                   : kind == RAMP        ? (float)i
                                         : (i % 3 ? 2 : -2);
            largest = fmaxf(largest, fabsf(x[i]));
        }
        for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
            there_and_back(dtype, N, x, NULL, y);
            for (size_t i = 0; i < N; i++) {
                const float off = fabsf(x[i] - y[i]) / (largest > 0 ? largest : 1);
                const float bound = kind == ZEROS ? 0 : kind == TINY ? 1 : 0.25f;
                if (!(off <= bound))
                    fail_msg("%s, kind %d: %g became %g", bora_block_of(dtype)->name, kind, (double)x[i], (double)y[i]);
            }
        }
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static float x[256];
    uint8_t out[1024];
    bora_error err;
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
            x[200] = bad[i];
            assert_int_equal(bora_quantize_row(dtype, 256, x, NULL, out, &err), BORA_E_FORMAT);
            assert_non_null(strstr(err.message, "element 200"));
        }
        x[200] = 65536;
        const bool fits = dtype == BORA_DTYPE_F32 || dtype == BORA_DTYPE_BF16;
        assert_int_equal(bora_quantize_row(dtype, 256, x, NULL, out, &err), fits ? BORA_OK : BORA_E_LIMIT);
        x[200] = 0;
        const size_t n_elements = bora_block_of(dtype)->n_elements;
        if (n_elements > 1)
            assert_int_equal(bora_quantize_row(dtype, n_elements / 2, x, NULL, out, &err), BORA_E_INVAL);
        assert_int_equal(bora_quantize_row(dtype, 0, x, NULL, out, &err), BORA_OK);
    }
    assert_int_equal(bora_quantize_row(BORA_DTYPE_COUNT, 256, x, NULL, out, &err), BORA_E_INVAL);
    assert_int_equal(bora_quantize_row(UINT32_MAX, 256, x, NULL, out, NULL), BORA_E_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normal_rows), cmocka_unit_test(test_search_pays), cmocka_unit_test(test_importance),
        cmocka_unit_test(test_odd_rows),    cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
