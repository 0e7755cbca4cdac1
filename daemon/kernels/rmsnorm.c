/* Root mean square norm (Zhang and Sennrich, arXiv 1910.07467), as in Mistral's reference: no mean is subtracted. */
#include "kernels/kernels.h"

#include <math.h>

#define LANES 8u

/* Double holds the square of any float, from 1e-45 to 3e38; eight sums side by side keep the adder busy. */
static double mean_square(size_t dim, const float *x)
{
    double sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (size_t lane = 0; i < dim; i++, lane++)
        sums[lane] += (double)x[i] * (double)x[i];
    double low = (sums[0] + sums[4]) + (sums[2] + sums[6]);
    double high = (sums[1] + sums[5]) + (sums[3] + sums[7]);
    return (low + high) / (double)dim;
}

void bora_rmsnorm(size_t n, size_t dim, const float *x, const float *weight, float eps, float *y)
{
    for (size_t row = 0; row < n; row++, x += dim, y += dim) {
        float scale = (float)(1.0 / sqrt(mean_square(dim, x) + (double)eps));
        for (size_t i = 0; i < dim; i++)
            y[i] = x[i] * scale * weight[i];
    }
}
