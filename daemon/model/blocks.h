/* The element types of weights: how many elements share a block and how many bytes it takes. */
#ifndef BORA_MODEL_BLOCKS_H
#define BORA_MODEL_BLOCKS_H

#include <bora/plugin.h>
#include <stdbool.h>
#include <stddef.h>

/* No type has larger blocks. */
#define BORA_BLOCK_ELEMENTS_MAX 256u
#define BORA_BLOCK_SIZE_MAX     210u

typedef struct bora_block {
    const char *name;    /* "f32", "bf16", "q8_0", "q4_k": in lower case */
    uint32_t n_elements; /* per block */
    uint32_t size;       /* bytes per block */
} bora_block;

/* dtype < BORA_DTYPE_COUNT; NULL otherwise. Any thread. */
const bora_block *bora_block_of(uint32_t dtype);
/* Bytes of a row of n_cols elements. False if n_cols is not whole blocks, on overflow, or for an unknown dtype. */
bool bora_block_row_size(uint32_t dtype, uint64_t n_cols, size_t *ret_size);

/* The element types of the KV cache by the names that configuration and command lines use. */
#define BORA_KV_TYPES "f32, f16 or q8_0"
/* "f32", "f16", "q8_0", or "q8" for short; false for anything else. Any thread. */
bool bora_kv_type_parse(const char *text, uint32_t *ret_dtype);

#endif
