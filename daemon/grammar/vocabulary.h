/* The bytes of every token as a tree: private to the layer. */
#ifndef BORA_GRAMMAR_VOCABULARY_H
#define BORA_GRAMMAR_VOCABULARY_H

#include "grammar/grammar.h"

#define BORA_TOKEN_NONE  0u /* not text: control tokens, unknown ones, the end */
#define BORA_TOKEN_TEXT  1u
#define BORA_TOKEN_DROPS 2u /* text whose first space is dropped at the start of an answer */

/* In the order of a walk: a node's children follow it. Node 0 is the empty text. */
typedef struct bora_trie_node {
    uint32_t skip;  /* the next node that is not under this one */
    uint32_t first; /* into tokens: up to the next node's first */
    uint16_t depth; /* bytes from the top: 1 .. BORA_PIECE_SIZE_MAX */
    uint8_t byte;
} bora_trie_node;

struct bora_vocabulary {
    size_t n_tokens;
    int32_t eos;
    uint8_t *kinds;   /* [n_tokens] BORA_TOKEN_* */
    uint32_t *starts; /* [n_tokens + 1] into bytes */
    char *bytes;
    bora_trie_node *nodes; /* [n_nodes + 1] the last is an end mark */
    size_t n_nodes;
    int32_t *tokens; /* [n_texts] by node */
    size_t n_texts;
    uint32_t depth_max;  /* bytes of the longest token */
    uint32_t space_node; /* where the tokens that begin with a space are; 0: nowhere */
    bool has_bytes;      /* each byte is a token by itself, at an answer's start too */
    bool drops_space;    /* at an answer's start */
    bool drops_again;    /* behind a token that was nothing but such a space, another one is dropped */
};

#endif
