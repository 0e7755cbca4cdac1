/* Inside of the kernels: scales and offsets of least error for a few values. */
#ifndef BORA_KERNELS_QUANTIZE_FIT_H
#define BORA_KERNELS_QUANTIZE_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The integers an element can be: all from lo to hi, or a list of 16, ascending (then lo and hi are its ends). */
typedef struct bora_levels {
    float lo, hi;
    const int8_t *list; /* NULL: all integers */
} bora_levels;

/* Values that share a scale and an offset. n is a multiple of 4 and at most 32. */
typedef struct bora_part {
    size_t n;
    const float *x;      /* [n] */
    const float *weight; /* [n], not negative */
} bora_part;

/* x is approximated by scale * level + offset. */
typedef struct bora_line {
    float scale, offset;
} bora_line;

/* What the nearest levels of a part amount to: weighted sums over its elements, q being the level. */
typedef struct bora_fit_sums {
    float error; /* of (x - scale q - offset)^2 */
    float q, qq, xq;
} bora_fit_sums;

bora_fit_sums bora_fit_sum(const bora_levels *levels, const bora_part *part, bora_line line);
/* The scale of least error, found by search; negative where the longer end of uneven levels is needed above zero. */
float bora_fit_scale(const bora_levels *levels, const bora_part *part);
/* Scale (not negative) and offset of least error, found by search. below: the offset must not be above zero. */
bora_line bora_fit_line(const bora_levels *levels, const bora_part *part, bool below);
/* The nearest level of each element: ret_q [n] is the level, of a list its number. */
void bora_fit_choose(const bora_levels *levels, const bora_part *part, bora_line line, int8_t *ret_q);

#endif
