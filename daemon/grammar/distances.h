/* How far a text is from its end, in bytes: private to the layer.
 *
 * The distance of a state is the least number of bytes that brings its own rule to an end. It depends on how many rules
 * may still be nested: where the bound of depth is near, the shortest way may be too deep. So every state has a list of
 * distances, falling with the nesting that they need; nearly always of one. */
#ifndef BORA_GRAMMAR_DISTANCES_H
#define BORA_GRAMMAR_DISTANCES_H

#include "grammar/automaton.h"

#define BORA_DISTANCE_NEVER UINT32_MAX           /* no way to the end */
#define BORA_DISTANCE_FAR   UINT32_C(0x3fffffff) /* so much or more */

static inline uint32_t bora_distance_add(uint32_t a, uint32_t b)
{
    if (a == BORA_DISTANCE_NEVER || b == BORA_DISTANCE_NEVER)
        return BORA_DISTANCE_NEVER;
    return a + b < BORA_DISTANCE_FAR ? a + b : BORA_DISTANCE_FAR; /* both are at most FAR: no overflow */
}

/* Of a state when nesting rules may still be begun one inside the other. */
static inline uint32_t bora_distance_of(const bora_grammar *grammar, uint32_t state, uint32_t nesting)
{
    for (uint32_t i = grammar->distance_firsts[state + 1]; i-- > grammar->distance_firsts[state];)
        if (grammar->distances[i].nesting <= nesting)
            return grammar->distances[i].n_bytes;
    return BORA_DISTANCE_NEVER;
}

/* Fills in distances and distance_firsts of a grammar that has everything else. Errors: NOMEM. */
bora_status bora_distances_find(bora_grammar *grammar, bora_error *err);

#endif
