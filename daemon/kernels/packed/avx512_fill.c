/* Activations to int8. A unit of 256 floats is 16 vectors, which stay in registers between looking for the largest
 * value and quantising. */
#if defined(__x86_64__)
#include "kernels/packed/avx512.h"

#include <math.h>
#include <string.h>

#define N_BLOCKS  BORA_UNIT_BLOCKS
#define N_VECTORS 16

/* Sums of 16 quants each: lane e of the result is that of sub-block e. q: [256]. */
AVX512_INLINE __m512i sums_of_16(const int8_t q[BORA_UNIT_COLS])
{
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i v[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, _mm512_load_si512(q + i * 64));
    /* Within each quarter of a vector four dwords are to be added; after two rounds dword k of quarter l is the sum of
     * what was quarter l of vector k. */
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, c);
}

/* Everything a product needs of a unit, from its quants and the shifts of its blocks (each in two lanes). */
AVX512_INLINE void store_unit(const int8_t q[BORA_UNIT_COLS], __m512i shifts, const bora_panel *panel, size_t unit,
                              uint32_t column)
{
    const size_t n_columns = panel->n_columns;
    _Alignas(64) int32_t shift[16], sum16[16], sum32[16];
    const __m512i of_16 = sums_of_16(q);
    /* Each lane with its neighbour: both have the block's. */
    const __m512i of_32 = _mm512_add_epi32(of_16, _mm512_shuffle_epi32(of_16, _MM_PERM_CDAB));
    _mm512_store_si512(shift, shifts);
    _mm512_store_si512(sum16, of_16);
    _mm512_store_si512(sum32, of_32);
    const size_t place = unit * n_columns + column;
    _mm256_storeu_si256((__m256i *)(panel->sum16 + place * 16),
                        _mm512_cvtepi32_epi16(_mm512_sllv_epi32(of_16, shifts)));
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i blocks = _mm512_permutexvar_epi32(even, _mm512_sllv_epi32(of_32, shifts));
    _mm_storeu_si128((__m128i *)(panel->sum32 + place * 8), _mm256_castsi256_si128(_mm512_cvtepi32_epi16(blocks)));
    for (size_t j = 0; j < N_BLOCKS; j++) {
        const size_t block = unit * N_BLOCKS + j, at = block * n_columns + column;
        memcpy(panel->q + at * 32, q + j * 32, 32);
        panel->shift[at] = shift[2 * j];
        panel->start8[at] = -8 * sum32[2 * j];
        panel->start128[at] = -128 * sum32[2 * j];
        panel->start32[2 * block * n_columns + column] = -32 * sum16[2 * j];
        panel->start32[(2 * block + 1) * n_columns + column] = -32 * sum16[2 * j + 1];
    }
}

AVX512_INLINE void fill_unit(const __m512 x[N_VECTORS], const bora_panel *panel, size_t unit, uint32_t column)
{
    _Alignas(64) int8_t q[BORA_UNIT_COLS];
    float *scale = panel->scale + unit * panel->n_columns + column;
    __m512i magnitude[N_BLOCKS], all = _mm512_setzero_si512();
    /* Magnitudes of floats are ordered as their bits are, with infinity and then NaN at the end. */
#pragma GCC unroll 8
    for (size_t j = 0; j < N_BLOCKS; j++) {
        const __m512i no_sign = _mm512_set1_epi32(INT32_MAX);
        magnitude[j] = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x[2 * j]), no_sign),
                                        _mm512_and_si512(_mm512_castps_si512(x[2 * j + 1]), no_sign));
        all = _mm512_max_epu32(all, magnitude[j]);
    }
    const uint32_t max_bits = _mm512_reduce_max_epu32(all);
    float max;
    memcpy(&max, &max_bits, sizeof max);
    if (max_bits >= UINT32_C(0x7f800000) || max < 1e-30f) {
        *scale = max_bits >= UINT32_C(0x7f800000) ? NAN : 0;
        memset(q, 0, sizeof q);
        store_unit(q, _mm512_setzero_si512(), panel, unit, column);
        return;
    }
    *scale = max / 1016.0f;

    const float factor = 127.0f / max;
    _Alignas(64) int32_t shift[16];
#pragma GCC unroll 8
    for (size_t j = 0; j < N_BLOCKS; j++) {
        const uint32_t bits = _mm512_reduce_max_epu32(magnitude[j]);
        float block_max;
        memcpy(&block_max, &bits, sizeof block_max);
        const int n_doublings = (block_max * 2 <= max) + (block_max * 4 <= max) + (block_max * 8 <= max);
        const __m512 factors = _mm512_set1_ps(factor * (float)(1 << n_doublings));
        shift[2 * j] = shift[2 * j + 1] = 3 - n_doublings;
#pragma GCC unroll 2
        for (size_t i = 2 * j; i < 2 * j + 2; i++) /* rounds to nearest even */
            _mm_store_si128((__m128i *)(q + i * 16),
                            _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x[i], factors))));
    }
    store_unit(q, _mm512_load_si512(shift), panel, unit, column);
}

AVX512_TARGET void bora_avx512_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column)
{
    for (size_t unit = 0; unit < panel->n_units; unit++) {
        const size_t first = unit * BORA_UNIT_COLS, rest = n_cols - first;
        __m512 v[N_VECTORS];
        if (rest >= BORA_UNIT_COLS) {
#pragma GCC unroll 16
            for (size_t i = 0; i < N_VECTORS; i++)
                v[i] = _mm512_loadu_ps(x + first + i * 16);
        } else {
#pragma GCC unroll 16
            for (size_t i = 0; i < N_VECTORS; i++) {
                const size_t left = rest > i * 16 ? rest - i * 16 : 0;
                const __mmask16 mask = (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
                v[i] = _mm512_maskz_loadu_ps(mask, x + first + i * 16);
            }
        }
        fill_unit(v, panel, unit, column);
    }
}

#else
typedef int bora_packed_avx512_fill_not_here; /* ISO C wants something in every file */
#endif
