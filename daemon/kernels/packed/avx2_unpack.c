/* Units unpacked for the AVX2 tiles: scales to floats, quants to unsigned bytes, whose offsets the tiles take away
 * through the panel's start values. Those of 8 bits, also by a list of values, are value + 128 in two nibbles: a
 * block's low ones come before its high ones. */
#if defined(__x86_64__)
#include "kernels/packed/avx2.h"
#include "kernels/packed/avx2_bits.h"

#define TARGET      BORA_AVX2_TARGET
#define VECTOR_SIZE 64u
#define HALF        32u /* bytes of a register */

INLINE void store(void *to, __m256i value)
{
    _mm256_store_si256((__m256i *)to, value);
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

/* ---- scales ----------------------------------------------------------------------------------------- */

INLINE void scales_q32(const uint8_t *unit, size_t size, size_t min, bora_avx2_unit *ret)
{
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * size + j % 2 * 32;
        f16_to_f32(in, ret->scale[j]);
        if (min)
            f16_to_f32(in + min, ret->min[j]);
    }
    ones(ret->d);
}

TARGET static void scales_q4_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_q32(unit, 576, 0, ret);
}

TARGET static void scales_q4_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_q32(unit, 640, 64, ret);
}

TARGET static void scales_q5_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_q32(unit, 704, 0, ret);
}

TARGET static void scales_q5_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_q32(unit, 768, 64, ret);
}

TARGET static void scales_q8_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_q32(unit, 1088, 0, ret);
}

TARGET static void scales_q45_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    _Alignas(32) uint8_t scales[128], mins[128];
    f16_to_f32(unit, ret->d);
    f16_to_f32(unit + 32, ret->dmin);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const size_t at = (size_t)i * HALF;
        const __m256i low = load(unit + 64 + at), upper = load(unit + 192 + at % 64);
        const int first = i < 2 ? 0 : 2;
        store(scales + at, _mm256_or_si256(low_nibbles(low), bits_to(upper, first, 4, 0x30)));
        store(mins + at, _mm256_or_si256(high_nibbles(low), bits_to(upper, first + 4, 4, 0x30)));
    }
    for (size_t j = 0; j < 8; j++)
        i8_to_f32(scales + j * 16, ret->scale[j]);
    for (size_t p = 0; p < 4; p++)
        pair_mins(mins + p * 32, ret->k_min[p]);
}

INLINE void scales_i8(const uint8_t *unit, size_t n, bora_avx2_unit *ret)
{
    f16_to_f32(unit, ret->d);
    for (size_t j = 0; j < n; j++)
        i8_to_f32(unit + 64 + j * 16, ret->scale[j]);
}

TARGET static void scales_q36_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_i8(unit, 16, ret);
}

TARGET static void scales_iq4_xs(const uint8_t *unit, bora_avx2_unit *ret)
{
    scales_i8(unit, 8, ret);
}

TARGET static void scales_q2_k(const uint8_t *unit, bora_avx2_unit *ret)
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
}

/* ---- quants ----------------------------------------------------------------------------------------- */

INLINE void quants_q32(const uint8_t *unit, size_t size, size_t quants, size_t high, bora_avx2_unit *ret)
{
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * size;
        const size_t second = j % 2;
        for (size_t half = 0; half < VECTOR_SIZE; half += HALF) {
            const __m256i fifth = high ? load(in + high + second * VECTOR_SIZE + half) : _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const __m256i v = load(in + quants + (second * 4 + (size_t)i) * VECTOR_SIZE + half);
                __m256i a = low_nibbles(v), b = high_nibbles(v);
                if (high) {
                    a = _mm256_or_si256(a, bits_to(fifth, i, 4, 16));
                    b = _mm256_or_si256(b, bits_to(fifth, 4 + i, 4, 16));
                }
                store(&ret->q[j * 8 + (size_t)i][half], a);
                store(&ret->q[j * 8 + 4 + (size_t)i][half], b);
            }
        }
    }
}

TARGET static void quants_q4_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q32(unit, 576, 64, 0, ret);
}

TARGET static void quants_q4_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q32(unit, 640, 128, 0, ret);
}

TARGET static void quants_q5_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q32(unit, 704, 64, 576, ret);
}

TARGET static void quants_q5_1(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q32(unit, 768, 128, 640, ret);
}

TARGET static void quants_q8_0(const uint8_t *unit, bora_avx2_unit *ret)
{
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *in = unit + j / 2 * 1088 + 64 + j % 2 * 512;
        for (size_t at = 0; at < 512; at += HALF) {
            const __m256i v = load(in + at);
            store(ret->q[j * 16] + at, low_nibbles(v));
            store(ret->q[j * 16 + 8] + at, high_nibbles(v));
        }
    }
}

/* The list's values + 128 of 4 vectors of nibbles. */
INLINE void quants_by_list(const uint8_t *in, uint8_t (*out)[VECTOR_SIZE])
{
    const __m256i list = _mm256_xor_si256(iq4_list(), _mm256_set1_epi8(-128));
    const __m256i low = low_nibbles(list), high = high_nibbles(list);
    for (size_t at = 0; at < 4 * VECTOR_SIZE; at += HALF) {
        const __m256i v = load(in + at), a = low_nibbles(v), b = high_nibbles(v);
        store(out[0] + at, _mm256_shuffle_epi8(low, a));
        store(out[4] + at, _mm256_shuffle_epi8(low, b));
        store(out[8] + at, _mm256_shuffle_epi8(high, a));
        store(out[12] + at, _mm256_shuffle_epi8(high, b));
    }
}

TARGET static void quants_iq4_nl(const uint8_t *unit, bora_avx2_unit *ret)
{
    for (size_t j = 0; j < 8; j++)
        quants_by_list(unit + j / 2 * 576 + 64 + j % 2 * 256, ret->q + j * 16);
}

TARGET static void quants_iq4_xs(const uint8_t *unit, bora_avx2_unit *ret)
{
    for (size_t j = 0; j < 8; j++)
        quants_by_list(unit + 192 + j * 256, ret->q + j * 16);
}

INLINE void quants_q45_k(const uint8_t *unit, bool has_fifth, bora_avx2_unit *ret)
{
    for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF) {
        const __m256i fifth = has_fifth ? load(unit + 256 + at) : _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            const __m256i v = load(unit + (has_fifth ? 768 : 256) + (size_t)g * 8 * VECTOR_SIZE + at);
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

TARGET static void quants_q4_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q45_k(unit, false, ret);
}

TARGET static void quants_q5_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q45_k(unit, true, ret);
}

TARGET static void quants_q6_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    for (size_t n = 0; n < 2; n++) {
        const uint8_t *in = unit + 320 + n * 24 * VECTOR_SIZE;
        uint8_t *out = ret->q[n * 32];
        for (size_t at = 0; at < 8 * VECTOR_SIZE; at += HALF) {
            const uint8_t *first = in + at / 256 * 512 + at % 256; /* four vectors of either by turns */
            const __m256i h = load(first), a = load(first + 256), b = load(in + 16 * VECTOR_SIZE + at);
            store(out + at, _mm256_or_si256(low_nibbles(a), bits_to(h, 0, 4, 0x30)));
            store(out + 8 * VECTOR_SIZE + at, _mm256_or_si256(low_nibbles(b), bits_to(h, 2, 4, 0x30)));
            store(out + 16 * VECTOR_SIZE + at, _mm256_or_si256(high_nibbles(a), bits_to(h, 4, 4, 0x30)));
            store(out + 24 * VECTOR_SIZE + at, _mm256_or_si256(high_nibbles(b), bits_to(h, 6, 4, 0x30)));
        }
    }
}

/* The two bits of q2_k and q3_k, and the latter's third. */
INLINE void quants_q23_k(const uint8_t *qs, const uint8_t *third, bora_avx2_unit *ret)
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

TARGET static void quants_q3_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q23_k(unit + 320, unit + 1344, ret);
}

TARGET static void quants_q2_k(const uint8_t *unit, bora_avx2_unit *ret)
{
    quants_q23_k(unit + 320, NULL, ret);
}

const bora_avx2_unpacker *bora_avx2_unpacker_of(uint32_t dtype)
{
    static const bora_avx2_unpacker all[BORA_DTYPE_COUNT] = {
        [BORA_DTYPE_Q4_0] = {scales_q4_0, quants_q4_0},  [BORA_DTYPE_Q4_1] = {scales_q4_1, quants_q4_1},
        [BORA_DTYPE_Q5_0] = {scales_q5_0, quants_q5_0},  [BORA_DTYPE_Q5_1] = {scales_q5_1, quants_q5_1},
        [BORA_DTYPE_Q8_0] = {scales_q8_0, quants_q8_0},  [BORA_DTYPE_IQ4_NL] = {scales_q4_0, quants_iq4_nl},
        [BORA_DTYPE_Q2_K] = {scales_q2_k, quants_q2_k},  [BORA_DTYPE_Q3_K] = {scales_q36_k, quants_q3_k},
        [BORA_DTYPE_Q4_K] = {scales_q45_k, quants_q4_k}, [BORA_DTYPE_Q5_K] = {scales_q45_k, quants_q5_k},
        [BORA_DTYPE_Q6_K] = {scales_q36_k, quants_q6_k}, [BORA_DTYPE_IQ4_XS] = {scales_iq4_xs, quants_iq4_xs},
    };
    return &all[dtype];
}

#else
typedef int bora_avx2_unpack_not_here; /* ISO C wants something in every file */
#endif
