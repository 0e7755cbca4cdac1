/* The gate of SwiGLU: silu(a) * b, silu(a) = a / (1 + e^-a).
 *
 * The exponential is our own, without branches or calls, so that the compiler works on several elements at once: half
 * the time of the C library's, and the same bits on every machine. */
#include "kernels/kernels.h"

#include <string.h>

#define BLOCK 16u /* a constant trip count is what gcc -O2 asks for to vectorise */

static inline float float_of(int32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int32_t bits_of(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* e^x for -87 <= x <= 0, within one unit in the last place. */
static inline float exp_bounded(float x)
{
    /* x = k ln 2 + r, |r| <= ln 2 / 2. Adding and taking away 1.5 * 2^23 rounds to the nearest integer. */
    float shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    float k = shifted - 0x1.8p+23f;
    float r = x - k * 0x1.62e400p-1f; /* ln 2 in two parts: the first has bits to spare, so that k times it is exact */
    r = r - k * 0x1.7f7d1cp-20f;
    float p = 0x1.a01a02p-13f; /* Taylor: r^7 / 5040 is the last term, r^8 / 40320 < 6e-9 the first left out */
    p = p * r + 0x1.6c16c2p-10f;
    p = p * r + 0x1.111112p-7f;
    p = p * r + 0x1.555556p-5f;
    p = p * r + 0x1.555556p-3f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    /* times 2^k: the low bits of shifted are those of k */
    return p * float_of((int32_t)(((uint32_t)bits_of(shifted) + 127) << 23));
}

/* With e = e^-|a|, which cannot overflow: a / (1 + e) for positive a, a e / (1 + e) for negative. The choices are made
 * on the bits: floats are ordered as their magnitudes' bits are, and a comparison of floats may trap, which keeps gcc
 * from vectorising. Beyond 87 e counts as 0: times a large a, a tiny one would still be something. NaN counts as large
 * here and comes out through the product with a. */
static inline float silu(float a)
{
    const int32_t limit = 0x42ae0000; /* 87.0f */
    int32_t magnitude = bits_of(a) & 0x7fffffff, is_negative = bits_of(a) >> 31;
    int32_t is_bounded = (magnitude - limit) >> 31; /* all ones or none, as is_negative */
    magnitude = magnitude < limit ? magnitude : limit;
    float e = float_of(bits_of(exp_bounded(-float_of(magnitude))) & is_bounded);
    float numerator = float_of((bits_of(e) & is_negative) | (bits_of(1.0f) & ~is_negative));
    return a * (numerator / (1.0f + e));
}

void bora_silu_mul(size_t n, const float *a, const float *b, float *y)
{
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        float block[BLOCK]; /* y may be a or b: the compiler need not wonder */
        for (size_t j = 0; j < BLOCK; j++)
            block[j] = silu(a[i + j]) * b[i + j];
        memcpy(y + i, block, sizeof block);
    }
    for (; i < n; i++)
        y[i] = silu(a[i]) * b[i];
}
