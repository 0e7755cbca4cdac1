/* Softmax of one row, shifted by its maximum so that nothing overflows. */
#include "kernels/exp.h"
#include "kernels/kernels.h"

#include <math.h>

void bora_softmax(size_t n, float *x)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    if (max == -INFINITY) { /* nothing is possible (or all is NaN): no shift would make sense of it */
        for (size_t i = 0; i < n; i++)
            x[i] = isnan(x[i]) ? x[i] : 0;
        return;
    }
    double sum = 0; /* a vocabulary has 32,768 terms and more */
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += (double)x[i];
    }
    float scale = (float)(1.0 / sum);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

#define BLOCK 16u /* a constant trip count is what gcc -O2 asks for to vectorise */

/* e^(x - max), where that is a normal number; 0 for less, and for NaN. */
static inline float term(float x, float max)
{
    const int32_t limit = 0x42ae0000; /* 87.0f; floats are ordered as their magnitudes' bits are, NaN above all */
    int32_t magnitude = bits_of(max - x) & 0x7fffffff;
    int32_t is_bounded = (magnitude - limit) >> 31;
    magnitude = magnitude < limit ? magnitude : limit;
    return float_of(bits_of(exp_bounded(-float_of(magnitude))) & is_bounded);
}

double bora_log_sum_exp(size_t n, const float *x)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    if (isinf(max)) /* no shift would make sense of it */
        return (double)max;
    double sum = 0;
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        float terms[BLOCK];
        for (size_t j = 0; j < BLOCK; j++)
            terms[j] = term(x[i + j], max);
        for (size_t j = 0; j < BLOCK; j++)
            sum += (double)terms[j];
    }
    for (; i < n; i++)
        sum += (double)term(x[i], max);
    return (double)max + log(sum);
}
