/* What the tests of the pipeline share: a golden model with its pipeline, tokens, and feeding them in pieces. */
#ifndef BORA_TESTS_PIPELINE_FIXTURE_H
#define BORA_TESTS_PIPELINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "engine/pipeline.h"

#include <stdio.h>
#include <string.h>

#define FIXTURE_PLUGINS BORA_BUILD_DIR "/lib/bora/plugins"

typedef struct fixture {
    bora_log log;
    bora_ledger *ledger; /* wide; all that was taken must have come back at the end */
    bora_model *model;
    bora_pipeline_options options;
    bora_pipeline *pipeline; /* NULL until fixture_start */
    uint32_t vocab_size;
} fixture;

/* Opens the model and sets options that a test may still change: one stage and thread, plain C plugins. */
static inline void fixture_open(fixture *f, const char *name)
{
    memset(f, 0, sizeof *f);
    bora_log_init(&f->log, BORA_LOG_ERROR);
    char *path = bora_format("%s/tests/golden/models/%s/model", BORA_SOURCE_DIR, name);
    assert_non_null(path);
    bora_error err = {""};
    bora_model_options options = {.without_tokenizer = true};
    if (bora_model_open(path, &options, &f->log, &f->model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_free(path);
    f->vocab_size = bora_model_hparams(f->model)->vocab_size;
    if (bora_ledger_new(UINT64_C(1) << 40, &f->ledger, &err) != BORA_OK)
        fail_msg("%s", err.message);
    f->options = (bora_pipeline_options){
        .n_threads = 1,
        .n_stages = 1,
        .max_tokens = 512,
        .max_logits = 512,
        .slack = 128,
        .max_positions = 1024,
        .kv_dtype = BORA_DTYPE_F32,
        .plugin_path = FIXTURE_PLUGINS,
        .plugins = {NULL, "reference", "ring", "reference", "thread"},
        .ledger = f->ledger,
    };
}

static inline void fixture_start(fixture *f)
{
    bora_error err = {""};
    if (bora_pipeline_new(f->model, &f->options, &f->log, &f->pipeline, &err) != BORA_OK)
        fail_msg("%s", err.message);
}

static inline void fixture_close(fixture *f)
{
    bora_pipeline_free(f->pipeline);
    bora_model_free(f->model);
    bora_ledger_state books;
    bora_ledger_get(f->ledger, &books);
    assert_int_equal(books.used, 0);
    bora_ledger_free(f->ledger);
}

static inline bora_sequence *fixture_sequence(fixture *f)
{
    bora_sequence *sequence = NULL;
    bora_error err = {""};
    if (bora_sequence_open(f->pipeline, &sequence, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return sequence;
}

/* Token i of text number which; any model's vocabulary has it. */
static inline int32_t fixture_token(uint32_t which, uint64_t i)
{
    return (int32_t)(1 + (i * 37 + i * i % 11 + which * 101) % 250);
}

static inline bora_status fixture_try(fixture *f, bora_sequence *sequence, const int32_t *tokens, uint32_t n,
                                      const atomic_bool *cancel, float *logits, bora_error *err)
{
    bora_batch_part part = {.sequence = sequence, .n = n, .n_logits = n};
    bora_batch batch = {.tokens = tokens, .parts = &part, .n_parts = 1};
    return bora_pipeline_forward(f->pipeline, &batch, cancel, logits, err);
}

/* Feeds the text's tokens from where the sequence stands up to end, in pieces of chunk. The logits of all rows in new
 * memory (bora_free), [end - start, vocab_size]. */
static inline float *fixture_feed(fixture *f, bora_sequence *sequence, uint32_t which, uint64_t end, uint32_t chunk)
{
    uint64_t start = bora_sequence_n_cached(sequence);
    float *logits = bora_calloc((end - start) * f->vocab_size, sizeof *logits);
    assert_non_null(logits);
    int32_t tokens[512];
    for (uint64_t at = start; at < end;) {
        uint32_t n = end - at < chunk ? (uint32_t)(end - at) : chunk;
        for (uint32_t i = 0; i < n; i++)
            tokens[i] = fixture_token(which, at + i);
        bora_error err = {""};
        if (fixture_try(f, sequence, tokens, n, NULL, logits + (at - start) * f->vocab_size, &err) != BORA_OK)
            fail_msg("%s", err.message);
        at += n;
        assert_int_equal(bora_sequence_n_cached(sequence), at);
    }
    return logits;
}

/* The logits of the whole text in one sequence of its own. */
static inline float *fixture_feed_alone(fixture *f, uint32_t which, uint64_t end, uint32_t chunk)
{
    bora_sequence *sequence = fixture_sequence(f);
    float *logits = fixture_feed(f, sequence, which, end, chunk);
    bora_sequence_close(sequence);
    return logits;
}

static inline void assert_same_logits(const fixture *f, const float *is, const float *should, uint64_t n_rows)
{
    for (uint64_t i = 0; i < n_rows; i++)
        if (memcmp(is + i * f->vocab_size, should + i * f->vocab_size, f->vocab_size * sizeof *is) != 0)
            fail_msg("row %llu of %llu differs", (unsigned long long)i, (unsigned long long)n_rows);
}

/* Raises a cancel flag when something named is computed. */
typedef struct canceller {
    atomic_bool flag;
    const char *at; /* for example "layers.0.out" */
} canceller;

static inline void cancel_on_trace(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols)
{
    (void)data, (void)n_rows, (void)n_cols;
    canceller *self = arg;
    if (strcmp(name, self->at) == 0)
        atomic_store(&self->flag, true);
}

#endif
