/* Hyper-parameters: the shape of a model, whatever file it came from. */
#ifndef BORA_MODEL_HPARAMS_H
#define BORA_MODEL_HPARAMS_H

#include "base/status.h"

#include <stdbool.h>

/* Limits on what a file may say, checked before anything is allocated. */
#define BORA_LAYERS_MAX     1024u
#define BORA_EXPERTS_MAX    256u
#define BORA_DIM_MAX        65536u
#define BORA_HIDDEN_DIM_MAX 1048576u
#define BORA_HEADS_MAX      1024u
#define BORA_HEAD_DIM_MAX   1024u
#define BORA_VOCAB_MAX      1048576u
#define BORA_POSITIONS_MAX  1073741824u /* of a window and of the context */

typedef struct bora_hparams {
    uint32_t n_layers;
    uint32_t dim;        /* residual width */
    uint32_t hidden_dim; /* feed-forward width */
    uint32_t n_heads, n_kv_heads;
    uint32_t head_dim; /* n_heads * head_dim need not be dim */
    uint32_t vocab_size;
    uint32_t n_experts; /* 1 and no router: dense */
    uint32_t n_experts_per_tok;
    uint32_t context_length; /* positions the model was made for; 0: not stated */
    float norm_eps;
    float rope_theta;
    uint32_t n_windows;                /* length of the pattern, at least 1; n_layers is a multiple of it */
    uint32_t windows[BORA_LAYERS_MAX]; /* repeated over the layers; 0: no window */
    const char *window_source;         /* static: what stated them; NULL: nothing did */
} bora_hparams;

/* The window of a layer; 0: none. */
static inline uint32_t bora_hparams_window(const bora_hparams *hparams, uint32_t layer)
{
    return hparams->windows[layer % hparams->n_windows];
}

static inline bool bora_hparams_any_window(const bora_hparams *hparams)
{
    bool any = false;
    for (uint32_t i = 0; i < hparams->n_windows; i++)
        any |= hparams->windows[i] != 0;
    return any;
}

/* A pattern that repeats itself becomes its shortest form, so that the same windows always look the same. */
void bora_hparams_windows_shorten(bora_hparams *hparams);
/* "4096", "none", "4096, none (repeated over the layers)"; cut at size. */
void bora_hparams_windows_text(const bora_hparams *hparams, char *text, size_t size);

/* Everything inside its limit, heads divisible, head_dim even, eps and theta positive and finite, pattern whole.
 * Errors: FORMAT, with the name of the offending parameter. */
bora_status bora_hparams_check(const bora_hparams *hparams, bora_error *err);

#endif
