/* How fast the engine is at the moment: tokens over the last seconds, whatever the steps' length. */
#ifndef BORA_ENGINE_RATE_H
#define BORA_ENGINE_RATE_H

#include <stdint.h>

#define BORA_RATE_SLOTS   10u
#define BORA_RATE_SLOT_NS UINT64_C(500000000) /* the window is slots times this: 5 s */

/* All zero: nothing was done. Times are of one monotonic clock. */
typedef struct bora_rate {
    struct {
        uint64_t number;   /* time / BORA_RATE_SLOT_NS; of another time: empty */
        uint64_t begun_ns; /* when the first work in it began */
        double n_prompt, n_generated;
    } slots[BORA_RATE_SLOTS];
} bora_rate;

/* Adds a step's tokens, spread evenly over its time: one that is longer than a slot is no burst at its end. */
void bora_rate_add(bora_rate *rate, uint64_t from_ns, uint64_t to_ns, uint64_t n_prompt, uint64_t n_generated);
/* Tokens per second, from the first work in the window until now: true from the first step on, and falling to 0 within
 * 5 s when nothing is done any more. */
void bora_rate_get(const bora_rate *rate, uint64_t now_ns, double *ret_prompt, double *ret_generated);

#endif
