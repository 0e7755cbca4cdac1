/* Whole products on all threads: several matrices that share an input, as q, k and v do. */
#ifndef BORA_KERNELS_PRODUCTS_H
#define BORA_KERNELS_PRODUCTS_H

#include "kernels/matrix.h"

typedef struct bora_product {
    const bora_matrix *matrix;
    float *y;        /* [n_rows of the input, y_stride] */
    size_t y_stride; /* floats, at least the matrix's n_rows */
} bora_product;

/* Quantises the input, if any of the matrices needs that, and multiplies each with it. The caller's thread and the
 * pool. */
void bora_products_run(bora_kernels *kernels, const bora_input *input, const bora_product *products,
                       uint32_t n_products);

#endif
