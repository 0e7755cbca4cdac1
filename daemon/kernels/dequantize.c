/* Weights as f32. Every conversion is exact except q8_0's single product (float)q * d, which is rounded once, here and
 * in the fused products of matmul alike: so it does not matter to a result where a weight was converted. */
#include "kernels/dequantize.h"

#include "kernels/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#endif

static uint16_t load_u16(const uint8_t *bytes)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
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
        float d = bora_f16_to_f32(load_u16(in));
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

void bora_dequantize_row(const bora_cpu *cpu, uint32_t dtype, const uint8_t *row, size_t first, size_t n, float *out)
{
    void (*f16)(const uint8_t *, size_t, float *) = f16_plain;
    void (*bf16)(const uint8_t *, size_t, float *) = bf16_plain;
    void (*q8_0)(const uint8_t *, size_t, float *) = q8_0_plain;
#if defined(__x86_64__)
    if (cpu && cpu->avx2) {
        f16 = f16_avx2;
        bf16 = bf16_avx2;
        q8_0 = q8_0_avx2;
    }
#else
    (void)cpu;
#endif
    switch (dtype) {
    case BORA_DTYPE_F32:
        memcpy(out, row + 4 * first, 4 * n);
        break;
    case BORA_DTYPE_F16:
        f16(row + 2 * first, n, out);
        break;
    case BORA_DTYPE_BF16:
        bf16(row + 2 * first, n, out);
        break;
    case BORA_DTYPE_Q8_0:
        q8_0(row + first / BORA_Q8_0_ELEMENTS * BORA_Q8_0_SIZE, n / BORA_Q8_0_ELEMENTS, out);
        break;
    default: /* the model loader lets no other type through */
        break;
    }
}

void bora_dequantize(const bora_cpu *cpu, const bora_tensor *w, uint64_t first_row, uint64_t n_rows, float *out)
{
    const uint8_t *row = (const uint8_t *)w->data + first_row * w->row_size;
    for (uint64_t i = 0; i < n_rows; i++, row += w->row_size, out += w->n_cols)
        bora_dequantize_row(cpu, w->dtype, row, 0, w->n_cols, out);
}
