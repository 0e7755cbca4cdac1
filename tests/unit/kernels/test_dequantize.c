/* Dequantising: values by arithmetic, the same bits from plain C and from the processor's instructions, any alignment,
 * any range of rows or of one row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/dequantize.h"
#include "kernels/kernels.h"
#include "model/blocks.h"

#include <string.h>

/* All f16 and bf16 patterns in one row: NaN, infinities and subnormals too. */
static void test_all_halves(void **state)
{
    (void)state;
    enum { N = 65536 };
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    uint16_t *halves = bora_alloc(N * sizeof *halves);
    float *plain = bora_alloc(N * sizeof *plain), *vector = bora_alloc(N * sizeof *vector);
    assert_true(halves && plain && vector);
    for (uint32_t i = 0; i < N; i++)
        halves[i] = (uint16_t)i;
    bora_tensor w = {.data = halves, .row_size = N * 2, .n_rows = 1, .n_cols = N, .dtype = BORA_DTYPE_F16};
    for (int type = 0; type < 2; type++) {
        w.dtype = type ? BORA_DTYPE_BF16 : BORA_DTYPE_F16;
        bora_dequantize(NULL, &w, 0, 1, plain);
        bora_dequantize(&cpu, &w, 0, 1, vector);
        assert_memory_equal(plain, vector, N * sizeof *plain);
        for (uint32_t i = 0; i < N; i++) {
            float expected = type ? bora_bf16_to_f32((uint16_t)i) : bora_f16_to_f32((uint16_t)i);
            assert_memory_equal(&plain[i], &expected, sizeof expected);
        }
    }
    bora_free(vector);
    bora_free(plain);
    bora_free(halves);
}

/* Every scale (but infinities and NaN) with every quant. */
static void test_all_q8_0(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    uint8_t blocks[8 * BORA_Q8_0_SIZE];
    for (uint32_t q = 0; q < 256; q++)
        blocks[q / 32 * BORA_Q8_0_SIZE + 2 + q % 32] = (uint8_t)q;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        uint16_t scale = (uint16_t)bits;
        if ((bits & 0x7c00) == 0x7c00)
            continue;
        for (size_t block = 0; block < 8; block++)
            memcpy(blocks + block * BORA_Q8_0_SIZE, &scale, sizeof scale);
        float plain[256], vector[256];
        bora_dequantize_row(NULL, BORA_DTYPE_Q8_0, blocks, 0, 256, plain);
        bora_dequantize_row(&cpu, BORA_DTYPE_Q8_0, blocks, 0, 256, vector);
        assert_memory_equal(plain, vector, sizeof plain);
        if (bits % 61 == 0)
            for (uint32_t q = 0; q < 256; q++) /* at most 8 + 11 bits: exact */
                assert_true((double)plain[q] == (double)(int8_t)q * (double)bora_f16_to_f32(scale));
    }
}

static void test_rows_and_ranges(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 768, ROW_SIZE = 4 * COLS + 5 };
    static const size_t firsts[] = {0, 32, 64, 256, 512}, lengths[] = {32, 64, 0, 256, 512};
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++) {
        for (size_t offset = 0; offset < 3; offset++) {
            static uint8_t bytes[2 + ROWS * ROW_SIZE];
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (uint8_t)(i * 37 % 113); /* below 0x71: a number in every type */
            bora_tensor w = {
                .data = bytes + offset, .row_size = ROW_SIZE, .n_rows = ROWS, .n_cols = COLS, .dtype = dtype};
            static float all[ROWS * COLS], some[ROWS * COLS + 1];
            bora_dequantize(&cpu, &w, 0, ROWS, all);
            bora_dequantize(NULL, &w, 0, ROWS, some);
            assert_memory_equal(all, some, sizeof all);
            if (dtype == BORA_DTYPE_F32)
                for (size_t row = 0; row < ROWS; row++)
                    assert_memory_equal(all + row * COLS, bytes + offset + row * ROW_SIZE, 4 * COLS);
            bora_dequantize(&cpu, &w, 2, 2, some);
            assert_memory_equal(all + 2 * COLS, some, 2 * COLS * sizeof *all);
            for (size_t i = 0; i < BORA_ARRAY_SIZE(firsts); i++)
                for (size_t j = 0; j < BORA_ARRAY_SIZE(lengths); j++) {
                    const size_t n_block = bora_block_of(dtype)->n_elements;
                    if (firsts[i] + lengths[j] > COLS || firsts[i] % n_block || lengths[j] % n_block)
                        continue;
                    some[lengths[j]] = 42;
                    bora_dequantize_row(&cpu, dtype, bytes + offset, firsts[i], lengths[j], some);
                    assert_memory_equal(all + firsts[i], some, lengths[j] * sizeof *all);
                    assert_true(some[lengths[j]] == 42);
                }
        }
    }
}

/* Lengths that are not whole vectors. */
static void test_tails(void **state)
{
    (void)state;
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    uint16_t halves[40];
    for (uint32_t i = 0; i < 40; i++)
        halves[i] = (uint16_t)(0x3c00 + 17 * i);
    for (size_t n = 0; n < 40; n++) {
        float plain[41], vector[41];
        plain[n] = vector[n] = 42;
        for (uint32_t dtype = BORA_DTYPE_F16; dtype <= BORA_DTYPE_BF16; dtype++) {
            bora_dequantize_row(NULL, dtype, (const uint8_t *)halves, 0, n, plain);
            bora_dequantize_row(&cpu, dtype, (const uint8_t *)halves, 0, n, vector);
            assert_memory_equal(plain, vector, (n + 1) * sizeof *plain);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_all_q8_0),
        cmocka_unit_test(test_rows_and_ranges),
        cmocka_unit_test(test_tails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
