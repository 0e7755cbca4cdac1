/* bora-model, the offline tool: its commands on the engine library. Commands print their result on stdout. */
#ifndef BORA_TOOL_TOOL_H
#define BORA_TOOL_TOOL_H

#include "engine/pipeline.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct bora_tool_options {
    const bora_log *log;
    bora_pipeline_options pipeline; /* plugins, stages, threads, kv_dtype; sizes are the command's to set */
    bora_chat_layout layout;
    uint32_t window;         /* as bora_model_options has it */
    const char *model;       /* eval: instead of the one that the description names; may be NULL */
    const atomic_bool *stop; /* set when the user interrupts: long commands end; may be NULL */
} bora_tool_options;

typedef struct bora_tool_convert_options {
    const char *type; /* "q8_0", "mixed" ... */
    bool force;       /* out may be there already */
    bool table;       /* print a line per tensor */
} bora_tool_convert_options;

#define BORA_BENCH_LIST_MAX   16u
#define BORA_BENCH_BATCH_MAX  64u
#define BORA_BENCH_ROUNDS_MAX 101u

typedef enum bora_bench_format { BORA_BENCH_TABLE, BORA_BENCH_JSON, BORA_BENCH_CSV } bora_bench_format;

typedef struct bora_tool_bench_options {
    uint32_t n_prompt, n_steps;             /* tokens of prefill; decode steps of one measurement; 1 .. 65536 */
    uint32_t n_rounds;                      /* 1 .. BORA_BENCH_ROUNDS_MAX */
    uint32_t batches[BORA_BENCH_LIST_MAX];  /* [n_batches] sequences that decode together, 1 .. BORA_BENCH_BATCH_MAX */
    uint32_t contexts[BORA_BENCH_LIST_MAX]; /* [n_contexts] positions that they stand at */
    size_t n_batches, n_contexts;           /* at least 1 */
    bora_bench_format format;
    bool profile; /* say where the time goes too */
} bora_tool_bench_options;

/* Opens a model by path or by name (bora_model_find, the default folders), with the window of options. */
bora_status bora_tool_open(const char *name, const bora_model_options *model_options, const bora_tool_options *options,
                           bora_model **ret_model, bora_error *err);
/* Hyper-parameters, windows, sizes; with tensors the list of them too. */
bora_status bora_tool_inspect(const char *path, bool tensors, const bora_tool_options *options, bora_error *err);
/* Ids and pieces of a text; with chat, of a conversation given as JSON (bora_chat_read), in the model's layout. */
bora_status bora_tool_tokenize(const char *path, const char *text, size_t size, bool chat,
                               const bora_tool_options *options, bora_error *err);
/* Runs the runs of a golden.json (format 1 of tests/golden/README.md), writes tensors and tokens into the folder out.
 */
bora_status bora_tool_eval(const char *path, const char *out, const bora_tool_options *options, bora_error *err);

/* Writes a model as GGUF; prints what became of it. Errors: INVAL (unknown type), EXISTS, what opening and writing say,
 * CANCELLED. Nothing half is left under the name out. */
bora_status bora_tool_convert(const char *path, const char *out, const bora_tool_convert_options *how,
                              const bora_tool_options *options, bora_error *err);
/* Mean negative log-likelihood and perplexity of a text, or of dialogues if file ends in ".jsonl".
 * options->pipeline.max_positions: tokens of a window of text, 0: the default. */
bora_status bora_tool_perplexity(const char *path, const char *file, bool json, const bora_tool_options *options,
                                 bora_error *err);
/* Measures prefill and decoding, and beside them what the machine can do at most. options->pipeline: as the user chose;
 * sizes are set here. Errors: INVAL (a prompt longer than the model's context), what opening and preparing say,
 * CANCELLED, NOMEM. */
bora_status bora_tool_bench(const char *path, const bora_tool_bench_options *how, const bora_tool_options *options,
                            bora_error *err);

#endif
