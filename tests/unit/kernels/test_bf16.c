/* The product with BF16 weights: how activations are rounded, read from bf16.h a second time; in which order sums are
 * made; how near it is to sums in double; and that the vector path has the bits of the plain one, in any company. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/products.h"
#include "support/bf16_cases.h"
#include "support/skip.h"

#include <float.h>
#include <stdio.h>

#define STEP BORA_BF16_STEP

static const bora_bf16_path *paths[2] = {&bora_bf16_plain};

/* The path of that number, or skipped: this processor has none. */
#define PATH_OR_SKIP(state, ret_path)                                                                                  \
    do {                                                                                                               \
        *(ret_path) = paths[*(const uint32_t *)*(state)];                                                              \
        if (!*(ret_path))                                                                                              \
            BORA_SKIP("this processor (or BORA_CPU) lacks AVX-512 BF16");                                              \
    } while (0)

static float of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- activations ------------------------------------------------------------------------------------ */

/* What bf16.h says of rounding, found by comparing neighbours in double instead of by bits. */
static uint16_t nearest(float value)
{
    if (fabsf(value) < FLT_MIN)
        return signbit(value) ? 0x8000 : 0;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t below = (uint16_t)(bits >> 16), above = (uint16_t)(below + 1); /* in magnitude */
    const double high =
        (above & 0x7fff) == 0x7f80 ? (signbit(value) ? -0x1p128 : 0x1p128) : (double)bora_bf16_to_f32(above);
    const double down = fabs((double)value - (double)bora_bf16_to_f32(below)), up = fabs(high - (double)value);
    return down < up || (down == up && below % 2 == 0) ? below : above;
}

static void check_rounded(uint16_t rounded, float x)
{
    if (isnan(x))
        assert_true(isnan(bora_bf16_to_f32(rounded)));
    else
        assert_int_equal(rounded, isinf(x) ? (x > 0 ? 0x7f80 : 0xff80) : nearest(x));
}

static void test_fill(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    static const float corners[] = {0,
                                    -0.0f,
                                    1,
                                    -1,
                                    FLT_MIN,
                                    -FLT_MIN,
                                    FLT_MIN / 2,
                                    -1e-45f,
                                    FLT_MAX,
                                    -FLT_MAX,
                                    INFINITY,
                                    -INFINITY,
                                    NAN,
                                    1.00390625f, /* between two, to even: down */
                                    1.01171875f /* up */,
                                    1.00390637f,
                                    3.3895314e38f,
                                    3.3961776e38f,
                                    0x1.01p-126f};
    static const uint32_t nan_bits[] = {0x7f800001, 0xff80ffff, 0x7fc12345};
    static const size_t all_cols[] = {1, 15, 16, 17, 31, 32, 33, 100};
    static const uint32_t all_n[] = {1, 2, 6, 7, 8, 9, 14};
    uint64_t random = 61;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(all_cols); i++)
        for (size_t j = 0; j < BORA_ARRAY_SIZE(all_n); j++) {
            const size_t n_cols = all_cols[i];
            const uint32_t n = all_n[j];
            float *x = packed_random_x(n, n_cols, &random);
            for (size_t k = 0; k < n * n_cols; k += 3) {
                const uint64_t pick = blocks_random(&random) % (2 * BORA_ARRAY_SIZE(corners));
                x[k] = pick < BORA_ARRAY_SIZE(corners)    ? corners[pick]
                       : pick == BORA_ARRAY_SIZE(corners) ? of_bits(nan_bits[k % BORA_ARRAY_SIZE(nan_bits)])
                                                          : of_bits((uint32_t)(blocks_random(&random) << 1));
            }
            void *panels = bf16_panels(path, x, n, (uint32_t)n_cols);
            uint32_t row = 0;
            for (uint32_t p = 0; p < bora_input_n_panels(n); p++) {
                const bora_bf16_panel panel = bora_bf16_panel_at(panels, n, (uint32_t)n_cols, p);
                assert_int_equal(panel.n_steps, (n_cols + STEP - 1) / STEP);
                assert_int_equal((uintptr_t)panel.x % 64, 0);
                for (uint32_t column = 0; column < panel.n_columns; column++, row++)
                    for (size_t k = 0; k < panel.n_steps * STEP; k++)
                        check_rounded(panel.x[(k / STEP * panel.n_columns + column) * STEP + k % STEP],
                                      k < n_cols ? x[row * n_cols + k] : 0);
            }
            assert_int_equal(row, n);
            if (path != &bora_bf16_plain) {
                void *should = bf16_panels(&bora_bf16_plain, x, n, (uint32_t)n_cols);
                assert_memory_equal(panels, should, bora_bf16_panels_size(n, (uint32_t)n_cols));
                packed_free(should);
            }
            packed_free(panels);
            packed_free(x);
        }
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(bora_bf16_panels_size(0, 4096), 0);
    assert_int_equal(bora_bf16_panels_size(5, 0), 0);
    assert_int_equal(bora_bf16_panels_size(1, 1), 64);
    assert_int_equal(bora_bf16_panels_size(7, 33), 7 * 2 * 64);
    assert_true(bora_bf16_panels_size(UINT32_MAX, UINT32_MAX) == SIZE_MAX);
    assert_true(bora_input_size(UINT32_MAX, UINT32_MAX) == SIZE_MAX);
    for (uint32_t n = 1; n < 30; n++) /* room for both, which lie one behind the other */
        assert_int_equal(bora_input_size(n, 300), bora_panels_size(n, 300) + bora_bf16_panels_size(n, 300));
}

static void test_choice(void **state)
{
    (void)state;
    bora_cpu cpu = {.avx2 = true, .avx512 = true, .avx512_vnni = true};
    assert_null(bora_bf16_choose(&cpu));
    cpu.avx512_bf16 = true;
#if defined(__x86_64__)
    assert_ptr_equal(bora_bf16_choose(&cpu), &bora_bf16_avx512);
#else
    assert_null(bora_bf16_choose(&cpu));
#endif
}

/* ---- sums ------------------------------------------------------------------------------------------- */

/* One row of weights times one of x, both of a few numbers that bfloat16 has, the rest zero. */
static float small_product(const bora_bf16_path *path, size_t n, const float *w, const float *x)
{
    uint16_t row[96] = {0};
    float column[96] = {0}, y;
    assert_true(n <= 96);
    for (size_t i = 0; i < n; i++) {
        row[i] = bora_f32_to_bf16(w[i]);
        column[i] = x[i];
    }
    const bora_tensor tensor = {
        .data = row, .row_size = sizeof row, .n_rows = 1, .n_cols = 96, .dtype = BORA_DTYPE_BF16};
    bf16_multiply(path, &tensor, column, 1, &y, 1);
    return y;
}

static void test_order(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    float w[96], x[96] = {0};
    for (size_t i = 0; i < 96; i++)
        w[i] = 1;
    const float large = 0x1p24f;
    x[1] = large; /* lane 0: elements 0 and 1, 32 and 33, 64 and 65 */
    x[33] = -large, x[32] = 1;
    assert_true(small_product(path, 96, w, x) == 1); /* the second of a pair first */
    x[33] = 1, x[32] = -large;
    assert_true(small_product(path, 96, w, x) == 0);
    x[33] = 1, x[32] = 1; /* one by one, each lost */
    assert_true(small_product(path, 96, w, x) == large);
    x[33] = x[32] = 0, x[2] = 1, x[4] = 1, x[65] = -large; /* other lanes keep theirs */
    assert_true(small_product(path, 96, w, x) == 2);
    memset(x, 0, sizeof x);
    x[0] = 1 + 0x1p-12f; /* rounded */
    assert_true(small_product(path, 1, w, x) == 1);
    memset(x, 0, sizeof x);
    x[0] = 0x1p-100f, w[0] = 0x1p-40f; /* a subnormal product is none */
    assert_true(small_product(path, 1, w, x) == 0);
    w[0] = 0x1p-130f, x[0] = 0x1p20f; /* nor is a subnormal weight one */
    assert_true(small_product(path, 1, w, x) == 0);
    w[0] = INFINITY, x[0] = 0;
    assert_true(isnan(small_product(path, 1, w, x)));
    w[0] = 2, x[0] = -INFINITY;
    assert_true(small_product(path, 1, w, x) == -INFINITY);
}

static const size_t all_cols[] = {1, 7, 31, 32, 33, 64, 300, 1023, 1024, 1025, 2080, 2100};
static const size_t all_rows[] = {1, 2, 3, 4, 5, 17, 66};
static const uint32_t all_n[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 21};

/* Against sums in double, and, of a vector path, against the plain one. Nothing is written between the rows of y. */
static void test_products(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 62;
    double error = 0, power = 0;
    size_t number = 0;
    for (size_t c = 0; c < BORA_ARRAY_SIZE(all_cols); c++)
        for (size_t r = 0; r < BORA_ARRAY_SIZE(all_rows); r++, number++) {
            const size_t n_cols = all_cols[c], n_rows = all_rows[r], stride = n_rows + 2;
            const uint32_t n = all_n[number % BORA_ARRAY_SIZE(all_n)];
            const bora_tensor w = packed_random_rows(BORA_DTYPE_BF16, n_rows, n_cols, &random);
            float *x = packed_random_x(n, n_cols, &random);
            float *y = packed_alloc_exact(((n - 1) * stride + n_rows) * sizeof *y), row[2100];
            for (size_t i = 0; i < (n - 1) * stride + n_rows; i++)
                y[i] = 12345;
            bf16_multiply(path, &w, x, n, y, stride);
            for (uint32_t t = 0; t + 1 < n; t++)
                assert_true(y[t * stride + n_rows] == 12345 && y[t * stride + n_rows + 1] == 12345);
            for (size_t i = 0; i < n_rows; i++) {
                bora_dequantize(NULL, &w, i, 1, row);
                for (uint32_t t = 0; t < n; t++) {
                    double sum = 0, magnitude = 0;
                    for (size_t k = 0; k < n_cols; k++) {
                        sum += (double)row[k] * (double)x[t * n_cols + k];
                        magnitude += fabs((double)row[k] * (double)x[t * n_cols + k]);
                    }
                    const double off = fabs((double)y[t * stride + i] - sum);
                    assert_true(off <= 0x1p-7 * magnitude);
                    error += off * off;
                    power += sum * sum;
                }
            }
            if (path != &bora_bf16_plain) {
                float *should = packed_alloc_exact(n * n_rows * sizeof *should);
                bf16_multiply(&bora_bf16_plain, &w, x, n, should, n_rows);
                for (uint32_t t = 0; t < n; t++)
                    assert_memory_equal(y + t * stride, should + t * n_rows, n_rows * sizeof *y);
                packed_free(should);
            }
            packed_free(y);
            packed_free(x);
            packed_free_rows(&w);
        }
    assert_true(power > 0 && error <= 4e-6 * power); /* NMSE */
}

/* The vector path on weights and activations of any bits, not numbers and subnormals among them. */
static void test_wild_bits(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    enum { ROWS = 37, COLS = 70, N = 9 };
    uint64_t random = 63;
    for (uint32_t round = 0; round < 40; round++) {
        uint16_t weights[ROWS * COLS];
        float x[N * COLS], y[N * ROWS], should[N * ROWS];
        const uint32_t low = round % 2 ? 0x20 : 0x100; /* exponents: small ones only, or all */
        for (size_t i = 0; i < ROWS * COLS; i++)
            weights[i] = (uint16_t)((blocks_random(&random) % low) << 7 | (blocks_random(&random) & 0x807f));
        for (size_t i = 0; i < N * COLS; i++)
            x[i] = of_bits((uint32_t)(blocks_random(&random) % (low + 0x60) % 0x100) << 23 |
                           (uint32_t)(blocks_random(&random) & 0x7fffff) | (uint32_t)(i % 2) << 31);
        const bora_tensor w = {
            .data = weights, .row_size = 2 * COLS, .n_rows = ROWS, .n_cols = COLS, .dtype = BORA_DTYPE_BF16};
        bf16_multiply(path, &w, x, N, y, ROWS);
        bf16_multiply(&bora_bf16_plain, &w, x, N, should, ROWS);
        for (size_t i = 0; i < N * ROWS; i++)
            assert_true(packed_same(y[i], should[i]));
    }
}

/* An output depends on its row of weights and its row of x: not on other rows of either. */
static void test_company(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    enum { ROWS = 75, N = 23 };
    static const size_t cols[] = {96, 1500};
    uint64_t random = 64;
    for (size_t c = 0; c < BORA_ARRAY_SIZE(cols); c++) {
        const size_t n_cols = cols[c];
        const bora_tensor w = packed_random_rows(BORA_DTYPE_BF16, ROWS, n_cols, &random);
        float *x = packed_random_x(N, n_cols, &random), alone[N * ROWS], y[N * ROWS];
        for (uint32_t t = 0; t < N; t++)
            bf16_multiply(path, &w, x + t * n_cols, 1, alone + t * ROWS, ROWS);
        for (uint32_t first = 0, n = 1; first + n <= N; first++, n = n % 17 + 1) {
            memset(y, 0xff, sizeof y);
            bf16_multiply(path, &w, x + first * n_cols, n, y, ROWS);
            assert_memory_equal(y, alone + first * ROWS, n * ROWS * sizeof *y);
        }
        for (size_t first = 0; first < ROWS; first += 3) {
            bora_tensor part = w;
            part.data = (const uint8_t *)w.data + first * w.row_size;
            part.n_rows = ROWS - first < 7 ? ROWS - first : 7;
            const uint32_t n = (uint32_t)first % 12 + 1;
            bf16_multiply(path, &part, x, n, y, ROWS);
            for (uint32_t t = 0; t < n; t++)
                assert_memory_equal(y + t * ROWS, alone + t * ROWS + first, part.n_rows * sizeof *y);
        }
        packed_free(x);
        packed_free_rows(&w);
    }
}

/* Rows so wide, or columns so many, that they go in several groups. */
static void test_groups(void **state)
{
    const bora_bf16_path *path;
    PATH_OR_SKIP(state, &path);
    enum { ROWS = 5 };
    static const struct {
        size_t n_cols;
        uint32_t n;
    } cases[] = {{15000, 44}, {100000, 13}, {40, 203}};
    uint64_t random = 66;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        const size_t n_cols = cases[i].n_cols;
        const uint32_t n = cases[i].n;
        const bora_tensor w = packed_random_rows(BORA_DTYPE_BF16, ROWS, n_cols, &random);
        float *x = packed_random_x(n, n_cols, &random), y[203 * ROWS], alone[ROWS];
        bf16_multiply(path, &w, x, n, y, ROWS);
        for (uint32_t t = 0; t < n; t++) {
            bf16_multiply(path, &w, x + t * n_cols, 1, alone, ROWS);
            assert_memory_equal(y + t * ROWS, alone, sizeof alone);
        }
        packed_free(x);
        packed_free_rows(&w);
    }
}

/* ---- matrices --------------------------------------------------------------------------------------- */

typedef struct fixture {
    bora_pool *pool;
    bora_kernels *kernels;
    bora_region *region;
} fixture;

static void fixture_open(fixture *f, const bora_cpu *cpu, uint32_t n_threads)
{
    assert_int_equal(bora_pool_new(n_threads, &f->pool, NULL), BORA_OK);
    assert_int_equal(bora_kernels_new(cpu, f->pool, 2048, NULL, &f->kernels, NULL), BORA_OK);
    assert_int_equal(bora_region_new(NULL, 0, &f->region, NULL), BORA_OK);
}

static void fixture_close(fixture *f)
{
    bora_region_free(f->region);
    bora_kernels_free(f->kernels);
    bora_pool_free(f->pool);
}

static void test_names(void **state)
{
    (void)state;
    bora_rounding rounding = BORA_ROUNDING_INT8;
    assert_true(bora_rounding_parse("bf16", &rounding) && rounding == BORA_ROUNDING_BF16);
    assert_true(bora_rounding_parse("f32", &rounding) && rounding == BORA_ROUNDING_F32);
    assert_true(bora_rounding_parse("int8", &rounding) && rounding == BORA_ROUNDING_INT8);
    rounding = BORA_ROUNDING_F32;
    assert_false(bora_rounding_parse("", &rounding) || bora_rounding_parse("int", &rounding));
    assert_int_equal(rounding, BORA_ROUNDING_F32);
}

/* One input for matrices of three types and both kinds of panels, with any number of threads; and BF16 as it is
 * multiplied unless rounding is asked for: like any float. */
static void test_matrices(void **state)
{
    (void)state;
    bora_cpu cpu;
    if (!packed_cpu(PACKED_N_PATHS, &cpu))
        BORA_SKIP("this processor (or BORA_CPU) lacks AVX-512 BF16");
    enum { ROWS = 16 * 5 + 3, COLS = 1536, N = 10 };
    static const uint32_t dtypes[] = {BORA_DTYPE_BF16, BORA_DTYPE_Q8_0, BORA_DTYPE_F16};
    uint64_t random = 65;
    float *x = packed_random_x(N, COLS, &random), first[4][N * ROWS], y[4][N * ROWS], should[N * ROWS];
    bora_tensor w[4];
    for (size_t i = 0; i < 3; i++)
        w[i] = packed_random_rows(dtypes[i], ROWS, COLS, &random);
    w[3] = w[0];
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
        fixture f;
        fixture_open(&f, &cpu, n_threads);
        bora_matrix *matrices[4];
        bora_product products[4];
        for (size_t i = 0; i < 4; i++) {
            if (i < 3)
                bora_kernels_set_rounding(f.kernels, BORA_ROUNDING_BF16);
            else
                bora_kernels_set_rounding(f.kernels, n_threads == 2 ? BORA_ROUNDING_F32 : BORA_ROUNDING_INT8);
            assert_int_equal(bora_matrix_new(f.kernels, f.region, &w[i], &matrices[i], NULL), BORA_OK);
            assert_int_equal(bora_matrix_reads_panels(matrices[i]), i < 2);
            products[i] = (bora_product){matrices[i], n_threads == 1 ? first[i] : y[i], ROWS};
        }
        bora_input input = {.x = x, .panels = packed_alloc(bora_input_size(N, COLS)), .n_rows = N, .n_cols = COLS};
        bora_products_run(f.kernels, &input, products, 4);
        for (size_t i = 0; n_threads > 1 && i < 4; i++)
            assert_memory_equal(y[i], first[i], sizeof y[i]);
        if (n_threads == 1) {
            bf16_multiply(&bora_bf16_plain, &w[0], x, N, should, ROWS);
            assert_memory_equal(first[0], should, sizeof should);
            bora_matmul(f.kernels, &w[0], N, x, should, ROWS);
            assert_memory_equal(first[3], should, sizeof should);
            assert_memory_not_equal(first[0], first[3], sizeof should); /* near, but another path */
        }
        packed_free(input.panels);
        for (size_t i = 0; i < 4; i++)
            bora_matrix_free(matrices[i]);
        fixture_close(&f);
    }
    packed_free(x);
    for (size_t i = 0; i < 3; i++)
        packed_free_rows(&w[i]);
}

int main(void)
{
    static uint32_t numbers[] = {0, 1};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } on_every_path[] = {
        {"test_fill", test_fill},
        {"test_order", test_order},
        {"test_products", test_products},
        {"test_company", test_company},
    };
    struct CMUnitTest tests[2 * BORA_ARRAY_SIZE(on_every_path) + 6];
    char names[BORA_ARRAY_SIZE(tests)][64];
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    paths[1] = bora_bf16_choose(&cpu);
    size_t n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(on_every_path); i++)
        for (size_t path = 0; path < 2; path++, n++) {
            (void)snprintf(names[n], sizeof names[n], "%s (%s)", on_every_path[i].name, path ? "avx512+bf16" : "plain");
            tests[n] = (struct CMUnitTest){names[n], on_every_path[i].run, NULL, NULL, &numbers[path]};
        }
    tests[n++] = (struct CMUnitTest){"test_wild_bits", test_wild_bits, NULL, NULL, &numbers[1]};
    tests[n++] = (struct CMUnitTest){"test_groups", test_groups, NULL, NULL, &numbers[1]};
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_sizes);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_choice);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_matrices);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_names);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
