/* The packed product's definition: to the bit against a reading of its own of the formats and of the order of sums,
 * within a bound of sums in double, and at the ends of all ranges. Only the plain path; the others are compared with it
 * in test_packed_paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/dequantize.h"
#include "support/block_bits.h"
#include "support/packed_cases.h"

/* ---- a second reading ------------------------------------------------------------------------------- */

/* Element i of a block as the integer that is multiplied. */
static int value_of(uint32_t dtype, const uint8_t *block, size_t i)
{
    static const int list[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    switch (dtype) {
    case BORA_DTYPE_Q8_0:
        return (int8_t)field(block, 8 * (2 + i), 8);
    case BORA_DTYPE_Q4_0:
        return (int)field(block, 16 + nibble(i), 4) - 8;
    case BORA_DTYPE_Q4_1:
        return (int)field(block, 32 + nibble(i), 4);
    case BORA_DTYPE_Q5_0:
        return (int)(field(block, 48 + nibble(i), 4) + 16 * field(block, 16 + i, 1)) - 16;
    case BORA_DTYPE_Q5_1:
        return (int)(field(block, 64 + nibble(i), 4) + 16 * field(block, 32 + i, 1));
    case BORA_DTYPE_Q2_K:
        return (int)field(block, 8 * 16 + pair(i), 2);
    case BORA_DTYPE_Q3_K:
        return (int)(field(block, 8 * 32 + pair(i), 2) + 4 * field(block, 8 * (i % 32) + i / 32, 1)) - 4;
    case BORA_DTYPE_Q4_K:
        return (int)field(block, 8 * 16 + nibble_of_64(i), 4);
    case BORA_DTYPE_Q5_K:
        return (int)(field(block, 8 * 48 + nibble_of_64(i), 4) + 16 * field(block, 8 * (16 + i % 32) + i / 32, 1));
    case BORA_DTYPE_Q6_K:
        return (int)(field(block, 8 * (i / 128 * 64 + i % 64) + 4 * (i % 128 / 64), 4) +
                     16 * field(block, 8 * 128 + pair(i), 2)) -
               32;
    case BORA_DTYPE_IQ4_NL:
        return list[field(block, 16 + nibble(i), 4)];
    case BORA_DTYPE_IQ4_XS:
        return list[field(block, 8 * (8 + 16 * (i / 32)) + nibble(i % 32), 4)];
    default:
        fail_msg("type %u", dtype);
        return 0;
    }
}

/* The integer scale of part p of a block of 256. */
static int scale_of(uint32_t dtype, const uint8_t *block, size_t p)
{
    switch (dtype) {
    case BORA_DTYPE_Q2_K:
        return (int)field(block, 8 * p, 4);
    case BORA_DTYPE_Q3_K:
        return (int)(field(block, 8 * (96 + p % 8) + 4 * (p / 8), 4) +
                     16 * field(block, 8 * (104 + p % 4) + 2 * (p / 4), 2)) -
               32;
    case BORA_DTYPE_Q4_K:
    case BORA_DTYPE_Q5_K:
        return (int)six_bits_scale(block, p);
    case BORA_DTYPE_Q6_K:
        return (int8_t)field(block, 8 * (192 + p), 8);
    case BORA_DTYPE_IQ4_XS:
        return (int)(field(block, 32 + 4 * p, 4) + 16 * field(block, 16 + 2 * p, 2)) - 32;
    default:
        fail_msg("type %u", dtype);
        return 0;
    }
}

/* One column of x as quantised. */
typedef struct quants {
    int q[1024];
    float scale[4];
    int shift[32];
} quants;

static quants column_of(const bora_input *input, uint32_t row)
{
    quants ret;
    uint32_t p = 0;
    bora_panel panel = bora_panel_at(input, p);
    while (row >= panel.n_columns) {
        row -= panel.n_columns;
        panel = bora_panel_at(input, ++p);
    }
    assert_true(panel.n_units <= 4);
    for (size_t k = 0; k < panel.n_units * 256; k++) {
        ret.q[k] = panel.q[(k / 32 * panel.n_columns + row) * 32 + k % 32];
        ret.shift[k / 32] = panel.shift[k / 32 * panel.n_columns + row];
        ret.scale[k / 256] = panel.scale[k / 256 * panel.n_columns + row];
    }
    return ret;
}

/* Sum of value * q (of q alone if block is NULL) of elements first .. first+n-1 of x, from element i of the block on,
 * times 2^shift. Floats of it are exact. */
static float dot(uint32_t dtype, const uint8_t *block, size_t i, const quants *x, size_t first, size_t n)
{
    int64_t sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += (int64_t)(block ? value_of(dtype, block, i + k) : 1) * x->q[first + k];
    for (int s = x->shift[first / 32]; s > 0; s--)
        sum *= 2;
    assert_true(sum > -(1 << 24) && sum < 1 << 24);
    return (float)sum;
}

/* The unit of x from element first on, of a type with blocks of 32. */
static float add_unit_32(uint32_t dtype, const uint8_t *blocks, size_t n_blocks, const quants *x, size_t first, float f)
{
    float g = 0;
    for (size_t j = 0; j < n_blocks; j++) {
        const uint8_t *block = blocks + j * bora_block_of(dtype)->size;
        g = fmaf(dot(dtype, block, 0, x, first + 32 * j, 32), half_at(block, 0), g);
        if (dtype == BORA_DTYPE_Q4_1 || dtype == BORA_DTYPE_Q5_1)
            g = fmaf(dot(dtype, NULL, 0, x, first + 32 * j, 32), half_at(block, 2), g);
    }
    return fmaf(g, x->scale[first / 256], f);
}

static float add_unit_256(uint32_t dtype, const uint8_t *block, const quants *x, size_t first, float f)
{
    const size_t n = dtype == BORA_DTYPE_Q4_K || dtype == BORA_DTYPE_Q5_K || dtype == BORA_DTYPE_IQ4_XS ? 32 : 16;
    const blocks_halves at = blocks_halves_of(dtype);
    const float d = half_at(block, at.d), x_scale = x->scale[first / 256];
    float g = 0;
    double minima = 0; /* integers, exact */
    for (size_t p = 0; p < 256 / n; p++) {
        g = fmaf(dot(dtype, block, n * p, x, first + n * p, n), (float)scale_of(dtype, block, p), g);
        if (at.m != BLOCKS_NONE) {
            const unsigned min = dtype == BORA_DTYPE_Q2_K ? field(block, 8 * p + 4, 4) : six_bits_minimum(block, p);
            minima += (double)min * (double)dot(dtype, NULL, 0, x, first + n * p, n);
        }
    }
    if (at.m == BLOCKS_NONE)
        return fmaf(g, d * x_scale, f);
    assert_true(fabs(minima) < 0x1p24);
    const float taken = (float)minima * half_at(block, at.m);
    return fmaf(fmaf(g, d, -taken), x_scale, f);
}

static float expected_of(const bora_tensor *w, size_t row, const quants *x)
{
    const bora_block *type = bora_block_of(w->dtype);
    const uint8_t *block = (const uint8_t *)w->data + row * w->row_size;
    const size_t per_unit = 256 / type->n_elements, n_blocks = w->n_cols / type->n_elements;
    float f = 0;
    for (size_t b = 0; b < n_blocks; b += per_unit, block += per_unit * type->size) {
        if (type->n_elements == 256)
            f = add_unit_256(w->dtype, block, x, b * 256, f);
        else
            f = add_unit_32(w->dtype, block, n_blocks - b < per_unit ? n_blocks - b : per_unit, x, b * 32, f);
    }
    return f;
}

/* Packs, quantises, multiplies; every output is the expected one, those of rows that do not exist are zero. */
static void check_product(const bora_tensor *w, const float *x, uint32_t n)
{
    const bora_packed_path *path = &bora_packed_plain;
    const bora_input input = packed_input(path, x, n, (uint32_t)w->n_cols);
    const bora_strips strips = packed_strips(path, w);
    const size_t stride = strips.n_strips * BORA_STRIP_ROWS;
    float *y = packed_alloc_exact(n * stride * sizeof *y);
    assert_non_null(y);
    packed_multiply(path, &strips, &input, y, stride);
    for (uint32_t c = 0; c < n; c++) {
        const quants column = column_of(&input, c);
        for (size_t r = 0; r < stride; r++) {
            const float should = r < w->n_rows ? expected_of(w, r, &column) : 0;
            if (!packed_same(y[c * stride + r], should))
                fail_msg("%s, %zu columns, row %zu, column %u of %u: %a, should be %a", bora_block_of(w->dtype)->name,
                         (size_t)w->n_cols, r, c, n, (double)y[c * stride + r], (double)should);
        }
    }
    packed_free(y);
    packed_free((void *)(uintptr_t)strips.units);
    packed_free(input.panels);
}

static void test_to_the_bit(void **state)
{
    (void)state;
    static const size_t cols[] = {32, 96, 256, 288, 768, 1024};
    static const uint32_t ns[] = {1, 2, 8, 9, 13};
    uint64_t random = 21;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++)
        for (size_t c = 0; c < BORA_ARRAY_SIZE(cols); c++) {
            const bora_tensor w = packed_random_rows(dtype, 13 + 2 * c, packed_cols(dtype, cols[c]), &random);
            const uint32_t n = ns[(c + dtype) % BORA_ARRAY_SIZE(ns)];
            float *x = packed_random_x(n, w.n_cols, &random);
            check_product(&w, x, n);
            packed_free(x);
            packed_free_rows(&w);
        }
}

/* Scales of every kind: subnormal, zero, the largest, infinite, not a number. */
static void test_any_scales(void **state)
{
    (void)state;
    uint64_t random = 22;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++) {
        const bora_tensor w = packed_random_rows(dtype, 16, 512, &random);
        const blocks_halves at = blocks_halves_of(dtype);
        const bora_block *type = bora_block_of(dtype);
        for (size_t i = 0; i < w.n_rows * (512 / type->n_elements); i++) {
            const size_t row = i % w.n_rows, block = i / w.n_rows;
            uint8_t *bytes = (uint8_t *)(uintptr_t)w.data + row * w.row_size + block * type->size;
            for (size_t b = 0; b < 2; b++) {
                bytes[at.d + b] = (uint8_t)blocks_random(&random);
                if (at.m != BLOCKS_NONE)
                    bytes[at.m + b] = (uint8_t)blocks_random(&random);
            }
        }
        float *x = packed_random_x(3, 512, &random);
        check_product(&w, x, 3);
        packed_free(x);
        packed_free_rows(&w);
    }
}

/* All bits of the weights alike, all of x at 127 or -127: where sums are largest nothing overflows. */
static void test_extremes(void **state)
{
    (void)state;
    static const int fills[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x55, 0xaa};
    enum { COLS = 512 };
    float x[3 * COLS];
    for (size_t k = 0; k < COLS; k++) {
        x[k] = 1;
        x[COLS + k] = -1;
        x[2 * COLS + k] = k % 2 ? 1 : -1;
    }
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++)
        for (size_t fill = 0; fill < BORA_ARRAY_SIZE(fills); fill++) {
            const bora_block *type = bora_block_of(dtype);
            const blocks_halves at = blocks_halves_of(dtype);
            uint8_t row[COLS / 32 * 34];
            memset(row, fills[fill], sizeof row);
            for (size_t b = 0; b < COLS / type->n_elements; b++) {
                blocks_put_f16(row + b * type->size + at.d, 1);
                if (at.m != BLOCKS_NONE)
                    blocks_put_f16(row + b * type->size + at.m, -1);
            }
            const bora_tensor w = {.data = row,
                                   .row_size = COLS / type->n_elements * type->size,
                                   .n_rows = 1,
                                   .n_cols = COLS,
                                   .dtype = dtype};
            check_product(&w, x, 3);
        }
}

/* ---- the bound -------------------------------------------------------------------------------------- */

static void test_near_sums_in_double(void **state)
{
    (void)state;
    enum { ROWS = 29, COLS = 1024, N = 9, STRIDE = 32 };
    uint64_t random = 23;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++) {
        const bora_tensor w = packed_random_rows(dtype, ROWS, COLS, &random);
        float *x = packed_random_x(N, COLS, &random), weights[COLS], y[N * STRIDE];
        const bora_input input = packed_input(&bora_packed_plain, x, N, COLS);
        const bora_strips strips = packed_strips(&bora_packed_plain, &w);
        packed_multiply(&bora_packed_plain, &strips, &input, y, STRIDE);
        double worst = 0, power = 0, quantised_error = 0;
        for (size_t r = 0; r < ROWS; r++) {
            bora_dequantize(NULL, &w, r, 1, weights);
            for (uint32_t c = 0; c < N; c++) {
                const quants column = column_of(&input, c);
                double sum = 0, unquantised = 0;
                for (size_t k = 0; k < COLS; k++) {
                    sum +=
                        (double)weights[k] * ldexp(column.q[k], column.shift[k / 32]) * (double)column.scale[k / 256];
                    unquantised += (double)weights[k] * (double)x[c * COLS + k];
                }
                worst = fmax(worst, fabs(sum - (double)y[c * STRIDE + r]));
                power += unquantised * unquantised;
                quantised_error += (sum - unquantised) * (sum - unquantised);
            }
        }
        if (!(worst <= 5e-6 * sqrt(power / (ROWS * N))))
            fail_msg("%s: %g of rms", bora_block_of(dtype)->name, worst / sqrt(power / (ROWS * N)));
        if (!(quantised_error <= 2e-4 * power)) /* what eight bits of x cost */
            fail_msg("%s: NMSE %g", bora_block_of(dtype)->name, quantised_error / power);
        packed_free((void *)(uintptr_t)strips.units);
        packed_free(input.panels);
        packed_free(x);
        packed_free_rows(&w);
    }
}

/* ---- what is not a product -------------------------------------------------------------------------- */

/* The sizes that packed.h promises, and that parts of units begin at multiples of 64. */
static void test_unit_sizes(void **state)
{
    (void)state;
    static const size_t sizes[BORA_DTYPE_COUNT] = {
        [BORA_DTYPE_Q8_0] = 4352, [BORA_DTYPE_Q4_0] = 2304, [BORA_DTYPE_Q4_1] = 2560,   [BORA_DTYPE_Q5_0] = 2816,
        [BORA_DTYPE_Q5_1] = 3072, [BORA_DTYPE_Q2_K] = 1344, [BORA_DTYPE_Q3_K] = 1856,   [BORA_DTYPE_Q4_K] = 2304,
        [BORA_DTYPE_Q5_K] = 2816, [BORA_DTYPE_Q6_K] = 3392, [BORA_DTYPE_IQ4_NL] = 2304, [BORA_DTYPE_IQ4_XS] = 2240,
    };
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        assert_int_equal(bora_unit_size(dtype), sizes[dtype]);
        assert_int_equal(bora_unit_size(dtype) % 64, 0);
    }
    assert_int_equal(bora_unit_size(BORA_DTYPE_COUNT), 0);
    assert_int_equal(bora_unit_size(UINT32_MAX), 0);
}

/* Every byte of the file is somewhere in the strip: changing a bit changes a bit. */
static void test_every_bit_is_packed(void **state)
{
    (void)state;
    uint64_t random = 24;
    for (uint32_t dtype = PACKED_FIRST; dtype < PACKED_END; dtype++) {
        const size_t unit_size = bora_unit_size(dtype), n_cols = packed_cols(dtype, 32);
        const bora_tensor w = packed_random_rows(dtype, 3, n_cols, &random);
        uint8_t *before = packed_alloc(unit_size), *after = packed_alloc(unit_size);
        uint8_t *row = (uint8_t *)(uintptr_t)w.data + w.row_size;
        bora_packed_plain.pack(dtype, w.data, w.row_size, 3, n_cols, before);
        for (size_t bit = 0; bit < 8 * bora_block_of(dtype)->size; bit++) {
            row[bit / 8] ^= (uint8_t)(1 << bit % 8);
            bora_packed_plain.pack(dtype, w.data, w.row_size, 3, n_cols, after);
            row[bit / 8] ^= (uint8_t)(1 << bit % 8);
            size_t n_changed = 0;
            for (size_t i = 0; i < unit_size; i++)
                for (unsigned b = 0; b < 8; b++)
                    n_changed += (before[i] ^ after[i]) >> b & 1;
            if (n_changed == 0)
                fail_msg("%s: bit %zu is not in the strip", bora_block_of(dtype)->name, bit);
            if (dtype != BORA_DTYPE_Q3_K && dtype != BORA_DTYPE_IQ4_XS) /* whose scales have 32 taken away */
                assert_int_equal(n_changed, 1);
        }
        packed_free(after);
        packed_free(before);
        packed_free_rows(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_bit), cmocka_unit_test(test_any_scales),
        cmocka_unit_test(test_extremes),   cmocka_unit_test(test_near_sums_in_double),
        cmocka_unit_test(test_unit_sizes), cmocka_unit_test(test_every_bit_is_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
