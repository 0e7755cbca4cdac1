/* Inside of the quantisers: one block of one type. */
#ifndef BORA_KERNELS_QUANTIZE_PRIVATE_H
#define BORA_KERNELS_QUANTIZE_PRIVATE_H

#include "kernels/kernels.h"

#include <string.h>

/* x, weight: the block's elements. The layouts are those of dequantize*.c. */
typedef void (*bora_quantize_fn)(const float *x, const float *weight, uint8_t *out);

/* quantize_k.c */
void bora_quantize_q2_k(const float *x, const float *weight, uint8_t *out);
void bora_quantize_q3_k(const float *x, const float *weight, uint8_t *out);
void bora_quantize_q4_k(const float *x, const float *weight, uint8_t *out);
void bora_quantize_q5_k(const float *x, const float *weight, uint8_t *out);
void bora_quantize_q6_k(const float *x, const float *weight, uint8_t *out);
void bora_quantize_iq4_xs(const float *x, const float *weight, uint8_t *out);

static inline void store_u16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

#define F16_MAX 65504.0f

/* Writes value as f16 (the largest there is, if it is beyond) and returns what will be read back. */
static inline float store_f16(uint8_t *to, float value)
{
    uint16_t half = bora_f32_to_f16(value > F16_MAX ? F16_MAX : value < -F16_MAX ? -F16_MAX : value);
    store_u16(to, half);
    return bora_f16_to_f32(half);
}

/* 32 elements of 4 bits: i < 16 in the low half of byte i, 16 + i in the high half. */
static inline void store_nibbles(const int8_t q[32], int8_t zero, uint8_t out[16])
{
    for (size_t i = 0; i < 16; i++)
        out[i] = (uint8_t)(((q[i] + zero) & 0xf) | ((q[16 + i] + zero) & 0xf) << 4);
}

#endif
