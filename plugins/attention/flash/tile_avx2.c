/* attention-flash with AVX2: a vector is two registers of eight floats. */
#if defined(__x86_64__)
#include "flash.h"

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define TARGET          __attribute__((target("avx2,fma,f16c")))
#define VEC             TARGET static inline __attribute__((always_inline))
#define KERNELS         bora_flash_avx2
#define KERNELS_NAME    "avx2"
#define SCORE_LINES     2u
#define SCORE_POSITIONS 2u
#define VALUE_LINES     2u
#define VALUE_VECTORS   2u

typedef struct vec {
    __m256 low, high; /* lanes 0-7, 8-15 */
} vec;

VEC vec vec_zero(void)
{
    return (vec){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

VEC vec vec_set1(float value)
{
    return (vec){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

VEC vec vec_load(const float *from)
{
    return (vec){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

VEC void vec_store(float *to, vec value)
{
    _mm256_storeu_ps(to, value.low);
    _mm256_storeu_ps(to + 8, value.high);
}

VEC vec vec_add(vec a, vec b)
{
    return (vec){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

VEC vec vec_sub(vec a, vec b)
{
    return (vec){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

VEC vec vec_mul(vec a, vec b)
{
    return (vec){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

VEC vec vec_fma(vec a, vec b, vec c)
{
    return (vec){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

VEC vec vec_max(vec a, vec b)
{
    return (vec){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

VEC __m256 exponent(__m256 a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}

VEC vec vec_exponent(vec a)
{
    return (vec){exponent(a.low), exponent(a.high)};
}

VEC vec vec_zero_below(vec x, vec limit, vec y)
{
    return (vec){_mm256_and_ps(_mm256_cmp_ps(x.low, limit.low, _CMP_NLT_UQ), y.low),
                 _mm256_and_ps(_mm256_cmp_ps(x.high, limit.high, _CMP_NLT_UQ), y.high)};
}

VEC float vec_highest(vec a)
{
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

VEC __m256 fold_quarters(__m256 a, __m256 b, __m256 c, __m256 d)
{
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256d x = _mm256_castps_pd(ab), y = _mm256_castps_pd(cd);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)), _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
}

/* Four at a time; what there is less of is zeros and falls away. */
VEC void vec_sums(size_t count, const vec *parts, float *out)
{
#pragma GCC unroll 4
    for (size_t i = 0; i < count; i += 4) {
        const vec a = parts[i], b = i + 1 < count ? parts[i + 1] : vec_zero();
        const vec c = i + 2 < count ? parts[i + 2] : vec_zero(), d = i + 3 < count ? parts[i + 3] : vec_zero();
        const __m256 halves =
            _mm256_add_ps(fold_quarters(a.low, b.low, c.low, d.low), fold_quarters(a.high, b.high, c.high, d.high));
        float four[4];
        _mm_storeu_ps(four, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
        memcpy(out + i, four, (count - i < 4 ? count - i : 4) * sizeof *out);
    }
}

VEC vec vec_load_kv(uint32_t dtype, const uint8_t *row, size_t d)
{
    if (dtype == BORA_DTYPE_F32)
        return (vec){_mm256_loadu_ps((const float *)(const void *)(row + 4 * d)),
                     _mm256_loadu_ps((const float *)(const void *)(row + 4 * d + 32))};
    if (dtype == BORA_DTYPE_F16)
        return (vec){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * d))),
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * d + 16)))};
    const uint8_t *block = row + d / FLASH_Q8_ELEMENTS * FLASH_Q8_SIZE;
    int16_t half;
    memcpy(&half, block, sizeof half);
    const __m256 scale = _mm256_cvtph_ps(_mm_set1_epi16(half));
    const __m128i q = _mm_loadu_si128((const __m128i *)(block + 2 + d % FLASH_Q8_ELEMENTS));
    return (vec){_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), scale),
                 _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))), scale)};
}

#include "tile.inc"

#endif
