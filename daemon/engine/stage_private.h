/* Inside of the stage: what its making (stage.c) and its running (stage_forward.c) share. */
#ifndef BORA_ENGINE_STAGE_PRIVATE_H
#define BORA_ENGINE_STAGE_PRIVATE_H

#include "base/counted.h"
#include "base/memory.h"
#include "base/size.h"
#include "engine/stage.h"
#include "kernels/products.h"

/* A layer's own matrices; those of the experts are the plugin's. */
typedef struct stage_layer {
    bora_matrix *wq, *wk, *wv, *wo, *router; /* router: NULL when dense */
} stage_layer;

/* An instance of a plugin, with its host. */
struct bora_stage_instance {
    uint32_t kind;
    const bora_plugin_library *library;
    bora_plugin_host *host; /* NULL: there is no instance, as in a stage without layers */
    union {                 /* by kind; NULL until it is created */
        bora_attention *attention;
        bora_cache *cache;
        bora_expert *expert;
    };
};

struct bora_stage {
    const bora_model *model;
    const bora_log *log;
    const bora_hparams *hparams;
    bora_stage_options options;
    bora_pool *pool;
    bora_kernels *kernels;
    bora_region *region; /* packed weights */
    stage_layer *layers; /* [n_layers] */
    bora_matrix *output; /* last stage */
    void *panels;        /* of the widest input: [max_tokens, max(dim, n_heads * head_dim)] */
    bora_stage_instance in_use[BORA_PLUGIN_EXPERT + 1]; /* by kind; [0] unused */
    /* The same as forward calls it. */
    const bora_attention_ops *attention_ops;
    const bora_cache_ops *cache_ops;
    const bora_expert_ops *expert_ops;
    bora_attention *attention;
    bora_cache *cache;
    bora_expert *expert;
    float *rope_freqs;        /* [head_dim / 2] */
    float *rope_angles;       /* [max_tokens, 2, head_dim] of the rows being run */
    float *norms;             /* [n_layers, 2, dim] attention and feed-forward norms */
    float *final_norm;        /* [dim], last stage */
    float *norm;              /* [max_tokens, dim] */
    float *q, *heads;         /* [max_tokens, n_heads * head_dim] */
    float *k, *v;             /* [max_tokens, n_kv_heads * head_dim] */
    float *out;               /* [max_tokens, dim] output of attention or experts */
    float *router_logits;     /* [max_tokens, n_experts] */
    int32_t *experts;         /* [max_tokens, n_experts_per_tok] */
    float *expert_weights;    /* [max_tokens, n_experts_per_tok] */
    uint64_t *positions;      /* [max_tokens] */
    bora_attention_seq *seqs; /* [max_tokens]: at most one part a row */
    bora_kv_span *spans;      /* [spans_capacity] of all parts */
    size_t spans_capacity;
    size_t refused_size;                        /* bytes of the first buffer that could not be had; 0: none */
    uint64_t mark_ns;                           /* when the work that is being done began */
    _Atomic uint64_t spent[BORA_PROFILE_COUNT]; /* relaxed: counts for whoever asks */
};

/* n_rows rows of n_cols elements, aligned to 64, not cleared; NULL when there is no memory, the ledger says no or the
 * size overflows: bora_counted_fail with refused_size. End: bora_counted_free. */
static inline void *stage_rows_alloc(bora_stage *stage, size_t n_rows, size_t n_cols, size_t size)
{
    size_t total = SIZE_MAX;
    void *rows = NULL;
    if (bora_size_mul(n_rows, n_cols, &total) && bora_size_mul(total, size, &total))
        rows = bora_counted_alloc(stage->options.pipeline->ledger, BORA_LEDGER_ACTIVATIONS, total);
    if (!rows && !stage->refused_size)
        stage->refused_size = total;
    return rows;
}

/* Ends the instance and its host, and clears it. The struct itself is the caller's. */
void bora_stage_instance_end(bora_stage_instance *instance);

#endif
