#include "histogram.h"

#define STEPS BORA_LOAD_HISTOGRAM_STEPS
#define LAST  (BORA_LOAD_HISTOGRAM_BUCKETS - 1)

/* Values below STEPS are their own bucket. Above, the highest bit says which doubling, the next five which step. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - 5u;
    uint64_t bucket = (uint64_t)shift * STEPS + (value >> shift);
    return bucket < LAST ? (uint32_t)bucket : LAST;
}

/* The middle of a bucket: at most 1/64 of the value from either end. */
static uint64_t value_of(uint32_t bucket)
{
    if (bucket < 2 * STEPS)
        return bucket;
    uint32_t shift = bucket / STEPS - 1;
    uint64_t first = (uint64_t)(bucket % STEPS + STEPS) << shift;
    return first + (((uint64_t)1 << shift) - 1) / 2;
}

void bora_load_histogram_add(bora_load_histogram *histogram, uint64_t value)
{
    histogram->min = histogram->n == 0 || value < histogram->min ? value : histogram->min;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->sum += value;
    histogram->n++;
    histogram->counts[bucket_of(value)]++;
}

void bora_load_histogram_merge(bora_load_histogram *histogram, const bora_load_histogram *other)
{
    if (other->n == 0)
        return;
    histogram->min = histogram->n == 0 || other->min < histogram->min ? other->min : histogram->min;
    histogram->max = other->max > histogram->max ? other->max : histogram->max;
    histogram->sum += other->sum;
    histogram->n += other->n;
    for (uint32_t i = 0; i <= LAST; i++)
        histogram->counts[i] += other->counts[i];
}

uint64_t bora_load_histogram_at(const bora_load_histogram *histogram, double share)
{
    if (histogram->n == 0)
        return 0;
    double wanted = share * (double)histogram->n;
    uint64_t rank = wanted <= 0 ? 0 : (uint64_t)wanted;
    rank += (double)rank < wanted || rank == 0; /* rounded up, and at least the first */
    if (rank >= histogram->n)
        return histogram->max;
    uint64_t passed = 0;
    for (uint32_t i = 0; i <= LAST; i++) {
        passed += histogram->counts[i];
        if (passed < rank)
            continue;
        uint64_t value = value_of(i);
        value = value < histogram->min ? histogram->min : value;
        return value > histogram->max ? histogram->max : value;
    }
    return histogram->max;
}

double bora_load_histogram_mean(const bora_load_histogram *histogram)
{
    return histogram->n > 0 ? (double)histogram->sum / (double)histogram->n : 0;
}
