/* bora_matmul: the plain path is the definition bit for bit, all stay within a bound of sums in double, and no path's
 * result depends on the other rows of x, on the tile a row falls into or on the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernels/kernels.h"
#include "support/blocks.h"
#include "support/skip.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PATH_GENERIC 0
#define PATH_AVX2    1
#define PATH_AVX512  2

/* Numbers as a C library would draw them, but the same everywhere. */
static uint64_t random_state;

static uint32_t random_bits(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

static float random_float(void)
{
    return (float)random_bits() * 0x1p-30f - 1.0f;
}

static float *random_floats(size_t n)
{
    float *values = bora_alloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = random_float();
    return values;
}

/* Random weights, rows three bytes further apart than they need be and starting at an odd address. *ret_memory is
 * exactly as long as the rows, so that reading past them is seen. */
static bora_tensor random_tensor(uint32_t dtype, size_t n_rows, size_t n_cols, uint8_t **ret_memory)
{
    const bora_block *type = bora_block_of(dtype);
    size_t used = n_cols / type->n_elements * type->size, row_size = used + 3;
    uint8_t *memory = bora_alloc(1 + (n_rows - 1) * row_size + used);
    assert_non_null(memory);
    for (size_t row = 0; row < n_rows; row++) {
        uint8_t *out = memory + 1 + row * row_size;
        for (size_t block = 0; block < n_cols / type->n_elements; block++, out += type->size)
            /* Some scales are subnormal, as those of small weights are. */
            blocks_fill(dtype, &random_state, type->n_elements > 1 && block % 3 == 0 ? 0.004f : 1.0f, out);
    }
    *ret_memory = memory;
    return (bora_tensor){.data = memory + 1, .row_size = row_size, .n_rows = n_rows, .n_cols = n_cols, .dtype = dtype};
}

typedef struct fixture {
    bora_cpu cpu;
    bora_pool *pool;
    bora_kernels *kernels;
} fixture;

static bool path_cpu(int path, bora_cpu *ret_cpu)
{
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    bool is_here = path == PATH_GENERIC || (path == PATH_AVX2 ? cpu.avx2 : cpu.avx512);
    cpu.avx512 = path == PATH_AVX512;
    cpu.avx512_vnni = false;
    cpu.avx2 = path != PATH_GENERIC;
    *ret_cpu = cpu;
    return is_here;
}

static void fixture_open(fixture *f, const bora_cpu *cpu, uint32_t n_threads, size_t max_cols)
{
    f->cpu = *cpu;
    assert_int_equal(bora_pool_new(n_threads, &f->pool, NULL), BORA_OK);
    assert_int_equal(bora_kernels_new(&f->cpu, f->pool, max_cols, NULL, &f->kernels, NULL), BORA_OK);
}

static void fixture_close(fixture *f)
{
    bora_kernels_free(f->kernels);
    bora_pool_free(f->pool);
}

#define PATH_OR_SKIP(state, ret_cpu)                                                                                   \
    do {                                                                                                               \
        if (!path_cpu(*(const int *)*(state), (ret_cpu)))                                                              \
            BORA_SKIP("this processor (or BORA_CPU) lacks the vector path");                                           \
    } while (0)

/* Columns: whole vectors or not, shorter than one, one range of k or several; types in blocks take them rounded up. */
static const size_t all_cols[] = {1, 7, 16, 31, 33, 64, 100, 257, 768, 769, 1567, 2100};
static const size_t all_rows[] = {1, 3, 4, 13, 67};
static const size_t all_n[] = {1, 2, 3, 5, 6, 7, 23, 70};

/* Of the types that are dequantised first and then treated alike, each does a quarter of the cases. */
static bool is_left_to_others(uint32_t dtype, size_t number)
{
    return dtype > BORA_DTYPE_Q8_0 && (number + dtype) % 4 != 0;
}

static size_t cols_of(uint32_t dtype, size_t n_cols)
{
    size_t n_elements = bora_block_of(dtype)->n_elements;
    return (n_cols + n_elements - 1) / n_elements * n_elements;
}

/* Squares of what is off and of what was expected, over many products: a single output near zero, where large terms
 * cancelled, has no relative error worth bounding. */
typedef struct error_sum {
    double error, power;
} error_sum;

static void check_against_definition(const fixture *f, bool exact, const bora_tensor *w, size_t n, error_sum *sum)
{
    size_t stride = w->n_rows + 2;
    float *x = random_floats(n * w->n_cols), *y = random_floats(n * stride), *expected = random_floats(n * stride);
    float *row = random_floats(w->n_cols);
    memcpy(expected, y, n * stride * sizeof *y); /* what is between the rows must stay */
    bora_matmul(f->kernels, w, n, x, y, stride);
    bora_matmul_reference(w, n, x, expected, stride);
    for (size_t t = 0; t < n; t++)
        assert_memory_equal(y + t * stride + w->n_rows, expected + t * stride + w->n_rows, 2 * sizeof *y);
    if (exact)
        assert_memory_equal(y, expected, n * stride * sizeof *y);
    for (uint64_t r = 0; r < w->n_rows; r++) {
        bora_dequantize(NULL, w, r, 1, row);
        for (size_t t = 0; t < n; t++) {
            double magnitude = 0, product = 0;
            for (size_t k = 0; k < w->n_cols; k++) {
                product += (double)row[k] * (double)x[t * w->n_cols + k];
                magnitude += fabs((double)row[k] * (double)x[t * w->n_cols + k]);
            }
            double a = (double)y[t * stride + r], b = (double)expected[t * stride + r];
            assert_true(fabs(a - b) <= 1e-6 * magnitude);
            assert_true(fabs(a - product) <= 1e-6 * magnitude);
            sum->error += (a - product) * (a - product);
            sum->power += product * product;
        }
    }
    bora_free(row);
    bora_free(expected);
    bora_free(y);
    bora_free(x);
}

static void test_definition(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    random_state = 11;
    fixture f;
    fixture_open(&f, &cpu, 2, 2304);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        error_sum sum = {0};
        for (size_t c = 0; c < BORA_ARRAY_SIZE(all_cols); c++)
            for (size_t r = 0; r < BORA_ARRAY_SIZE(all_rows); r++) {
                if (is_left_to_others(dtype, c * BORA_ARRAY_SIZE(all_rows) + r))
                    continue;
                uint8_t *memory;
                bora_tensor w = random_tensor(dtype, all_rows[r], cols_of(dtype, all_cols[c]), &memory);
                /* One n per shape keeps the slow definition quick; every n meets many shapes. */
                check_against_definition(&f, !cpu.avx2, &w, all_n[(c + r + dtype) % BORA_ARRAY_SIZE(all_n)], &sum);
                check_against_definition(&f, !cpu.avx2, &w, 1, &sum);
                bora_free(memory);
            }
        assert_true(sum.error <= 1e-12 * sum.power); /* NMSE */
    }
    fixture_close(&f);
}

/* A matrix chosen to make order visible: exact answers in any type, but not in any order of float sums. */
static void test_known_values(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    fixture f;
    fixture_open(&f, &cpu, 1, 64);
    float weights[2][64], x[2][64], y[2][2];
    for (size_t k = 0; k < 64; k++) {
        weights[0][k] = (float)k;
        weights[1][k] = k % 2 ? -1.0f : 1.0f;
        x[0][k] = 1.0f;
        x[1][k] = (float)(2 * k);
    }
    bora_tensor w = {.data = weights, .row_size = sizeof weights[0], .n_rows = 2, .n_cols = 64};
    bora_matmul(f.kernels, &w, 2, x[0], y[0], 2);
    assert_true(y[0][0] == 2016.0f && y[0][1] == 0.0f && y[1][0] == 170688.0f && y[1][1] == -64.0f);
    fixture_close(&f);
}

/* Row t of a product of many rows has the bits of the product of that row alone, with any number of threads. */
static void test_company(void **state)
{
    static const size_t cols[] = {17, 96, 800, 1543};
    static const size_t counts[] = {2, 3, 4, 5, 6, 7, 8, 70, 100, 133, 139};
    enum { ROWS = 71, MAX_N = 139 }; /* past one block of rows and one of tokens */
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    random_state = 12;
    fixture f[3];
    for (uint32_t i = 0; i < 3; i++)
        fixture_open(&f[i], &cpu, i + 1, 1792);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (size_t c = 0; c < BORA_ARRAY_SIZE(cols); c++) {
            if (dtype > BORA_DTYPE_Q8_0 && c + 1 < BORA_ARRAY_SIZE(cols))
                continue; /* the widest has several ranges of k, whole blocks each */
            uint8_t *memory;
            bora_tensor w = random_tensor(dtype, ROWS, cols_of(dtype, cols[c]), &memory);
            float *x = random_floats(MAX_N * w.n_cols), *y = random_floats(MAX_N * ROWS);
            float *alone = random_floats(MAX_N * ROWS);
            for (size_t t = 0; t < MAX_N; t++)
                bora_matmul(f[0].kernels, &w, 1, x + t * w.n_cols, alone + t * ROWS, ROWS);
            for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++) {
                if (is_left_to_others(dtype, i))
                    continue;
                const fixture *with = &f[i % 3];
                memset(y, 0xff, MAX_N * ROWS * sizeof *y);
                bora_matmul(with->kernels, &w, counts[i], x, y, ROWS);
                assert_memory_equal(y, alone, counts[i] * ROWS * sizeof *y);
            }
            for (uint32_t threads = 0; threads < 3; threads++) { /* also one row, also not starting at the first */
                bora_matmul(f[threads].kernels, &w, 1, x + w.n_cols, y, ROWS);
                assert_memory_equal(y, alone + ROWS, ROWS * sizeof *y);
                bora_matmul(f[threads].kernels, &w, 41, x + 5 * w.n_cols, y, ROWS);
                assert_memory_equal(y, alone + 5 * ROWS, 41 * ROWS * sizeof *y);
            }
            bora_free(alone);
            bora_free(y);
            bora_free(x);
            bora_free(memory);
        }
    for (uint32_t i = 0; i < 3; i++)
        fixture_close(&f[i]);
}

/* Rows so wide that many tokens take several passes over the weights. */
static void test_wide_rows(void **state)
{
    enum { ROWS = 6, COLS = 9000, MAX_N = 53 };
    static const size_t counts[] = {9, 12, 13, 24, 25, 53};
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    random_state = 15;
    fixture f;
    fixture_open(&f, &cpu, 2, COLS);
    for (uint32_t dtype = BORA_DTYPE_F32; dtype <= BORA_DTYPE_BF16; dtype++) {
        uint8_t *memory;
        bora_tensor w = random_tensor(dtype, ROWS, COLS, &memory);
        float *x = random_floats((size_t)MAX_N * COLS), alone[MAX_N * ROWS], y[MAX_N * ROWS];
        for (size_t t = 0; t < MAX_N; t++)
            bora_matmul(f.kernels, &w, 1, x + t * COLS, alone + t * ROWS, ROWS);
        for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++) {
            memset(y, 0xff, sizeof y);
            bora_matmul(f.kernels, &w, counts[i], x, y, ROWS);
            assert_memory_equal(y, alone, counts[i] * ROWS * sizeof *y);
        }
        bora_free(x);
        bora_free(memory);
    }
    fixture_close(&f);
}

/* An output does not know which row of the matrix it is. */
static void test_position_in_matrix(void **state)
{
    enum { ROWS = 23, COLS = 1280, N = 9 };
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    random_state = 13;
    fixture f;
    fixture_open(&f, &cpu, 2, COLS);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        uint8_t *memory;
        bora_tensor w = random_tensor(dtype, ROWS, COLS, &memory);
        float *x = random_floats(N * COLS), y[N * ROWS], some[N * ROWS];
        bora_matmul(f.kernels, &w, N, x, y, ROWS);
        for (size_t first = 0; first < ROWS; first++) {
            bora_tensor part = w;
            part.data = (const uint8_t *)w.data + first * w.row_size;
            part.n_rows = ROWS - first < 6 ? ROWS - first : 6;
            bora_matmul(f.kernels, &part, N, x, some, ROWS);
            for (size_t t = 0; t < N; t++)
                assert_memory_equal(some + t * ROWS, y + t * ROWS + first, part.n_rows * sizeof *y);
        }
        bora_free(x);
        bora_free(memory);
    }
    fixture_close(&f);
}

/* How much scratch there is (max_cols), and so where k is cut, changes nothing. */
static void test_max_cols(void **state)
{
    enum { ROWS = 9, COLS = 96, N = 11 };
    static const size_t widest[] = {COLS, 768, 769, 100000};
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    random_state = 14;
    uint8_t *memory;
    bora_tensor w = random_tensor(BORA_DTYPE_F16, ROWS, COLS, &memory);
    float *x = random_floats(N * COLS), first[N * ROWS], y[N * ROWS];
    for (size_t i = 0; i < BORA_ARRAY_SIZE(widest); i++) {
        fixture f;
        fixture_open(&f, &cpu, 1, widest[i]);
        bora_matmul(f.kernels, &w, N, x, i ? y : first, ROWS);
        if (i)
            assert_memory_equal(y, first, sizeof y);
        fixture_close(&f);
    }
    bora_free(x);
    bora_free(memory);
}

static void test_empty(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    fixture f;
    fixture_open(&f, &cpu, 1, 0);
    float weights[4] = {1, 2, 3, 4}, y[4] = {5, 6, 7, 8};
    bora_tensor w = {.data = weights, .n_rows = 2, .n_cols = 0};
    bora_matmul(f.kernels, &w, 0, weights, y, 2); /* no rows of x: nothing is written */
    assert_true(y[0] == 5 && y[3] == 8);
    bora_matmul(f.kernels, &w, 2, weights, y, 2); /* empty sums */
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0 && y[3] == 0);
    fixture_close(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_pool *pool;
    bora_cpu_detect(&cpu);
    assert_int_equal(bora_pool_new(1, &pool, NULL), BORA_OK);
    uint64_t n = 1;
    for (;; n++) {
        bora_kernels *kernels = NULL;
        bora_error err;
        (void)bora_memory_fail_at(n);
        bora_status status = bora_kernels_new(&cpu, pool, 4096, NULL, &kernels, &err);
        (void)bora_memory_fail_at(0);
        if (status == BORA_OK) {
            bora_kernels_free(kernels);
            break;
        }
        assert_int_equal(status, BORA_E_NOMEM);
        assert_null(kernels);
    }
    assert_true(n > 1);
    bora_kernels_free(NULL);
    bora_pool_free(pool);
}

int main(void)
{
    static int paths[] = {PATH_GENERIC, PATH_AVX2, PATH_AVX512};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } on_every_path[] = {
        {"test_definition", test_definition}, {"test_known_values", test_known_values},
        {"test_company", test_company},       {"test_position_in_matrix", test_position_in_matrix},
        {"test_wide_rows", test_wide_rows},   {"test_max_cols", test_max_cols},
        {"test_empty", test_empty},
    };
    static const char *const path_names[] = {"generic", "avx2", "avx512"};
    struct CMUnitTest tests[3 * BORA_ARRAY_SIZE(on_every_path) + 1];
    char names[BORA_ARRAY_SIZE(tests)][64];
    size_t n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(on_every_path); i++)
        for (size_t path = 0; path < 3; path++, n++) {
            (void)snprintf(names[n], sizeof names[n], "%s (%s)", on_every_path[i].name, path_names[path]);
            tests[n] = (struct CMUnitTest){names[n], on_every_path[i].run, NULL, NULL, &paths[path]};
        }
    tests[n] = (struct CMUnitTest)cmocka_unit_test(test_no_memory);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
