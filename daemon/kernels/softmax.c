/* Softmax of one row, shifted by its maximum so that nothing overflows. */
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
