/* Rotary position embedding (Su et al., arXiv 2104.09864) on neighbouring pairs. Frequencies and angles are float, as
 * in Mistral's reference: more exact ones would differ from what models were trained with, by 0.01 at position 128k. */
#include "kernels/kernels.h"

#include <math.h>

#define PAIRS 64u /* sines computed at once, then used for all heads */

void bora_rope_freqs(float theta, uint32_t head_dim, float *ret_freqs)
{
    for (uint32_t i = 0; i < head_dim / 2; i++)
        ret_freqs[i] = 1.0f / powf(theta, (float)(2 * i) / (float)head_dim);
}

void bora_rope(size_t n, uint32_t n_heads, uint32_t head_dim, const float *freqs, const uint64_t *positions, float *x)
{
    size_t n_pairs = head_dim / 2;
    for (size_t row = 0; row < n; row++, x += (size_t)n_heads * head_dim) {
        for (size_t first = 0; first < n_pairs; first += PAIRS) {
            size_t count = n_pairs - first < PAIRS ? n_pairs - first : PAIRS;
            float cosines[PAIRS], sines[PAIRS];
            for (size_t i = 0; i < count; i++) {
                float angle = (float)positions[row] * freqs[first + i];
                cosines[i] = cosf(angle);
                sines[i] = sinf(angle);
            }
            for (size_t head = 0; head < n_heads; head++) {
                float *pairs = x + head * head_dim + 2 * first;
                for (size_t i = 0; i < count; i++) {
                    float a = pairs[2 * i], b = pairs[2 * i + 1];
                    pairs[2 * i] = a * cosines[i] - b * sines[i];
                    pairs[2 * i + 1] = a * sines[i] + b * cosines[i];
                }
            }
        }
    }
}
