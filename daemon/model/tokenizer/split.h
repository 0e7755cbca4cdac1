/* Cutting text into the pieces that byte-pair encoding stays within: a regular expression that a vocabulary brings
 * along, matched one piece after the other.
 *
 * The expression comes from a file and need not mean well, so both its size and its steps have bounds that grow with
 * the text only. Compiled ones are immutable: any thread. */
#ifndef BORA_TOKENIZER_SPLIT_H
#define BORA_TOKENIZER_SPLIT_H

#include "base/status.h"

/* What Mistral's own files have; GGUF names it "tekken" instead of writing it out. */
extern const char bora_tekken_pattern[];

#define BORA_PATTERN_SIZE_MAX 4096u

typedef struct bora_split bora_split;

/* Errors: FORMAT (too long, does not compile), NOMEM. */
bora_status bora_split_new(const char *pattern, size_t size, bora_split **ret_split, bora_error *err);
void bora_split_free(bora_split *split); /* NULL is a no-op */

/* One text on its way through an expression; one thread. All zero is empty. */
typedef struct bora_splitter {
    const bora_split *split;
    void *match;      /* PCRE2's match data */
    void *limits;     /* and match context */
    const char *text; /* [size] well-formed UTF-8, borrowed */
    size_t size, at;  /* at: where the next piece begins */
    size_t budget;    /* bytes of text that may still be matched again: in a larger window, with more steps */
    uint64_t n_steps; /* matches, and bytes matched again */
} bora_splitter;

bora_status bora_splitter_init(bora_splitter *splitter, const bora_split *split, bora_error *err);
void bora_splitter_release(bora_splitter *splitter);
void bora_splitter_text(bora_splitter *splitter, const char *text, size_t size);
/* The next piece is [*ret_start, + *ret_size) of the text; *ret_size is 0 at its end. A character at which the
 * expression matches nothing is a piece by itself. Errors: LIMIT (too many steps), NOMEM. */
bora_status bora_splitter_next(bora_splitter *splitter, size_t *ret_start, size_t *ret_size, bora_error *err);

#endif
