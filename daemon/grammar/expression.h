/* What notation and patterns are parsed into: a tree of sequences, alternatives, repetitions, characters and rules;
 * and its way into a builder. Nodes live in one growing list and are named by their index. */
#ifndef BORA_GRAMMAR_EXPRESSION_H
#define BORA_GRAMMAR_EXPRESSION_H

#include "grammar/characters.h"

#define BORA_REPEAT_MAX       65535u /* {m,n} at most */
#define BORA_REPEAT_UNBOUNDED UINT32_MAX

typedef enum bora_node_kind {
    BORA_NODE_EMPTY,
    BORA_NODE_TEXT,         /* bytes: a well-formed character sequence */
    BORA_NODE_CHARACTERS,   /* one of a set */
    BORA_NODE_SEQUENCE,     /* left, then right */
    BORA_NODE_ALTERNATIVES, /* left or right */
    BORA_NODE_REPEAT,       /* left, min to max times */
    BORA_NODE_RULE,         /* rule of the builder */
} bora_node_kind;

typedef struct bora_node {
    bora_node_kind kind;
    uint32_t left, right;
    uint32_t min, max;
    uint32_t rule;
    size_t first, n; /* into ranges; TEXT has a range of one character each */
} bora_node;

/* All zero is empty. */
typedef struct bora_expressions {
    bora_node *nodes; /* [n_nodes] */
    size_t n_nodes, nodes_capacity;
    bora_range *ranges; /* [n_ranges] */
    size_t n_ranges, ranges_capacity;
} bora_expressions;

void bora_expressions_release(bora_expressions *list);
/* Each gives the index of a new node. Errors: NOMEM, LIMIT. */
bora_status bora_expression_add(bora_expressions *list, bora_node node, uint32_t *ret_node, bora_error *err);
/* One character of a settled set, which may be empty: then nothing fits. */
bora_status bora_expression_characters(bora_expressions *list, const bora_range *ranges, size_t n, uint32_t *ret_node,
                                       bora_error *err);
/* left then right; either may be BORA_NONE. */
bora_status bora_expression_sequence(bora_expressions *list, uint32_t left, uint32_t right, uint32_t *ret_node,
                                     bora_error *err);

/* Edges and states between from and to. Recursion is as deep as the tree is, which the parsers bound; long sequences
 * and alternatives lean to the left and are walked. */
void bora_expression_emit(const bora_expressions *list, uint32_t node, bora_spelling spelling, bora_builder *builder,
                          uint32_t from, uint32_t to);

/* What a repetition counts as: {min,max}, ?, *, +. Shared by both parsers; text begins with one of those. *ret_size:
 * bytes read; 0 if it is none. Errors: INVAL (min over max, not a number), LIMIT. */
bora_status bora_repeat_read(const char *text, size_t size, uint32_t *ret_min, uint32_t *ret_max, size_t *ret_size,
                             bora_error *err);

#endif
