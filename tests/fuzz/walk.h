/* Uses what a target has loaded, and checks what its header promises. */
#ifndef BORA_TESTS_FUZZ_WALK_H
#define BORA_TESTS_FUZZ_WALK_H

#include "model/model.h"

/* The first and last byte of every tensor that the files have. */
void fuzz_walk_entries(const bora_model *model);
/* Everything an open model says of itself, the ends of its weights, and its tokenizer. */
void fuzz_walk_model(const bora_model *model);
/* Encodes text and decodes the ids, at once and as a stream. */
void fuzz_walk_tokenizer(const bora_tokenizer *tokenizer, const char *text, size_t size);

#endif
