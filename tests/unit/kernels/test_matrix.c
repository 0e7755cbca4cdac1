/* Matrices: made by any number of threads, multiplied in any partition of strips and rows, the same bits; nothing
 * outside of y; what is reported as read is not read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/matrix.h"
#include "support/bf16_cases.h"
#include "support/packed_cases.h"
#include "support/skip.h"

#include <stdio.h>

#define MAX_COLS 1024u

typedef struct fixture {
    bora_pool *pool;
    bora_kernels *kernels;
    bora_region *region;
} fixture;

static void fixture_open(fixture *f, const bora_cpu *cpu, uint32_t n_threads, size_t max_cols)
{
    assert_int_equal(bora_pool_new(n_threads, &f->pool, NULL), BORA_OK);
    assert_int_equal(bora_kernels_new(cpu, f->pool, max_cols, NULL, &f->kernels, NULL), BORA_OK);
    assert_int_equal(bora_region_new(NULL, 0, &f->region, NULL), BORA_OK);
    bora_kernels_set_rounding(f->kernels, BORA_ROUNDING_BF16); /* all there is */
}

static void fixture_close(fixture *f)
{
    bora_region_free(f->region);
    bora_kernels_free(f->kernels);
    bora_pool_free(f->pool);
}

#define PATH_OR_SKIP(state, ret_cpu)                                                                                   \
    do {                                                                                                               \
        if (!packed_cpu(*(const uint32_t *)*(state), (ret_cpu)))                                                       \
            BORA_SKIP("this processor (or BORA_CPU) lacks the vector path");                                           \
    } while (0)

static bora_matrix *matrix_new(const fixture *f, const bora_tensor *w)
{
    bora_matrix *matrix;
    bora_error err;
    assert_int_equal(bora_matrix_new(f->kernels, f->region, w, &matrix, &err), BORA_OK);
    assert_int_equal(bora_matrix_n_rows(matrix), w->n_rows);
    assert_int_equal(bora_matrix_n_cols(matrix), w->n_cols);
    assert_int_equal(bora_matrix_n_strips(matrix), (w->n_rows + 15) / 16);
    return matrix;
}

static bora_input input_new(const fixture *f, const float *x, uint32_t n_rows, size_t n_cols)
{
    const size_t size = bora_input_size(n_rows, (uint32_t)n_cols);
    bora_input input = {.x = x, .panels = packed_alloc(size), .n_rows = n_rows, .n_cols = (uint32_t)n_cols};
    memset(input.panels, 0xee, size);
    const uint32_t n_panels = bora_input_n_panels(n_rows), half = n_panels / 2;
    bora_input_fill(f->kernels, &input, half, n_panels); /* in two parts, the second one first */
    bora_input_fill(f->kernels, &input, 0, half);
    return input;
}

/* All of y [n, n_rows], by one call. */
static float *product(const fixture *f, const bora_matrix *matrix, const float *x, uint32_t n)
{
    const size_t n_rows = bora_matrix_n_rows(matrix);
    const bora_input input = input_new(f, x, n, bora_matrix_n_cols(matrix));
    float *y = packed_alloc_exact(n * n_rows * sizeof *y);
    assert_non_null(y);
    bora_matrix_multiply(f->kernels, matrix, &input, 0, bora_matrix_n_strips(matrix), 0, y, n_rows);
    packed_free(input.panels);
    return y;
}

/* ---- results ---------------------------------------------------------------------------------------- */

/* Quantised types: those of the plain path, by itself; so BF16, where the processor has an instruction for it. Others:
 * those of bora_matmul. */
static void test_results(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    static const size_t all_rows[] = {1, 15, 16, 17, 37, 64};
    static const uint32_t all_n[] = {1, 3, 8, 9, 20};
    uint64_t random = 51;
    fixture f;
    fixture_open(&f, &cpu, 2, MAX_COLS);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (size_t r = 0; r < BORA_ARRAY_SIZE(all_rows); r++) {
            const size_t n_rows = all_rows[r], n_cols = packed_cols(dtype, 40 + 150 * r);
            const uint32_t n = all_n[(r + dtype) % BORA_ARRAY_SIZE(all_n)];
            const bora_tensor w = packed_random_rows(dtype, n_rows, n_cols, &random);
            float *x = packed_random_x(n, n_cols, &random);
            bora_matrix *matrix = matrix_new(&f, &w);
            float *y = product(&f, matrix, x, n);
            const bool is_bf16 = dtype == BORA_DTYPE_BF16 && cpu.avx512_bf16;
            assert_int_equal(bora_matrix_is_packed(matrix), dtype > BORA_DTYPE_BF16);
            assert_int_equal(bora_matrix_reads_panels(matrix), dtype > BORA_DTYPE_BF16 || is_bf16);
            const size_t stride = (n_rows + 15) / 16 * 16;
            float *should = packed_alloc_exact(n * stride * sizeof *should);
            assert_non_null(should);
            if (bora_matrix_is_packed(matrix)) {
                const bora_strips strips = packed_strips(&bora_packed_plain, &w);
                const bora_input input = packed_input(&bora_packed_plain, x, n, (uint32_t)n_cols);
                packed_multiply(&bora_packed_plain, &strips, &input, should, stride);
                assert_int_equal(bora_matrix_size(matrix), strips.n_strips * strips.n_units * bora_unit_size(dtype));
                packed_free(input.panels);
                packed_free((void *)(uintptr_t)strips.units);
            } else if (is_bf16) {
                bf16_multiply(&bora_bf16_plain, &w, x, n, should, stride);
                assert_int_equal(bora_matrix_size(matrix), w.n_rows * w.row_size);
            } else {
                bora_matmul(f.kernels, &w, n, x, should, stride);
                assert_int_equal(bora_matrix_size(matrix), w.n_rows * w.row_size);
            }
            for (uint32_t c = 0; c < n; c++)
                assert_memory_equal(y + c * n_rows, should + c * stride, n_rows * sizeof *y);
            packed_free(should);
            packed_free(y);
            bora_matrix_free(matrix);
            packed_free(x);
            packed_free_rows(&w);
        }
    fixture_close(&f);
}

typedef struct shared {
    const fixture *f;
    const bora_matrix *matrix;
    const bora_input *input;
    float *y;
    size_t y_stride;
} shared;

static void multiply_share(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const shared *job = arg;
    bora_matrix_multiply(job->f->kernels, job->matrix, job->input, begin, end, worker,
                         job->y + (size_t)begin * BORA_STRIP_ROWS, job->y_stride);
}

/* However strips and rows of x are shared out, by however many threads, the bits are those of the whole; and nothing
 * but the rows that exist is written. */
static void test_company(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    enum { ROWS = 16 * 7 + 5, N_STRIPS = 8, N = 21, STRIDE = ROWS + 2 };
    uint64_t random = 52;
    fixture f[3];
    for (uint32_t i = 0; i < 3; i++)
        fixture_open(&f[i], &cpu, i + 1, MAX_COLS);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        const size_t n_cols = packed_cols(dtype, 480);
        const bora_tensor w = packed_random_rows(dtype, ROWS, n_cols, &random);
        float *x = packed_random_x(N, n_cols, &random), whole[N * ROWS], y[N * STRIDE];
        for (uint32_t i = 0; i < 3; i++) {
            bora_matrix *matrix = matrix_new(&f[i], &w);
            const bora_input input = input_new(&f[i], x, N, n_cols);
            if (i == 0) {
                float *all = product(&f[0], matrix, x, N);
                memcpy(whole, all, sizeof whole);
                packed_free(all);
            }
            for (size_t k = 0; k < N * STRIDE; k++)
                y[k] = 12345;
            shared job = {&f[i], matrix, &input, y, STRIDE};
            if (i == 0) /* runs of 1, 2, 3 .. strips */
                for (uint32_t begin = 0, n = 1; begin < N_STRIPS; begin += n, n++)
                    multiply_share(&job, begin, begin + n < N_STRIPS ? begin + n : N_STRIPS, 0);
            else
                bora_pool_parallel_for(f[i].pool, N_STRIPS, multiply_share, &job);
            for (size_t c = 0; c < N; c++) {
                assert_memory_equal(y + c * STRIDE, whole + c * ROWS, ROWS * sizeof *y);
                assert_true(y[c * STRIDE + ROWS] == 12345 && y[c * STRIDE + ROWS + 1] == 12345);
            }
            for (uint32_t first = 0, n = 1; first < N; first += n, n++) { /* rows of x in other company */
                if (n > N - first)
                    n = N - first;
                float *some = product(&f[i], matrix, x + first * n_cols, n);
                assert_memory_equal(some, whole + (size_t)first * ROWS, n * ROWS * sizeof *some);
                packed_free(some);
            }
            packed_free(input.panels);
            bora_matrix_free(matrix);
        }
        packed_free(x);
        packed_free_rows(&w);
    }
    for (uint32_t i = 0; i < 3; i++)
        fixture_close(&f[i]);
}

/* One strip alone, y as long as its rows. */
static void test_nothing_outside(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    enum { COLS = 256, N = 10 };
    uint64_t random = 53;
    fixture f;
    fixture_open(&f, &cpu, 1, COLS);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (size_t n_rows = 17; n_rows < 32; n_rows++) {
            const bora_tensor w = packed_random_rows(dtype, n_rows, COLS, &random);
            float *x = packed_random_x(N, COLS, &random);
            bora_matrix *matrix = matrix_new(&f, &w);
            const bora_input input = input_new(&f, x, N, COLS);
            float *all = product(&f, matrix, x, N);
            const size_t n_last = n_rows - 16, size = (N - 1) * 16 + n_last;
            float *y = packed_alloc_exact(size * sizeof *y); /* exactly */
            assert_non_null(y);
            for (size_t k = 0; k < size; k++)
                y[k] = 12345;
            bora_matrix_multiply(f.kernels, matrix, &input, 1, 2, 0, y, 16);
            for (size_t k = 0; k < size; k++) {
                const float should = k % 16 < n_last ? all[k / 16 * n_rows + 16 + k % 16] : 12345;
                assert_true(packed_same(y[k], should));
            }
            bora_matrix_multiply(f.kernels, matrix, &input, 1, 1, 0, NULL, 16); /* no strips */
            packed_free(y);
            packed_free(all);
            packed_free(input.panels);
            bora_matrix_free(matrix);
            packed_free(x);
            packed_free_rows(&w);
        }
    fixture_close(&f);
}

static void test_empty(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    fixture f;
    fixture_open(&f, &cpu, 2, 0);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        const bora_tensor no_rows = {.dtype = dtype};
        bora_matrix *matrix = matrix_new(&f, &no_rows);
        const bora_input no_x = {.n_rows = 0};
        assert_int_equal(bora_matrix_size(matrix), 0);
        bora_matrix_multiply(f.kernels, matrix, &no_x, 0, 0, 0, NULL, 0);
        bora_matrix_free(matrix);

        const bora_tensor no_cols = {.data = "", .n_rows = 17, .dtype = dtype};
        matrix = matrix_new(&f, &no_cols);
        float *y = product(&f, matrix, NULL, 3); /* empty sums */
        for (size_t i = 0; i < 3 * 17; i++)
            assert_true(y[i] == 0);
        packed_free(y);
        bora_matrix_free(matrix);
    }
    bora_matrix_free(NULL);
    fixture_close(&f);
}

/* ---- making ----------------------------------------------------------------------------------------- */

typedef struct reading {
    uint8_t *next, *end; /* of the weights, not yet reported */
    uint32_t n_calls;
    size_t largest;
} reading;

/* What is reported follows what was, and is lost. */
static void forget(void *arg, const void *from, size_t size)
{
    reading *r = arg;
    assert_ptr_equal(from, r->next);
    assert_true(size > 0 && size <= (size_t)(r->end - r->next));
    memset(r->next, 0xff, size);
    r->next += size;
    r->n_calls++;
    r->largest = size > r->largest ? size : r->largest;
}

static void test_reader(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    enum { ROWS = 20001, COLS = 1024, ROW_SIZE = COLS / 32 * 34 };
    const size_t size = (size_t)ROWS * ROW_SIZE; /* 22 MB */
    uint64_t random = 54;
    fixture f;
    fixture_open(&f, &cpu, 2, COLS);
    uint8_t *data = packed_alloc_exact(size);
    assert_non_null(data);
    for (size_t block = 0; block < size / 34; block++) {
        const size_t at = block * 34;
        if (block < 64)
            blocks_fill(BORA_DTYPE_Q8_0, &random, 1, data + at);
        else
            memcpy(data + at, data + at - (size_t)63 * 34, 34); /* rows differ all the same */
    }
    const bora_tensor w = {
        .data = data, .row_size = ROW_SIZE, .n_rows = ROWS, .n_cols = COLS, .dtype = BORA_DTYPE_Q8_0};
    float *x = packed_random_x(1, COLS, &random);
    bora_matrix *untold = matrix_new(&f, &w);
    float *should = product(&f, untold, x, 1);
    reading r = {.next = data, .end = data + size};
    bora_kernels_set_reader(f.kernels, forget, &r);
    bora_matrix *matrix = matrix_new(&f, &w);
    bora_kernels_set_reader(f.kernels, NULL, NULL);
    assert_ptr_equal(r.next, r.end);
    assert_true(r.n_calls >= 2 && r.largest < size / 2);
    float *y = product(&f, matrix, x, 1);
    assert_memory_equal(y, should, ROWS * sizeof *y);
    assert_int_equal(bora_region_size(f.region), bora_matrix_size(matrix) + bora_matrix_size(untold));
    packed_free(y);
    packed_free(should);
    bora_matrix_free(matrix);
    bora_matrix_free(untold);
    packed_free(x);
    packed_free(data);
    fixture_close(&f);
}

/* Floats stay where they are: nobody may drop them. */
static void test_floats_are_not_reported(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    uint64_t random = 55;
    fixture f;
    fixture_open(&f, &cpu, 1, 64);
    reading r = {0};
    bora_kernels_set_reader(f.kernels, forget, &r);
    for (uint32_t dtype = 0; dtype <= BORA_DTYPE_BF16; dtype++) {
        const bora_tensor w = packed_random_rows(dtype, 20, 64, &random);
        bora_matrix *matrix = matrix_new(&f, &w);
        assert_int_equal(r.n_calls, 0);
        assert_int_equal(bora_region_size(f.region), 0);
        bora_matrix_free(matrix);
        packed_free_rows(&w);
    }
    fixture_close(&f);
}

static void test_no_memory(void **state)
{
    bora_cpu cpu;
    PATH_OR_SKIP(state, &cpu);
    uint64_t random = 56;
    fixture f;
    fixture_open(&f, &cpu, 1, 64);
    const bora_tensor w = packed_random_rows(BORA_DTYPE_Q8_0, 20, 64, &random);
    uint64_t n = 1;
    for (;; n++) {
        bora_matrix *matrix = NULL;
        bora_error err = {{0}};
        (void)bora_memory_fail_at(n);
        const bora_status status = bora_matrix_new(f.kernels, f.region, &w, &matrix, &err);
        (void)bora_memory_fail_at(0);
        if (status == BORA_OK) {
            bora_matrix_free(matrix);
            break;
        }
        assert_int_equal(status, BORA_E_NOMEM);
        assert_null(matrix);
        assert_true(strlen(err.message) > 0);
    }
    assert_int_equal(n, 3); /* the matrix, its memory in the region */

    /* Sizes that do not fit, found before anything is read. */
    const uint64_t huge[] = {UINT64_MAX, UINT64_C(1) << 60, (uint64_t)UINT32_MAX * 16};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(huge); i++) {
        bora_tensor too_large = w;
        too_large.n_rows = huge[i];
        bora_matrix *matrix = NULL;
        const uint64_t fail = i < 2 ? 0 : 2; /* the last one fits an address: so its memory is refused */
        (void)bora_memory_fail_at(fail);
        assert_int_equal(bora_matrix_new(f.kernels, f.region, &too_large, &matrix, NULL), BORA_E_NOMEM);
        (void)bora_memory_fail_at(0);
        assert_null(matrix);
    }
    packed_free_rows(&w);
    fixture_close(&f);
}

int main(void)
{
    static uint32_t paths[MATRIX_N_PATHS] = {0, 1, 2, 3};
    static const char *const path_names[] = {"generic", "avx2", "avx512+vnni", "avx512+vnni+bf16"};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } on_every_path[] = {{"test_results", test_results},
                         {"test_company", test_company},
                         {"test_nothing_outside", test_nothing_outside},
                         {"test_empty", test_empty},
                         {"test_reader", test_reader},
                         {"test_floats_are_not_reported", test_floats_are_not_reported},
                         {"test_no_memory", test_no_memory}};
    struct CMUnitTest tests[MATRIX_N_PATHS * BORA_ARRAY_SIZE(on_every_path)];
    char names[BORA_ARRAY_SIZE(tests)][64];
    size_t n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(on_every_path); i++)
        for (size_t path = 0; path < MATRIX_N_PATHS; path++, n++) {
            (void)snprintf(names[n], sizeof names[n], "%s (%s)", on_every_path[i].name, path_names[path]);
            tests[n] = (struct CMUnitTest){names[n], on_every_path[i].run, NULL, NULL, &paths[path]};
        }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
