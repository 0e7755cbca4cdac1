/* What this machine can do at most, here and now: reading memory, and multiplying small integers.
 *
 * Decoding reads every weight once per step, prefill multiplies int8: a speed means something only beside these two. On
 * shared machines they wander (memory bandwidth by half within a minute), so they are measured anew each time, next to
 * what is judged by them, by the same number of threads. */
#ifndef BORA_KERNELS_LIMITS_H
#define BORA_KERNELS_LIMITS_H

#include "base/cpu.h"
#include "base/pool.h"

#include <stddef.h>

typedef struct bora_limits bora_limits;

typedef struct bora_limit {
    double per_second; /* bytes read, or multiply-adds, by all threads together */
    double seconds;    /* that it was measured for */
    double cpu_share;  /* of that time times threads, how much they had a processor: well below 1 means that others
                        * were at work here, and that neither this figure nor its neighbours are the machine's */
} bora_limit;

/* cpu and pool are borrowed and outlive it. size: bytes of the memory that is read, rounded up; 0: some times the last
 * cache. It is in huge pages where the system gives them, as packed weights are. Errors: NOMEM. */
bora_status bora_limits_new(const bora_cpu *cpu, bora_pool *pool, size_t size, bora_limits **ret_limits,
                            bora_error *err);
void bora_limits_free(bora_limits *limits); /* NULL is a no-op */
size_t bora_limits_size(const bora_limits *limits);

/* The caller of the pool. Reads all of the memory once, each thread its contiguous share; some milliseconds. */
bora_limit bora_limits_read(bora_limits *limits);
/* The caller of the pool. Independent multiply-adds of int8 in registers, as wide as the processor has them and the
 * kernels use them; about 20 ms. */
bora_limit bora_limits_int8(bora_limits *limits);

/* What bora_limits_read runs: the exclusive or of the size / 8 words at bytes (size: a multiple of 64, bytes aligned to
 * 64), read in order, prefetched. Any thread. */
uint64_t bora_limits_fold(const bora_cpu *cpu, const void *bytes, size_t size);

#endif
