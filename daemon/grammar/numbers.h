/* Numbers between bounds, digit by digit: private to the layer. */
#ifndef BORA_GRAMMAR_NUMBERS_H
#define BORA_GRAMMAR_NUMBERS_H

#include "grammar/builder.h"

#define BORA_INTEGER_DIGITS  18u /* an integer has so many at most: it fits 64 bits */
#define BORA_NUMBER_DIGITS   15u /* a number with a fraction: no two of them are the same double */
#define BORA_MULTIPLE_OF_MAX 1000u

/* Integers lo to hi (at most BORA_INTEGER_DIGITS digits each) that are multiples of multiple_of (1 to
 * BORA_MULTIPLE_OF_MAX), without leading zeros; 0 has no sign. */
void bora_integers_emit(bora_builder *builder, int64_t lo, int64_t hi, uint32_t multiple_of, uint32_t from,
                        uint32_t to);

/* A bound on numbers: an absolute value in decimal digits, without zeros at its ends. */
typedef struct bora_decimal {
    bool is_negative;
    char whole[BORA_NUMBER_DIGITS + 1]; /* "0" if there is none; zero-terminated */
    char fraction[BORA_NUMBER_DIGITS + 1];
} bora_decimal;

typedef struct bora_bound {
    bool is_set, is_exclusive;
    bora_decimal value;
} bora_bound;

/* The decimal that value was written as, if it was written with BORA_NUMBER_DIGITS digits at most and none of them
 * further than that from the point; else false. */
bool bora_decimal_read(double value, bora_decimal *ret_decimal);
/* Numbers between two bounds, as digits with or without a fraction, BORA_NUMBER_DIGITS in all, no exponent. */
void bora_numbers_emit(bora_builder *builder, const bora_bound *min, const bora_bound *max, uint32_t from, uint32_t to);

#endif
