/* A finished grammar as the machine reads it: private to the layer.
 *
 * height of a state: how many rules have to be nested, one inside the other, at the least, before its own rule can
 * end. A place in a text is only entered if its nesting plus its height stays within the bound: so whatever was
 * entered can be brought to an end. */
#ifndef BORA_GRAMMAR_AUTOMATON_H
#define BORA_GRAMMAR_AUTOMATON_H

#include "grammar/builder.h"

#include <stdatomic.h>

#define BORA_HEIGHT_NEVER UINT8_MAX /* no way to the end */

#define BORA_STATE_FINAL  1u /* a rule's end */
#define BORA_STATE_TAIL   2u /* nothing but the way to its rule's end */

typedef struct bora_edge {
    uint32_t to;
    uint32_t rule;   /* BORA_EDGE_RULE */
    uint8_t kind;    /* BORA_EDGE_* */
    uint8_t lo, hi;  /* BORA_EDGE_BYTE, inclusive */
    bool may_vanish; /* BORA_EDGE_RULE: the rule has the empty text too */
} bora_edge;

typedef struct bora_rule {
    uint32_t entry, final;
    uint32_t rank; /* a rule that begins with another has the lower one */
} bora_rule;

/* A way to the end of a state's rule (distances.h). */
typedef struct bora_distance {
    uint32_t n_bytes;
    uint32_t nesting; /* rules it begins one inside the other */
} bora_distance;

struct bora_grammar {
    atomic_uint refs; /* atomic: references are dropped by whatever thread is done last */
    uint32_t n_states, n_edges, n_rules, n_classes;
    bora_edge *edges;          /* [n_edges] by state; only those that lead to an end */
    uint32_t *firsts;          /* [n_states + 1] into edges */
    uint8_t *heights;          /* [n_states] BORA_HEIGHT_NEVER: not entered */
    uint8_t *flags;            /* [n_states] BORA_STATE_* */
    bora_rule *rules;          /* [n_rules], the first is the start */
    bora_distance *distances;  /* by state, nesting rising and n_bytes falling */
    uint32_t *distance_firsts; /* [n_states + 1] into distances */
    uint8_t classes[256];      /* bytes that no edge tells apart share one, below n_classes (at most 256) */
};

#endif
