/* Weights as f32: the types of 32 elements with one f16 scale d and, in those named _1, one f16 offset m. */
#include "kernels/dequantize_block.h"

#define N      32u /* elements of a block */
#define N_HALF 16u

/* q4_0, 18 bytes: d f16, q[16]. Element i < 16 is the low half of q[i], element 16 + i its high half.
 * (q - 8) d */
BLOCK_INLINE void q4_0_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in);
    const uint8_t *q = in + 2;
    for (size_t i = 0; i < N_HALF; i++)
        out[i] = (float)((q[i] & 0xf) - 8) * d;
    for (size_t i = 0; i < N_HALF; i++)
        out[N_HALF + i] = (float)((q[i] >> 4) - 8) * d;
}

/* q4_1, 20 bytes: d f16, m f16, q[16] as in q4_0.
 * q d + m */
BLOCK_INLINE void q4_1_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in), m = load_f16(in + 2);
    const uint8_t *q = in + 4;
    for (size_t i = 0; i < N_HALF; i++)
        out[i] = (float)(q[i] & 0xf) * d + m;
    for (size_t i = 0; i < N_HALF; i++)
        out[N_HALF + i] = (float)(q[i] >> 4) * d + m;
}

/* Bit 4 of each element of a block of 5 bits, from the 32 bits that hold the fifth ones: element i's is bit i. */
BLOCK_INLINE void fifth_bits(const uint8_t *bytes, int ret_bits[N])
{
    const uint32_t all = load_u16(bytes) | (uint32_t)load_u16(bytes + 2) << 16;
    for (size_t i = 0; i < N; i++)
        ret_bits[i] = all & UINT32_C(1) << i ? 16 : 0;
}

/* q5_0, 22 bytes: d f16, the fifth bits in 4 bytes, q[16] as in q4_0.
 * (q - 16) d */
BLOCK_INLINE void q5_0_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in);
    const uint8_t *q = in + 6;
    int fifth[N];
    fifth_bits(in + 2, fifth);
    for (size_t i = 0; i < N_HALF; i++)
        out[i] = (float)(((q[i] & 0xf) | fifth[i]) - 16) * d;
    for (size_t i = 0; i < N_HALF; i++)
        out[N_HALF + i] = (float)((q[i] >> 4 | fifth[N_HALF + i]) - 16) * d;
}

/* q5_1, 24 bytes: d f16, m f16, the fifth bits in 4 bytes, q[16] as in q4_0.
 * q d + m */
BLOCK_INLINE void q5_1_block(const uint8_t *in, float *out)
{
    const float d = load_f16(in), m = load_f16(in + 2);
    const uint8_t *q = in + 8;
    int fifth[N];
    fifth_bits(in + 4, fifth);
    for (size_t i = 0; i < N_HALF; i++)
        out[i] = (float)((q[i] & 0xf) | fifth[i]) * d + m;
    for (size_t i = 0; i < N_HALF; i++)
        out[N_HALF + i] = (float)(q[i] >> 4 | fifth[N_HALF + i]) * d + m;
}

DEQUANTIZER(q4_0, N, 18)
DEQUANTIZER(q4_1, N, 20)
DEQUANTIZER(q5_0, N, 22)
DEQUANTIZER(q5_1, N, 24)
