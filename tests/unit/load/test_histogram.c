/* Percentiles from counts against percentiles from the sorted values. */
#include "bench/load/histogram.h"

#include "bench/load/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#define N 20000

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static const double shares[] = {0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1};

/* Nearest rank: the smallest value that so many do not exceed. */
static uint64_t exact(const uint64_t *sorted, size_t n, double share)
{
    size_t rank = (size_t)ceil(share * (double)n);
    return sorted[rank > 0 ? rank - 1 : 0];
}

static void check(uint64_t *values, size_t n)
{
    static bora_load_histogram h;
    h = (bora_load_histogram){0};
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        bora_load_histogram_add(&h, values[i]);
        sum += values[i];
    }
    qsort(values, n, sizeof *values, compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double got = (double)bora_load_histogram_at(&h, shares[i]), want = (double)exact(values, n, shares[i]);
        if (fabs(got - want) > BORA_LOAD_HISTOGRAM_ACCURACY * want)
            fail_msg("share %g: %g instead of %g", shares[i], got, want);
    }
    assert_int_equal(h.n, n);
    assert_int_equal(h.sum, sum);
    assert_int_equal(h.min, values[0]);
    assert_int_equal(h.max, values[n - 1]);
    assert_int_equal(bora_load_histogram_at(&h, 1), values[n - 1]);
}

static void test_percentiles(void **state)
{
    (void)state;
    static uint64_t values[N];
    for (uint64_t kind = 0; kind < 4; kind++) {
        for (uint64_t i = 0; i < N; i++) {
            const bora_load_key key = {kind, i, 0};
            double share = bora_load_random_share(&key, 1);
            values[i] = kind == 0   ? i
                        : kind == 1 ? (uint64_t)exp(share * 25)           /* every scale alike */
                        : kind == 2 ? (uint64_t)(-1000 * log(1 - share))  /* waiting times */
                                    : (share < 0.99 ? 300 : 5000000 + i); /* a rare, long wait */
        }
        check(values, N);
    }
}

/* Each value alone comes back within the promise: no bucket is misplaced. */
static void test_every_scale(void **state)
{
    (void)state;
    static bora_load_histogram h;
    for (uint64_t value = 0; value < UINT64_C(1) << 40; value += 1 + value / 97) {
        h = (bora_load_histogram){0};
        bora_load_histogram_add(&h, value);
        bora_load_histogram_add(&h, UINT64_C(1) << 41); /* else the exact largest would hide the bucket */
        h.min = 0;
        double got = (double)bora_load_histogram_at(&h, 0.5);
        if (fabs(got - (double)value) > BORA_LOAD_HISTOGRAM_ACCURACY * (double)value)
            fail_msg("%llu came back as %g", (unsigned long long)value, got);
    }
}

static void test_ends(void **state)
{
    (void)state;
    static bora_load_histogram h;
    h = (bora_load_histogram){0};
    assert_int_equal(bora_load_histogram_at(&h, 0.5), 0);
    assert_true(bora_load_histogram_mean(&h) == 0);
    bora_load_histogram_add(&h, UINT64_MAX); /* past the last bucket: counted, and known exactly as the largest */
    assert_int_equal(bora_load_histogram_at(&h, 0.5), UINT64_MAX);
    h = (bora_load_histogram){0};
    bora_load_histogram_add(&h, 7);
    bora_load_histogram_add(&h, 10);
    assert_true(bora_load_histogram_mean(&h) == 8.5);
    assert_int_equal(bora_load_histogram_at(&h, 0.5), 7);
    assert_int_equal(bora_load_histogram_at(&h, 0.51), 10);
}

static void test_merge(void **state)
{
    (void)state;
    static bora_load_histogram whole, parts[3], merged;
    for (uint64_t i = 0; i < 3000; i++) {
        bora_load_histogram_add(&whole, 17 * i);
        bora_load_histogram_add(&parts[i % 2], 17 * i); /* the third stays empty */
    }
    for (size_t i = 0; i < 3; i++)
        bora_load_histogram_merge(&merged, &parts[i]);
    assert_memory_equal(&merged, &whole, sizeof whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_every_scale),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
