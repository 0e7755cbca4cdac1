/* An answer as its events told it, and whether it is what the same request got alone. */
#ifndef BORA_LOAD_ANSWER_H
#define BORA_LOAD_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is empty; caller-owned, released below. */
typedef struct bora_load_answer {
    int32_t *tokens; /* [n_tokens] */
    size_t *ends;    /* [n_tokens]: bytes of text that had been shown with each */
    size_t n_tokens, capacity;
    char *text; /* [text_size]: all that was shown; not zero-terminated */
    size_t text_size, text_capacity;
    char reason[16]; /* of done; "" while it has not come */
} bora_load_answer;

void bora_load_answer_release(bora_load_answer *answer);
void bora_load_answer_clear(bora_load_answer *answer); /* empty, the memory is kept */
/* False: no memory. */
bool bora_load_answer_token(bora_load_answer *answer, int32_t token, const char *text, size_t size);
bool bora_load_answer_done(bora_load_answer *answer, const char *text, size_t size, const char *reason,
                           size_t reason_size);

/* Whether got, of a request for at most max_tokens, is what expected says, which was got alone with a limit of its own:
 * each token and each piece of text as far as both go, an end where the other ended. An answer without done, or one
 * that was cancelled, need only be a beginning. True if so; else ret_why says what is different, without the text. */
bool bora_load_answer_agrees(const bora_load_answer *got, const bora_load_answer *expected, uint32_t max_tokens,
                             char ret_why[160]);

#endif
