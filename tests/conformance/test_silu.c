/* The gate that expert-quant computes: against the definition in double, over the whole line; the same bits wherever a
 * value stands. */
#include "support/skip.h"

#include "../../plugins/expert/quant/silu.h"

#include <math.h>

/* Worst error in units of the last place of the result, up to where e^-|a| counts as 0; beyond in absolute size. */
#define ULPS_MAX 2.0
#define TINY     2e-36 /* 87 e^-87 and a bit */

static double error_in_ulps(float a)
{
    float y = a, one = 1;
    silu_mul_row(1, &y, &one);
    const double should = (double)a / (1 + exp(-(double)a)), error = fabs((double)y - should);
    if (a <= -87)
        return error <= TINY ? 0 : INFINITY;
    return error / (fmax(fabs(should), 0x1p-126) * 0x1p-23);
}

static void test_bound(void **state)
{
    (void)state;
    double worst = 0;
    float at = 0;
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 997) /* all magnitudes, both signs */
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t pattern = bits | sign << 31;
            float a;
            memcpy(&a, &pattern, sizeof a);
            const double ulps = error_in_ulps(a);
            if (!(ulps <= worst)) {
                worst = ulps;
                at = a;
            }
        }
    if (!(worst <= ULPS_MAX))
        fail_msg("%g units at %.9g", worst, (double)at);
}

static void test_what_is_not_finite(void **state)
{
    (void)state;
    float gate[4] = {NAN, INFINITY, -200, 1}, up[4] = {1, 1, 1, NAN};
    silu_mul_row(4, gate, up);
    assert_true(isnan(gate[0]) && gate[1] == INFINITY && gate[2] == 0 && isnan(gate[3]));
}

static void test_place_does_not_matter(void **state)
{
    (void)state;
    enum { N = 3 * SILU_LANES + 7 };
    float values[N], up[N];
    for (size_t i = 0; i < N; i++) {
        values[i] = (float)((int)(i * 37 % 101) - 50) / 7;
        up[i] = (float)((int)(i * 53 % 103) - 51) / 11;
    }
    for (size_t n = 1; n <= N; n++)
        for (size_t from = 0; from + n <= N; from += 5) {
            float row[N], alone;
            memcpy(row, values, sizeof row);
            silu_mul_row(n, row + from, up + from);
            for (size_t i = 0; i < N; i++) {
                alone = values[i];
                if (i >= from && i < from + n)
                    silu_mul_row(1, &alone, &up[i]);
                assert_memory_equal(&row[i], &alone, sizeof alone);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_place_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
