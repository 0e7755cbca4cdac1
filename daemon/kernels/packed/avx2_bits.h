/* Pieces of registers that unpacking and tiles of the AVX2 path share. */
#ifndef BORA_KERNELS_PACKED_AVX2_BITS_H
#define BORA_KERNELS_PACKED_AVX2_BITS_H

#include "kernels/dequantize.h"
#include "kernels/packed/avx2.h"

#include <immintrin.h>

#define INLINE BORA_AVX2_TARGET static inline __attribute__((always_inline))

INLINE __m256i load(const uint8_t *from)
{
    return _mm256_load_si256((const __m256i *)(const void *)from);
}

/* Bit from of every byte, and those above it, moved to bit to; what is not in mask is cleared. */
INLINE __m256i bits_to(__m256i v, const int from, const int to, const int mask)
{
    const __m256i moved = to > from ? _mm256_slli_epi16(v, to - from) : _mm256_srli_epi16(v, from - to);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)mask));
}

INLINE __m256i low_nibbles(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

INLINE __m256i high_nibbles(__m256i v)
{
    return bits_to(v, 4, 0, 15);
}

INLINE __m256i iq4_list(void)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bora_iq4_values));
}

#endif
