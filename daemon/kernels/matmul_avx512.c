/* bora_matmul with AVX-512: tiles of 4 rows x 6 tokens, 24 of the 32 registers are partial sums. */
#if defined(__x86_64__)
#include "kernels/dequantize.h"
#include "kernels/matmul.h"

#include <immintrin.h>
#include <string.h>

#define TARGET      __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE      TARGET static inline __attribute__((always_inline))
#define LANES       16u
#define STEP        32u
#define TILE_TOKENS 6u

typedef __m512 vec;

INLINE vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vec vec_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

INLINE void vec_store(float *to, vec value)
{
    _mm512_storeu_ps(to, value);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vec load_x_tail(const float *x, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
}

INLINE vec widen_bf16(__m256i bits)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

INLINE vec load_scale(const uint8_t *row, size_t k)
{
    int16_t d;
    memcpy(&d, row + k / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE, sizeof d);
    return _mm512_cvtph_ps(_mm256_set1_epi16(d));
}

INLINE vec load_w(uint32_t dtype, const uint8_t *row, size_t k, size_t part, vec scale)
{
    if (dtype == BORA_DTYPE_F32)
        return _mm512_loadu_ps(row + 4 * (k + part));
    if (dtype == BORA_DTYPE_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * (k + part))));
    if (dtype == BORA_DTYPE_BF16)
        return widen_bf16(_mm256_loadu_si256((const __m256i *)(row + 2 * (k + part))));
    const uint8_t *const block = row + k / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE;
    const __m128i q = _mm_loadu_si128((const __m128i *)(block + 2 + part));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale);
}

INLINE vec load_w_tail(uint32_t dtype, const uint8_t *row, size_t k, size_t n)
{
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (dtype == BORA_DTYPE_F32)
        return _mm512_maskz_loadu_ps(mask, row + 4 * k);
    const __m256i bits = _mm256_maskz_loadu_epi16(mask, row + 2 * k);
    return dtype == BORA_DTYPE_F16 ? _mm512_cvtph_ps(bits) : widen_bf16(bits);
}

/* 16 lanes to 4: l + (l + 8), then + (l + 4). */
INLINE __m128 fold(vec value)
{
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
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
TILE_FUNCTIONS(4)
TILE_FUNCTIONS(5)
TILE_FUNCTIONS(6)

const bora_matmul_path *bora_matmul_avx512(void)
{
    static const bora_matmul_path path = {
        .n_lanes = LANES,
        .n_tokens_max = TILE_TOKENS,
        .packed = {packed_1, packed_2, packed_3, packed_4, packed_5, packed_6},
        .fused = {[BORA_DTYPE_F32] = {f32_1, f32_2, f32_3, f32_4, f32_5, f32_6},
                  [BORA_DTYPE_F16] = {f16_1, f16_2, f16_3, f16_4, f16_5, f16_6},
                  [BORA_DTYPE_BF16] = {bf16_1, bf16_2, bf16_3, bf16_4, bf16_5, bf16_6},
                  [BORA_DTYPE_Q8_0] = {q8_0_1, q8_0_2, q8_0_3, q8_0_4, q8_0_5, q8_0_6}},
    };
    return &path;
}

#else
typedef int bora_matmul_avx512_not_here; /* ISO C wants something in every file */
#endif
