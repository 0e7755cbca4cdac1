/* A histogram of times that keeps counts, not samples: buckets grow with the value, 32 to each doubling, so that a
 * percentile is off by less than 2 % of itself. Smallest value, largest value and sum are exact. */
#ifndef BORA_LOAD_HISTOGRAM_H
#define BORA_LOAD_HISTOGRAM_H

#include <stdint.h>

#define BORA_LOAD_HISTOGRAM_STEPS    32u /* buckets per doubling */
#define BORA_LOAD_HISTOGRAM_DOUBLES  36u /* past the first 32 values, which have a bucket each */
#define BORA_LOAD_HISTOGRAM_BUCKETS  (BORA_LOAD_HISTOGRAM_STEPS * (BORA_LOAD_HISTOGRAM_DOUBLES + 1))
#define BORA_LOAD_HISTOGRAM_ACCURACY 0.02

/* All zero is empty. Plain numbers: it may be copied, or lie in memory that processes share (one of them writes). */
typedef struct bora_load_histogram {
    uint64_t n, sum, min, max; /* of the values; min is of no meaning while n is 0 */
    uint64_t counts[BORA_LOAD_HISTOGRAM_BUCKETS];
} bora_load_histogram;

/* A value of any unit, here microseconds. What is beyond the last bucket is counted in it. */
void bora_load_histogram_add(bora_load_histogram *histogram, uint64_t value);
void bora_load_histogram_merge(bora_load_histogram *histogram, const bora_load_histogram *other);
/* The value that a share of all (0 to 1) does not exceed, by nearest rank; 0 if there are none. Share 1 is exact. */
uint64_t bora_load_histogram_at(const bora_load_histogram *histogram, double share);
double bora_load_histogram_mean(const bora_load_histogram *histogram); /* 0 if there are none */

#endif
