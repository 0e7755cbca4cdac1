/* Units: sizes, and what the types with blocks of 32 share. */
#include "kernels/packed/plain.h"

#define N_QUARTERS 4u

static const bora_quarter quarters[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_Q4_0] = {.size = 576, .quants = 64, .n_vectors = 4},
    [BORA_DTYPE_Q4_1] = {.size = 640, .min = 64, .quants = 128, .n_vectors = 4},
    [BORA_DTYPE_Q5_0] = {.size = 704, .quants = 64, .n_vectors = 4, .high = 576},
    [BORA_DTYPE_Q5_1] = {.size = 768, .min = 64, .quants = 128, .n_vectors = 4, .high = 640},
    [BORA_DTYPE_Q8_0] = {.size = 1088, .quants = 64, .n_vectors = 8},
    [BORA_DTYPE_IQ4_NL] = {.size = 576, .quants = 64, .n_vectors = 4},
};

const bora_quarter *bora_quarter_of(uint32_t dtype)
{
    return dtype < BORA_DTYPE_COUNT && quarters[dtype].size ? &quarters[dtype] : NULL;
}

size_t bora_unit_size(uint32_t dtype)
{
    const bora_quarter *quarter = bora_quarter_of(dtype);
    if (quarter)
        return N_QUARTERS * quarter->size;
    switch (dtype) {
    case BORA_DTYPE_Q2_K:
        return 1344;
    case BORA_DTYPE_Q3_K:
        return 1856;
    case BORA_DTYPE_Q4_K:
        return 2304;
    case BORA_DTYPE_Q5_K:
        return 2816;
    case BORA_DTYPE_Q6_K:
        return 3392;
    case BORA_DTYPE_IQ4_XS:
        return 2240;
    default:
        return 0;
    }
}
