/* Reads bytes by a grammar: private to the layer.
 *
 * Where a text stands is a set of places: a state of some rule, and the way out of that rule: the nested rules that are
 * not finished. Ways out are nodes that lead to nodes, like stacks that share their lower parts; a rule that several
 * places run at once is run once, with a node that leads back to all of them. Sets and nodes are kept by content: a set
 * that comes again is the same number, and its step by a byte is looked up. So reading is cheap where texts repeat
 * themselves, as inside a string, and its memory is bounded: what was found is forgotten when it gets too much. */
#ifndef BORA_GRAMMAR_MACHINE_H
#define BORA_GRAMMAR_MACHINE_H

#include "grammar/distances.h"

/* Numbers of sets; valid until bora_machine_trim. */
#define BORA_SET_DEAD 0u /* nothing fits any more */

typedef struct bora_machine bora_machine;

/* Borrows grammar. Errors: NOMEM. */
bora_status bora_machine_new(const bora_grammar *grammar, bora_machine **ret_machine, bora_error *err);
void bora_machine_free(bora_machine *machine); /* NULL is a no-op */

/* The set before the first byte. Errors: NOMEM, LIMIT. */
bora_status bora_machine_start(bora_machine *machine, uint32_t *ret_set, bora_error *err);
/* The set behind one more byte, BORA_SET_DEAD if the byte does not fit. Errors: NOMEM, LIMIT (more places at once than
 * BORA_PLACES_MAX, or more work since bora_machine_budget than that allows). */
bora_status bora_machine_step(bora_machine *machine, uint32_t set, uint8_t byte, uint32_t *ret_set, bora_error *err);
bool bora_machine_is_complete(const bora_machine *machine, uint32_t set); /* the text may end here */
/* The least number of bytes that make the text whole; BORA_DISTANCE_NEVER only of BORA_SET_DEAD. A byte takes one off
 * at the most, and some byte that fits takes one off at the least. */
uint32_t bora_machine_distance(const bora_machine *machine, uint32_t set);
bool bora_machine_is_final(const bora_machine *machine, uint32_t set); /* no byte fits */

/* How much work (places looked at and made) the steps from now on may take together. */
void bora_machine_budget(bora_machine *machine, uint64_t work);
/* Whether so much was kept that it is time for bora_machine_copy into a new machine. */
bool bora_machine_is_full(const bora_machine *machine);
/* The same set in another machine of the same grammar. Errors: NOMEM, LIMIT. */
bora_status bora_machine_copy(const bora_machine *machine, uint32_t set, bora_machine *to, uint32_t *ret_set,
                              bora_error *err);
size_t bora_machine_size(const bora_machine *machine); /* bytes it holds */

#endif
