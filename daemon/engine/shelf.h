/* Sequences at rest, each with the tokens that are in it: those of idle sessions, which the caller holds, and what
 * finished requests outside sessions left behind, which the engine keeps while there is room. Both serve as beginnings
 * for later requests of the same owner: prefixes are compared token by token, never guessed. Engine thread. */
#ifndef BORA_ENGINE_SHELF_H
#define BORA_ENGINE_SHELF_H

#include "engine/pipeline.h"

#define BORA_OWNER_SIZE 32u /* of an owner's name, with its zero */

typedef struct bora_shelf_entry {
    bora_sequence *sequence;
    char owner[BORA_OWNER_SIZE];
    int32_t *tokens; /* [n] those in the cache; owned */
    size_t n;
    bool is_handed_out; /* to the caller, who says when it is to be closed */
    uint64_t last_used; /* order of use */
} bora_shelf_entry;

/* All zero is empty. */
typedef struct bora_shelf {
    bora_shelf_entry *entries; /* [n], no order */
    size_t n, capacity;
    uint64_t clock;
} bora_shelf;

/* Room for n_more, so that putting so many cannot fail. Errors: NOMEM. */
bora_status bora_shelf_reserve(bora_shelf *shelf, size_t n_more, bora_error *err);
/* tokens [n] are the shelf's from now on; may be NULL with n 0 (then it is of no use as a beginning). */
void bora_shelf_put(bora_shelf *shelf, bora_sequence *sequence, const char *owner, int32_t *tokens, size_t n,
                    bool is_handed_out);
/* Takes a sequence off the shelf; it is the caller's. False: it is not there. */
bool bora_shelf_take(bora_shelf *shelf, const bora_sequence *sequence);
/* Closes what was left behind longest ago; false: there is none. */
bool bora_shelf_drop_oldest(bora_shelf *shelf);
/* Closes what was left behind, oldest first, until n_max are left. */
void bora_shelf_trim(bora_shelf *shelf, size_t n_max);
/* The entry of this owner whose tokens agree longest with the beginning of tokens [n]; ret_n: how far. NULL: none. */
bora_shelf_entry *bora_shelf_find(bora_shelf *shelf, const char *owner, const int32_t *tokens, size_t n, size_t *ret_n);
/* Closes everything. */
void bora_shelf_release(bora_shelf *shelf);

/* How many of the first tokens are the same. */
size_t bora_tokens_common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b);

#endif
