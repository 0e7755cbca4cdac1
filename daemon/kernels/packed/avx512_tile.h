/* The tile of the AVX-512 path: 1 or 2 strips (16 or 32 rows) x 1 .. 8 columns, whole units, everything inlined into
 * one function per kind of weights and shape.
 *
 * Registers: an accumulator of integers and one of floats for each strip and column; the floats of the row so far (f)
 * are touched once in 256 elements and may lie in memory. 2 x 6: 24, two weights, x and two masks: of the 32, so that
 * nothing spills within a unit. 2 x 8 and wider spill and lose a fifth. One strip with 8 columns: 16 + f.
 *
 * The s8 operand of vpdpbusd can be a broadcast from memory, the u8 one cannot: so the weights are the unsigned side,
 * made so by an offset, and the accumulator starts at -offset * sum(q) instead of being corrected afterwards. */
#ifndef BORA_KERNELS_PACKED_AVX512_TILE_H
#define BORA_KERNELS_PACKED_AVX512_TILE_H

#include "kernels/packed/avx512.h"

#include <string.h>

#define TILE_STRIPS  2
#define TILE_COLUMNS 8

/* Kinds of weights: packed types, or unpacked units with scales per 32 or 16. */
#define KIND_q4_0    0u
#define KIND_iq4_nl  1u
#define KIND_q8_0    2u
#define KIND_q4_k    3u
#define KIND_q5_k    4u
#define KIND_q6_k    5u
#define KIND_bytes32 6u
#define KIND_bytes16 7u

/* Bytes between the weights at work and those asked of memory, in tiles that read one stream, and asked into the
 * second-level cache: what is on its way to the first holds one of its few buffers until it is there, which on Zen 4
 * costs up to half of the bandwidth. On Zen 5 4 to 8 KiB and both levels are alike. */
#define STREAM_AHEAD 8192u

/* Unrolled: arrays of accumulators become registers only if every index is a constant. */
#define EACH(i, n)   _Pragma("GCC unroll 16") for (size_t i = 0; i < (n); i++)

/* Where a tile is in its inputs. */
typedef struct tile_place {
    const uint8_t *w; /* the unit */
    const int8_t *q;  /* of the block */
    const int32_t *start, *shift;
    const uint8_t *ahead;
} tile_place;

AVX512_INLINE __m512i tile_broadcast(const void *four_bytes)
{
    int32_t value;
    memcpy(&value, four_bytes, sizeof value);
    return _mm512_set1_epi32(value);
}

/* Lines are asked for a few at a time between blocks: in bursts of 10 and more the core's buffers for outstanding
 * lines fill up and a fifth of the bandwidth is lost. Where little is done per byte the processor sees the stream by
 * itself, until the page ends: then one line per block that leads it into the next page is better than all of them. */
AVX512_INLINE void tile_stream(const uint32_t kind, const size_t n_columns, const uint8_t *unit, size_t first_line,
                               const size_t n_lines)
{
    const bool simple =
        kind == KIND_q4_0 || kind == KIND_iq4_nl || kind == KIND_q4_k || kind == KIND_q8_0 || kind == KIND_q5_k;
    const bool alone = simple && n_columns <= (kind == KIND_q8_0 ? 2 : 1);
    const char *const ahead = (const char *)unit + STREAM_AHEAD + first_line * 64;
    if (alone) {
        _mm_prefetch(ahead, _MM_HINT_T1);
        return;
    }
    EACH(line, n_lines)
    _mm_prefetch(ahead + line * 64, _MM_HINT_T1);
}

AVX512_INLINE void tile_ask(const bora_avx512_tile *tile, tile_place *at)
{
    for (size_t line = tile->n_ahead; line > 0; line--) {
        _mm_prefetch((const char *)at->ahead, _MM_HINT_T1);
        _mm_prefetch((const char *)at->ahead + tile->ahead_stride, _MM_HINT_T1);
        at->ahead += 64;
    }
}

/* acc[s][c] += four elements of 16 rows each times those of x */
#define TILE_DOT(acc, weights, x)                                                                                      \
    EACH(c, n_columns)                                                                                                 \
    {                                                                                                                  \
        const __m512i x_c = tile_broadcast((x) + c * 32);                                                              \
        EACH(s, n_strips)                                                                                              \
        acc[s][c] = _mm512_dpbusd_epi32(acc[s][c], weights[s], x_c);                                                   \
    }

/* sum[s][c] += scale[s] * (acc[s][c] << shift) */
#define TILE_SCALE(sum, acc, scales, shifts)                                                                           \
    EACH(c, n_columns)                                                                                                 \
    {                                                                                                                  \
        const __m512i shift_c = tile_broadcast((shifts) + c);                                                          \
        EACH(s, n_strips)                                                                                              \
        sum[s][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sllv_epi32(acc[s][c], shift_c)), scales[s], sum[s][c]);  \
    }

#define TILE_START(acc, starts)                                                                                        \
    EACH(c, n_columns)                                                                                                 \
    {                                                                                                                  \
        const __m512i start_c = tile_broadcast((starts) + c);                                                          \
        EACH(s, n_strips)                                                                                              \
        acc[s][c] = start_c;                                                                                           \
    }

/* Q4_0, IQ4_NL and Q8_0: a block with its f16 scale. w: the scale of the block of strip 0, quants: its vectors. */
AVX512_INLINE void tile_block_f16(const uint32_t kind, const size_t n_strips, const size_t n_columns, size_t stride,
                                  const uint8_t *scale, const uint8_t *quants, const tile_place *at,
                                  __m512 sum[TILE_STRIPS][TILE_COLUMNS])
{
    const __m512i low = _mm512_set1_epi8(0x0f), table = avx512_iq4_table();
    __m512i acc[TILE_STRIPS][TILE_COLUMNS], w[TILE_STRIPS], w_high[TILE_STRIPS];
    __m512 scales[TILE_STRIPS];
    TILE_START(acc, at->start)
    if (kind == KIND_q8_0) {
        EACH(i, 8)
        {
            EACH(s, n_strips)
            w[s] = avx512_load(quants + s * stride + i * 64);
            TILE_DOT(acc, w, at->q + i * 4)
        }
    } else {
        EACH(i, 4)
        {
            EACH(s, n_strips)
            {
                const __m512i both = avx512_load(quants + s * stride + i * 64);
                w[s] = _mm512_and_si512(both, low);
                w_high[s] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
                if (kind == KIND_iq4_nl) {
                    w[s] = _mm512_shuffle_epi8(table, w[s]);
                    w_high[s] = _mm512_shuffle_epi8(table, w_high[s]);
                }
            }
            TILE_DOT(acc, w, at->q + i * 4)
            TILE_DOT(acc, w_high, at->q + 16 + i * 4)
        }
    }
    EACH(s, n_strips)
    scales[s] = avx512_load_f16(scale + s * stride);
    TILE_SCALE(sum, acc, scales, at->shift)
}

AVX512_INLINE void tile_unit_f16(const uint32_t kind, const bool streams, const size_t n_strips, const size_t n_columns,
                                 const bora_avx512_tile *tile, tile_place *at, __m512 sum[TILE_STRIPS][TILE_COLUMNS])
{
    const size_t block_size = kind == KIND_q8_0 ? 512 : 256, part_size = 64 + 2 * block_size, lines = part_size / 64;
    for (size_t part = 0; part < 4; part++) {
        const uint8_t *w = at->w + part * part_size;
        EACH(h, 2)
        {
            if (streams)
                tile_stream(kind, n_columns, w, h * (lines + 1) / 2, (lines + 1 - h) / 2);
            else
                tile_ask(tile, at);
            tile_block_f16(kind, n_strips, n_columns, tile->strip_stride, w + h * 32, w + 64 + h * block_size, at, sum);
            at->q += n_columns * 32;
            at->start += n_columns;
            at->shift += n_columns;
        }
    }
}

/* Q4_K and Q5_K, one strip. scale: the unit's, as bytes. */
AVX512_INLINE void tile_unit_k(const uint32_t kind, const size_t n_columns, const uint8_t scale[128], tile_place *at,
                               __m512 sum[TILE_STRIPS][TILE_COLUMNS])
{
    const size_t n_strips = 1, lines = kind == KIND_q5_k ? 11 : 9; /* per pair of blocks */
    const __m512i low = _mm512_set1_epi8(0x0f), fifth = _mm512_set1_epi8(0x10);
    const uint8_t *high = at->w + 256;
    for (size_t pair = 0; pair < 4; pair++) {
        const uint8_t *quants = at->w + (kind == KIND_q5_k ? 768 : 256) + pair * 512;
        EACH(h, 2)
        {
            __m512i acc[TILE_STRIPS][TILE_COLUMNS], w[TILE_STRIPS];
            __m512 scales[TILE_STRIPS];
            /* Brings bit 2 * pair + h of each byte to bit 4. */
            const __m512i turn = _mm512_set1_epi32(4 - (int)(2 * pair + h));
            tile_stream(kind, n_columns, at->w, pair * lines + h * (lines + 1) / 2, (lines + 1 - h) / 2);
            EACH(c, n_columns)
            acc[0][c] = _mm512_setzero_si512();
            EACH(i, 8)
            {
                const __m512i both = avx512_load(quants + i * 64);
                w[0] = _mm512_and_si512(h ? _mm512_srli_epi16(both, 4) : both, low);
                if (kind == KIND_q5_k)
                    w[0] = avx512_or_masked(w[0], _mm512_rolv_epi32(avx512_load(high + i * 64), turn), fifth);
                TILE_DOT(acc, w, at->q + i * 4)
            }
            scales[0] = avx512_load_u8(scale + (2 * pair + h) * 16);
            TILE_SCALE(sum, acc, scales, at->shift)
            at->q += n_columns * 32;
            at->shift += n_columns;
        }
    }
}

/* Q6_K, one strip. */
AVX512_INLINE void tile_unit_q6_k(const size_t n_columns, tile_place *at, __m512 sum[TILE_STRIPS][TILE_COLUMNS])
{
    const size_t n_strips = 1;
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8(0x30);
    for (size_t half = 0; half < 2; half++) {
        const uint8_t *quants = at->w + 320 + half * 1536, *scale = at->w + 64 + half * 128;
        EACH(t, 4)
        {
            EACH(e, 2)
            {
                __m512i acc[TILE_STRIPS][TILE_COLUMNS], w[TILE_STRIPS];
                __m512 scales[TILE_STRIPS];
                /* 53 lines in 2 x (7 + 7 + 7 + 6), one of them twice. */
                tile_stream(KIND_q6_k, n_columns, at->w, half * 26 + t * 7 + e * 4, e == 0 ? 4 : t < 3 ? 3 : 2);
                TILE_START(acc, at->start)
                EACH(i, 4)
                {
                    const __m512i l = avx512_load(quants + (t & 1 ? 1024 + e * 256 : 256 + e * 512) + i * 64);
                    const __m512i h = avx512_load(quants + e * 512 + i * 64);
                    w[0] = avx512_or_masked(_mm512_and_si512(t & 2 ? _mm512_srli_epi16(l, 4) : l, low),
                                            avx512_q6_k_high(h, t), high);
                    TILE_DOT(acc, w, at->q + e * 16 + i * 4)
                }
                scales[0] = avx512_load_i8(scale + (t * 2 + e) * 16);
                TILE_SCALE(sum, acc, scales, at->shift)
                at->start += n_columns;
            }
            at->q += n_columns * 32;
            at->shift += n_columns;
        }
    }
}

/* Unpacked units. sum32: of the unit, for minima of blocks. */
AVX512_INLINE void tile_unit_bytes(const size_t n_elements, const size_t n_strips, const size_t n_columns,
                                   const bora_avx512_tile *tile, const int16_t *sum32, tile_place *at,
                                   __m512 sum[TILE_STRIPS][TILE_COLUMNS])
{
    const size_t stride = tile->strip_stride;
    const uint8_t *quants = at->w, *scale = at->w + offsetof(bora_avx512_unit, scale);
    for (size_t block = 0; block < BORA_UNIT_BLOCKS; block++) {
        tile_ask(tile, at);
        EACH(e, 32 / n_elements)
        {
            __m512i acc[TILE_STRIPS][TILE_COLUMNS], w[TILE_STRIPS];
            __m512 scales[TILE_STRIPS];
            TILE_START(acc, at->start)
            EACH(i, n_elements / 4)
            {
                EACH(s, n_strips)
                w[s] = avx512_load(quants + s * stride + i * 64);
                TILE_DOT(acc, w, at->q + e * 16 + i * 4)
            }
            EACH(s, n_strips)
            scales[s] = _mm512_load_ps(scale + s * stride);
            TILE_SCALE(sum, acc, scales, at->shift)
            quants += n_elements * 16;
            scale += 64;
            at->start += tile->start_step;
        }
        if (n_elements == 32 && tile->sum == BORA_AVX512_SUM_BLOCK_MINS) {
            const uint8_t *min = at->w + offsetof(bora_avx512_unit, min) + block * 64;
            EACH(s, n_strips)
            EACH(c, n_columns)
            sum[s][c] = _mm512_fmadd_ps(_mm512_set1_ps((float)sum32[c * 8 + block]), _mm512_load_ps(min + s * stride),
                                        sum[s][c]);
        }
        at->q += n_columns * 32;
        at->shift += n_columns;
    }
}

/* f = fma(fma(g, d, -(M * dmin)), x scale, f) of one strip and column; n_pairs of minima. */
AVX512_INLINE __m512 tile_add_with_mins(__m512 f, __m512 g, __m512 d, __m512 dmin, const __m512i *pairs,
                                        const size_t n_pairs, const int16_t *sums, float x_scale)
{
    __m512i m = _mm512_setzero_si512();
    EACH(i, n_pairs)
    m = _mm512_dpwssd_epi32(m, pairs[i], tile_broadcast(sums + 2 * i));
    const __m512 v = _mm512_fmsub_ps(g, d, _mm512_mul_ps(_mm512_cvtepi32_ps(m), dmin));
    return _mm512_fmadd_ps(v, _mm512_set1_ps(x_scale), f);
}

AVX512_INLINE void tile_run(const uint32_t kind, const bool streams, const size_t n_strips, const size_t n_columns,
                            const bora_avx512_tile *tile)
{
    const bool unpacked = kind == KIND_bytes32 || kind == KIND_bytes16;
    const bool k_mins = kind == KIND_q4_k || kind == KIND_q5_k;
    const size_t unit_size = kind == KIND_q8_0                          ? 4352
                             : kind == KIND_q4_0 || kind == KIND_iq4_nl ? 2304
                             : kind == KIND_q4_k                        ? 2304
                             : kind == KIND_q5_k                        ? 2816
                             : kind == KIND_q6_k                        ? 3392
                                                                        : sizeof(bora_avx512_unit);
    const bora_panel *x = tile->x;
    const size_t first = tile->unit_begin, stride = tile->strip_stride;
    const int32_t *start = unpacked                                   ? tile->start
                           : kind == KIND_q4_0                        ? x->start8
                           : kind == KIND_q8_0 || kind == KIND_iq4_nl ? x->start128
                                                                      : x->start32;
    const size_t start_step = unpacked ? tile->start_step : n_columns;
    const size_t n_starts = kind == KIND_q6_k || kind == KIND_bytes16 ? 16 : 8;
    const float *x_scale = x->scale + first * n_columns;
    tile_place at = {.w = tile->w,
                     .q = x->q + first * BORA_UNIT_COLS * n_columns,
                     .start = start + first * n_starts * start_step,
                     .shift = x->shift + first * BORA_UNIT_BLOCKS * n_columns,
                     .ahead = tile->ahead};
    __m512 f[TILE_STRIPS][TILE_COLUMNS];

    EACH(s, n_strips)
    EACH(c, n_columns)
    f[s][c] = first == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(tile->y + c * tile->y_stride + s * 16);

    for (size_t unit = first; unit < tile->unit_end; unit++, at.w += unit_size, x_scale += n_columns) {
        _Alignas(64) uint8_t scale[128], min[128];
        const int16_t *sum32 = x->sum32 + unit * 8 * n_columns, *sum16 = x->sum16 + unit * 16 * n_columns;
        __m512 sum[TILE_STRIPS][TILE_COLUMNS];
        EACH(s, n_strips)
        EACH(c, n_columns)
        sum[s][c] = _mm512_setzero_ps();

        if (unpacked)
            tile_unit_bytes(kind == KIND_bytes16 ? 16 : 32, n_strips, n_columns, tile, sum32, &at, sum);
        else if (k_mins) {
            avx512_k_scales(at.w, scale, min);
            tile_unit_k(kind, n_columns, scale, &at, sum);
        } else if (kind == KIND_q6_k)
            tile_unit_q6_k(n_columns, &at, sum);
        else
            tile_unit_f16(kind, streams, n_strips, n_columns, tile, &at, sum);

        if (k_mins) {
            const __m512 d = avx512_load_f16(at.w), dmin = avx512_load_f16(at.w + 32);
            __m512i pairs[4];
            EACH(i, 4)
            pairs[i] = avx512_pair_u8(min + i * 32);
            EACH(c, n_columns)
            f[0][c] = tile_add_with_mins(f[0][c], sum[0][c], d, dmin, pairs, 4, sum32 + c * 8, x_scale[c]);
        } else if (unpacked && tile->sum == BORA_AVX512_SUM_MINS) {
            EACH(s, n_strips)
            {
                const bora_avx512_unit *u = (const void *)(at.w + s * stride);
                const __m512 d = _mm512_load_ps(u->d), dmin = _mm512_load_ps(u->dmin);
                EACH(c, n_columns)
                {
                    const int16_t *sums = kind == KIND_bytes16 ? sum16 + c * 16 : sum32 + c * 8;
                    f[s][c] = tile_add_with_mins(f[s][c], sum[s][c], d, dmin, (const __m512i *)u->min.pairs,
                                                 kind == KIND_bytes16 ? 8 : 4, sums, x_scale[c]);
                }
            }
        } else if (kind == KIND_q6_k || (unpacked && tile->sum == BORA_AVX512_SUM_D)) {
            EACH(s, n_strips)
            {
                const bora_avx512_unit *u = (const void *)(at.w + s * stride);
                const __m512 d = kind == KIND_q6_k ? avx512_load_f16(at.w) : _mm512_load_ps(u->d);
                EACH(c, n_columns)
                f[s][c] = _mm512_fmadd_ps(sum[s][c], _mm512_mul_ps(d, _mm512_set1_ps(x_scale[c])), f[s][c]);
            }
        } else {
            EACH(s, n_strips)
            EACH(c, n_columns)
            f[s][c] = _mm512_fmadd_ps(sum[s][c], _mm512_set1_ps(x_scale[c]), f[s][c]);
        }
    }
    EACH(s, n_strips)
    EACH(c, n_columns)
    _mm512_storeu_ps(tile->y + c * tile->y_stride + s * 16, f[s][c]);
}

/* tile_<kind>_<strips>_<columns>; streams: has a prefetch distance of its own. */
#define TILE_FUNCTION(kind, streams, strips, columns)                                                                  \
    AVX512_TARGET static void tile_##kind##_##strips##_##columns(const bora_avx512_tile *tile)                         \
    {                                                                                                                  \
        tile_run(KIND_##kind, streams, strips, columns, tile);                                                         \
    }

#endif
