/* Dequantising blocks, to the bit: against a second reading of the formats, which asks for one element at a time and
 * takes each of its fields from the block by the number of its first bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/dequantize.h"
#include "support/block_bits.h"
#include "support/blocks.h"

#include <math.h>

/* a * b and a * b - c with every operation rounded to f32. */
static float times(float a, float b)
{
    volatile float product = a * b;
    return product;
}

static float minus(float a, float b)
{
    volatile float difference = a - b;
    return difference;
}

static float element(uint32_t dtype, const uint8_t *block, size_t i)
{
    static const int list[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    const size_t of_16 = i / 16, of_32 = i / 32;
    int scale;
    switch (dtype) {
    case BORA_DTYPE_Q8_0:
        return times((float)(int8_t)field(block, 8 * (2 + i), 8), half_at(block, 0));
    case BORA_DTYPE_Q4_0:
        return times((float)field(block, 16 + nibble(i), 4) - 8, half_at(block, 0));
    case BORA_DTYPE_Q4_1:
        return minus(times((float)field(block, 32 + nibble(i), 4), half_at(block, 0)), -half_at(block, 2));
    case BORA_DTYPE_Q5_0:
        return times((float)(field(block, 48 + nibble(i), 4) + 16 * field(block, 16 + i, 1)) - 16, half_at(block, 0));
    case BORA_DTYPE_Q5_1:
        return minus(times((float)(field(block, 64 + nibble(i), 4) + 16 * field(block, 32 + i, 1)), half_at(block, 0)),
                     -half_at(block, 2));
    case BORA_DTYPE_Q2_K:
        return minus(times(times(half_at(block, 80), (float)field(block, 8 * of_16, 4)),
                           (float)field(block, 8 * 16 + pair(i), 2)),
                     times(half_at(block, 82), (float)field(block, 8 * of_16 + 4, 4)));
    case BORA_DTYPE_Q3_K:
        scale = (int)(field(block, 8 * (96 + of_16 % 8) + 4 * (of_16 / 8), 4) +
                      16 * field(block, 8 * (104 + of_16 % 4) + 2 * (of_16 / 4), 2)) -
                32;
        return times(times(half_at(block, 108), (float)scale),
                     (float)field(block, 8 * 32 + pair(i), 2) - 4 * (float)!field(block, 8 * (i % 32) + i / 32, 1));
    case BORA_DTYPE_Q4_K:
        return minus(times(times(half_at(block, 0), (float)six_bits_scale(block, of_32)),
                           (float)field(block, 8 * 16 + nibble_of_64(i), 4)),
                     times(half_at(block, 2), (float)six_bits_minimum(block, of_32)));
    case BORA_DTYPE_Q5_K:
        return minus(times(times(half_at(block, 0), (float)six_bits_scale(block, of_32)),
                           (float)(field(block, 8 * 48 + nibble_of_64(i), 4) +
                                   16 * field(block, 8 * (16 + i % 32) + of_32, 1))),
                     times(half_at(block, 2), (float)six_bits_minimum(block, of_32)));
    case BORA_DTYPE_Q6_K:
        return times(times(half_at(block, 208), (float)(int8_t)field(block, 8 * (192 + of_16), 8)),
                     (float)field(block, 8 * (i / 128 * 64 + i % 64) + 4 * (i % 128 / 64), 4) +
                         16 * (float)field(block, 8 * 128 + pair(i), 2) - 32);
    case BORA_DTYPE_IQ4_NL:
        return times(half_at(block, 0), (float)list[field(block, 16 + nibble(i), 4)]);
    case BORA_DTYPE_IQ4_XS:
        scale = (int)(field(block, 32 + 4 * of_32, 4) + 16 * field(block, 16 + 2 * of_32, 2)) - 32;
        return times(times(half_at(block, 0), (float)scale),
                     (float)list[field(block, 8 * (8 + 16 * of_32) + nibble(i % 32), 4)]);
    default:
        fail_msg("type %u", dtype);
        return 0;
    }
}

/* NaN is NaN, whatever its bits: those depend on the order of an addition's operands. */
static void assert_same(uint32_t dtype, const char *what, size_t i, float is, float should)
{
    if (isnan(is) ? !isnan(should) : memcmp(&is, &should, sizeof is) != 0)
        fail_msg("%s, %s, element %zu: %a, should be %a", bora_block_of(dtype)->name, what, i, (double)is,
                 (double)should);
}

static void check_block(uint32_t dtype, const char *what, const uint8_t *block)
{
    const size_t n = bora_block_of(dtype)->n_elements;
    float plain[BORA_BLOCK_ELEMENTS_MAX], vector[BORA_BLOCK_ELEMENTS_MAX];
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    bora_dequantize_row(NULL, dtype, block, 0, n, plain);
    bora_dequantize_row(&cpu, dtype, block, 0, n, vector);
    for (size_t i = 0; i < n; i++) {
        assert_same(dtype, what, i, plain[i], element(dtype, block, i));
        assert_same(dtype, what, i, vector[i], plain[i]);
    }
}

static void put_halves(uint32_t dtype, uint8_t *block, uint16_t d, uint16_t m)
{
    const blocks_halves at = blocks_halves_of(dtype);
    memcpy(block + at.d, &d, sizeof d);
    if (at.m != BLOCKS_NONE)
        memcpy(block + at.m, &m, sizeof m);
}

static void test_random_blocks(void **state)
{
    (void)state;
    uint64_t random = 1;
    uint8_t block[1 + BORA_BLOCK_SIZE_MAX];
    for (uint32_t dtype = BORA_DTYPE_Q8_0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (int i = 0; i < 100; i++) {
            blocks_fill(dtype, &random, 1, block + 1); /* at an odd address */
            put_halves(dtype, block + 1, (uint16_t)blocks_random(&random), (uint16_t)blocks_random(&random));
            check_block(dtype, "random", block + 1);
        }
}

static void test_edge_blocks(void **state)
{
    (void)state;
    /* Zero of both signs, one, minus one, the largest, the smallest normal, the largest and smallest subnormal,
     * infinity, NaN. */
    static const uint16_t halves[] = {0x0000, 0x8000, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x0400,
                                      0x03ff, 0x0001, 0x8001, 0x7c00, 0xfc00, 0x7e00};
    static const uint8_t fills[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x55};
    uint8_t block[BORA_BLOCK_SIZE_MAX];
    for (uint32_t dtype = BORA_DTYPE_Q8_0; dtype < BORA_DTYPE_COUNT; dtype++)
        for (size_t fill = 0; fill < BORA_ARRAY_SIZE(fills); fill++) {
            memset(block, fills[fill], sizeof block);
            check_block(dtype, "all the same byte", block);
            for (size_t d = 0; d < BORA_ARRAY_SIZE(halves); d++)
                for (size_t m = 0; m < BORA_ARRAY_SIZE(halves); m++) {
                    put_halves(dtype, block, halves[d], halves[m]);
                    check_block(dtype, "edge", block);
                }
        }
}

/* Every bit of a block is looked at: changing it changes an element. */
static void test_every_bit_counts(void **state)
{
    (void)state;
    for (uint32_t dtype = BORA_DTYPE_Q8_0; dtype < BORA_DTYPE_COUNT; dtype++) {
        const bora_block *type = bora_block_of(dtype);
        uint8_t block[BORA_BLOCK_SIZE_MAX];
        memset(block, 0x55, sizeof block); /* no scale is zero, no level is */
        put_halves(dtype, block, 0x3555, 0x3555);
        float before[BORA_BLOCK_ELEMENTS_MAX], after[BORA_BLOCK_ELEMENTS_MAX];
        bora_dequantize_row(NULL, dtype, block, 0, type->n_elements, before);
        for (size_t bit = 0; bit < 8 * type->size; bit++) {
            block[bit / 8] ^= (uint8_t)(1 << bit % 8);
            bora_dequantize_row(NULL, dtype, block, 0, type->n_elements, after);
            if (memcmp(before, after, type->n_elements * sizeof *before) == 0)
                fail_msg("%s: bit %zu changes nothing", type->name, bit);
            block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_blocks),
        cmocka_unit_test(test_edge_blocks),
        cmocka_unit_test(test_every_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
