/* Vocabularies for tests of masks: the embedded model's, Mistral's and others' when their files are there, and a small
 * Tekken one. */
#ifndef BORA_TESTS_VOCABULARY_FIXTURE_H
#define BORA_TESTS_VOCABULARY_FIXTURE_H

#include "base/file.h"
#include "grammar_fixture.h"
#include "model/model.h"
#include "support/skip.h"

#include <stdlib.h>

#define TINY_MODEL   BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf"
#define SMALL_TEKKEN BORA_SOURCE_DIR "/tests/golden/tekken/small.json"

typedef struct vocabulary_fixture {
    bora_model *model;   /* of which tokenizer is, or NULL */
    bora_tokenizer *own; /* or this */
    const bora_tokenizer *tokenizer;
    bora_vocabulary *vocabulary;
    size_t n_words; /* of a mask */
} vocabulary_fixture;

static inline void vocabulary_make(vocabulary_fixture *f)
{
    bora_error err = {{0}};
    if (bora_vocabulary_new(f->tokenizer, &f->vocabulary, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f->n_words = (bora_tokenizer_n_pieces(f->tokenizer) + 63) / 64;
}

static inline vocabulary_fixture vocabulary_of_model(void)
{
    vocabulary_fixture f = {0};
    bora_error err = {{0}};
    if (bora_model_open(TINY_MODEL, NULL, NULL, &f.model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f.tokenizer = bora_model_tokenizer(f.model);
    vocabulary_make(&f);
    return f;
}

static inline vocabulary_fixture vocabulary_of_file(const char *path, bool is_tekken)
{
    vocabulary_fixture f = {0};
    bora_file file = {0};
    bora_error err = {{0}};
    if (bora_file_map(path, &file, &err) != BORA_OK ||
        (is_tekken ? bora_tokenizer_parse_tekken : bora_tokenizer_parse)(file.data, file.size, &f.own, &err) != BORA_OK)
        fail_msg("%s: %s", path, err.message);
    bora_file_release(&file);
    f.tokenizer = f.own;
    vocabulary_make(&f);
    return f;
}

static inline void vocabulary_release(vocabulary_fixture *f)
{
    bora_vocabulary_free(f->vocabulary);
    bora_tokenizer_free(f->own);
    bora_model_free(f->model);
}

static inline bool mask_has(const uint64_t *mask, int32_t token)
{
    return mask[token / 64] >> (token % 64) & 1;
}

#endif
