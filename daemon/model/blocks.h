/* The element types of weights: how many elements share a block and how many bytes it takes. */
#ifndef BORA_MODEL_BLOCKS_H
#define BORA_MODEL_BLOCKS_H

#include <bora/plugin.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct bora_block {
    const char *name;    /* "f32", "f16", "bf16", "q8_0" */
    uint32_t n_elements; /* per block */
    uint32_t size;       /* bytes per block */
} bora_block;

/* dtype < BORA_DTYPE_COUNT; NULL otherwise. Any thread. */
const bora_block *bora_block_of(uint32_t dtype);
/* Bytes of a row of n_cols elements. False if n_cols is not whole blocks, on overflow, or for an unknown dtype. */
bool bora_block_row_size(uint32_t dtype, uint64_t n_cols, size_t *ret_size);

#endif
