/* The AVX2 path: parts. One of a few tiles multiplies a unit with a few columns. With few panels (avx2_few.c) tiles of
 * the common types read the unit itself, and only its scales become floats first; units of other types are unpacked
 * into the first-level cache just before. With more (avx2_many.c) a whole strip is unpacked once for all of them. */
#ifndef BORA_KERNELS_PACKED_AVX2_H
#define BORA_KERNELS_PACKED_AVX2_H

#include "kernels/packed/packed.h"

#define BORA_AVX2_TARGET       __attribute__((target("avx2,fma,f16c")))
#define BORA_AVX2_TILE_COLUMNS 4u
#define BORA_AVX2_FEW_PANELS   4u /* up to so many; measured: 5 are even, 10 rows in 2 take 0.6 to 0.8 of the time */

/* An unpacked unit. */
typedef struct bora_avx2_unit {
    _Alignas(64) float scale[16][16]; /* [sub-block][row]; 8 or 16 sub-blocks */
    float d[16];                      /* 1 where the type has none */
    float dmin[16];                   /* with k_min */
    union {
        float min[8][16];        /* Q4_1, Q5_1: [block][row] */
        int16_t k_min[8][16][2]; /* Q4_K, Q5_K, Q2_K: [pair of sub-blocks][row][sub-block of the pair] */
    };
    uint8_t q[128][64]; /* [vector][16 rows][4 elements] unsigned; 64 vectors, or two of nibbles for each */
} bora_avx2_unit;

/* The parts of a unit that tiles of unpacked units need. The type must be a packed one. */
typedef struct bora_avx2_unpacker {
    void (*scales)(const uint8_t *unit, bora_avx2_unit *ret);
    void (*quants)(const uint8_t *unit, bora_avx2_unit *ret);
} bora_avx2_unpacker;
const bora_avx2_unpacker *bora_avx2_unpacker_of(uint32_t dtype);

/* f[n][16 rows] of the columns column .. column+n-1 of the panel, gone on by one unit. q: the quants of w, or the
 * packed unit. ahead: lines to fetch meanwhile, as many as a unit has. */
typedef void (*bora_avx2_tile)(const bora_avx2_unit *w, const uint8_t *q, const bora_panel *x, size_t unit,
                               uint32_t column, float *f, const uint8_t *ahead);

/* Chains of a panel. */
typedef struct bora_avx2_chains {
    _Alignas(64) float f[BORA_PANEL_COLUMNS_MAX][BORA_STRIP_ROWS];
} bora_avx2_chains;

/* One unit times all columns of a panel, by the tiles [BORA_AVX2_TILE_COLUMNS] of 1, 2 .. columns. */
void bora_avx2_add_unit(const bora_avx2_tile *tiles, const bora_avx2_unit *w, const uint8_t *q, const bora_panel *x,
                        size_t unit, bora_avx2_chains *chains, const uint8_t *ahead);
void bora_avx2_store(const bora_avx2_chains *chains, uint32_t n_columns, float *y, size_t y_stride);

/* As bora_packed_path's multiply, for 1 .. BORA_AVX2_FEW_PANELS panels and for any number. scratch: one unit; a strip
 * of them. */
void bora_avx2_multiply_few(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                            bora_avx2_unit *scratch);
void bora_avx2_multiply_many(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                             bora_avx2_unit *scratch);

/* See bora_packed_path. */
void bora_avx2_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols, uint8_t *strip);
void bora_avx2_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column);

#endif
