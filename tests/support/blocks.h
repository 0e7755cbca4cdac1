/* Random weights of every element type: any bits, but scales that give them a chosen size. */
#ifndef TESTS_SUPPORT_BLOCKS_H
#define TESTS_SUPPORT_BLOCKS_H

#include "kernels/kernels.h"
#include "model/blocks.h"

#include <string.h>

#define BLOCKS_NONE SIZE_MAX

/* Where a type keeps its f16 scale and offset, and the largest integers they multiply. */
typedef struct blocks_halves {
    size_t d, m; /* bytes from the block's start; BLOCKS_NONE: the type has none */
    float d_times, m_times;
} blocks_halves;

static inline blocks_halves blocks_halves_of(uint32_t dtype)
{
    static const blocks_halves all[BORA_DTYPE_COUNT] = {
        [BORA_DTYPE_F32] = {BLOCKS_NONE, BLOCKS_NONE, 0, 0},
        [BORA_DTYPE_F16] = {BLOCKS_NONE, BLOCKS_NONE, 0, 0},
        [BORA_DTYPE_BF16] = {BLOCKS_NONE, BLOCKS_NONE, 0, 0},
        [BORA_DTYPE_Q8_0] = {0, BLOCKS_NONE, 127, 0},
        [BORA_DTYPE_Q4_0] = {0, BLOCKS_NONE, 8, 0},
        [BORA_DTYPE_Q4_1] = {0, 2, 15, 1},
        [BORA_DTYPE_Q5_0] = {0, BLOCKS_NONE, 16, 0},
        [BORA_DTYPE_Q5_1] = {0, 2, 31, 1},
        [BORA_DTYPE_Q2_K] = {80, 82, 15 * 3, 15},
        [BORA_DTYPE_Q3_K] = {108, BLOCKS_NONE, 32 * 4, 0},
        [BORA_DTYPE_Q4_K] = {0, 2, 63 * 15, 63},
        [BORA_DTYPE_Q5_K] = {0, 2, 63 * 31, 63},
        [BORA_DTYPE_Q6_K] = {208, BLOCKS_NONE, 128 * 32, 0},
        [BORA_DTYPE_IQ4_NL] = {0, BLOCKS_NONE, 127, 0},
        [BORA_DTYPE_IQ4_XS] = {0, BLOCKS_NONE, 32 * 127, 0},
    };
    return all[dtype];
}

static inline uint64_t blocks_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33; /* 31 bits */
}

static inline void blocks_put_f16(uint8_t *to, float value)
{
    uint16_t half = bora_f32_to_f16(value);
    memcpy(to, &half, sizeof half);
}

/* One block (one element of the types without blocks) of numbers between about -size and size. */
static inline void blocks_fill(uint32_t dtype, uint64_t *state, float size, uint8_t *out)
{
    const blocks_halves halves = blocks_halves_of(dtype);
    const float value = ((float)blocks_random(state) * 0x1p-30f - 1) * size;
    uint16_t half = dtype == BORA_DTYPE_BF16 ? bora_f32_to_bf16(value) : bora_f32_to_f16(value);
    if (dtype == BORA_DTYPE_F32) {
        memcpy(out, &value, sizeof value);
    } else if (dtype == BORA_DTYPE_F16 || dtype == BORA_DTYPE_BF16) {
        memcpy(out, &half, sizeof half);
    } else {
        for (size_t i = 0; i < bora_block_of(dtype)->size; i++)
            out[i] = (uint8_t)(blocks_random(state) >> 11);
        blocks_put_f16(out + halves.d, value / halves.d_times);
        if (halves.m != BLOCKS_NONE)
            blocks_put_f16(out + halves.m, value / halves.m_times);
    }
}

#endif
