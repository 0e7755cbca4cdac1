/* The table of element types. Everything that needs to know how many bytes a row of weights takes asks here. */
#include "model/blocks.h"

#include "base/size.h"

#include <string.h>

static const bora_block blocks[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_F32] = {"f32", 1, 4},           [BORA_DTYPE_F16] = {"f16", 1, 2},
    [BORA_DTYPE_BF16] = {"bf16", 1, 2},         [BORA_DTYPE_Q8_0] = {"q8_0", 32, 34},
    [BORA_DTYPE_Q4_0] = {"q4_0", 32, 18},       [BORA_DTYPE_Q4_1] = {"q4_1", 32, 20},
    [BORA_DTYPE_Q5_0] = {"q5_0", 32, 22},       [BORA_DTYPE_Q5_1] = {"q5_1", 32, 24},
    [BORA_DTYPE_Q2_K] = {"q2_k", 256, 84},      [BORA_DTYPE_Q3_K] = {"q3_k", 256, 110},
    [BORA_DTYPE_Q4_K] = {"q4_k", 256, 144},     [BORA_DTYPE_Q5_K] = {"q5_k", 256, 176},
    [BORA_DTYPE_Q6_K] = {"q6_k", 256, 210},     [BORA_DTYPE_IQ4_NL] = {"iq4_nl", 32, 18},
    [BORA_DTYPE_IQ4_XS] = {"iq4_xs", 256, 136},
};

const bora_block *bora_block_of(uint32_t dtype)
{
    return dtype < BORA_DTYPE_COUNT ? &blocks[dtype] : NULL;
}

bool bora_block_row_size(uint32_t dtype, uint64_t n_cols, size_t *ret_size)
{
    const bora_block *block = bora_block_of(dtype);
    if (!block || n_cols % block->n_elements)
        return false;
    size_t n_blocks;
    if (__builtin_add_overflow(n_cols / block->n_elements, 0u, &n_blocks)) /* does not fit a size_t */
        return false;
    return bora_size_mul(n_blocks, block->size, ret_size);
}

bool bora_kv_type_parse(const char *text, uint32_t *ret_dtype)
{
    static const struct {
        const char *name;
        uint32_t dtype;
    } types[] = {{"f32", BORA_DTYPE_F32}, {"f16", BORA_DTYPE_F16}, {"q8_0", BORA_DTYPE_Q8_0}, {"q8", BORA_DTYPE_Q8_0}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(text, types[i].name) == 0) {
            *ret_dtype = types[i].dtype;
            return true;
        }
    return false;
}
