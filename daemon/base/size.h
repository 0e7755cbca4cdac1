/* Checked size arithmetic. Every size that a file or a client controls goes through these. */
#ifndef BORA_BASE_SIZE_H
#define BORA_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *ret = a * b (a + b); false, and *ret untouched, when that does not fit. */
static inline bool bora_size_mul(size_t a, size_t b, size_t *ret)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *ret = product;
    return true;
}

static inline bool bora_size_add(size_t a, size_t b, size_t *ret)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *ret = sum;
    return true;
}

/* value rounded up to a multiple of unit (a power of two is not required; unit > 0). False on overflow. */
static inline bool bora_size_round_up(size_t value, size_t unit, size_t *ret)
{
    size_t rest = value % unit;
    return bora_size_add(value, rest ? unit - rest : 0, ret);
}

#endif
