/* Tiles of the AVX2 path: 16 rows x 1..4 columns of one unpacked unit.
 *
 * vpmaddubsw multiplies unsigned bytes of weights with signed bytes of x and adds pairs in 16 bits, which saturate:
 * quants up to 15 can be added up eight times before they must be widened (15 * 127 * 2 * 8 = 30480), up to 31 four
 * times, up to 63 twice. int8 weights go in as their magnitude and give x their sign; each sum is widened at once (128
 * * 127 * 2 = 32512). So every integer is exact. */
#if defined(__x86_64__)
#include "kernels/packed/avx2.h"

#include <immintrin.h>
#include <string.h>

#define TARGET     BORA_AVX2_TARGET
#define INLINE     TARGET static inline __attribute__((always_inline))
#define N_HALVES   2 /* of 8 rows: a register of 8 dwords each */

#define UNROLL     _Pragma("GCC unroll 8")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

enum start { START_NONE, START_4, START_8, START_16, START_32 };
enum min { MIN_NONE, MIN_FLOAT, MIN_K };
/* How the integer dot product is made: SIGNED, or unsigned and widened every so many vectors. */
enum dot { SIGNED = 1, EVERY_2 = 2, EVERY_4 = 4, EVERY_8 = 8 };

INLINE __m256i load(const uint8_t *from)
{
    return _mm256_load_si256((const __m256i *)(const void *)from);
}

INLINE __m256i four_bytes(const void *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return _mm256_set1_epi32(value);
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
    default:
        return _mm256_setzero_si256();
    }
}

/* dot[half][column] of n_vectors (4 or 8) vectors. */
INLINE void dot_unsigned(const int n, const int n_vectors, const int every, const uint8_t (*w)[64], const int8_t *x,
                         __m256i dot[N_HALVES][4])
{
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL for (int first = 0; first < n_vectors; first += every)
    {
        __m256i sum[N_HALVES][4];
        EACH(i, every)
        {
            const __m256i w0 = load(w[first + i]), w1 = load(w[first + i] + 32);
            EACH(c, n)
            {
                const __m256i xv = four_bytes(x + c * 32 + (first + i) * 4);
                const __m256i p0 = _mm256_maddubs_epi16(w0, xv), p1 = _mm256_maddubs_epi16(w1, xv);
                sum[0][c] = i == 0 ? p0 : _mm256_add_epi16(sum[0][c], p0);
                sum[1][c] = i == 0 ? p1 : _mm256_add_epi16(sum[1][c], p1);
            }
        }
        EACH(half, N_HALVES)
        EACH(c, n)
        {
            const __m256i wide = _mm256_madd_epi16(sum[half][c], ones);
            dot[half][c] = first == 0 ? wide : _mm256_add_epi32(dot[half][c], wide);
        }
    }
}

INLINE void dot_signed(const int n, const int n_vectors, const uint8_t (*w)[64], const int8_t *x,
                       __m256i dot[N_HALVES][4])
{
    const __m256i ones = _mm256_set1_epi16(1);
    EACH(i, n_vectors)
    {
        const __m256i w0 = load(w[i]), w1 = load(w[i] + 32);
        const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);
        EACH(c, n)
        {
            const __m256i xv = four_bytes(x + c * 32 + i * 4);
            const __m256i p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(m0, _mm256_sign_epi8(xv, w0)), ones);
            const __m256i p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(m1, _mm256_sign_epi8(xv, w1)), ones);
            dot[0][c] = i == 0 ? p0 : _mm256_add_epi32(dot[0][c], p0);
            dot[1][c] = i == 0 ? p1 : _mm256_add_epi32(dot[1][c], p1);
        }
    }
}

/* n columns; n_sub 8 or 16 sub-blocks in a unit. */
INLINE void multiply_unit(const int n, const int n_sub, const enum dot how, const enum start start, const enum min min,
                          const bora_avx2_unit *w, const bora_panel *x, size_t unit, uint32_t column, float *f,
                          const uint8_t *ahead, size_t n_ahead)
{
    const int n_halves_of_block = n_sub / 8, n_vectors = 64 / n_sub;
    __m256 g[N_HALVES][4];
    EACH(half, N_HALVES)
    EACH(c, n)
    g[half][c] = _mm256_setzero_ps();

    const uint8_t *ahead_end = ahead + n_ahead * 64;
    const size_t ahead_size = (n_ahead + 7) / 8 * 64; /* per block */
    for (int block = 0; block < 8; block++) {
        for (const uint8_t *end = ahead + ahead_size; ahead < end && ahead < ahead_end; ahead += 64)
            _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        const size_t at = (unit * 8 + (size_t)block) * x->n_columns + column;
        EACH(e, n_halves_of_block)
        {
            const int sub = block * n_halves_of_block + e;
            __m256i dot[N_HALVES][4];
            if (how == SIGNED)
                dot_signed(n, n_vectors, w->q + sub * n_vectors, x->q + at * 32 + e * 16, dot);
            else
                dot_unsigned(n, n_vectors, how, w->q + sub * n_vectors, x->q + at * 32 + e * 16, dot);
            const __m256 scale[N_HALVES] = {_mm256_load_ps(w->scale[sub]), _mm256_load_ps(w->scale[sub] + 8)};
            EACH(c, n)
            {
                const __m256i shift = four_bytes(x->shift + at + c);
                const __m256i s = start_value(start, x, unit * (size_t)n_sub + (size_t)sub, column + (size_t)c);
                EACH(half, N_HALVES)
                {
                    if (start != START_NONE)
                        dot[half][c] = _mm256_add_epi32(dot[half][c], s);
                    const __m256 value = _mm256_cvtepi32_ps(_mm256_sllv_epi32(dot[half][c], shift));
                    g[half][c] = _mm256_fmadd_ps(value, scale[half], g[half][c]);
                }
                if (min == MIN_FLOAT) {
                    const float sum = x->sum32[((unit * x->n_columns) + column + (size_t)c) * 8 + (size_t)block];
                    EACH(half, N_HALVES)
                    g[half][c] =
                        _mm256_fmadd_ps(_mm256_set1_ps(sum), _mm256_load_ps(w->min[block] + half * 8), g[half][c]);
                }
            }
        }
    }

    EACH(c, n)
    {
        const size_t at = unit * x->n_columns + column + (size_t)c;
        const __m256 x_scale = _mm256_set1_ps(x->scale[at]);
        const int16_t *sums = n_sub == 8 ? x->sum32 + at * 8 : x->sum16 + at * 16;
        EACH(half, N_HALVES)
        {
            float *out = f + c * 16 + half * 8;
            const __m256 d = _mm256_load_ps(w->d + half * 8);
            if (min == MIN_K) {
                __m256i m = _mm256_setzero_si256();
                EACH(pair, n_sub / 2)
                m = _mm256_add_epi32(m, _mm256_madd_epi16(load((const uint8_t *)w->k_min[pair][half * 8]),
                                                          four_bytes(sums + pair * 2)));
                const __m256 below = _mm256_mul_ps(_mm256_cvtepi32_ps(m), _mm256_load_ps(w->dmin + half * 8));
                const __m256 value = _mm256_fmsub_ps(g[half][c], d, below);
                _mm256_store_ps(out, _mm256_fmadd_ps(value, x_scale, _mm256_load_ps(out)));
            } else {
                _mm256_store_ps(out, _mm256_fmadd_ps(g[half][c], _mm256_mul_ps(d, x_scale), _mm256_load_ps(out)));
            }
        }
    }
}

#define TILE(name, n, ...)                                                                                             \
    TARGET static void name##_##n(const bora_avx2_unit *w, const bora_panel *x, size_t unit, uint32_t column,          \
                                  float *f, const uint8_t *ahead, size_t n_ahead)                                      \
    {                                                                                                                  \
        multiply_unit(n, __VA_ARGS__, w, x, unit, column, f, ahead, n_ahead);                                          \
    }
#define TILES(name, ...)                                                                                               \
    TILE(name, 1, __VA_ARGS__)                                                                                         \
    TILE(name, 2, __VA_ARGS__)                                                                                         \
    TILE(name, 3, __VA_ARGS__)                                                                                         \
    TILE(name, 4, __VA_ARGS__)                                                                                         \
    static const bora_avx2_tile name[BORA_AVX2_TILE_COLUMNS] = {name##_1, name##_2, name##_3, name##_4};

TILES(q4_0, 8, EVERY_8, START_8, MIN_NONE)
TILES(q4_1, 8, EVERY_8, START_NONE, MIN_FLOAT)
TILES(q5_0, 8, EVERY_4, START_16, MIN_NONE)
TILES(q5_1, 8, EVERY_4, START_NONE, MIN_FLOAT)
TILES(int8, 8, SIGNED, START_NONE, MIN_NONE)
TILES(q4_k, 8, EVERY_8, START_NONE, MIN_K)
TILES(q5_k, 8, EVERY_4, START_NONE, MIN_K)
TILES(q6_k, 16, EVERY_2, START_32, MIN_NONE)
TILES(q3_k, 16, EVERY_4, START_4, MIN_NONE)
TILES(q2_k, 16, EVERY_4, START_NONE, MIN_K)

const bora_avx2_tile *bora_avx2_tiles_of(uint32_t dtype)
{
    static const bora_avx2_tile *const all[BORA_DTYPE_COUNT] = {
        [BORA_DTYPE_Q4_0] = q4_0, [BORA_DTYPE_Q4_1] = q4_1,   [BORA_DTYPE_Q5_0] = q5_0, [BORA_DTYPE_Q5_1] = q5_1,
        [BORA_DTYPE_Q8_0] = int8, [BORA_DTYPE_IQ4_NL] = int8, [BORA_DTYPE_Q2_K] = q2_k, [BORA_DTYPE_Q3_K] = q3_k,
        [BORA_DTYPE_Q4_K] = q4_k, [BORA_DTYPE_Q5_K] = q5_k,   [BORA_DTYPE_Q6_K] = q6_k, [BORA_DTYPE_IQ4_XS] = int8,
    };
    return dtype < BORA_DTYPE_COUNT ? all[dtype] : NULL;
}

#else
typedef int bora_avx2_tiles_not_here; /* ISO C wants something in every file */
#endif
