/* Every path of the packed product has the bits of the plain one: strips, panels, products. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/packed_cases.h"
#include "support/skip.h"

#include <stdio.h>

/* The path of the test's number, or skips. */
#define PATH_OR_SKIP(state, ret_path)                                                                                  \
    do {                                                                                                               \
        bora_cpu cpu;                                                                                                  \
        if (!packed_cpu(*(const uint32_t *)*(state), &cpu))                                                            \
            BORA_SKIP("this processor (or BORA_CPU) lacks the vector path");                                           \
        *(ret_path) = bora_packed_choose(&cpu);                                                                        \
        if (*(ret_path) == &bora_packed_plain)                                                                         \
            BORA_SKIP("there is no vector path for this processor");                                                   \
    } while (0)

static const uint32_t all_cols[] = {32, 64, 96, 160, 224, 256, 288, 512, 768, 1024};
static const uint32_t all_n[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 31, 64};

/* What packing writes, for every number of rows and of columns. */
static void test_pack(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 41;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++)
        for (size_t c = 0; c < BORA_ARRAY_SIZE(all_cols); c++)
            for (size_t n_rows = 1; n_rows <= 2 * BORA_STRIP_ROWS; n_rows++) {
                const bora_tensor w = packed_random_rows(dtype, n_rows, packed_cols(dtype, all_cols[c]), &random);
                const bora_strips is = packed_strips(path, &w), should = packed_strips(&bora_packed_plain, &w);
                const size_t size = is.n_strips * is.n_units * bora_unit_size(dtype);
                if (memcmp(is.units, should.units, size) != 0)
                    fail_msg("%s: %s, %zu rows of %zu", path->name, bora_block_of(dtype)->name, n_rows,
                             (size_t)w.n_cols);
                packed_free((void *)(uintptr_t)is.units);
                packed_free((void *)(uintptr_t)should.units);
                packed_free_rows(&w);
            }
}

/* What quantising writes, the gaps between the parts included, for it writes nothing there. */
static void test_fill(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 42;
    for (uint32_t n_cols = 1; n_cols < 800; n_cols += n_cols < 70 ? 1 : 31)
        for (size_t i = 0; i < BORA_ARRAY_SIZE(all_n); i += n_cols % 3 + 1) {
            float *x = packed_random_x(all_n[i], n_cols, &random);
            if (n_cols % 5 == 0)
                x[blocks_random(&random) % (all_n[i] * n_cols)] = NAN;
            const bora_input is = packed_input(path, x, all_n[i], n_cols);
            const bora_input should = packed_input(&bora_packed_plain, x, all_n[i], n_cols);
            for (uint32_t p = 0; p < bora_input_n_panels(all_n[i]); p++) { /* NaN is NaN whatever its bits */
                const bora_panel a = bora_panel_at(&is, p), b = bora_panel_at(&should, p);
                for (size_t s = 0; s < a.n_units * a.n_columns; s++) {
                    assert_true(packed_same(a.scale[s], b.scale[s]));
                    a.scale[s] = b.scale[s];
                }
            }
            if (memcmp(is.panels, should.panels, bora_input_size(all_n[i], n_cols)) != 0)
                fail_msg("%s: %u rows of %u", path->name, all_n[i], n_cols);
            packed_free(is.panels);
            packed_free(should.panels);
            packed_free(x);
        }
}

static void check_products(const bora_packed_path *path, const bora_tensor *w, const float *x, uint32_t n)
{
    enum { GAP = 3 };
    const bora_strips strips = packed_strips(&bora_packed_plain, w);
    const bora_input input = packed_input(&bora_packed_plain, x, n, (uint32_t)w->n_cols);
    const size_t n_rows = strips.n_strips * BORA_STRIP_ROWS, stride = n_rows + GAP, size = (n - 1) * stride + n_rows;
    float *is = packed_alloc_exact(size * sizeof *is), *should = packed_alloc_exact(size * sizeof *should);
    assert_true(is && should);
    for (size_t i = 0; i < size; i++) /* what is between the rows must stay */
        is[i] = should[i] = (float)i;
    packed_multiply(path, &strips, &input, is, stride);
    packed_multiply(&bora_packed_plain, &strips, &input, should, stride);
    for (size_t i = 0; i < size; i++)
        if (!packed_same(is[i], should[i]))
            fail_msg("%s: %s, %u x %zu columns, %zu rows, row %zu of column %zu: %a, should be %a", path->name,
                     bora_block_of(w->dtype)->name, n, (size_t)w->n_cols, n_rows, i % stride, i / stride, (double)is[i],
                     (double)should[i]);
    packed_free(should);
    packed_free(is);
    packed_free(input.panels);
    packed_free((void *)(uintptr_t)strips.units);
}

static void test_multiply(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 43;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++)
        for (size_t c = 0; c < BORA_ARRAY_SIZE(all_cols); c++) {
            const uint32_t n_cols = (uint32_t)packed_cols(dtype, all_cols[c]);
            if (n_cols != all_cols[c])
                continue; /* comes again */
            for (size_t n_strips = 1; n_strips <= 3; n_strips++) {
                const bora_tensor w = packed_random_rows(dtype, 16 * n_strips - c % 5, n_cols, &random);
                for (size_t i = 0; i < BORA_ARRAY_SIZE(all_n); i++) {
                    float *x = packed_random_x(all_n[i], n_cols, &random);
                    check_products(path, &w, x, all_n[i]);
                    packed_free(x);
                }
                packed_free_rows(&w);
            }
        }
}

/* Long rows: whatever a path cuts k or rows into. */
static void test_long(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    uint64_t random = 44;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++) {
        const bora_tensor w = packed_random_rows(dtype, 16 * 5 - 1, 8448, &random);
        static const uint32_t ns[] = {1, 4, 21, 38};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(ns); i++) {
            float *x = packed_random_x(ns[i], 8448, &random);
            check_products(path, &w, x, ns[i]);
            packed_free(x);
        }
        packed_free_rows(&w);
    }
}

/* All bits alike, scales of any kind, x at its ends or not a number. */
static void test_extremes(void **state)
{
    const bora_packed_path *path;
    PATH_OR_SKIP(state, &path);
    static const int fills[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x55, 0xaa};
    static const uint16_t scales[] = {0x3c00, 0xbc00, 0x7bff, 0x0001, 0x8000, 0x7c00, 0x7e00};
    enum { COLS = 512, ROWS = 32, MAX_N = 9 };
    float x[MAX_N * COLS];
    for (size_t k = 0; k < MAX_N * COLS; k++) {
        const size_t c = k / COLS;
        x[k] = c % 3 == 0 ? 1 : c % 3 == 1 ? -1 : k % 2 ? 1e20f : -1e20f;
    }
    x[8 * COLS + 300] = NAN;
    x[7 * COLS] = INFINITY;
    memset(x + (size_t)6 * COLS, 0, COLS * sizeof *x);
    uint64_t random = 45;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++) {
        const blocks_halves at = blocks_halves_of(dtype);
        const bora_block *type = bora_block_of(dtype);
        const bora_tensor w = packed_random_rows(dtype, ROWS, COLS, &random);
        const size_t n_blocks = COLS / type->n_elements;
        for (size_t fill = 0; fill < BORA_ARRAY_SIZE(fills); fill++)
            for (size_t s = 0; s < BORA_ARRAY_SIZE(scales); s++) {
                for (size_t i = 0; i < ROWS * n_blocks; i++) {
                    uint8_t *block =
                        (uint8_t *)(uintptr_t)w.data + i / n_blocks * w.row_size + i % n_blocks * type->size;
                    memset(block, fills[fill], type->size);
                    memcpy(block + at.d, &scales[s], 2);
                    if (at.m != BLOCKS_NONE)
                        memcpy(block + at.m, &scales[(s + i) % BORA_ARRAY_SIZE(scales)], 2);
                }
                check_products(path, &w, x, 1);
                check_products(path, &w, x, 8);
                check_products(path, &w, x, MAX_N);
            }
        packed_free_rows(&w);
    }
}

int main(void)
{
    static uint32_t paths[] = {1, 2};
    static const char *const path_names[] = {"avx2", "avx512+vnni"};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } on_every_path[] = {{"test_pack", test_pack},
                         {"test_fill", test_fill},
                         {"test_multiply", test_multiply},
                         {"test_long", test_long},
                         {"test_extremes", test_extremes}};
    struct CMUnitTest tests[BORA_ARRAY_SIZE(paths) * BORA_ARRAY_SIZE(on_every_path)];
    char names[BORA_ARRAY_SIZE(tests)][64];
    size_t n = 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(on_every_path); i++)
        for (size_t path = 0; path < BORA_ARRAY_SIZE(paths); path++, n++) {
            (void)snprintf(names[n], sizeof names[n], "%s (%s)", on_every_path[i].name, path_names[path]);
            tests[n] = (struct CMUnitTest){names[n], on_every_path[i].run, NULL, NULL, &paths[path]};
        }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
