/* Inside of the kernels: what the dequantisers of all block types share. A type is written once, as a plain C loop over
 * one block; DEQUANTIZER compiles it for the baseline and for AVX2. No multiply and add are ever fused (the build says
 * -ffp-contract=off), so that both have the same bits. */
#ifndef BORA_KERNELS_DEQUANTIZE_BLOCK_H
#define BORA_KERNELS_DEQUANTIZE_BLOCK_H

#include "kernels/dequantize.h"
#include "kernels/kernels.h"

#include <string.h>

/* At -O2, gcc 12 leaves loops that widen bytes to floats alone unless told that it pays: four times the speed. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("vect-cost-model=cheap")
#endif

#define BLOCK_INLINE static inline __attribute__((always_inline))

BLOCK_INLINE uint16_t load_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

BLOCK_INLINE float load_f16(const uint8_t *bytes)
{
    return bora_f16_to_f32(load_u16(bytes));
}

#define DEQUANTIZE_LOOP(target, name, path, n_elements, size)                                                          \
    target static void name##_##path(const uint8_t *in, size_t n_blocks, float *out)                                   \
    {                                                                                                                  \
        for (size_t i = 0; i < n_blocks; i++)                                                                          \
            name##_block(in + i * (size), out + i * (n_elements));                                                     \
    }

#if defined(__x86_64__)
#define DEQUANTIZER(name, n_elements, size)                                                                            \
    DEQUANTIZE_LOOP(, name, plain, n_elements, size)                                                                   \
    DEQUANTIZE_LOOP(__attribute__((target("avx2"))), name, avx2, n_elements, size)                                     \
    const bora_dequantizer bora_dequantizer_##name = {name##_plain, name##_avx2};
#else
#define DEQUANTIZER(name, n_elements, size)                                                                            \
    DEQUANTIZE_LOOP(, name, plain, n_elements, size)                                                                   \
    const bora_dequantizer bora_dequantizer_##name = {name##_plain, NULL};
#endif

#endif
