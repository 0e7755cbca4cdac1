/* What cache plugins share: from f32 to the element types they keep. Only the SDK is needed. */
#ifndef BORA_CACHE_ELEMENTS_H
#define BORA_CACHE_ELEMENTS_H

#include <bora/plugin.h>

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define ELEMENTS_Q8_0      32u /* elements of a block */
#define ELEMENTS_Q8_0_SIZE 34u /* its bytes */
#define ELEMENTS_HALF_MAX  65504.0f
#define ELEMENTS_HALF_NAN  0x7e00u

/* Bytes of n elements; 0 if they are not whole blocks, or for a type that caches do not keep. */
static inline size_t elements_size(uint32_t dtype, size_t n)
{
    switch (dtype) {
    case BORA_DTYPE_F32:
        return 4 * n;
    case BORA_DTYPE_F16:
        return 2 * n;
    case BORA_DTYPE_Q8_0:
        return n % ELEMENTS_Q8_0 ? 0 : n / ELEMENTS_Q8_0 * ELEMENTS_Q8_0_SIZE;
    default:
        return 0;
    }
}

/* ---- halves -------------------------------------------------------------------------------------------- */

/* IEEE half, rounded to nearest even (which is how the processor adds). */
static inline uint16_t elements_f32_to_f16(float value)
{
    const uint32_t f32_infinity = 0x7f800000u, f16_overflow = 0x47800000u /* 2^16 */,
                   f16_normal = 0x38800000u /* 2^-14 */;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > f32_infinity) /* NaN keeps what fits of its payload and becomes quiet */
        return (uint16_t)(sign | ELEMENTS_HALF_NAN | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= f16_overflow)
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < f16_normal) {
        /* Around 0.5 a float's last place is 2^-24, that of a subnormal half: adding 0.5 rounds to it. */
        float small;
        memcpy(&small, &magnitude, sizeof small);
        small += 0.5f;
        memcpy(&magnitude, &small, sizeof magnitude);
        return (uint16_t)(sign | (magnitude - 0x3f000000u));
    }
    /* Half of the last place that stays, less one unless that place is odd: a carry may run up to infinity. */
    magnitude += 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

/* For scales: not negative, finite. */
static inline float elements_f16_to_f32(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value * 0x1p112f; /* moved to the top of a float a half is 2^112 times too small, subnormals included */
}

#if defined(__x86_64__)
/* Returns how many are done. Every processor with AVX2 converts halves. */
__attribute__((target("avx2,f16c"))) static inline size_t elements_store_halves_f16c(const float *from, size_t n,
                                                                                     uint16_t *to)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}
#endif

static inline void elements_store_halves(const float *from, size_t n, uint16_t *to)
{
    size_t i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        i = elements_store_halves_f16c(from, n, to);
#endif
    for (; i < n; i++)
        to[i] = elements_f32_to_f16(from[i]);
}

/* ---- blocks of 8 bits ---------------------------------------------------------------------------------- */

/* Compiled for several processors; nothing is summed or fused, so all give the same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ELEMENTS_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ELEMENTS_CLONES
#endif

/* Adding it rounds a small float to an integer, which then lies in its lowest bits. */
#define ELEMENTS_ROUND 0x1.8p23f

ELEMENTS_CLONES static void elements_store_blocks(const float *from, size_t n, uint8_t *to)
{
    for (size_t b = 0; b < n / ELEMENTS_Q8_0; b++, to += ELEMENTS_Q8_0_SIZE) {
        const float *x = from + b * ELEMENTS_Q8_0;
        uint32_t magnitudes[ELEMENTS_Q8_0], max_bits = 0;
        memcpy(magnitudes, x, sizeof magnitudes);
        /* As integers, floats that are not negative compare alike, and NaN is the greatest. */
        for (size_t i = 0; i < ELEMENTS_Q8_0; i++) {
            const uint32_t magnitude = magnitudes[i] & 0x7fffffffu;
            max_bits = magnitude > max_bits ? magnitude : max_bits;
        }
        float max;
        memcpy(&max, &max_bits, sizeof max);
        const float wanted = max / 127;
        uint16_t half = max_bits >= 0x7f800000u
                            ? ELEMENTS_HALF_NAN
                            : elements_f32_to_f16(wanted < ELEMENTS_HALF_MAX ? wanted : ELEMENTS_HALF_MAX);
        const float scale = half == ELEMENTS_HALF_NAN ? 0 : elements_f16_to_f32(half);
        uint8_t q[ELEMENTS_Q8_0] = {0};
        if (scale > 0)
            for (size_t i = 0; i < ELEMENTS_Q8_0; i++) {
                /* A scale that was rounded down, or is the largest there is, may leave values beyond. */
                float scaled = x[i] / scale;
                scaled = scaled < 127 ? scaled : 127;
                scaled = scaled > -127 ? scaled : -127;
                scaled += ELEMENTS_ROUND;
                uint32_t bits;
                memcpy(&bits, &scaled, sizeof bits);
                q[i] = (uint8_t)bits;
            }
        memcpy(to, &half, sizeof half);
        memcpy(to + sizeof half, q, sizeof q);
    }
}

/* Converts n elements, whole blocks, rounding to nearest even. to is aligned to 2 bytes. The same bits on every
 * processor. A block of q8_0 has the scale max |x| / 127; one that holds a value which is not finite reads as NaN, as
 * in the other types. */
static inline void elements_store(uint32_t dtype, const float *from, size_t n, void *to)
{
    if (dtype == BORA_DTYPE_F32)
        memcpy(to, from, n * sizeof *from);
    else if (dtype == BORA_DTYPE_F16)
        elements_store_halves(from, n, to);
    else
        elements_store_blocks(from, n, to);
}

#endif
