/* What pipeline.c, sequence.c and stages.c share. */
#ifndef BORA_ENGINE_PIPELINE_PRIVATE_H
#define BORA_ENGINE_PIPELINE_PRIVATE_H

#include "engine/pipeline.h"
#include "engine/stage.h"

#include <pthread.h>

typedef struct bora_stages bora_stages; /* the stage threads and their link */

typedef struct bora_class {
    uint32_t window;
    uint32_t n_layers;
    uint32_t *layers; /* [n_layers] of the model, ascending */
} bora_class;

struct bora_pipeline {
    const bora_model *model;
    const bora_hparams *hparams;
    const bora_log *log;
    bora_pipeline_options options; /* with defaults filled in */
    bora_cpu cpu;
    bora_plugin_library *libraries[5]; /* by kind */
    bora_stage **stages;               /* [options.n_stages] */
    bora_class classes[BORA_CLASSES_MAX];
    uint32_t n_classes;
    bora_stages *threads;   /* NULL with one stage */
    bora_stage_part *parts; /* [n_stages, max_tokens] scratch of forward */
    float *hidden;          /* [max_tokens, dim], with one stage */
    bool is_damage_logged;  /* that a file of the model is gone */
    bora_trace trace;
    pthread_mutex_t trace_lock; /* one call of the trace function at a time */
};

struct bora_sequence {
    bora_pipeline *pipeline;
    uint64_t n_cached;
    uint64_t furthest;                 /* the largest position any cache was asked to hold: what lies the capacity below
                                          it is overwritten in layers with a window */
    uint64_t oldest[BORA_CLASSES_MAX]; /* by class: nothing before was imported; 0 otherwise */
    bora_cache_seq *seqs[];            /* [n_stages] */
};

/* Positions kept beyond the window: one page more than the option says, so that what may be taken back leaves whole
 * pages, and a cancelled chunk never cuts into a page that resuming needs. */
uint32_t bora_pipeline_slack(const bora_pipeline_options *options);

/* weights_size.c: whether the ledger has room for the weights. Error: LIMIT. */
bora_status bora_pipeline_check_weights(const bora_pipeline *pipeline, bora_error *err);

/* Whether building was called off. */
bool bora_pipeline_is_cancelled(const bora_pipeline_options *options);

/* The stage of a layer, and the layer's number in it. */
bora_stage *bora_pipeline_stage_of(const bora_pipeline *pipeline, uint32_t layer, uint32_t *ret_index,
                                   uint32_t *ret_local);

/* Stage threads: started and joined with the pipeline. */
bora_status bora_stages_new(bora_pipeline *pipeline, bora_stages **ret_stages, bora_error *err);
void bora_stages_free(bora_stages *stages);
/* As bora_pipeline_forward, with pipeline->parts filled in and room reserved. */
bora_status bora_stages_forward(bora_stages *stages, const bora_batch *batch, const atomic_bool *cancel, float *logits,
                                bora_error *err);

#endif
