/* Quantising activations: the rule of packed.h read a second time, at its corners; how panels lie; sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/packed_cases.h"
#include "support/skip.h"

#include <stdio.h>

#define N 256u

/* x of one unit, in the middle of three columns whose others are empty. */
typedef struct filled {
    bora_input input;
    bora_panel panel;
    float x[3 * N];
} filled;

static void fill(const bora_packed_path *path, const float x[N], filled *ret)
{
    memset(ret->x, 0, sizeof ret->x);
    memcpy(ret->x + N, x, N * sizeof *x);
    ret->input = packed_input(path, ret->x, 3, N);
    ret->panel = bora_panel_at(&ret->input, 0);
}

static int q_of(const bora_panel *panel, size_t k)
{
    return panel->q[(k / 32 * 3 + 1) * 32 + k % 32];
}

/* To the nearest, ties to even, in double. */
static int nearest(double value)
{
    const double down = floor(value), part = value - down;
    if (part > 0.5 || (part == 0.5 && fmod(down, 2) != 0))
        return (int)down + 1;
    return (int)down;
}

/* What products need besides quants, from the quants. */
static void check_sums(const char *path, const bora_panel *panel)
{
    for (size_t j = 0; j < 8; j++) {
        int halves[2] = {0, 0};
        for (size_t i = 0; i < 32; i++)
            halves[i / 16] += q_of(panel, j * 32 + i);
        const int sum = halves[0] + halves[1], shift = panel->shift[j * 3 + 1];
        bool good = shift >= 0 && shift <= 3 && panel->start8[j * 3 + 1] == -8 * sum &&
                    panel->start128[j * 3 + 1] == -128 * sum && panel->sum32[8 + j] == sum * (1 << shift);
        for (size_t half = 0; half < 2; half++)
            good &= panel->start32[(2 * j + half) * 3 + 1] == -32 * halves[half] &&
                    panel->sum16[16 + 2 * j + half] == halves[half] * (1 << shift);
        if (!good)
            fail_msg("%s: sums of block %zu", path, j);
    }
}

static void check_unit(const bora_packed_path *path, const char *what, const float x[N])
{
    filled is;
    fill(path, x, &is);
    const bora_panel *panel = &is.panel;
    bool finite = true;
    float m = 0, m_j[8] = {0};
    for (size_t k = 0; k < N; k++) {
        finite &= isfinite(x[k]) != 0;
        m_j[k / 32] = fabsf(x[k]) > m_j[k / 32] ? fabsf(x[k]) : m_j[k / 32];
        m = m_j[k / 32] > m ? m_j[k / 32] : m;
    }
    const bool empty = !finite || m < 1e-30f;
    const float scale = !finite ? NAN : empty ? 0 : m / 1016.0f;
    if (!packed_same(panel->scale[1], scale))
        fail_msg("%s, %s: scale %a, should be %a", path->name, what, (double)panel->scale[1], (double)scale);
    for (size_t k = 0; k < N; k++) {
        int s = 0, q = 0;
        if (!empty) {
            while (s < 3 && ldexp((double)m_j[k / 32], s + 1) <= (double)m)
                s++;
            const volatile float factor = 127.0f / m;
            const volatile float scaled = x[k] * (factor * (float)(1 << s));
            q = nearest((double)scaled);
            const double back = ldexp((double)q * (double)scale, 3 - s);
            if (fabs(back - (double)x[k]) > ldexp((double)scale, 3 - s) * 0.50002)
                fail_msg("%s, %s: %a comes back as %a", path->name, what, (double)x[k], back);
        }
        if (q_of(panel, k) != q || panel->shift[k / 32 * 3 + 1] != (empty ? 0 : 3 - s))
            fail_msg("%s, %s: element %zu is %d << %d, should be %d << %d", path->name, what, k, q_of(panel, k),
                     panel->shift[k / 32 * 3 + 1], q, empty ? 0 : 3 - s);
        assert_true(q >= -127 && q <= 127);
    }
    check_sums(path->name, panel);
    packed_free(is.input.panels);
}

static void random_unit(uint64_t *random, float size, float ret_x[N])
{
    for (size_t k = 0; k < N; k++)
        ret_x[k] = packed_random(random) * size;
}

/* The path of the test's number, or skips. */
#define PATH_OR_SKIP(state, ret_path)                                                                                  \
    do {                                                                                                               \
        bora_cpu cpu;                                                                                                  \
        if (!packed_cpu(*(const uint32_t *)*(state), &cpu))                                                            \
            BORA_SKIP("this processor (or BORA_CPU) lacks the vector path");                                           \
        *(ret_path) = bora_packed_choose(&cpu);                                                                        \
    } while (0)

static void test_corners(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    static const float sizes[] = {1, 1000, 1e-3f, 3e38f, 1e-29f, 1e-30f, 9.9e-31f, 1e-37f, 1e-41f, 0x1p-149f, 0};
    static const float odd[] = {INFINITY, -INFINITY, NAN, 1000, -1000, 1e30f, -3.4e38f, 1e-30f, -1e-40f};
    uint64_t random = 31;
    float x[N];
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++) {
        random_unit(&random, sizes[i], x);
        check_unit(path, "of one size", x);
        for (size_t k = 0; k < N; k++) /* all the same size, signs mixed */
            x[k] = blocks_random(&random) % 2 ? sizes[i] : -sizes[i];
        check_unit(path, "only ends", x);
        for (size_t o = 0; o < BORA_ARRAY_SIZE(odd); o++)
            for (size_t at = 0; at < N; at += 51) {
                random_unit(&random, sizes[i], x);
                x[at] = odd[o];
                check_unit(path, "with an outlier", x);
            }
    }
    check_unit(path, "the first NaN, then larger", (float[N]){NAN, 1, 2, 3});
    check_unit(path, "alone at the end", (float[N]){[N - 1] = -5});
}

/* Blocks whose largest value is at, just above and just below a power of two of that of the 256. */
static void test_shifts(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 32;
    for (int round = 0; round < 200; round++) {
        const float m = round ? fabsf(packed_random(&random)) + 1e-3f : 1;
        float x[N];
        for (size_t j = 0; j < 8; j++) {
            float size = ldexpf(m, -(int)(blocks_random(&random) % 6));
            const uint64_t side = blocks_random(&random) % 3;
            if (side)
                size = nextafterf(size, side == 1 ? 0.0f : 1e9f);
            for (size_t i = 0; i < 32; i++)
                x[j * 32 + i] = size * (i == (size_t)round % 32 ? 1 : packed_random(&random));
        }
        x[(size_t)round % N] = m;
        check_unit(path, "steps", x);
    }
    /* Halves go to the even neighbour: with 127 as the largest of a block the factor is 1. */
    float x[N] = {127};
    for (size_t k = 1; k < N; k++)
        x[k] = k < 254 ? (float)k / 2 : -0.5f;
    check_unit(path, "ties", x);
}

/* Columns do not see each other, elements behind the last are zero, and every byte of the panel's parts is written. */
static void test_columns_and_padding(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    static const uint32_t cols[] = {1, 7, 31, 32, 33, 255, 256, 257, 300, 768};
    static const uint32_t rows[] = {1, 2, 5, 8, 9, 13};
    uint64_t random = 33;
    for (size_t c = 0; c < BORA_ARRAY_SIZE(cols); c++)
        for (size_t r = 0; r < BORA_ARRAY_SIZE(rows); r++) {
            const uint32_t n_cols = cols[c], n_units = (n_cols + N - 1) / N;
            float *x = packed_random_x(rows[r], n_cols, &random);
            const bora_input input = packed_input(path, x, rows[r], n_cols);
            uint32_t row = 0;
            for (uint32_t p = 0; p < bora_input_n_panels(rows[r]); p++) {
                const bora_panel panel = bora_panel_at(&input, p);
                assert_int_equal(panel.n_units, n_units);
                for (uint32_t column = 0; column < panel.n_columns; column++, row++)
                    for (uint32_t u = 0; u < n_units; u++) {
                        float unit[3 * N] = {0};
                        const uint32_t n = n_cols - u * N < N ? n_cols - u * N : N;
                        memcpy(unit + N, x + (size_t)row * n_cols + (size_t)u * N, n * sizeof *x);
                        filled alone;
                        fill(path, unit + N, &alone);
                        const bora_panel *a = &alone.panel;
                        const size_t at = u * panel.n_columns + column;
                        assert_true(packed_same(panel.scale[at], a->scale[1]));
                        assert_memory_equal(panel.sum32 + at * 8, a->sum32 + 8, 8 * sizeof *a->sum32);
                        assert_memory_equal(panel.sum16 + at * 16, a->sum16 + 16, 16 * sizeof *a->sum16);
                        for (size_t j = 0; j < 8; j++) {
                            const size_t block = (u * 8 + j) * panel.n_columns + column;
                            assert_memory_equal(panel.q + block * 32, a->q + (j * 3 + 1) * 32, 32);
                            assert_int_equal(panel.shift[block], a->shift[j * 3 + 1]);
                            assert_int_equal(panel.start8[block], a->start8[j * 3 + 1]);
                            assert_int_equal(panel.start128[block], a->start128[j * 3 + 1]);
                            for (size_t half = 0; half < 2; half++)
                                assert_int_equal(panel.start32[((u * 8 + j) * 2 + half) * panel.n_columns + column],
                                                 a->start32[(2 * j + half) * 3 + 1]);
                        }
                        packed_free(alone.input.panels);
                    }
            }
            assert_int_equal(row, rows[r]);
            packed_free(input.panels);
            packed_free(x);
        }
}

/* ---- panels ----------------------------------------------------------------------------------------- */

static void test_panels_cover_all_rows(void **state)
{
    (void)state;
    assert_int_equal(bora_input_n_panels(0), 0);
    assert_int_equal(bora_input_n_panels(UINT32_MAX), UINT32_MAX / 6 + 1);
    for (uint32_t n = 1; n < 40; n++) {
        uint32_t n_rows = 0;
        const bora_input input = {.n_rows = n, .n_cols = 300, .panels = packed_alloc(bora_input_size(n, 300))};
        for (uint32_t p = 0; p < bora_input_n_panels(n); p++) {
            const bora_panel panel = bora_panel_at(&input, p);
            assert_true(panel.n_columns >= 1 && panel.n_columns <= (n > 8 ? 6 : 8));
            assert_int_equal((uintptr_t)panel.q % 64, 0);
            assert_int_equal((uintptr_t)panel.scale % 64, 0);
            assert_int_equal((uintptr_t)panel.shift % 64, 0);
            assert_int_equal((uintptr_t)panel.start8 % 64, 0);
            assert_int_equal((uintptr_t)panel.start128 % 64, 0);
            assert_int_equal((uintptr_t)panel.start32 % 64, 0);
            assert_int_equal((uintptr_t)panel.sum32 % 64, 0);
            assert_int_equal((uintptr_t)panel.sum16 % 64, 0);
            n_rows += panel.n_columns;
        }
        assert_int_equal(n_rows, n);
        packed_free(input.panels);
    }
}

/* A panel of a large input is, alone, the input of its rows. */
static void test_panel_alone(void **state)
{
    (void)state;
    const bora_input input = {.n_rows = 10, .n_cols = 300, .panels = packed_alloc(bora_input_size(10, 300))};
    for (uint32_t p = 0; p < 2; p++) {
        const bora_panel panel = bora_panel_at(&input, p);
        const bora_input part = {.n_rows = panel.n_columns, .n_cols = 300, .panels = panel.q};
        const bora_panel alone = bora_panel_at(&part, 0);
        assert_int_equal(bora_input_n_panels(part.n_rows), 1);
        assert_int_equal(alone.n_columns, panel.n_columns);
        assert_ptr_equal(alone.q, panel.q);
        assert_ptr_equal(alone.scale, panel.scale);
        assert_ptr_equal(alone.sum16, panel.sum16);
    }
    packed_free(input.panels);
}

static void test_input_size(void **state)
{
    (void)state;
    static const uint32_t cols[] = {1, 32, 256, 257, 768, 4096};
    assert_int_equal(bora_input_size(0, 4096), 0);
    for (size_t c = 1; c < BORA_ARRAY_SIZE(cols); c++)
        for (uint32_t n = 1; n < 100; n++) {
            assert_true(bora_input_size(n, cols[c]) >= bora_input_size(n - 1, cols[c]));
            assert_true(bora_input_size(n, cols[c]) >= bora_input_size(n, cols[c - 1]));
            assert_int_equal(bora_input_size(n, cols[c]) % 64, 0);
        }
    assert_true(bora_input_size(UINT32_MAX, UINT32_MAX) == SIZE_MAX); /* and not what is left after an overflow */
    assert_true(bora_input_size(UINT32_MAX, 1u << 16) >= (size_t)UINT32_MAX << 16);
}

int main(void)
{
    static uint32_t paths[PACKED_N_PATHS] = {0, 1, 2};
    static const char *const path_names[] = {"generic", "avx2", "avx512+vnni"};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } on_every_path[] = {{"test_corners", test_corners},
                         {"test_shifts", test_shifts},
                         {"test_columns_and_padding", test_columns_and_padding}};
    struct CMUnitTest tests[PACKED_N_PATHS * BORA_ARRAY_SIZE(on_every_path) + 3];
    char names[BORA_ARRAY_SIZE(tests)][64];
    size_t n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(on_every_path); i++)
        for (size_t path = 0; path < PACKED_N_PATHS; path++, n++) {
            (void)snprintf(names[n], sizeof names[n], "%s (%s)", on_every_path[i].name, path_names[path]);
            tests[n] = (struct CMUnitTest){names[n], on_every_path[i].run, NULL, NULL, &paths[path]};
        }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_panels_cover_all_rows);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_panel_alone);
    tests[n] = (struct CMUnitTest)cmocka_unit_test(test_input_size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
