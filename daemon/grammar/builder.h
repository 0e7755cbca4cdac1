/* A grammar under construction: rules, each a network of states between an entry and a final state. An edge reads one
 * byte of a range, runs a whole rule, or nothing.
 *
 * Failure is remembered: after the first one every call does nothing (new states are 0), and bora_builder_finish or
 * whoever asks builder.status gives the error. That keeps the compilers, which are recursive and long, readable. */
#ifndef BORA_GRAMMAR_BUILDER_H
#define BORA_GRAMMAR_BUILDER_H

#include "grammar/grammar.h"

#define BORA_GRAMMAR_STATES_MAX 262144u
#define BORA_GRAMMAR_EDGES_MAX  1048576u
#define BORA_GRAMMAR_RULES_MAX  65536u

#define BORA_EDGE_NOTHING       0u
#define BORA_EDGE_BYTE          1u
#define BORA_EDGE_RULE          2u

#define BORA_NONE               UINT32_MAX

typedef struct bora_build_edge {
    uint32_t from, to;
    uint32_t rule;  /* BORA_EDGE_RULE */
    uint32_t next;  /* of the same state; BORA_NONE ends */
    uint8_t kind;   /* BORA_EDGE_* */
    uint8_t lo, hi; /* BORA_EDGE_BYTE, inclusive */
} bora_build_edge;

typedef struct bora_build_rule {
    uint32_t entry, final; /* nothing leads to entry, nothing leaves final */
} bora_build_rule;

typedef struct bora_builder {
    bora_build_edge *edges; /* [n_edges] */
    size_t n_edges, edges_capacity;
    uint32_t *heads; /* [n_states] first edge of each state */
    size_t n_states, states_capacity;
    bora_build_rule *rules; /* [n_rules]; the first is the start */
    size_t n_rules, rules_capacity;
    bora_status status;
    bora_error error;
    /* What errors call a rule: writes it, zero-terminated. Set by the compiler. */
    void (*describe)(const void *arg, uint32_t rule, char *text, size_t size);
    const void *describe_arg;
} bora_builder;

void bora_builder_release(bora_builder *builder);

/* Remembers the first failure; later ones are not looked at. */
__attribute__((format(printf, 3, 4))) void bora_builder_fail(bora_builder *builder, bora_status status,
                                                             const char *format, ...);

uint32_t bora_builder_state(bora_builder *builder);
uint32_t bora_builder_rule(bora_builder *builder); /* with its entry and final states */

void bora_builder_skip(bora_builder *builder, uint32_t from, uint32_t to);
void bora_builder_bytes(bora_builder *builder, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void bora_builder_call(bora_builder *builder, uint32_t from, uint32_t rule, uint32_t to);
/* A path that reads exactly these bytes. */
void bora_builder_text(bora_builder *builder, uint32_t from, const char *bytes, size_t size, uint32_t to);
/* The same, sharing the beginnings of what was added at from by this function before, so that a long list of words
 * has one way to go at each byte. */
void bora_builder_word(bora_builder *builder, uint32_t from, const char *bytes, size_t size, uint32_t to);

/* The finished grammar. builder is released by its owner all the same. Errors: builder's own; INVAL (a rule begins with
 * itself, no text of the start rule ever ends); NOMEM. */
bora_status bora_builder_finish(bora_builder *builder, bora_grammar **ret_grammar, bora_error *err);

#endif
