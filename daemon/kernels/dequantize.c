/* Weights as f32: the choice of the function, and the types that need no arithmetic worth a file of its own. Every
 * conversion is exact except for the products and sums of the block types, which are rounded here and in the fused
 * products of matmul alike: so it does not matter to a result where a weight was converted. */
#include "kernels/dequantize_block.h"
#include "model/blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#endif

static void f32_plain(const uint8_t *in, size_t n, float *out)
{
    memcpy(out, in, 4 * n);
}

static void f16_plain(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = bora_f16_to_f32(load_u16(in + 2 * i));
}

static void bf16_plain(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = bora_bf16_to_f32(load_u16(in + 2 * i));
}

static void q8_0_plain(const uint8_t *in, size_t n_blocks, float *out)
{
    for (size_t block = 0; block < n_blocks; block++, in += BORA_Q8_0_SIZE, out += BORA_Q8_0_ELEMENTS) {
        float d = load_f16(in);
        int8_t q[BORA_Q8_0_ELEMENTS];
        memcpy(q, in + 2, sizeof q);
        for (size_t i = 0; i < BORA_Q8_0_ELEMENTS; i++)
            out[i] = (float)q[i] * d;
    }
}

#if defined(__x86_64__)

TARGET_AVX2 static void f16_avx2(const uint8_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + 2 * i))));
    f16_plain(in + 2 * i, n - i, out + i);
}

TARGET_AVX2 static void bf16_avx2(const uint8_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(in + 2 * i)));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
    bf16_plain(in + 2 * i, n - i, out + i);
}

TARGET_AVX2 static void q8_0_avx2(const uint8_t *in, size_t n_blocks, float *out)
{
    for (size_t block = 0; block < n_blocks; block++, in += BORA_Q8_0_SIZE, out += BORA_Q8_0_ELEMENTS) {
        __m256 d = _mm256_cvtph_ps(_mm_set1_epi16((short)load_u16(in)));
        for (size_t i = 0; i < BORA_Q8_0_ELEMENTS; i += 8) {
            __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(in + 2 + i)));
            _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), d));
        }
    }
}

#endif

#if defined(__x86_64__)
#define TWINS(name)                                                                                                    \
    &(const bora_dequantizer)                                                                                          \
    {                                                                                                                  \
        name##_plain, name##_avx2                                                                                      \
    }
#else
#define TWINS(name)                                                                                                    \
    &(const bora_dequantizer)                                                                                          \
    {                                                                                                                  \
        name##_plain, NULL                                                                                             \
    }
#endif

static const bora_dequantizer *const dequantizers[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_F32] = &(const bora_dequantizer){f32_plain, NULL},
    [BORA_DTYPE_F16] = TWINS(f16),
    [BORA_DTYPE_BF16] = TWINS(bf16),
    [BORA_DTYPE_Q8_0] = TWINS(q8_0),
    [BORA_DTYPE_Q4_0] = &bora_dequantizer_q4_0,
    [BORA_DTYPE_Q4_1] = &bora_dequantizer_q4_1,
    [BORA_DTYPE_Q5_0] = &bora_dequantizer_q5_0,
    [BORA_DTYPE_Q5_1] = &bora_dequantizer_q5_1,
    [BORA_DTYPE_Q2_K] = &bora_dequantizer_q2_k,
    [BORA_DTYPE_Q3_K] = &bora_dequantizer_q3_k,
    [BORA_DTYPE_Q4_K] = &bora_dequantizer_q4_k,
    [BORA_DTYPE_Q5_K] = &bora_dequantizer_q5_k,
    [BORA_DTYPE_Q6_K] = &bora_dequantizer_q6_k,
    [BORA_DTYPE_IQ4_NL] = &bora_dequantizer_iq4_nl,
    [BORA_DTYPE_IQ4_XS] = &bora_dequantizer_iq4_xs,
};

void bora_dequantize_row(const bora_cpu *cpu, uint32_t dtype, const uint8_t *row, size_t first, size_t n, float *out)
{
    const bora_block *block = bora_block_of(dtype);
    if (!block) /* the model loader lets no other type through */
        return;
    const bora_dequantizer *dequantizer = dequantizers[dtype];
    const uint8_t *in = row + first / block->n_elements * block->size;
    if (cpu && cpu->avx2 && dequantizer->avx2)
        dequantizer->avx2(in, n / block->n_elements, out);
    else
        dequantizer->plain(in, n / block->n_elements, out);
}

void bora_dequantize(const bora_cpu *cpu, const bora_tensor *w, uint64_t first_row, uint64_t n_rows, float *out)
{
    const uint8_t *row = (const uint8_t *)w->data + first_row * w->row_size;
    for (uint64_t i = 0; i < n_rows; i++, row += w->row_size, out += w->n_cols)
        bora_dequantize_row(cpu, w->dtype, row, 0, w->n_cols, out);
}
