/* Activations to int8 with AVX2: a block of 32 is four vectors. The same bits as fill_plain.c. */
#if defined(__x86_64__)
#include "kernels/packed/avx2.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define TARGET   BORA_AVX2_TARGET
#define INLINE   TARGET static inline __attribute__((always_inline))
#define N_BLOCK  32u
#define N_BLOCKS BORA_UNIT_BLOCKS

/* Bits of the largest magnitude of a block: as integers they are ordered as the numbers are, and what is not finite is
 * at least INFINITY's. */
INLINE uint32_t max_magnitude_bits(const float *x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i max = _mm256_setzero_si256();
    for (size_t i = 0; i < N_BLOCK; i += 8)
        max = _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

INLINE float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE __m256i quantise(const float *x, __m256 factor)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
}

/* Stores the quants of a block; returns the sums of its halves. */
INLINE void store_quants(const float *x, float factor, int8_t *q, int32_t ret_sums[2])
{
    const __m256 by = _mm256_set1_ps(factor);
    const __m256i a = _mm256_packs_epi32(quantise(x, by), quantise(x + 8, by));
    const __m256i b = _mm256_packs_epi32(quantise(x + 16, by), quantise(x + 24, by));
    /* packs work within halves of 128 bits: put the dwords back in order */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i all = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    _mm256_storeu_si256((__m256i *)(void *)q, all);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), all);
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __m128i sums = _mm_hadd_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    sums = _mm_hadd_epi32(sums, sums);
    ret_sums[0] = _mm_cvtsi128_si32(sums);
    ret_sums[1] = _mm_extract_epi32(sums, 1);
}

INLINE void fill_unit(const float *x, const bora_panel *panel, size_t unit, uint32_t column)
{
    uint32_t block_bits[N_BLOCKS], bits = 0;
    for (size_t j = 0; j < N_BLOCKS; j++) {
        block_bits[j] = max_magnitude_bits(x + j * N_BLOCK);
        bits = bits > block_bits[j] ? bits : block_bits[j];
    }
    const bool finite = bits < 0x7f800000u;
    const float max = float_of(bits);
    const bool empty = !finite || max < 1e-30f;
    const float factor = empty ? 0 : 127.0f / max;
    const size_t n_columns = panel->n_columns;
    panel->scale[unit * n_columns + column] = !finite ? NAN : empty ? 0 : max / 1016.0f;
    int16_t *sum32 = panel->sum32 + (unit * n_columns + column) * N_BLOCKS;
    int16_t *sum16 = panel->sum16 + (unit * n_columns + column) * 2 * N_BLOCKS;
    for (size_t j = 0; j < N_BLOCKS; j++) {
        const size_t at = (unit * N_BLOCKS + j) * n_columns + column;
        const float block_max = float_of(block_bits[j]);
        const int n_doublings = block_max * 8 <= max ? 3 : block_max * 4 <= max ? 2 : block_max * 2 <= max ? 1 : 0;
        const int shift = empty ? 0 : 3 - n_doublings;
        int32_t sums[2] = {0, 0};
        if (empty)
            memset(panel->q + at * N_BLOCK, 0, N_BLOCK);
        else
            store_quants(x + j * N_BLOCK, factor * (float)(1 << n_doublings), panel->q + at * N_BLOCK, sums);
        const int32_t sum = sums[0] + sums[1];
        panel->shift[at] = shift;
        panel->start8[at] = -8 * sum;
        panel->start128[at] = -128 * sum;
        sum32[j] = (int16_t)(sum * (1 << shift));
        for (size_t half = 0; half < 2; half++) {
            panel->start32[(2 * (unit * N_BLOCKS + j) + half) * n_columns + column] = -32 * sums[half];
            sum16[2 * j + half] = (int16_t)(sums[half] * (1 << shift));
        }
    }
}

TARGET void bora_avx2_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column)
{
    const size_t n_whole = n_cols / BORA_UNIT_COLS, rest = n_cols % BORA_UNIT_COLS;
    for (size_t unit = 0; unit < n_whole; unit++)
        fill_unit(x + unit * BORA_UNIT_COLS, panel, unit, column);
    if (rest) {
        float padded[BORA_UNIT_COLS] = {0};
        memcpy(padded, x + n_whole * BORA_UNIT_COLS, rest * sizeof *x);
        fill_unit(padded, panel, n_whole, column);
    }
}

#else
typedef int bora_avx2_fill_not_here; /* ISO C wants something in every file */
#endif
