/* Inside of a tokenizer: the vocabulary and its look-ups, for encode.c and decode.c.
 *
 * Vocabularies write a space as U+2581. Inside it is a plain space, one byte instead of three: a piece has its name,
 * as the file spells it, and its text, with spaces. A piece whose name has a plain space in it can be decoded but no
 * text leads to it, because SentencePiece looks for it after spaces have become U+2581. */
#ifndef BORA_TOKENIZER_VOCABULARY_H
#define BORA_TOKENIZER_VOCABULARY_H

#include "model/tokenizer/tokenizer.h"

#define BORA_SPACE_MARK "\xe2\x96\x81" /* U+2581 */
#define BORA_SPACE_MARK_SIZE 3u

typedef struct bora_piece {
    uint32_t name_at, name_size; /* in tokenizer->names */
    uint32_t text_at, text_size; /* in tokenizer->texts */
    float score;
    uint8_t type; /* BORA_PIECE_* */
    uint8_t byte; /* of a byte piece: its value */
} bora_piece;

/* Open addressing, at most half full; the hash is kept so that a look-up that fails rarely touches a piece. */
typedef struct bora_piece_index {
    struct bora_piece_slot {
        uint32_t hash;
        int32_t id; /* -1: empty */
    } *slots;       /* [mask + 1], a power of two */
    uint32_t mask;
} bora_piece_index;

/* A user-defined piece; sorted by text, so that the longest match is found by narrowing a range. */
typedef struct bora_user_piece {
    const char *text; /* [size], borrowed from tokenizer->texts */
    uint32_t size;
    int32_t id;
} bora_user_piece;

struct bora_tokenizer {
    bora_piece *pieces; /* [n_pieces] */
    size_t n_pieces;
    char *names, *texts;
    bora_piece_index by_text;       /* normal, user-defined and unused pieces: those that text may become */
    bora_piece_index by_name;       /* the others: control, unknown and byte pieces */
    bora_user_piece *user_pieces;   /* [n_user_pieces] */
    size_t n_user_pieces;
    uint32_t text_size_max; /* of those in by_text */
    int32_t byte_ids[256];  /* valid with byte_fallback */
    int32_t bos_id, eos_id, unk_id;
    bool byte_fallback, add_dummy_prefix, remove_extra_whitespaces;
    bool has_unused;
};

/* Id of the piece that this text becomes as a whole, -1 if there is none. */
int32_t bora_tokenizer_find(const bora_tokenizer *tokenizer, const char *text, size_t size);
/* The longest user-defined piece that text begins with; -1 if there is none. */
int32_t bora_tokenizer_find_user(const bora_tokenizer *tokenizer, const char *text, size_t size);

#endif
