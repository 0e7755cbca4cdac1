/* attention-flash with AVX-512: four lines by four positions, a vector is a register. */
#if defined(__x86_64__)
#include "flash.h"

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define TARGET          __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
#define VEC             TARGET static inline __attribute__((always_inline))
#define KERNELS         bora_flash_avx512
#define KERNELS_NAME    "avx512"
#define SCORE_LINES     4u
#define SCORE_POSITIONS 4u
#define VALUE_LINES     4u
#define VALUE_VECTORS   4u

typedef __m512 vec;

VEC vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

VEC vec vec_set1(float value)
{
    return _mm512_set1_ps(value);
}

VEC vec vec_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

VEC void vec_store(float *to, vec value)
{
    _mm512_storeu_ps(to, value);
}

VEC vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

VEC vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

VEC vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

VEC vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

VEC vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

VEC vec vec_exponent(vec a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}

VEC vec vec_zero_below(vec x, vec limit, vec y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}

VEC float vec_highest(vec a)
{
    return _mm512_reduce_max_ps(a);
}

/* Quarter i of the result: of the first quarters' sums of a, b, c, d. */
VEC vec fold_quarters(vec a, vec b, vec c, vec d)
{
    const vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

/* The quarters of four results of fold_quarters, added. */
VEC vec add_quarters(vec a, vec b, vec c, vec d)
{
    const vec ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const vec cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* Always as 16 sums; what there is less of is zeros and falls away. */
VEC void vec_sums(size_t count, const vec *parts, float *out)
{
    vec quarters[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        quarters[i] = 4 * i >= count ? vec_zero()
                                     : fold_quarters(parts[4 * i], 4 * i + 1 < count ? parts[4 * i + 1] : vec_zero(),
                                                     4 * i + 2 < count ? parts[4 * i + 2] : vec_zero(),
                                                     4 * i + 3 < count ? parts[4 * i + 3] : vec_zero());
    const vec sums = add_quarters(quarters[0], quarters[1], quarters[2], quarters[3]);
    if (count == 16)
        _mm512_storeu_ps(out, sums);
    else
        _mm512_mask_storeu_ps(out, (__mmask16)((1u << count) - 1), sums);
}

VEC vec vec_load_kv(uint32_t dtype, const uint8_t *row, size_t d)
{
    if (dtype == BORA_DTYPE_F32)
        return _mm512_loadu_ps(row + 4 * d);
    if (dtype == BORA_DTYPE_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * d)));
    const uint8_t *block = row + d / FLASH_Q8_ELEMENTS * FLASH_Q8_SIZE;
    int16_t scale;
    memcpy(&scale, block, sizeof scale);
    const __m128i q = _mm_loadu_si128((const __m128i *)(block + 2 + d % FLASH_Q8_ELEMENTS));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), _mm512_cvtph_ps(_mm256_set1_epi16(scale)));
}

#include "tile.inc"

#endif
