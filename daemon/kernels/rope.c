/* Rotary position embedding (Su et al., arXiv 2104.09864) on neighbouring pairs. Frequencies and angles are float, as
 * in Mistral's reference: more exact ones would differ from what models were trained with, by 0.01 at position 128k. */
#include "kernels/kernels.h"

#include <math.h>

#include <string.h>

#define LANES 8u

void bora_rope_freqs(float theta, uint32_t head_dim, float *ret_freqs)
{
    for (uint32_t i = 0; i < head_dim / 2; i++)
        ret_freqs[i] = 1.0f / powf(theta, (float)(2 * i) / (float)head_dim);
}

void bora_rope_angles(size_t n, uint32_t head_dim, const float *freqs, const uint64_t *positions, float *ret_angles)
{
    for (size_t row = 0; row < n; row++, ret_angles += 2 * (size_t)head_dim) {
        float *cosines = ret_angles, *sines = ret_angles + head_dim;
        for (size_t i = 0; i < head_dim / 2; i++) {
            float angle = (float)positions[row] * freqs[i];
            cosines[2 * i] = cosines[2 * i + 1] = cosf(angle);
            sines[2 * i + 1] = sinf(angle);
            sines[2 * i] = -sines[2 * i + 1];
        }
    }
}

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* a cos - b sin, b cos + a sin: with the sign in the table both are one form. */
static void rotate_head(size_t head_dim, const float *cosines, const float *sines, float *x)
{
    size_t i = 0;
    for (; i + LANES <= head_dim; i += LANES) {
        lanes own, c, s;
        memcpy(&own, x + i, sizeof own);
        memcpy(&c, cosines + i, sizeof c);
        memcpy(&s, sines + i, sizeof s);
        lanes other = __builtin_shufflevector(own, own, 1, 0, 3, 2, 5, 4, 7, 6);
        own = own * c + other * s;
        memcpy(x + i, &own, sizeof own);
    }
    for (; i + 2 <= head_dim; i += 2) {
        float a = x[i], b = x[i + 1];
        x[i] = a * cosines[i] + b * sines[i];
        x[i + 1] = b * cosines[i + 1] + a * sines[i + 1];
    }
}

void bora_rope(size_t n, uint32_t n_heads, uint32_t head_dim, const float *angles, float *x)
{
    for (size_t row = 0; row < n; row++, angles += 2 * (size_t)head_dim)
        for (size_t head = 0; head < n_heads; head++, x += head_dim)
            rotate_head(head_dim, angles, angles + head_dim, x);
}
