/* Text to token ids and back, exactly, in Mistral's two ways behind one interface:
 *
 *   SentencePiece (v1 to v7)  BPE on characters by score, with byte fallback; from a .model file or GGUF's arrays.
 *   Tekken (v3 on)            BPE on bytes by rank, within the pieces that a split expression cuts the text into; from
 *                             tekken.json or GGUF's arrays of the model "gpt2" with the pre-tokenizer "tekken".
 *
 * Immutable once made; any thread. */
#ifndef BORA_TOKENIZER_TOKENIZER_H
#define BORA_TOKENIZER_TOKENIZER_H

#include "base/status.h"

#include <stdbool.h>

/* Kinds of pieces, with SentencePiece's and GGUF's numbers. */
#define BORA_PIECE_NORMAL            1
#define BORA_PIECE_UNKNOWN           2
#define BORA_PIECE_CONTROL           3
#define BORA_PIECE_USER_DEFINED      4
#define BORA_PIECE_UNUSED            5
#define BORA_PIECE_BYTE              6

#define BORA_TOKENIZER_SENTENCEPIECE 1
#define BORA_TOKENIZER_TEKKEN        2

typedef struct bora_tokenizer bora_tokenizer;

/* The arrays of a vocabulary; borrowed for the call. */
typedef struct bora_vocab {
    const char *const *pieces;      /* [n_pieces] UTF-8, not zero-terminated; spaces as U+2581 */
    const uint32_t *piece_sizes;    /* [n_pieces] bytes */
    const float *scores;            /* [n_pieces] */
    const int32_t *types;           /* [n_pieces] BORA_PIECE_* */
    size_t n_pieces;                /* 1 .. BORA_VOCAB_MAX */
    int32_t bos_id, eos_id, unk_id; /* -1: none */
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    /* Tekken: the split expression; NULL is SentencePiece. Pieces are bytes then, every normal one ranks by its id
     * (scores is NULL), and the last two options do not apply. */
    const char *pattern;
    size_t pattern_size;
    uint32_t version; /* as the file states it ("v3" is 3); 0: it does not */
} bora_vocab;

/* A growing list of token ids; all zero is empty. */
typedef struct bora_tokens {
    int32_t *ids; /* [n] */
    size_t n, capacity;
} bora_tokens;

bora_status bora_tokens_push(bora_tokens *tokens, int32_t id, bora_error *err);
bora_status bora_tokens_append(bora_tokens *tokens, const int32_t *ids, size_t n, bora_error *err);
void bora_tokens_release(bora_tokens *tokens);

/* Bytes of one piece at most, so that the work per byte of text has a bound whatever the file says. */
#define BORA_PIECE_SIZE_MAX 1024u
/* Bytes of text that can be encoded at once: three times as many, when every byte is bad, still fit 32 bits. */
#define BORA_TEXT_SIZE_MAX  ((size_t)1 << 30)

/* From arrays. Byte pieces are all or none: with them an unknown character becomes its bytes, without them a run of
 * unknown characters becomes one unk, which must be of that type. Of Tekken's normal pieces, each single byte is one.
 * Errors: FORMAT (no pieces, duplicate or impossible ones, byte pieces incomplete, neither byte pieces nor unk, a score
 * that is NaN, a pattern that does not compile), NOMEM. */
bora_status bora_tokenizer_new(const bora_vocab *vocab, bora_tokenizer **ret_tokenizer, bora_error *err);
/* From the bytes of a SentencePiece .model file. Errors: FORMAT (truncated, not a model), UNSUPPORTED (not BPE, a
 * normaliser other than identity), NOMEM. */
bora_status bora_tokenizer_parse(const void *data, size_t size, bora_tokenizer **ret_tokenizer, bora_error *err);
/* From the bytes of a tekken.json. Errors: FORMAT (truncated, not such a file, ranks or counts that contradict each
 * other, a split expression that does not compile), NOMEM. */
bora_status bora_tokenizer_parse_tekken(const void *data, size_t size, bora_tokenizer **ret_tokenizer, bora_error *err);
/* Tekken from the arrays of a GGUF file: normal pieces in GPT-2's byte alphabet, others as themselves; the pattern is
 * Tekken's own, scores are not looked at. Errors: as bora_tokenizer_new. */
bora_status bora_tokenizer_new_gpt2(const bora_vocab *vocab, bora_tokenizer **ret_tokenizer, bora_error *err);
void bora_tokenizer_free(bora_tokenizer *tokenizer); /* NULL is a no-op */

int bora_tokenizer_kind(const bora_tokenizer *tokenizer);         /* BORA_TOKENIZER_* */
uint32_t bora_tokenizer_version(const bora_tokenizer *tokenizer); /* bora_vocab's */
size_t bora_tokenizer_n_pieces(const bora_tokenizer *tokenizer);
size_t bora_tokenizer_size(const bora_tokenizer *tokenizer); /* bytes of its tables in memory */
int32_t bora_tokenizer_bos(const bora_tokenizer *tokenizer); /* -1: none */
int32_t bora_tokenizer_eos(const bora_tokenizer *tokenizer); /* -1: none */
/* The piece as the vocabulary has it, size in bytes; NULL if id is out of range. SentencePiece: UTF-8, U+2581 for a
 * space. Tekken: bytes, maybe half a character. */
const char *bora_tokenizer_piece(const bora_tokenizer *tokenizer, int32_t id, size_t *ret_size);
/* BORA_PIECE_*; 0 if id is out of range. */
int bora_tokenizer_piece_type(const bora_tokenizer *tokenizer, int32_t id);
/* Id of the control piece with exactly this text, -1 if there is none. */
int32_t bora_tokenizer_control(const bora_tokenizer *tokenizer, const char *text);

/* Appends the ids of text (size bytes; invalid UTF-8 is taken as U+FFFD per bad byte, as SentencePiece does) without
 * BOS and EOS. Control and byte pieces are never produced from text that spells them. Linear times log in size,
 * some 60 bytes of memory per byte of text at most. ids is as before on failure.
 * Errors: NOMEM, LIMIT (size over BORA_TEXT_SIZE_MAX; a split expression that takes too many steps on it). */
bora_status bora_tokenizer_encode(const bora_tokenizer *tokenizer, const char *text, size_t size, bora_tokens *ids,
                                  bora_error *err);

/* Growing text; all zero is empty. */
typedef struct bora_text {
    char *bytes; /* [size], zero-terminated once a call has succeeded */
    size_t size, capacity;
} bora_text;

bora_status bora_text_append(bora_text *text, const char *bytes, size_t size, bora_error *err);
/* Room for size more bytes and their terminator: appending that much cannot fail afterwards. */
bora_status bora_text_reserve(bora_text *text, size_t size, bora_error *err);
void bora_text_release(bora_text *text);
/* Appends the piece as text for people and protocols: its bytes, U+FFFD for what is no part of a whole character.
 * Errors: INVAL (id out of range), NOMEM. */
bora_status bora_tokenizer_piece_text(const bora_tokenizer *tokenizer, int32_t id, bora_text *text, bora_error *err);

/* Streaming decode: what can be sent after each id, never half a character, never contradicted later. Caller-owned,
 * a plain value: copying it forks the stream. */
typedef struct bora_decoder {
    const bora_tokenizer *tokenizer;
    bool at_start;      /* SentencePiece: nothing but control tokens so far: one leading space will be dropped */
    uint8_t pending[4]; /* bytes of a character that is not complete */
    uint8_t n_pending;
} bora_decoder;

/* continues: the stream goes on after other text of the same answer, so that a leading space is kept. */
void bora_decoder_init(bora_decoder *decoder, const bora_tokenizer *tokenizer, bool continues);
/* Appends to text what id makes sendable (may be nothing). After an error decoder and text are as before. Errors:
 * INVAL (id out of range), NOMEM. */
bora_status bora_decoder_push(bora_decoder *decoder, int32_t id, bora_text *text, bora_error *err);
/* The stream ends here: appends what is pending. */
bora_status bora_decoder_flush(bora_decoder *decoder, bora_text *text, bora_error *err);
/* All at once: push each id, then flush. text keeps its old end on failure. */
bora_status bora_tokenizer_decode(const bora_tokenizer *tokenizer, const int32_t *ids, size_t n, bora_text *text,
                                  bora_error *err);

#endif
