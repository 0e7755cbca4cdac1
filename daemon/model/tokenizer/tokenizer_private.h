/* What the files of the tokenizer share: the vocabulary, UTF-8 and the growing of lists. */
#ifndef BORA_TOKENIZER_PRIVATE_H
#define BORA_TOKENIZER_PRIVATE_H

#include "model/tokenizer/split.h"
#include "model/tokenizer/tokenizer.h"

#define BORA_SPACE_PIECE      "\xe2\x96\x81" /* U+2581, how pieces spell a space */
#define BORA_SPACE_PIECE_SIZE 3u
#define BORA_REPLACEMENT      "\xef\xbf\xbd" /* U+FFFD, for a byte that is no part of a character */
#define BORA_REPLACEMENT_SIZE 3u

typedef struct bora_piece_slot {
    uint32_t tag; /* the hash's low half: most misses end here */
    uint32_t id;  /* plus 1; 0 is an empty slot */
} bora_piece_slot;

typedef struct bora_piece_span {
    const char *bytes; /* [size] */
    uint32_t size;
} bora_piece_span;

struct bora_tokenizer {
    int kind; /* BORA_TOKENIZER_* */
    uint32_t version;
    bora_split *split; /* Tekken's; NULL otherwise */
    size_t n_pieces;
    char *bytes; /* [bytes_size] all pieces, one after the other */
    size_t bytes_size;
    uint32_t *starts;             /* [n_pieces + 1] into bytes */
    float *scores;                /* [n_pieces] */
    uint8_t *types;               /* [n_pieces] BORA_PIECE_* */
    bora_piece_slot *slots;       /* [n_slots] open addressing, at most half full */
    size_t n_slots;               /* a power of two */
    bora_piece_span *user_pieces; /* [n_user_pieces] user-defined ones in byte order, a prefix before what it begins */
    size_t n_user_pieces;
    bool user_first[256];         /* bytes a user-defined piece begins with */
    uint32_t text_piece_size_max; /* bytes of the longest piece that text can become */
    int32_t byte_ids[256];        /* valid if has_bytes; Tekken: the pieces of one byte */
    int32_t bos_id, eos_id, unk_id;
    bool has_bytes;        /* byte fallback */
    bool has_unused;       /* pieces that are merged into and then taken apart again */
    bool splits_at_spaces; /* no piece has a space after something else: words can be encoded one by one */
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
};

/* Id of the piece with this text among those that text can become (normal, user-defined, unused) or among the
 * reserved ones (unknown, control, byte), which are kept apart; -1 if there is none. */
int32_t bora_tokenizer_find(const bora_tokenizer *tokenizer, bool reserved, const char *bytes, size_t size);
/* Bytes of the longest user-defined piece that text begins with; 0 if none does. */
size_t bora_tokenizer_match_user(const bora_tokenizer *tokenizer, const char *text, size_t size);
/* The value of a byte piece's text, "<0x0A>" is 10; -1 if it is not of that form. */
int bora_piece_byte(const char *bytes, size_t size);

/* Appends text as the pieces spell it: bad bytes as U+FFFD and, for SentencePiece, spaces as U+2581 and the dummy
 * prefix. */
bora_status bora_tokenizer_normalize(const bora_tokenizer *tokenizer, const char *text, size_t size,
                                     bora_text *normalized, bora_error *err);

/* Bytes of the well-formed UTF-8 character at the start (1 to 4); 0 if there is none. *ret_partial (may be NULL):
 * there is none because the text, so far the beginning of one, ends. */
size_t bora_utf8_char(const char *text, size_t size, bool *ret_partial);

/* Bytes at the start, at least 1, that stand for one U+FFFD where no character is: the longest beginning of one, as
 * Unicode recommends. size: at least 1. */
size_t bora_utf8_bad_size(const char *text, size_t size);

/* bora_tokenizer_encode, which also adds to *n_steps the work it did in units that are proportional to time: bytes
 * looked at by the split, symbols, and levels of the heap that a merge has passed. */
bora_status bora_tokenizer_encode_counting(const bora_tokenizer *tokenizer, const char *text, size_t size,
                                           bora_tokens *ids, uint64_t *n_steps, bora_error *err);

/* Makes *capacity at least n (doubling), of elements of the given size. */
bora_status bora_list_grow(void **elements, size_t *capacity, size_t n, size_t element_size, bora_error *err);

#endif
