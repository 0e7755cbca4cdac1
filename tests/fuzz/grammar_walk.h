/* What both compilers of grammars promise of what they have made: a text can be begun, and from wherever it is it can
 * go on or end; work that would be too much is refused. */
#ifndef BORA_TESTS_FUZZ_GRAMMAR_WALK_H
#define BORA_TESTS_FUZZ_GRAMMAR_WALK_H

#include "fuzz/fuzz.h"

#include "grammar/machine.h"

#define FUZZ_WALK_BYTES 48

/* One of the bytes that fit behind set, the rotation-th in turn; false if there is none. */
static inline bool fuzz_grammar_next(bora_machine *machine, uint32_t *set, unsigned rotation, bora_status *ret_status)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t next = BORA_SET_DEAD;
        *ret_status = bora_machine_step(machine, *set, (uint8_t)(rotation + i * 37), &next, NULL);
        if (*ret_status != BORA_OK)
            return false;
        if (next != BORA_SET_DEAD) {
            *set = next;
            return true;
        }
    }
    return false;
}

static inline void fuzz_grammar_walk(bora_grammar *grammar)
{
    bora_machine *machine = NULL, *other = NULL;
    uint32_t set = 0, copy = 0;
    FUZZ_CHECK(bora_machine_new(grammar, &machine, NULL) == BORA_OK);
    FUZZ_CHECK(bora_machine_new(grammar, &other, NULL) == BORA_OK);
    bora_machine_budget(machine, 300000);
    bora_status st = bora_machine_start(machine, &set, NULL);
    for (unsigned i = 0; i < FUZZ_WALK_BYTES && st == BORA_OK; i++) {
        bool is_final = bora_machine_is_final(machine, set);
        FUZZ_CHECK(set != BORA_SET_DEAD && (!is_final || bora_machine_is_complete(machine, set)));
        uint32_t distance = bora_machine_distance(machine, set);
        FUZZ_CHECK((distance == 0) == bora_machine_is_complete(machine, set) && distance != BORA_DISTANCE_NEVER);
        bool goes_on = fuzz_grammar_next(machine, &set, i * 101 + 7, &st);
        FUZZ_CHECK(st != BORA_OK || goes_on == !is_final);
        FUZZ_CHECK(!goes_on || distance == BORA_DISTANCE_FAR || bora_machine_distance(machine, set) + 1 >= distance);
        if (is_final)
            break;
    }
    FUZZ_CHECK(st == BORA_OK || st == BORA_E_LIMIT);
    if (st == BORA_OK) {
        FUZZ_CHECK(bora_machine_copy(machine, set, other, &copy, NULL) == BORA_OK);
        FUZZ_CHECK(bora_machine_is_final(machine, set) == bora_machine_is_final(other, copy));
        FUZZ_CHECK(bora_machine_is_complete(machine, set) == bora_machine_is_complete(other, copy));
    }
    bora_machine_free(machine);
    bora_machine_free(other);
}

/* What came of compiling: a grammar to walk in, or one of the errors of grammar.h with a message. */
static inline void fuzz_grammar_result(bora_status st, bora_grammar *grammar, const bora_error *err)
{
    FUZZ_CHECK((st == BORA_OK) == (grammar != NULL));
    FUZZ_CHECK(st == BORA_OK || st == BORA_E_INVAL || st == BORA_E_UNSUPPORTED || st == BORA_E_LIMIT);
    FUZZ_CHECK(st == BORA_OK || err->message[0]);
    if (grammar)
        fuzz_grammar_walk(grammar);
    bora_grammar_unref(grammar);
}

#endif
