/* A reading of the weight formats of its own, which takes each field of a block by the number of its first bit. */
#ifndef TESTS_SUPPORT_BLOCK_BITS_H
#define TESTS_SUPPORT_BLOCK_BITS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* n bits of a block as a number; bit b of it is bit b % 8 of byte b / 8. */
static inline unsigned field(const uint8_t *block, size_t first, unsigned n)
{
    unsigned value = 0;
    for (unsigned b = 0; b < n; b++)
        value |= (unsigned)(block[(first + b) / 8] >> (first + b) % 8 & 1) << b;
    return value;
}

/* The half at a byte, by its definition. */
static inline float half_at(const uint8_t *block, size_t byte)
{
    const unsigned mantissa = field(block, 8 * byte, 10), exponent = field(block, 8 * byte + 10, 5);
    float value = exponent == 31 ? (mantissa ? NAN : INFINITY)
                  : exponent     ? ldexpf((float)(1024 + mantissa), (int)exponent - 25)
                                 : ldexpf((float)mantissa, -24);
    return field(block, 8 * byte + 15, 1) ? -value : value;
}

/* Where the four bits of element i of 32 are, in 16 bytes: in bits from the first of these on. */
static inline size_t nibble(size_t i)
{
    return 8 * (i % 16) + 4 * (i / 16);
}

/* Element i of 256, four bits in 128 bytes: 64 elements per 32 bytes. */
static inline size_t nibble_of_64(size_t i)
{
    return 8 * (i / 64 * 32 + i % 32) + 4 * (i % 64 / 32);
}

/* Element i of 256, two bits in 64 bytes: 128 elements per 32 bytes. */
static inline size_t pair(size_t i)
{
    return 8 * (i / 128 * 32 + i % 32) + 2 * (i % 128 / 32);
}

/* The bytes of scales of q4_k and q5_k begin at byte 4. */
static inline unsigned six_bits_scale(const uint8_t *block, size_t part)
{
    if (part < 4)
        return field(block, 8 * (4 + part), 6);
    return field(block, 8 * (12 + part - 4), 4) + 16 * field(block, 8 * (4 + part - 4) + 6, 2);
}

static inline unsigned six_bits_minimum(const uint8_t *block, size_t part)
{
    if (part < 4)
        return field(block, 8 * (8 + part), 6);
    return field(block, 8 * (12 + part - 4) + 4, 4) + 16 * field(block, 8 * (8 + part - 4) + 6, 2);
}

#endif
