/* The gate of SwiGLU: silu(a) * b, silu(a) = a / (1 + e^-a). */
#include "kernels/exp.h"
#include "kernels/kernels.h"

#define BLOCK 16u /* a constant trip count is what gcc -O2 asks for to vectorise */

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
