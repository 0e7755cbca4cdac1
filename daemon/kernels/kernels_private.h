/* Inside of the kernels: what matmul.c and matrix.c share. */
#ifndef BORA_KERNELS_KERNELS_PRIVATE_H
#define BORA_KERNELS_KERNELS_PRIVATE_H

#include "kernels/bf16/bf16.h"
#include "kernels/kernels.h"
#include "kernels/matmul.h"
#include "kernels/matrix.h"
#include "kernels/packed/packed.h"

/* One per thread. */
typedef struct bora_kernels_scratch {
    float *weights; /* [BLOCK_ROWS, n_cols of a range] */
    float *state;   /* [BLOCK_ROWS / 4, BLOCK_TOKENS, 4, lanes] */
    void *packed;   /* what packed->multiply asks for; NULL if nothing */
} bora_kernels_scratch;

struct bora_kernels {
    bora_cpu cpu;
    bora_pool *pool;
    const bora_matmul_path *path;
    const bora_packed_path *packed;
    const bora_bf16_path *bf16; /* NULL: the processor has none */
    size_t max_cols;
    size_t block_cols; /* columns of a range: BLOCK_COLS, or, if all rows are shorter, a whole row */
    bora_reader_fn reader;
    void *reader_arg;
    bora_rounding rounding;
    bool fills_int8, fills_bf16; /* what the matrices made until now read of an input */
    float *memory;
    uint8_t *packed_memory;
    bora_kernels_scratch scratch[]; /* [n_threads] */
};

/* bora_matmul in the calling thread alone, with the scratch of the given worker. The same bits. */
void bora_matmul_alone(bora_kernels *kernels, const bora_tensor *w, size_t n, const float *x, float *y, size_t y_stride,
                       uint32_t worker);

#endif
