/* The gate of SwiGLU, 16 values at a time: silu(gate) * up, silu(a) = a / (1 + e^-a).
 *
 * The exponential is ours: a polynomial within about one unit in the last place, without branches. Every value goes
 * through the same operations, also at the end of a row, and nothing is fused: the same bits wherever it is computed.
 * Written in vectors of the compiler's; whoever uses it decides which processors it is compiled for. */
#ifndef BORA_EXPERT_QUANT_SILU_H
#define BORA_EXPERT_QUANT_SILU_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SILU_LANES 16u

typedef float silu_floats __attribute__((vector_size(SILU_LANES * sizeof(float))));
typedef int32_t silu_ints __attribute__((vector_size(SILU_LANES * sizeof(int32_t))));
typedef uint32_t silu_bits __attribute__((vector_size(SILU_LANES * sizeof(uint32_t))));

/* out may be gate or up. */
static inline __attribute__((always_inline)) void silu_mul_lanes(const float *gate, const float *up, float *out)
{
    silu_floats a, b;
    memcpy(&a, gate, sizeof a);
    memcpy(&b, up, sizeof b);

    /* e = e^-|a|, which cannot overflow. Floats are ordered as their magnitudes' bits are. From 87 on e counts as 0;
     * NaN counts as large here and comes out through the product with a. */
    const int32_t limit = 0x42ae0000; /* 87.0f */
    silu_ints magnitude = (silu_ints)a & 0x7fffffff;
    const silu_ints is_bounded = magnitude < limit; /* all ones or none */
    magnitude = (magnitude & is_bounded) | (limit & ~is_bounded);
    const silu_floats x = -(silu_floats)magnitude;

    /* x = k ln 2 + r, |r| <= ln 2 / 2. Adding and taking away 1.5 * 2^23 rounds to the nearest integer. ln 2 is in two
     * parts, the first with bits to spare, so that k times it is exact. */
    const silu_floats shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    const silu_floats k = shifted - 0x1.8p+23f;
    silu_floats r = x - k * 0x1.62e400p-1f;
    r = r - k * 0x1.7f7d1cp-20f;
    silu_floats p = r * 0x1.a01a02p-13f + 0x1.6c16c2p-10f; /* Taylor up to r^7 / 5040; the next is below 6e-9 */
    p = p * r + 0x1.111112p-7f;
    p = p * r + 0x1.555556p-5f;
    p = p * r + 0x1.555556p-3f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    p *= (silu_floats)(((silu_bits)shifted + 127) << 23); /* times 2^k: the low bits of shifted are those of k */
    const silu_floats e = (silu_floats)((silu_ints)p & is_bounded);

    /* a / (1 + e) for positive a, a e / (1 + e) for negative. */
    const silu_ints is_negative = (silu_ints)a >> 31;
    const silu_floats one = 1.0f - (silu_floats){0};
    const silu_floats numerator = (silu_floats)(((silu_ints)e & is_negative) | ((silu_ints)one & ~is_negative));
    const silu_floats y = a * (numerator / (1.0f + e)) * b;
    memcpy(out, &y, sizeof y);
}

/* gate[i] = silu(gate[i]) * up[i] for n values. */
static inline __attribute__((always_inline)) void silu_mul_row(size_t n, float *gate, const float *up)
{
    size_t i = 0;
    for (; i + SILU_LANES <= n; i += SILU_LANES)
        silu_mul_lanes(gate + i, up + i, gate + i);
    if (i < n) {
        float a[SILU_LANES] = {0}, b[SILU_LANES] = {0};
        memcpy(a, gate + i, (n - i) * sizeof *a);
        memcpy(b, up + i, (n - i) * sizeof *b);
        silu_mul_lanes(a, b, a);
        memcpy(gate + i, a, (n - i) * sizeof *a);
    }
}

#endif
