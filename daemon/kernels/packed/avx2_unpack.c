/* Units unpacked for the AVX2 tiles: quants to bytes, scales to floats. Types whose offset the tiles take away through
 * the panel's start values stay unsigned; those with 8 bits or a list of values become int8. */
#if defined(__x86_64__)
#include "kernels/dequantize.h"
#include "kernels/packed/avx2.h"
#include "kernels/packed/plain.h"

#include <immintrin.h>

#define TARGET      BORA_AVX2_TARGET
#define INLINE      TARGET static inline __attribute__((always_inline))
#define VECTOR_SIZE 64u
#define HALF        32u /* bytes of a register */

INLINE __m256i load(const void *from)
{
    return _mm256_load_si256((const __m256i *)from);
}

INLINE void store(void *to, __m256i value)
{
    _mm256_store_si256((__m256i *)to, value);
}

/* Bits shift .. of every byte moved to bit position to, the others masked away. */
INLINE __m256i bits_to(__m256i v, int from, int to, int mask)
{
    const __m256i moved = to > from ? _mm256_slli_epi16(v, to - from) : _mm256_srli_epi16(v, from - to);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)mask));
}

INLINE __m256i low_nibbles(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

INLINE __m256i high_nibbles(__m256i v)
{
    return bits_to(v, 4, 0, 15);
}

INLINE __m256i iq4_list(void)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bora_iq4_values));
}

INLINE void f16_to_f32(const uint8_t *in, float out[16])
{
    for (size_t i = 0; i < 16; i += 8)
        _mm256_store_ps(out + i, _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(in + 2 * i))));
}

INLINE void i8_to_f32(const uint8_t *in, float out[16])
{
    for (size_t i = 0; i < 16; i += 8)
        _mm256_store_ps(out + i, _mm256_cvtepi32_ps(
                                     _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(in + i)))));
}

/* k_min of a pair of sub-blocks, from bytes [2][16]. */
INLINE void pair_mins(const uint8_t *in, int16_t out[16][2])
{
    for (size_t i = 0; i < 16; i += 8) {
        const __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(in + i)));
        const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(in + 16 + i)));
        store(out[i], _mm256_or_si256(a, _mm256_slli_epi32(b, 16)));
    }
}

INLINE void ones(float out[16])
{
    for (size_t i = 0; i < 16; i += 8)
        _mm256_store_ps(out + i, _mm256_set1_ps(1));
}

/* ---- blocks of 32 ----------------------------------------------------------------------------------- */

INLINE void unpack_q32(uint32_t dtype, const uint8_t *unit, size_t size, size_t min, size_t quants, size_t high,
                       bora_avx2_unit *ret)
{
    const bool has_list = dtype == BORA_DTYPE_IQ4_NL;
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * size;
        const size_t second = j % 2;
        const uint8_t *q = in + quants + second * 4 * VECTOR_SIZE;
        f16_to_f32(in + second * 32, ret->scale[j]);
        if (min)
            f16_to_f32(in + min + second * 32, ret->min[j]);
        for (size_t half = 0; half < VECTOR_SIZE; half += HALF) {
            const __m256i fifth = high ? load(in + high + second * VECTOR_SIZE + half) : _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const __m256i v = load(q + (size_t)i * VECTOR_SIZE + half);
                __m256i a = low_nibbles(v), b = high_nibbles(v);
                if (high) {
                    a = _mm256_or_si256(a, bits_to(fifth, i, 4, 16));
                    b = _mm256_or_si256(b, bits_to(fifth, 4 + i, 4, 16));
                }
                store(&ret->q[j * 8 + (size_t)i][half], has_list ? _mm256_shuffle_epi8(iq4_list(), a) : a);
                store(&ret->q[j * 8 + 4 + (size_t)i][half], has_list ? _mm256_shuffle_epi8(iq4_list(), b) : b);
            }
        }
    }
    ones(ret->d);
}

TARGET static void unpack_q4_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q32(BORA_DTYPE_Q4_0, unit, 576, 0, 64, 0, ret);
}

TARGET static void unpack_iq4_nl(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q32(BORA_DTYPE_IQ4_NL, unit, 576, 0, 64, 0, ret);
}

TARGET static void unpack_q4_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q32(BORA_DTYPE_Q4_1, unit, 640, 64, 128, 0, ret);
}

TARGET static void unpack_q5_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q32(BORA_DTYPE_Q5_0, unit, 704, 0, 64, 576, ret);
}

TARGET static void unpack_q5_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q32(BORA_DTYPE_Q5_1, unit, 768, 64, 128, 640, ret);
}

TARGET static void unpack_q8_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    const __m256i sign = _mm256_set1_epi8(-128);
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * 1088;
        const uint8_t *q = in + 64 + j % 2 * 8 * VECTOR_SIZE;
        f16_to_f32(in + j % 2 * 32, ret->scale[j]);
        for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF)
            store(ret->q[j * 8] + at, _mm256_xor_si256(load(q + at), sign));
    }
    ones(ret->d);
}

/* ---- blocks of 256 ---------------------------------------------------------------------------------- */

INLINE void unpack_k_scales(const uint8_t *unit, bora_avx2_unit *ret)
{
    _Alignas(32) uint8_t scales[128], mins[128];
    f16_to_f32(unit, ret->d);
    f16_to_f32(unit + 32, ret->dmin);
#pragma GCC unroll 4
    for (size_t at = 0; at < 128; at += HALF) {
        const __m256i low = load(unit + 64 + at), upper = load(unit + 192 + at % 64);
        const int first = at < 64 ? 0 : 2;
        store(scales + at, _mm256_or_si256(low_nibbles(low), bits_to(upper, first, 4, 0x30)));
        store(mins + at, _mm256_or_si256(high_nibbles(low), bits_to(upper, first + 4, 4, 0x30)));
    }
    for (size_t j = 0; j < 8; j++)
        i8_to_f32(scales + j * 16, ret->scale[j]);
    for (size_t p = 0; p < 4; p++)
        pair_mins(mins + p * 32, ret->k_min[p]);
}

INLINE void unpack_q45_k(const uint8_t *unit, bool has_fifth, bora_avx2_unit *ret)
{
    unpack_k_scales(unit, ret);
    for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF) {
        const __m256i fifth = has_fifth ? load(unit + 2304 + at) : _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            const __m256i v = load(unit + 256 + (size_t)g * 8 * VECTOR_SIZE + at);
            __m256i a = low_nibbles(v), b = high_nibbles(v);
            if (has_fifth) {
                a = _mm256_or_si256(a, bits_to(fifth, 2 * g, 4, 16));
                b = _mm256_or_si256(b, bits_to(fifth, 2 * g + 1, 4, 16));
            }
            store(ret->q[(size_t)g * 16] + at, a);
            store(ret->q[(size_t)g * 16 + 8] + at, b);
        }
    }
}

TARGET static void unpack_q4_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q45_k(unit, false, ret);
}

TARGET static void unpack_q5_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    unpack_q45_k(unit, true, ret);
}

TARGET static void unpack_q6_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    f16_to_f32(unit, ret->d);
    for (size_t j = 0; j < 16; j++)
        i8_to_f32(unit + 64 + j * 16, ret->scale[j]);
    for (size_t n = 0; n < 2; n++) {
        const uint8_t *in = unit + 320 + n * 24 * VECTOR_SIZE;
        uint8_t *out = ret->q[n * 32];
        for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF) {
            const __m256i a = load(in + at), b = load(in + 8 * VECTOR_SIZE + at);
            const __m256i h = load(in + 16 * VECTOR_SIZE + at);
            store(out + at, _mm256_or_si256(low_nibbles(a), bits_to(h, 0, 4, 0x30)));
            store(out + 8 * VECTOR_SIZE + at, _mm256_or_si256(low_nibbles(b), bits_to(h, 2, 4, 0x30)));
            store(out + 16 * VECTOR_SIZE + at, _mm256_or_si256(high_nibbles(a), bits_to(h, 4, 4, 0x30)));
            store(out + 24 * VECTOR_SIZE + at, _mm256_or_si256(high_nibbles(b), bits_to(h, 6, 4, 0x30)));
        }
    }
}

/* The two bits of q2_k and q3_k, and the latter's third. */
INLINE void unpack_q23_k(const uint8_t *qs, const uint8_t *third, bora_avx2_unit *ret)
{
    for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF) {
        const __m256i h = third ? load(third + at) : _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m256i v = bits_to(load(qs + (size_t)(j / 4) * 8 * VECTOR_SIZE + at), j % 4 * 2, 0, 3);
            if (third)
                v = _mm256_or_si256(v, bits_to(h, j, 2, 4));
            store(ret->q[j * 8] + at, v);
        }
    }
}

TARGET static void unpack_q3_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    f16_to_f32(unit, ret->d);
    for (size_t j = 0; j < 16; j++)
        i8_to_f32(unit + 64 + j * 16, ret->scale[j]);
    unpack_q23_k(unit + 320, unit + 1344, ret);
}

TARGET static void unpack_q2_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    _Alignas(32) uint8_t scales[256], mins[256];
    f16_to_f32(unit, ret->d);
    f16_to_f32(unit + 32, ret->dmin);
    for (size_t at = 0; at < 256; at += HALF) {
        const __m256i both = load(unit + 64 + at);
        store(scales + at, low_nibbles(both));
        store(mins + at, high_nibbles(both));
    }
    for (size_t j = 0; j < 16; j++)
        i8_to_f32(scales + j * 16, ret->scale[j]);
    for (size_t p = 0; p < 8; p++)
        pair_mins(mins + p * 32, ret->k_min[p]);
    unpack_q23_k(unit + 320, NULL, ret);
}

TARGET static void unpack_iq4_xs(const uint8_t *unit, bora_avx2_unit *ret)
{
    const __m256i list = iq4_list();
    f16_to_f32(unit, ret->d);
    for (size_t j = 0; j < 8; j++) {
        i8_to_f32(unit + 64 + j * 16, ret->scale[j]);
        for (size_t at = 0; at < 4 * VECTOR_SIZE; at += HALF) {
            const __m256i v = load(unit + 192 + j * 4 * VECTOR_SIZE + at);
            store(ret->q[j * 8] + at, _mm256_shuffle_epi8(list, low_nibbles(v)));
            store(ret->q[j * 8 + 4] + at, _mm256_shuffle_epi8(list, high_nibbles(v)));
        }
    }
}

bora_avx2_unpack bora_avx2_unpack_of(uint32_t dtype)
{
    static const bora_avx2_unpack all[BORA_DTYPE_COUNT] = {
        [BORA_DTYPE_Q4_0] = unpack_q4_0, [BORA_DTYPE_Q4_1] = unpack_q4_1,     [BORA_DTYPE_Q5_0] = unpack_q5_0,
        [BORA_DTYPE_Q5_1] = unpack_q5_1, [BORA_DTYPE_Q8_0] = unpack_q8_0,     [BORA_DTYPE_IQ4_NL] = unpack_iq4_nl,
        [BORA_DTYPE_Q2_K] = unpack_q2_k, [BORA_DTYPE_Q3_K] = unpack_q3_k,     [BORA_DTYPE_Q4_K] = unpack_q4_k,
        [BORA_DTYPE_Q5_K] = unpack_q5_k, [BORA_DTYPE_IQ4_XS] = unpack_iq4_xs, [BORA_DTYPE_Q6_K] = unpack_q6_k,
    };
    return dtype < BORA_DTYPE_COUNT ? all[dtype] : NULL;
}

#else
typedef int bora_avx2_unpack_not_here; /* ISO C wants something in every file */
#endif
