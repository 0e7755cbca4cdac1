/* Weights as f32: the K types, 256 elements in parts of 16 or 32 that have small integers as scales, which f16 scales
 * of the whole block multiply. The arithmetic is f32 with every operation rounded, in the order written here. Parts are
 * unrolled where that doubles the speed: their shifts are constants then. */
#include "kernels/dequantize_block.h"

#define N 256u /* elements of a block */

/* q2_k, 84 bytes: sm[16], q[64], d f16, dmin f16. 16 parts of 16; part p has its scale in the low half of sm[p], its
 * minimum in the high half. Each half of the block has 32 bytes of q: the lowest two bits of these are its elements
 * 0 .. 31, the next two its elements 32 .. 63, and so on.
 * (d scale) q - (dmin minimum) */
BLOCK_INLINE void q2_k_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in + 80), dmin = load_f16(in + 82);
    for (size_t part = 0; part < 16; part++) {
        const uint8_t *q = in + 16 + part / 8 * 32 + part % 2 * 16;
        const unsigned shift = part % 8 / 2 * 2;
        const float scale = d * (float)(in[part] & 0xf), minimum = dmin * (float)(in[part] >> 4);
        for (size_t i = 0; i < 16; i++)
            out[part * 16 + i] = scale * (float)(q[i] >> shift & 3) - minimum;
    }
}

/* q3_k, 110 bytes: high[32], q[64], s[12], d f16. 16 parts of 16; part p has a scale of 6 bits minus 32: the low four
 * in s[p] (p < 8) or the high half of s[p - 8], the upper two in bits 2 (p / 4) of s[8 + p % 4]. Two bits of an element
 * are in q as in q2_k; the third of element 32 g + i is bit g of high[i], and where it is not set, 4 is taken away.
 * (d scale) q */
BLOCK_INLINE void q3_k_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in + 108);
    const uint8_t *s = in + 96;
#pragma GCC unroll 16
    for (size_t part = 0; part < 16; part++) {
        const uint8_t *q = in + 32 + part / 8 * 32 + part % 2 * 16, *high = in + part % 2 * 16;
        const unsigned shift = part % 8 / 2 * 2, bit = (unsigned)part / 2;
        const int low = part < 8 ? s[part] & 0xf : s[part - 8] >> 4;
        const int upper = s[8 + part % 4] >> part / 4 * 2 & 3;
        const float scale = d * (float)((low | upper << 4) - 32);
        for (size_t i = 0; i < 16; i++)
            out[part * 16 + i] = scale * (float)(((q[i] >> shift & 3) | (high[i] >> bit & 1) << 2) - 4);
    }
}

/* The scales and minima of q4_k and q5_k, 8 of each with 6 bits in 12 bytes. Those of parts 0 .. 3 are the low six bits
 * of bytes 0 .. 3 and 4 .. 7. Part 4 + p has its low four bits in byte 8 + p (scale low, minimum high half), the upper
 * two in the bits that are left of byte p and of byte 4 + p. */
BLOCK_INLINE void scales_and_minima(const uint8_t *in, uint8_t ret_scales[8], uint8_t ret_minima[8])
{
    for (size_t p = 0; p < 4; p++) {
        ret_scales[p] = in[p] & 63;
        ret_minima[p] = in[4 + p] & 63;
        ret_scales[4 + p] = (uint8_t)((in[8 + p] & 0xf) | in[p] >> 6 << 4);
        ret_minima[4 + p] = (uint8_t)(in[8 + p] >> 4 | in[4 + p] >> 6 << 4);
    }
}

/* q4_k, 144 bytes: d f16, dmin f16, 12 bytes of scales and minima, q[128]. 8 parts of 32; parts 2 p and 2 p + 1 are the
 * low and the high halves of q[32 p] .. q[32 p + 31].
 * (d scale) q - (dmin minimum) */
BLOCK_INLINE void q4_k_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in), dmin = load_f16(in + 2);
    uint8_t scales[8], minima[8];
    scales_and_minima(in + 4, scales, minima);
    for (size_t part = 0; part < 8; part++) {
        const uint8_t *q = in + 16 + part / 2 * 32;
        const unsigned shift = part % 2 * 4;
        const float scale = d * (float)scales[part], minimum = dmin * (float)minima[part];
        for (size_t i = 0; i < 32; i++)
            out[part * 32 + i] = scale * (float)(q[i] >> shift & 0xf) - minimum;
    }
}

/* q5_k, 176 bytes: d f16, dmin f16, 12 bytes of scales and minima, high[32], q[128]. As q4_k; the fifth bit of element
 * i of part p is bit p of high[i].
 * (d scale) q - (dmin minimum) */
BLOCK_INLINE void q5_k_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in), dmin = load_f16(in + 2);
    const uint8_t *high = in + 16;
    uint8_t scales[8], minima[8];
    scales_and_minima(in + 4, scales, minima);
    for (size_t part = 0; part < 8; part++) {
        const uint8_t *q = in + 48 + part / 2 * 32;
        const unsigned shift = part % 2 * 4;
        const float scale = d * (float)scales[part], minimum = dmin * (float)minima[part];
        for (size_t i = 0; i < 32; i++)
            out[part * 32 + i] = scale * (float)((q[i] >> shift & 0xf) | (high[i] >> part & 1) << 4) - minimum;
    }
}

/* q6_k, 210 bytes: low[128], high[64], scales[16] int8, d f16. 16 parts of 16 with a scale each. Each half of the block
 * has 64 bytes of low and 32 of high: its elements 0 .. 63 are in the low halves of low, 64 .. 127 in the high halves;
 * the upper two bits of element 32 g + i are bits 2 g of high[i].
 * (d scale) (q - 32) */
BLOCK_INLINE void q6_k_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in + 208);
#pragma GCC unroll 16
    for (size_t part = 0; part < 16; part++) {
        const size_t half = part / 8, in_half = part % 8;
        const uint8_t *low = in + half * 64 + in_half % 4 * 16;
        const uint8_t *high = in + 128 + half * 32 + in_half % 2 * 16;
        const unsigned low_shift = in_half / 4 * 4, high_shift = in_half / 2 * 2;
        const float scale = d * (float)(int8_t)in[192 + part];
        for (size_t i = 0; i < 16; i++)
            out[part * 16 + i] = scale * (float)(((low[i] >> low_shift & 0xf) | (high[i] >> high_shift & 3) << 4) - 32);
    }
}

DEQUANTIZER(q2_k, N, 84)
DEQUANTIZER(q3_k, N, 110)
DEQUANTIZER(q4_k, N, 144)
DEQUANTIZER(q5_k, N, 176)
DEQUANTIZER(q6_k, N, 210)
