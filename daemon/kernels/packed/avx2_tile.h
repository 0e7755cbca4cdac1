/* Tiles of the AVX2 path: 16 rows x 1..4 columns of one unit, as a function to be inlined with constants. Included by
 * those who make functions of it.
 *
 * vpmaddubsw multiplies unsigned bytes of weights with signed bytes of x and adds pairs in 16 bits, which saturate:
 * quants up to 15 can be added up eight times before they must be widened (15 * 127 * 2 * 8 = 30480), up to 31 four
 * times, up to 63 twice. Weights of 8 bits go in as two nibbles, or as their magnitude, giving x their sign, each sum
 * widened at once (128 * 127 * 2 = 32512). So every integer is exact. */
#ifndef BORA_KERNELS_PACKED_AVX2_TILE_H
#define BORA_KERNELS_PACKED_AVX2_TILE_H

#include "kernels/packed/avx2.h"
#include "kernels/packed/avx2_bits.h"

#include <string.h>

#define N_HALVES   2 /* of 8 rows: a register of 8 dwords each */

#define UNROLL     _Pragma("GCC unroll 16")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

enum start { START_NONE, START_4, START_8, START_16, START_32, START_128 };
enum min { MIN_NONE, MIN_FLOAT, MIN_K };
/* How the integer dot product is made: of signed bytes, of bytes split into nibbles, or of small unsigned ones that are
 * widened every so many vectors. */
enum dot { SIGNED, SPLIT, EVERY_2 = 2, EVERY_4 = 4, EVERY_8 = 8 };
/* Where quants come from: unpacked before, or a unit of a type. */
enum source { UNPACKED, FROM_Q4_0, FROM_Q8_0, FROM_IQ4_NL, FROM_IQ4_XS, FROM_Q4_K };

typedef struct tile_shape {
    int n_sub; /* 8 or 16 sub-blocks in a unit */
    enum dot dot;
    enum start start;
    enum min min;
    enum source source;
    int n_lines; /* fetched ahead per block */
} tile_shape;

INLINE __m256i four_bytes(const void *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return _mm256_set1_epi32(value);
}

/* Blocks after which a type's bits lie alike again. */
INLINE int period_of(enum source source)
{
    return source == FROM_Q4_K ? 2 : 1;
}

/* Vector v of a block, half of it. phase: block % period, a constant. SPLIT has 16 vectors in a block, others 8. */
INLINE __m256i weights(const enum dot dot, const enum source source, const uint8_t *q, size_t block, const int phase,
                       const int v, const int half)
{
    const size_t at = (size_t)v * 64 + (size_t)half * 32, at_nibble = (size_t)(v % 4) * 64 + (size_t)half * 32;
    const uint8_t *in;
    __m256i nibbles;
    switch (source) {
    case FROM_Q8_0:
        return _mm256_xor_si256(load(q + block / 2 * 1088 + 64 + block % 2 * 512 + at), _mm256_set1_epi8(-128));
    case FROM_Q4_0:
    case FROM_IQ4_NL:
    case FROM_IQ4_XS:
        in = source == FROM_IQ4_XS ? q + 192 + block * 256 : q + block / 2 * 576 + 64 + block % 2 * 256;
        nibbles = v < 4 ? low_nibbles(load(in + at_nibble)) : high_nibbles(load(in + at_nibble));
        return source == FROM_Q4_0 ? nibbles : _mm256_shuffle_epi8(iq4_list(), nibbles);
    case FROM_Q4_K:
        in = q + 256 + block / 2 * 512;
        return phase == 0 ? low_nibbles(load(in + at)) : high_nibbles(load(in + at));
    default:
        return load(q + block * (dot == SPLIT ? 1024 : 512) + at);
    }
}

/* gcc would turn a chain of additions into a tree, whose leaves do not fit the 16 registers, at half the speed; and
 * would load what it needs later first. To it, this changes the value. */
INLINE __m256i in_order(__m256i value)
{
    __asm__("" : "+x"(value));
    return value;
}

/* The same address. What is loaded from it is loaded anew instead of being kept where there is no room for it. */
INLINE const void *anew(const void *from)
{
    __asm__("" : "+r"(from));
    return from;
}

/* What the panel has for the offset of a type, of one sub-block and column. */
INLINE __m256i start_value(enum start start, const bora_panel *x, size_t sub, size_t column)
{
    const size_t at = sub * x->n_columns + column;
    switch (start) {
    case START_4:
        return _mm256_srai_epi32(four_bytes(x->start32 + at), 3); /* exact: a multiple of 32 */
    case START_8:
        return four_bytes(x->start8 + at);
    case START_16:
        return _mm256_slli_epi32(four_bytes(x->start8 + at), 1);
    case START_32:
        return four_bytes(x->start32 + at);
    case START_128:
        return four_bytes(x->start128 + at);
    default:
        return _mm256_setzero_si256();
    }
}

/* dot[half][column] of n_vectors (4 or 8) vectors of unsigned weights, from first on; added to what is there if add. */
INLINE void dot_unsigned(const int n, const int n_vectors, const int every, const int times, const bool add,
                         const tile_shape shape, const uint8_t *q, size_t block, const int phase, const int first,
                         const int8_t *x, __m256i dot[N_HALVES][4])
{
    const __m256i factor = _mm256_set1_epi16((int16_t)times);
    UNROLL for (int begin = 0; begin < n_vectors; begin += every)
    {
        __m256i sum[N_HALVES][4];
        EACH(i, every)
        {
            const __m256i w0 = weights(shape.dot, shape.source, q, block, phase, first + begin + i, 0);
            const __m256i w1 = weights(shape.dot, shape.source, q, block, phase, first + begin + i, 1);
            EACH(c, n)
            {
                const __m256i xv = four_bytes(x + c * 32 + (begin + i) * 4);
                const __m256i p0 = _mm256_maddubs_epi16(w0, xv), p1 = _mm256_maddubs_epi16(w1, xv);
                sum[0][c] = i == 0 ? p0 : in_order(_mm256_add_epi16(sum[0][c], p0));
                sum[1][c] = i == 0 ? p1 : in_order(_mm256_add_epi16(sum[1][c], p1));
            }
        }
        EACH(half, N_HALVES)
        EACH(c, n)
        {
            const __m256i wide = _mm256_madd_epi16(sum[half][c], factor);
            dot[half][c] = begin == 0 && !add ? wide : in_order(_mm256_add_epi32(dot[half][c], wide));
        }
    }
}

INLINE void dot_signed(const int n, const int n_vectors, const tile_shape shape, const uint8_t *q, size_t block,
                       const int phase, const int first, const int8_t *x, __m256i dot[N_HALVES][4])
{
    const __m256i ones = _mm256_set1_epi16(1);
    EACH(i, n_vectors)
    {
        const __m256i w0 = weights(shape.dot, shape.source, q, block, phase, first + i, 0);
        const __m256i w1 = weights(shape.dot, shape.source, q, block, phase, first + i, 1);
        const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);
        EACH(c, n)
        {
            const __m256i xv = four_bytes(x + c * 32 + i * 4);
            const __m256i p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(m0, _mm256_sign_epi8(xv, w0)), ones);
            const __m256i p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(m1, _mm256_sign_epi8(xv, w1)), ones);
            dot[0][c] = i == 0 ? p0 : in_order(_mm256_add_epi32(dot[0][c], p0));
            dot[1][c] = i == 0 ? p1 : in_order(_mm256_add_epi32(dot[1][c], p1));
        }
    }
}

/* The integer dot products of a sub-block, part of the block, and its steps of the chains g. */
INLINE void add_sub_block(const int n, const tile_shape shape, const bora_avx2_unit *w, const uint8_t *q,
                          const bora_panel *x, size_t unit, uint32_t column, size_t block, const int phase,
                          const int part, __m256 g[N_HALVES][4])
{
    const int n_vectors = 64 / shape.n_sub, first = part * n_vectors;
    const size_t sub = block * (size_t)(shape.n_sub / 8) + (size_t)part;
    const size_t at = (unit * 8 + block) * x->n_columns + column;
    const int8_t *xq = x->q + at * 32 + part * 16;
    __m256i dot[N_HALVES][4];
    if (shape.dot == SIGNED) {
        dot_signed(n, n_vectors, shape, q, block, phase, first, xq, dot);
    } else if (shape.dot == SPLIT) {
        dot_unsigned(n, n_vectors, 8, 1, false, shape, q, block, phase, 0, xq, dot);
        dot_unsigned(n, n_vectors, 8, 16, true, shape, q, block, phase, 8, anew(xq), dot);
    } else {
        dot_unsigned(n, n_vectors, n_vectors < (int)shape.dot ? n_vectors : (int)shape.dot, 1, false, shape, q, block,
                     phase, first, xq, dot);
    }

    const __m256 scale[N_HALVES] = {_mm256_load_ps(w->scale[sub]), _mm256_load_ps(w->scale[sub] + 8)};
    EACH(c, n)
    {
        const __m256i shift = four_bytes(x->shift + at + c);
        const __m256i s = start_value(shape.start, x, unit * (size_t)shape.n_sub + sub, column + (size_t)c);
        EACH(half, N_HALVES)
        {
            if (shape.start != START_NONE)
                dot[half][c] = _mm256_add_epi32(dot[half][c], s);
            const __m256 value = _mm256_cvtepi32_ps(_mm256_sllv_epi32(dot[half][c], shift));
            g[half][c] = _mm256_fmadd_ps(value, scale[half], g[half][c]);
        }
        if (shape.min == MIN_FLOAT) {
            const float sum = x->sum32[(unit * x->n_columns + column + (size_t)c) * 8 + block];
            EACH(half, N_HALVES)
            g[half][c] = _mm256_fmadd_ps(_mm256_set1_ps(sum), _mm256_load_ps(w->min[block] + half * 8), g[half][c]);
        }
    }
}

/* A unit's step of the chain f of one column and 8 rows. */
INLINE __m256 add_unit_of(const tile_shape shape, const bora_avx2_unit *w, const int half, const int16_t *sums,
                          __m256 g, __m256 x_scale, __m256 f)
{
    const __m256 d = _mm256_load_ps(w->d + half * 8);
    if (shape.min != MIN_K)
        return _mm256_fmadd_ps(g, _mm256_mul_ps(d, x_scale), f);
    __m256i m = _mm256_setzero_si256();
    EACH(pair, shape.n_sub / 2)
    m = in_order(_mm256_add_epi32(m, _mm256_madd_epi16(load((const uint8_t *)w->k_min[pair][half * 8]),
                                                       four_bytes(sums + pair * 2))));
    const __m256 below = _mm256_mul_ps(_mm256_cvtepi32_ps(m), _mm256_load_ps(w->dmin + half * 8));
    return _mm256_fmadd_ps(_mm256_fmsub_ps(g, d, below), x_scale, f);
}

/* A bora_avx2_tile of n columns. q: w->q or the unit itself, as the shape's source says. */
INLINE void multiply_unit(const int n, const tile_shape shape, const bora_avx2_unit *w, const uint8_t *q,
                          const bora_panel *x, size_t unit, uint32_t column, float *f, const uint8_t *ahead)
{
    __m256 g[N_HALVES][4];
    EACH(half, N_HALVES)
    EACH(c, n)
    g[half][c] = _mm256_setzero_ps();

    const int period = period_of(shape.source);
    for (size_t base = 0; base < 8; base += (size_t)period)
        EACH(phase, period)
        {
            const size_t block = base + (size_t)phase;
            q = anew(q);
            EACH(line, shape.n_lines)
            _mm_prefetch((const char *)ahead + (block * (size_t)shape.n_lines + (size_t)line) * 64, _MM_HINT_T1);
            EACH(part, shape.n_sub / 8)
            add_sub_block(n, shape, w, q, x, unit, column, block, phase, part, g);
        }

    EACH(c, n)
    {
        const size_t at = unit * x->n_columns + column + (size_t)c;
        const __m256 x_scale = _mm256_set1_ps(x->scale[at]);
        const int16_t *sums = shape.n_sub == 8 ? x->sum32 + at * 8 : x->sum16 + at * 16;
        EACH(half, N_HALVES)
        {
            float *out = f + c * 16 + half * 8;
            _mm256_store_ps(out, add_unit_of(shape, w, half, sums, g[half][c], x_scale, _mm256_load_ps(out)));
        }
    }
}

#define TILE(name, n, ...)                                                                                             \
    BORA_AVX2_TARGET static void name##_##n(const bora_avx2_unit *w, const uint8_t *q, const bora_panel *x,            \
                                            size_t unit, uint32_t column, float *f, const uint8_t *ahead)              \
    {                                                                                                                  \
        multiply_unit(n, (tile_shape){__VA_ARGS__}, w, q, x, unit, column, f, ahead);                                  \
    }
#define TILES(name, ...)                                                                                               \
    TILE(name, 1, __VA_ARGS__)                                                                                         \
    TILE(name, 2, __VA_ARGS__)                                                                                         \
    TILE(name, 3, __VA_ARGS__)                                                                                         \
    TILE(name, 4, __VA_ARGS__)                                                                                         \
    static const bora_avx2_tile name[BORA_AVX2_TILE_COLUMNS] = {name##_1, name##_2, name##_3, name##_4};

#endif
