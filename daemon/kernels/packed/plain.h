/* The plain path: obviously right before fast, the definition that the others are compared with. They may use its
 * functions where there is nothing to gain. */
#ifndef BORA_KERNELS_PACKED_PLAIN_H
#define BORA_KERNELS_PACKED_PLAIN_H

#include "kernels/packed/packed.h"

/* See bora_packed_path for what these do. */
void bora_plain_fill(const float *x, size_t n_cols, const bora_panel *panel, uint32_t column);
void bora_plain_pack(uint32_t dtype, const uint8_t *rows, size_t row_size, size_t n_rows, size_t n_cols,
                     uint8_t *strip);
void bora_plain_multiply(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch);

/* The types with blocks of 32: where things lie in a quarter of a unit, which is two blocks of 16 rows. In the file a
 * block is d f16, min f16 if there is one, 4 bytes of fifth bits if there are any, quants. */
typedef struct bora_quarter {
    size_t size;      /* bytes; scale [2][16] f16 are at 0 */
    size_t min;       /* offset of min [2][16] f16; 0: none */
    size_t quants;    /* offset of quants [2][n_vectors][16][4] */
    size_t n_vectors; /* 4: nibbles, 8: bytes */
    size_t high;      /* offset of the fifth bits [2][16][4]; 0: none */
} bora_quarter;

/* NULL if the type has no blocks of 32 or is not packed. */
const bora_quarter *bora_quarter_of(uint32_t dtype);

#endif
