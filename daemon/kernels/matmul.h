/* Inside of the matrix product: what the driver (matmul.c) asks of a processor's path.
 *
 * A tile is 4 rows of weights times a few rows of x over a range of k. Each of its outputs is a vector of partial sums,
 * one per lane: lane l adds the products of k = l, l + lanes, l + 2 lanes, ... in that order, and at the end the lanes
 * are added up by a fixed tree. No other order occurs, whatever the tile's shape and wherever k is cut. */
#ifndef BORA_KERNELS_MATMUL_H
#define BORA_KERNELS_MATMUL_H

#include <bora/plugin.h>
#include <stdbool.h>
#include <stddef.h>

#define BORA_TILE_ROWS       4u
#define BORA_TILE_TOKENS_MAX 6u
#define BORA_LANES_MAX       16u

typedef struct bora_matmul_tile {
    const uint8_t *rows[BORA_TILE_ROWS]; /* weights from the first k of the range on; missing rows repeat another */
    const float *x;                      /* [n_tokens, x_stride], from the first k of the range on */
    size_t x_stride;                     /* floats */
    size_t n;         /* length of the range; whole blocks, and a multiple of 32 except for the last */
    float *state;     /* [n_tokens, 4, lanes] partial sums, 64-byte aligned; NULL if first and last */
    bool first, last; /* begin at zero; add up the lanes into y */
    float *y;         /* [n_tokens, y_stride], at the tile's first row */
    size_t y_stride;  /* floats */
    size_t row_size;  /* bytes from row to row in memory (fused) */
    uint32_t n_rows;  /* outputs to write per token, 1 .. 4 */
} bora_matmul_tile;

typedef void (*bora_matmul_fn)(const bora_matmul_tile *tile);

typedef struct bora_matmul_path {
    uint32_t n_lanes;
    uint32_t n_tokens_max; /* the widest tile */
    /* By n_tokens - 1. packed: on f32 in cache. fused: by weight type, straight from memory; NULL: dequantise first. */
    bora_matmul_fn packed[BORA_TILE_TOKENS_MAX];
    bora_matmul_fn fused[BORA_DTYPE_COUNT][BORA_TILE_TOKENS_MAX];
} bora_matmul_path;

#if defined(__x86_64__)
const bora_matmul_path *bora_matmul_avx2(void);
const bora_matmul_path *bora_matmul_avx512(void);
#endif

#endif
