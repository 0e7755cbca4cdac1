/* bora_matmul with AVX2, FMA and F16C: tiles of 4 rows x 3 tokens, 12 of the 16 registers are partial sums. */
#if defined(__x86_64__)
#include "kernels/dequantize.h"
#include "kernels/matmul.h"

#include <immintrin.h>
#include <string.h>

#define TARGET      __attribute__((target("avx2,fma,f16c")))
#define INLINE      TARGET static inline __attribute__((always_inline))
#define LANES       8u
#define STEP        32u
#define TILE_TOKENS 3u

typedef __m256 vec;

INLINE vec vec_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE vec vec_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void vec_store(float *to, vec value)
{
    _mm256_storeu_ps(to, value);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vec load_x_tail(const float *x, size_t n)
{
    float some[LANES] = {0};
    memcpy(some, x, n * sizeof *x);
    return _mm256_loadu_ps(some);
}

INLINE vec widen_f16(__m128i bits)
{
    return _mm256_cvtph_ps(bits);
}

INLINE vec widen_bf16(__m128i bits)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

INLINE vec load_scale(const uint8_t *row, size_t k)
{
    int16_t d;
    memcpy(&d, row + k / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE, sizeof d);
    return _mm256_cvtph_ps(_mm_set1_epi16(d));
}

INLINE vec load_w(uint32_t dtype, const uint8_t *row, size_t k, size_t part, vec scale)
{
    if (dtype == BORA_DTYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)(row + 4 * (k + part)));
    if (dtype == BORA_DTYPE_F16)
        return widen_f16(_mm_loadu_si128((const __m128i *)(row + 2 * (k + part))));
    if (dtype == BORA_DTYPE_BF16)
        return widen_bf16(_mm_loadu_si128((const __m128i *)(row + 2 * (k + part))));
    const uint8_t *const block = row + k / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE;
    const __m128i q = _mm_loadl_epi64((const __m128i *)(block + 2 + part));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), scale);
}

INLINE vec load_w_tail(uint32_t dtype, const uint8_t *row, size_t k, size_t n)
{
    uint8_t some[4 * LANES] = {0};
    if (dtype == BORA_DTYPE_F32) {
        memcpy(some, row + 4 * k, 4 * n);
        return _mm256_loadu_ps((const float *)(const void *)some);
    }
    memcpy(some, row + 2 * k, 2 * n);
    const __m128i bits = _mm_loadu_si128((const __m128i *)some);
    return dtype == BORA_DTYPE_F16 ? widen_f16(bits) : widen_bf16(bits);
}

/* 8 lanes to 4: l + (l + 4). */
INLINE __m128 fold(vec value)
{
    return _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
}

INLINE __m128 add_lanes(vec a, vec b, vec c, vec d)
{
    __m128 s0 = fold(a), s1 = fold(b), s2 = fold(c), s3 = fold(d);
    _MM_TRANSPOSE4_PS(s0, s1, s2, s3);
    return _mm_add_ps(_mm_add_ps(s0, s2), _mm_add_ps(s1, s3));
}

#include "kernels/matmul_tile.inc"

TILE_FUNCTIONS(1)
TILE_FUNCTIONS(2)
TILE_FUNCTIONS(3)

const bora_matmul_path *bora_matmul_avx2(void)
{
    static const bora_matmul_path path = {
        .n_lanes = LANES,
        .n_tokens_max = TILE_TOKENS,
        .packed = {packed_1, packed_2, packed_3},
        .fused = {[BORA_DTYPE_F32] = {f32_1, f32_2, f32_3},
                  [BORA_DTYPE_F16] = {f16_1, f16_2, f16_3},
                  [BORA_DTYPE_BF16] = {bf16_1, bf16_2, bf16_3},
                  [BORA_DTYPE_Q8_0] = {q8_0_1, q8_0_2, q8_0_3}},
    };
    return &path;
}

#else
typedef int bora_matmul_avx2_not_here; /* ISO C wants something in every file */
#endif
