/* Weights of a file into strips: transposes of 16 rows x 16 dwords. Strips that are not full, or end within a unit, are
 * rare and left to plain C. */
#if defined(__x86_64__)
#include "kernels/packed/avx512.h"
#include "kernels/packed/plain.h"
#include "model/blocks.h"

#include <string.h>

#define N_ROWS BORA_STRIP_ROWS

/* v[r]: 16 dwords of row r; becomes v[i]: dword i of every row. */
AVX512_INLINE void transpose(__m512i v[16])
{
    __m512i t[16];
#pragma GCC unroll 8
    for (size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* Quarter l of v[4 n + i] has dword 4 l + i of rows 4 n .. 4 n + 3. */
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const __m512i a = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88), b = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        const __m512i d = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        v[i] = t[i];
}

/* 64 bytes of each row become 16 vectors. */
AVX512_INLINE void pack_64(const uint8_t *in, size_t row_size, uint8_t *out)
{
    __m512i v[16];
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; r++)
        v[r] = _mm512_loadu_si512(in + r * row_size);
    transpose(v);
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        _mm512_store_si512(out + i * 64, v[i]);
}

/* 32 bytes of each row become 8 vectors. */
AVX512_INLINE void pack_32(const uint8_t *in, size_t row_size, uint8_t *out)
{
    __m512i v[16];
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; r++)
        v[r] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(in + r * row_size)));
    transpose(v);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++)
        _mm512_store_si512(out + i * 64, v[i]);
}

/* An f16 of each row. */
AVX512_INLINE void pack_f16(const uint8_t *in, size_t row_size, uint8_t *out)
{
#pragma GCC unroll 16
    for (size_t r = 0; r < N_ROWS; r++)
        memcpy(out + r * 2, in + r * row_size, 2);
}

/* ---- blocks of 32 ----------------------------------------------------------------------------------- */

/* Bits 0, 4, 8 .. 28 of each dword as bits 0 .. 7. */
AVX512_INLINE __m512i every_fourth_bit(__m512i v)
{
    v = _mm512_and_si512(v, _mm512_set1_epi32(0x11111111));
    v = _mm512_and_si512(_mm512_or_si512(v, _mm512_srli_epi32(v, 3)), _mm512_set1_epi32(0x03030303));
    v = _mm512_and_si512(_mm512_or_si512(v, _mm512_srli_epi32(v, 6)), _mm512_set1_epi32(0x000f000f));
    return _mm512_and_si512(_mm512_or_si512(v, _mm512_srli_epi32(v, 12)), _mm512_set1_epi32(0xff));
}

/* The file has bit 4 of element e in bit e of a dword; byte t, bit i are to be element 4i + t. */
AVX512_INLINE void pack_fifth_bits(const uint8_t *in, size_t row_size, uint8_t *out)
{
    _Alignas(64) uint8_t rows[64];
#pragma GCC unroll 16
    for (size_t r = 0; r < N_ROWS; r++)
        memcpy(rows + r * 4, in + r * row_size, 4);
    const __m512i v = avx512_load(rows);
    const __m512i bytes01 =
        _mm512_or_si512(every_fourth_bit(v), _mm512_slli_epi32(every_fourth_bit(_mm512_srli_epi32(v, 1)), 8));
    const __m512i bytes23 = _mm512_or_si512(every_fourth_bit(_mm512_srli_epi32(v, 2)),
                                            _mm512_slli_epi32(every_fourth_bit(_mm512_srli_epi32(v, 3)), 8));
    _mm512_store_si512(out, _mm512_or_si512(bytes01, _mm512_slli_epi32(bytes23, 16)));
}

/* 16 or 32 bytes of two blocks of each row become 4 or 8 vectors of the first, then of the second. */
AVX512_INLINE void pack_two(const uint8_t *in, size_t row_size, size_t block_size, const bool bytes, uint8_t *out)
{
    const __m512i flip = bytes ? _mm512_set1_epi8((char)0x80) : _mm512_setzero_si512();
    __m512i v[16];
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; r++) {
        const uint8_t *first = in + r * row_size, *second = first + block_size;
        v[r] = bytes ? _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first)),
                                          _mm256_loadu_si256((const __m256i *)second), 1)
                     : _mm512_inserti32x4(_mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)first)),
                                          _mm_loadu_si128((const __m128i *)second), 1);
    }
    transpose(v);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++)
        _mm512_store_si512(out + i * 64, _mm512_xor_si512(v[i], flip));
    if (!bytes)
        return;
#pragma GCC unroll 8
    for (size_t i = 8; i < 16; i++)
        _mm512_store_si512(out + i * 64, _mm512_xor_si512(v[i], flip));
}

AVX512_TARGET static void pack_q32(uint32_t dtype, const uint8_t *in, size_t row_size, uint8_t *unit)
{
    const bora_quarter *quarter = bora_quarter_of(dtype);
    const size_t block_size = bora_block_of(dtype)->size;
    for (size_t i = 0; i < 4; i++, in += 2 * block_size, unit += quarter->size) {
        size_t offset = 2;
        pack_f16(in, row_size, unit);
        pack_f16(in + block_size, row_size, unit + 32);
        if (quarter->min) {
            pack_f16(in + offset, row_size, unit + quarter->min);
            pack_f16(in + block_size + offset, row_size, unit + quarter->min + 32);
            offset += 2;
        }
        if (quarter->high) {
            pack_fifth_bits(in + offset, row_size, unit + quarter->high);
            pack_fifth_bits(in + block_size + offset, row_size, unit + quarter->high + 64);
            offset += 4;
        }
        if (dtype == BORA_DTYPE_Q8_0)
            pack_two(in + offset, row_size, block_size, true, unit + quarter->quants);
        else
            pack_two(in + offset, row_size, block_size, false, unit + quarter->quants);
    }
}

/* ---- blocks of 256 ---------------------------------------------------------------------------------- */

/* The 12 bytes of scales and minima of Q4_K and Q5_K, all rows at once: three dwords of each. Parts 0 .. 3 are the low
 * six bits of dwords 0 and 1; parts 4 .. 7 have their low four bits in dword 2, the upper two where 0 and 1 have bits
 * left. */
AVX512_INLINE void pack_k_scales(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    const __m512i two = _mm512_set1_epi8(0x03), four = _mm512_set1_epi8(0x0f);
    _Alignas(64) uint8_t dwords[3][64], low[2][64], upper[64];
    for (size_t r = 0; r < N_ROWS; r++)
        for (size_t i = 0; i < 3; i++)
            memcpy(dwords[i] + r * 4, in + r * row_size + i * 4, 4);
    const __m512i a = avx512_load(dwords[0]), b = avx512_load(dwords[1]), c = avx512_load(dwords[2]);
    /* scale | min << 4 of parts 0 .. 3: the low halves; of parts 4 .. 7: the bytes as they are. */
    const __m512i b_low = _mm512_slli_epi16(_mm512_and_si512(b, four), 4);
    _mm512_store_si512(low[0], avx512_or_masked(b_low, a, four));
    _mm512_store_si512(low[1], c);
    const __m512i a45 = _mm512_and_si512(_mm512_srli_epi16(a, 4), two),
                  b45 = _mm512_and_si512(_mm512_srli_epi16(b, 4), two);
    const __m512i a67 = _mm512_and_si512(_mm512_srli_epi16(a, 6), two),
                  b67 = _mm512_and_si512(_mm512_srli_epi16(b, 6), two);
    _mm512_store_si512(upper, _mm512_or_si512(_mm512_or_si512(a45, _mm512_slli_epi16(a67, 2)),
                                              _mm512_or_si512(_mm512_slli_epi16(b45, 4), _mm512_slli_epi16(b67, 6))));
    /* Byte r * 4 + p becomes byte p * 16 + r: within each quarter (4 rows) a transpose of 4 x 4, then dwords that
     * belong together. */
    const __m512i in_quarter =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const uint8_t *const from[3] = {low[0], low[1], upper};
    for (size_t i = 0; i < 3; i++)
        _mm512_store_si512(unit + 64 + i * 64,
                           _mm512_permutexvar_epi32(order, _mm512_shuffle_epi8(avx512_load(from[i]), in_quarter)));
}

/* 16 bytes of each row become byte j of every row, [16][16]. */
AVX512_INLINE void pack_bytes(const uint8_t *in, size_t row_size, uint8_t *out)
{
    const __m512i in_quarter =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i v[16];
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; r++)
        v[r] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(in + r * row_size)));
    transpose(v);
    /* Vector i: bytes 4i .. 4i+3 of every row. */
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        _mm512_store_si512(out + i * 64, _mm512_permutexvar_epi32(order, _mm512_shuffle_epi8(v[i], in_quarter)));
}

AVX512_TARGET static void pack_q4_k(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    pack_f16(in, row_size, unit);
    pack_f16(in + 2, row_size, unit + 32);
    pack_k_scales(in + 4, row_size, unit);
    pack_64(in + 16, row_size, unit + 256);
    pack_64(in + 80, row_size, unit + 1280);
}

AVX512_TARGET static void pack_q5_k(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    pack_f16(in, row_size, unit);
    pack_f16(in + 2, row_size, unit + 32);
    pack_k_scales(in + 4, row_size, unit);
    pack_32(in + 16, row_size, unit + 256);
    pack_64(in + 48, row_size, unit + 768);
    pack_64(in + 112, row_size, unit + 1792);
}

AVX512_TARGET static void pack_q6_k(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    pack_f16(in + 208, row_size, unit);
    memset(unit + 32, 0, 32);
    pack_bytes(in + 192, row_size, unit + 64);
    for (size_t half = 0; half < 2; half++) {
        _Alignas(64) uint8_t low[1024], high[512];
        pack_64(in + half * 64, row_size, low);
        pack_32(in + 128 + half * 32, row_size, high);
        uint8_t *out = unit + 320 + half * 1536;
        for (size_t e = 0; e < 2; e++) {
            memcpy(out + e * 512, high + e * 256, 256);
            memcpy(out + e * 512 + 256, low + e * 256, 256);
        }
        memcpy(out + 1024, low + 512, 512);
    }
}

AVX512_TARGET static void pack_q3_k(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    _Alignas(64) uint8_t scales[N_ROWS][16];
    for (size_t r = 0; r < N_ROWS; r++) {
        const uint8_t *s = in + 96 + r * row_size;
        for (size_t j = 0; j < 16; j++) {
            const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
            scales[r][j] = (uint8_t)((low | (s[8 + j % 4] >> j / 4 * 2 & 3) << 4) - 32);
        }
    }
    pack_f16(in + 108, row_size, unit);
    memset(unit + 32, 0, 32);
    pack_bytes(scales[0], sizeof scales[0], unit + 64);
    pack_64(in + 32, row_size, unit + 320);
    pack_32(in, row_size, unit + 1344);
}

AVX512_TARGET static void pack_q2_k(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    pack_f16(in + 80, row_size, unit);
    pack_f16(in + 82, row_size, unit + 32);
    pack_bytes(in, row_size, unit + 64);
    pack_64(in + 16, row_size, unit + 320);
}

AVX512_TARGET static void pack_iq4_xs(const uint8_t *in, size_t row_size, uint8_t *unit)
{
    for (size_t r = 0; r < N_ROWS; r++) {
        const uint8_t *s = in + r * row_size;
        const unsigned upper = s[2] | (unsigned)s[3] << 8;
        for (size_t j = 0; j < 8; j++)
            unit[64 + j * 16 + r] = (uint8_t)(((s[4 + j / 2] >> j % 2 * 4 & 15) | (int)(upper >> 2 * j & 3) << 4) - 32);
    }
    pack_f16(in, row_size, unit);
    memset(unit + 32, 0, 32);
    pack_64(in + 8, row_size, unit + 192);
    pack_64(in + 72, row_size, unit + 1216);
}

static void (*const pack_k[BORA_DTYPE_COUNT])(const uint8_t *in, size_t row_size, uint8_t *unit) = {
    [BORA_DTYPE_Q2_K] = pack_q2_k, [BORA_DTYPE_Q3_K] = pack_q3_k, [BORA_DTYPE_Q4_K] = pack_q4_k,
    [BORA_DTYPE_Q5_K] = pack_q5_k, [BORA_DTYPE_Q6_K] = pack_q6_k, [BORA_DTYPE_IQ4_XS] = pack_iq4_xs,
};

void bora_avx512_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols,
                      uint8_t *strip)
{
    if (n_rows < N_ROWS || n_cols % BORA_UNIT_COLS) {
        bora_plain_pack(dtype, rows, row_size, n_rows, n_cols, strip);
        return;
    }
    const bora_block *block = bora_block_of(dtype);
    const size_t unit_size = bora_unit_size(dtype), in_size = BORA_UNIT_COLS / block->n_elements * block->size;
    for (size_t unit = 0; unit < n_cols / BORA_UNIT_COLS; unit++, rows += in_size, strip += unit_size) {
        if (pack_k[dtype])
            pack_k[dtype](rows, row_size, strip);
        else
            pack_q32(dtype, rows, row_size, strip);
    }
}

#else
typedef int bora_packed_avx512_pack_not_here; /* ISO C wants something in every file */
#endif
