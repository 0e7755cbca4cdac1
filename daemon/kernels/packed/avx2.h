/* The AVX2 path: parts. A unit is unpacked into bytes and floats, the same for every type (avx2_unpack.c); then one of
 * a few tiles multiplies it with a few columns (avx2_tiles.c). With one panel a unit is unpacked just before, into the
 * first-level cache; with more, a whole strip is unpacked once for all of them (avx2.c). */
#ifndef BORA_KERNELS_PACKED_AVX2_H
#define BORA_KERNELS_PACKED_AVX2_H

#include "kernels/packed/packed.h"

#define BORA_AVX2_TARGET       __attribute__((target("avx2,fma,f16c")))

#define BORA_AVX2_TILE_COLUMNS 4u

/* An unpacked unit. A vector is [16 rows][4 elements]. */
typedef struct bora_avx2_unit {
    uint8_t q[64][64];   /* quants as the type's tile wants them: u8, or int8 */
    float scale[16][16]; /* [sub-block][row]; 8 or 16 sub-blocks */
    float d[16];         /* 1 where the type has none */
    float dmin[16];      /* with k_min */
    union {
        float min[8][16];        /* Q4_1, Q5_1: [block][row] */
        int16_t k_min[8][16][2]; /* Q4_K, Q5_K, Q2_K: [pair of sub-blocks][row][sub-block of the pair] */
    };
} bora_avx2_unit;

/* f[n][16 rows] of the columns column .. column+n-1 of the panel, gone on by one unit. Brings the n_ahead lines of 64
 * bytes from ahead on into the cache meanwhile. */
typedef void (*bora_avx2_tile)(const bora_avx2_unit *w, const bora_panel *x, size_t unit, uint32_t column, float *f,
                               const uint8_t *ahead, size_t n_ahead);

/* Both NULL if the type is not packed. */
typedef void (*bora_avx2_unpack)(const uint8_t *unit, bora_avx2_unit *ret);
bora_avx2_unpack bora_avx2_unpack_of(uint32_t dtype);
const bora_avx2_tile *bora_avx2_tiles_of(uint32_t dtype); /* [BORA_AVX2_TILE_COLUMNS]: of 1, 2 .. columns */

void bora_avx2_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column);

#endif
