/* Inside of the packed product's path for AVX-512 with VNNI: what its files share. See packed.h for layouts and sums.
 */
#ifndef BORA_KERNELS_PACKED_AVX512_H
#define BORA_KERNELS_PACKED_AVX512_H

#include "kernels/dequantize.h"
#include "kernels/packed/packed.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512_TARGET              __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define AVX512_INLINE              AVX512_TARGET static inline __attribute__((always_inline))

/* How a unit's sum goes on into the result; see the table of sums in packed.h, in its order. */
#define BORA_AVX512_SUM_PLAIN      0u
#define BORA_AVX512_SUM_BLOCK_MINS 1u
#define BORA_AVX512_SUM_MINS       2u
#define BORA_AVX512_SUM_D          3u

/* A unit of any type in one form: a byte per quant, what multiplies it in float. Aligned to 64. */
typedef struct bora_avx512_unit {
    uint8_t q[64][64];   /* vector i: [16][4], elements 4i .. 4i+3 of the unit */
    float scale[16][16]; /* [8 blocks of 32 or 16 of 16][16] */
    float d[16], dmin[16];
    union {
        int32_t pairs[8][16]; /* mins of sub-blocks 2i (low half) and 2i+1: [4 or 8][16] */
        float blocks[8][16];
    } min;
} bora_avx512_unit;

/* Unpacks one unit of any type. */
void bora_avx512_unpack(uint32_t dtype, const uint8_t *unit, bora_avx512_unit *ret_unit);

/* Strips side by side times columns side by side, a few units of them. */
typedef struct bora_avx512_tile {
    const uint8_t *w;    /* first unit: packed, or a bora_avx512_unit */
    size_t strip_stride; /* bytes to the unit of the second strip */
    size_t unit_begin, unit_end;
    const bora_panel *x;
    float *y; /* [columns][strips * 16]; read unless unit_begin is 0 */
    size_t y_stride;
    /* Of unpacked units only: */
    uint32_t sum;         /* BORA_AVX512_SUM_* */
    const int32_t *start; /* start values of unit 0 */
    size_t start_step;    /* from (sub-)block to (sub-)block */
    /* What is asked of memory meanwhile: n_ahead lines per block of 32, there and ahead_stride bytes further. Tiles
     * that are made for one stream have their own distance and ignore this. */
    const uint8_t *ahead;
    size_t ahead_stride, n_ahead;
} bora_avx512_tile;

typedef void (*bora_avx512_tile_fn)(const bora_avx512_tile *tile);

/* One strip, n_columns 1 .. 8, straight from packed units that come from memory. NULL: not for this type. */
bora_avx512_tile_fn bora_avx512_tile_few(uint32_t dtype, uint32_t n_columns);
/* n_strips 1 or 2, n_columns 1 .. 6, straight from packed units. NULL: not for this type. */
bora_avx512_tile_fn bora_avx512_tile_many(uint32_t dtype, uint32_t n_strips, uint32_t n_columns);
/* Unpacked units with scales per 32 or 16; n_strips 1 with n_columns 1 .. 8, or 2 with 1 .. 6. */
bora_avx512_tile_fn bora_avx512_tile_bytes(uint32_t n_elements, uint32_t n_strips, uint32_t n_columns);

/* Parts of bora_packed_avx512. */
void bora_avx512_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column);
void bora_avx512_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols,
                      uint8_t *strip);

AVX512_INLINE __m512i avx512_load(const void *from)
{
    return _mm512_load_si512(from);
}

AVX512_INLINE __m512 avx512_load_f16(const uint8_t *from)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)from));
}

/* 16 bytes as floats. */
AVX512_INLINE __m512 avx512_load_u8(const uint8_t *from)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)from)));
}

AVX512_INLINE __m512 avx512_load_i8(const uint8_t *from)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)from)));
}

/* Bytes 0 .. 15 in the low and 16 .. 31 in the high halves of the lanes: what vpdpwssd takes. */
AVX512_INLINE __m512i avx512_pair_u8(const uint8_t *from)
{
    const __m512i low = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)from));
    const __m512i high = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(from + 16)));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* low | high & mask */
AVX512_INLINE __m512i avx512_or_masked(__m512i low, __m512i high, __m512i mask)
{
    return _mm512_ternarylogic_epi32(low, high, mask, 0xf8);
}

/* 6-bit scales and minima of a Q4_K or Q5_K unit as bytes [8][16]. */
AVX512_INLINE void avx512_k_scales(const uint8_t *unit, uint8_t ret_scale[128], uint8_t ret_min[128])
{
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8(0x30);
    const __m512i a = avx512_load(unit + 64), b = avx512_load(unit + 128), rest = avx512_load(unit + 192);
    const __m512i a_high = _mm512_and_si512(_mm512_srli_epi16(a, 4), low);
    const __m512i b_high = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
    _mm512_store_si512(ret_scale, avx512_or_masked(_mm512_and_si512(a, low), _mm512_slli_epi16(rest, 4), high));
    _mm512_store_si512(ret_scale + 64, avx512_or_masked(_mm512_and_si512(b, low), _mm512_slli_epi16(rest, 2), high));
    _mm512_store_si512(ret_min, avx512_or_masked(a_high, rest, high));
    _mm512_store_si512(ret_min + 64, avx512_or_masked(b_high, _mm512_srli_epi16(rest, 2), high));
}

/* The two bits of quarter t of a half of a Q6_K unit, moved to bits 4-5 (others are left to be masked). */
AVX512_INLINE __m512i avx512_q6_k_high(__m512i qh, size_t t)
{
    return t == 0   ? _mm512_slli_epi16(qh, 4)
           : t == 1 ? _mm512_slli_epi16(qh, 2)
           : t == 2 ? qh
                    : _mm512_srli_epi16(qh, 2);
}

/* bora_iq4_values + 128 in each 16 bytes. */
AVX512_INLINE __m512i avx512_iq4_table(void)
{
    const __m128i values = _mm_loadu_si128((const __m128i *)bora_iq4_values);
    return _mm512_broadcast_i32x4(_mm_xor_si128(values, _mm_set1_epi8((char)0x80)));
}

#endif
#endif
