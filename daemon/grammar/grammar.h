/* Grammars: what an answer may look like, from a JSON schema or a small notation, and which tokens may come next.
 *
 *   text ──compile──▶ bora_grammar ─┐
 *   tokenizer ──▶ bora_vocabulary ──┴─▶ bora_matcher ──mask──▶ sampler ──token──▶ accept ...
 *
 * Everything works on bytes: a token is allowed if its bytes (of a byte-fallback token its byte) continue some text of
 * the grammar; a character may be cut between tokens. The end-of-text token is allowed when the text is complete;
 * control and unknown tokens never are. What is allowed can always be brought to an end, however deep it is nested.
 * docs/grammar.md has the notation, the schemas and the bounds. */
#ifndef BORA_GRAMMAR_GRAMMAR_H
#define BORA_GRAMMAR_GRAMMAR_H

#include "base/status.h"
#include "model/tokenizer/tokenizer.h"

#include <stdbool.h>

#define BORA_GRAMMAR_SOURCE_MAX ((size_t)256 << 10) /* bytes of a schema or of a notation */
#define BORA_GRAMMAR_DEPTH_MAX  64u                 /* rules, or JSON values, nested one inside the other */
#define BORA_TOKENS_ANY         UINT32_MAX          /* an answer may go on for ever */

typedef struct bora_grammar bora_grammar;       /* compiled; never changes; any thread */
typedef struct bora_vocabulary bora_vocabulary; /* the bytes of every token; never changes; any thread */
typedef struct bora_matcher bora_matcher;       /* one answer's place in a grammar; one thread at a time */

/* From a JSON schema: the subset of OpenAI's structured outputs, listed in docs/grammar.md. size bytes of UTF-8.
 * Errors: INVAL (not JSON, a keyword's value is wrong; the message has the place), UNSUPPORTED (a keyword outside the
 * subset, by name), LIMIT (too deep, too large), NOMEM. */
bora_status bora_grammar_from_schema(const char *schema, size_t size, bora_grammar **ret_grammar, bora_error *err);
/* From the notation of docs/grammar.md. Errors: INVAL (with line), LIMIT, NOMEM. */
bora_status bora_grammar_from_notation(const char *text, size_t size, bora_grammar **ret_grammar, bora_error *err);
bora_grammar *bora_grammar_ref(bora_grammar *grammar);
void bora_grammar_unref(bora_grammar *grammar);        /* NULL is a no-op */
size_t bora_grammar_size(const bora_grammar *grammar); /* bytes it holds */

/* Once per model; tokenizer is borrowed for the call. Errors: UNSUPPORTED (it has no end-of-text token), NOMEM. */
bora_status bora_vocabulary_new(const bora_tokenizer *tokenizer, bora_vocabulary **ret_vocabulary, bora_error *err);
void bora_vocabulary_free(bora_vocabulary *vocabulary);         /* NULL is a no-op */
size_t bora_vocabulary_size(const bora_vocabulary *vocabulary); /* bytes it holds */

/* At the beginning of an answer. continues_text as in bora_decoder_init: otherwise the space that a SentencePiece
 * vocabulary writes before a first word is not part of the answer's text, and a token that is nothing else is no text.
 * Takes a reference to the grammar; vocabulary is borrowed and outlives the matcher. Errors: NOMEM, LIMIT. */
bora_status bora_matcher_new(bora_grammar *grammar, const bora_vocabulary *vocabulary, bool continues_text,
                             bora_matcher **ret_matcher, bora_error *err);
/* Another answer that begins as this one. Errors: NOMEM. */
bora_status bora_matcher_clone(const bora_matcher *matcher, bora_matcher **ret_matcher, bora_error *err);
void bora_matcher_free(bora_matcher *matcher); /* NULL is a no-op */
/* Bits of the tokens that may come next: mask [(vocab_size + 63) / 64], bit t % 64 of word t / 64; valid until the next
 * call of mask, accept or free. At least one bit is set, except after the end-of-text token.
 *
 * n_left: tokens that the answer may still have, this one and the end-of-text token included; BORA_TOKENS_ANY. If the
 * text can be made whole within them at a byte a token, only tokens after which it still can are allowed: so an answer
 * of which this was once true ends whole. If not, or if the vocabulary has not every byte as a token, n_left makes no
 * difference, and neither does it while it is far from short.
 *
 * Errors: NOMEM, LIMIT (the grammar is so ambiguous here that it takes too much work), UNSUPPORTED (no token of the
 * vocabulary continues the text: only without byte-fallback tokens). The place in the text stays as it is. */
bora_status bora_matcher_mask(bora_matcher *matcher, uint32_t n_left, const uint64_t **ret_mask, bora_error *err);
/* Goes on with a token that the mask of any n_left allows; asking for the mask before is not needed. After an error the
 * place in the text is as before. Errors: INVAL (it is not allowed), NOMEM, LIMIT. */
bora_status bora_matcher_accept(bora_matcher *matcher, int32_t token, bora_error *err);
/* The text may end here. */
bool bora_matcher_is_complete(const bora_matcher *matcher);
/* The text must end here: nothing but the end-of-text token is allowed whatever is left, or it has come. */
bool bora_matcher_must_end(const bora_matcher *matcher);
/* Bytes it holds: what it has found about the grammar so far, and masks. It grows with the answer up to a bound
 * (docs/grammar.md), and is some 100 KiB to 1 MiB for schemas as people write them. */
size_t bora_matcher_size(const bora_matcher *matcher);

#endif
