/* What pipeline*.c, sequence*.c, stages.c and swap.c share. */
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
    bora_plugin_library *libraries[5]; /* by kind; written by the engine's thread, protected by libraries_lock: it alone
                                        * may read them without */
    bora_stage **stages;               /* [options.n_stages] */
    bora_class classes[BORA_CLASSES_MAX];
    uint32_t n_classes;
    bora_stages *threads;   /* NULL with one stage */
    bora_stage_part *parts; /* [n_stages, max_tokens] scratch of forward */
    float *hidden;          /* [max_tokens, dim], with one stage */
    bool is_damage_logged;  /* that a file of the model is gone */
    bora_trace trace;
    pthread_mutex_t trace_lock; /* one call of the trace function at a time */
    pthread_mutex_t libraries_lock;
    bora_sequence *sequences; /* those that are open */
    size_t n_sequences;
};

struct bora_sequence {
    bora_pipeline *pipeline;
    bora_sequence *next, **link; /* in the pipeline's list; *link is this sequence */
    uint64_t n_cached;
    uint64_t furthest;                 /* the largest position any cache was asked to hold: what lies the capacity below
                                          it is overwritten in layers with a window */
    uint64_t oldest[BORA_CLASSES_MAX]; /* by class: nothing before was ever put into the caches */
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

/* Loads the plugins that the options name. */
bora_status bora_pipeline_load_plugins(bora_pipeline *pipeline, bora_error *err);
/* Loads one by name or path. */
bora_status bora_pipeline_load_plugin(const bora_pipeline *pipeline, uint32_t kind, const char *name,
                                      bora_plugin_library **ret_library, bora_error *err);
/* Whether these plugins (by kind) understand each other, the options and the model's weights. */
bora_status bora_pipeline_check_plugins(const bora_pipeline *pipeline, bora_plugin_library *const libraries[5],
                                        bora_error *err);
/* Puts a library into the place of another, which is given back. Any thread may be asking meanwhile. */
bora_plugin_library *bora_pipeline_set_plugin(bora_pipeline *pipeline, uint32_t kind, bora_plugin_library *library);

/* Bytes of keys (or values) of one position of one layer. */
size_t bora_pipeline_kv_row_size(const bora_pipeline *pipeline);

/* Positions that a class holds at most. */
uint64_t bora_sequence_class_capacity(const bora_pipeline *pipeline, uint32_t class_id);
/* First position of the oldest page that all layers of a class still hold whole. */
uint64_t bora_sequence_held_from(const bora_sequence *sequence, uint32_t class_id);
/* First position of the oldest page that a sequence of end positions needs of a class: with a position of the window
 * before end, and at least the last one, because a layer has to stand at end. */
uint64_t bora_sequence_needed_from(const bora_pipeline *pipeline, uint32_t class_id, uint64_t end);
/* Copies what one stage's cache holds of the positions before end, as far back as its pages are whole, into an empty
 * sequence of another cache (or the same) of this shape. end is n_cached or was found held. Errors: NOMEM, what the
 * caches say; the new sequence then holds a part. */
bora_status bora_sequence_copy_pages(const bora_sequence *sequence, uint32_t stage_index, uint64_t end,
                                     const bora_cache_ops *ops, bora_cache *cache, bora_cache_seq *seq,
                                     bora_error *err);

/* Stage threads: started and joined with the pipeline. library and options are those of the link. */
bora_status bora_stages_new(bora_pipeline *pipeline, const bora_plugin_library *library,
                            const bora_plugin_options *options, bora_stages **ret_stages, bora_error *err);
void bora_stages_free(bora_stages *stages);
/* As bora_pipeline_forward, with pipeline->parts filled in and room reserved. */
bora_status bora_stages_forward(bora_stages *stages, const bora_batch *batch, const atomic_bool *cancel, float *logits,
                                bora_error *err);

#endif
