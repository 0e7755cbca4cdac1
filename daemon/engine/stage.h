/* A stage: a run of consecutive layers with its weights, plugins, compute threads and its part of every KV cache.
 *
 * Hidden states [n_tokens, dim] come in and go out; the first stage makes them from tokens, the last turns the rows
 * that want them into logits. One thread at a time. */
#ifndef BORA_ENGINE_STAGE_H
#define BORA_ENGINE_STAGE_H

#include "engine/pipeline.h"

typedef struct bora_stage bora_stage;

/* One sequence's rows in a micro-batch, as this stage sees it. */
typedef struct bora_stage_part {
    bora_cache_seq *cache_seq; /* of this stage */
    uint64_t first;            /* position of the first row */
    uint32_t n;                /* rows */
    uint32_t n_logits;         /* the last so many rows want logits */
    const bool *dropped;       /* the part has left the batch */
} bora_stage_part;

typedef struct bora_stage_options {
    const bora_pipeline_options *pipeline;
    const bora_plugin_library *libraries[5]; /* by kind; [0] unused */
    const bora_cpu *cpu;
    uint32_t first_layer, n_layers; /* n_layers may be 0: the stage passes hidden states on */
    bool is_first, is_last;         /* makes hidden states from tokens; makes logits */
    uint32_t n_threads;
} bora_stage_options;

/* model, log and everything in options are borrowed and outlive the stage. */
bora_status bora_stage_new(const bora_model *model, const bora_stage_options *options, const bora_log *log,
                           bora_stage **ret_stage, bora_error *err);
void bora_stage_free(bora_stage *stage); /* NULL is a no-op */

/* ---- plugins ---------------------------------------------------------------------------------------- */

typedef struct bora_stage_instance bora_stage_instance; /* of a plugin, beside the one that is in use */

/* Makes an instance for this stage (of an expert plugin with all layers prepared), with nothing of the stage changed.
 * kind: attention, cache or expert. library is borrowed and outlives the instance; options are copied, NULL is none. In
 * a stage without layers it is an empty one. Between two forward passes, on any thread. Errors: what the plugin's
 * create and prepare say, INVAL for an option it does not know, NOMEM, CANCELLED. */
bora_status bora_stage_instance_new(bora_stage *stage, uint32_t kind, const bora_plugin_library *library,
                                    const bora_plugin_options *options, bora_stage_instance **ret_instance,
                                    bora_error *err);
/* After all its sequences were closed, if it is a cache. NULL is a no-op. */
void bora_stage_instance_free(bora_stage_instance *instance);
/* NULL in a stage without layers. The instance is a cache's. */
bora_cache *bora_stage_instance_cache(const bora_stage_instance *instance);
/* Puts the instance in use and the one that was in use into its place. Between two forward passes. Cannot fail. */
void bora_stage_exchange(bora_stage *stage, bora_stage_instance *instance);

bora_cache *bora_stage_cache(const bora_stage *stage); /* NULL if the stage has no layers */
const bora_cache_ops *bora_stage_cache_ops(const bora_stage *stage);

/* ---- what it is and does ---------------------------------------------------------------------------- */

uint32_t bora_stage_first_layer(const bora_stage *stage);
uint32_t bora_stage_n_layers(const bora_stage *stage);
/* Adds what this stage has spent so far. Any thread. */
void bora_stage_profile_add(const bora_stage *stage, bora_profile *profile);

typedef struct bora_trace {
    bora_trace_fn fn; /* NULL: off */
    void *arg;
} bora_trace;

/* Runs the rows of parts (packed, part after part). tokens [n_tokens] for the first stage. hidden [n_tokens, dim]: in
 * (except for the first stage) and out. logits [sum of n_logits, vocab_size] for the last stage. Room in the caches was
 * reserved. between: called before each layer, NULL: not; parts whose dropped is set leave the batch then (parts
 * [n_parts] is changed). Errors: INVAL, CANCELLED, what the plugins say; caches may then hold some of the rows. */
bora_status bora_stage_forward(bora_stage *stage, const int32_t *tokens, bora_stage_part *parts, uint32_t n_parts,
                               const atomic_bool *cancel, void (*between)(void *arg), void *between_arg,
                               const bora_trace *trace, float *hidden, float *logits, bora_error *err);

#endif
