/* The life of a stage: its threads, buffers for the largest batch, its matrices, and an instance of each plugin. */
#include "engine/stage.h"

#include "engine/pipeline_private.h"
#include "engine/stage_private.h"

uint32_t bora_stage_first_layer(const bora_stage *stage)
{
    return stage->options.first_layer;
}

uint32_t bora_stage_n_layers(const bora_stage *stage)
{
    return stage->options.n_layers;
}

static bora_status make_buffers(bora_stage *stage, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    size_t n = stage->options.pipeline->max_tokens;
    size_t q_dim = (size_t)hp->n_heads * hp->head_dim, kv_dim = (size_t)hp->n_kv_heads * hp->head_dim;
    stage->rope_freqs = stage_rows_alloc(stage, hp->head_dim, 1, sizeof(float));
    stage->rope_angles = stage_rows_alloc(stage, n, 2 * (size_t)hp->head_dim, sizeof(float));
    stage->norms = stage_rows_alloc(stage, (size_t)stage->options.n_layers * 2, hp->dim, sizeof(float));
    stage->final_norm = stage_rows_alloc(stage, 1, hp->dim, sizeof(float));
    stage->norm = stage_rows_alloc(stage, n, hp->dim, sizeof(float));
    stage->q = stage_rows_alloc(stage, n, q_dim, sizeof(float));
    stage->heads = stage_rows_alloc(stage, n, q_dim, sizeof(float));
    stage->k = stage_rows_alloc(stage, n, kv_dim, sizeof(float));
    stage->v = stage_rows_alloc(stage, n, kv_dim, sizeof(float));
    stage->out = stage_rows_alloc(stage, n, hp->dim, sizeof(float));
    stage->router_logits = stage_rows_alloc(stage, n, hp->n_experts, sizeof(float));
    stage->experts = stage_rows_alloc(stage, n, hp->n_experts_per_tok, sizeof(int32_t));
    stage->expert_weights = stage_rows_alloc(stage, n, hp->n_experts_per_tok, sizeof(float));
    stage->positions = stage_rows_alloc(stage, n, 1, sizeof(uint64_t));
    stage->seqs = stage_rows_alloc(stage, n, 1, sizeof(bora_attention_seq));
    size_t panels_size =
        bora_input_size(stage->options.pipeline->max_tokens, (uint32_t)(q_dim > hp->dim ? q_dim : hp->dim));
    stage->panels = stage_rows_alloc(stage, panels_size, 1, 1);
    stage->spans_capacity = BORA_CACHE_SPANS_MAX;
    stage->spans = stage_rows_alloc(stage, stage->spans_capacity, 1, sizeof(bora_kv_span));
    if (!stage->rope_freqs || !stage->rope_angles || !stage->norms || !stage->final_norm || !stage->norm || !stage->q ||
        !stage->heads || !stage->k || !stage->v || !stage->out || !stage->router_logits || !stage->experts ||
        !stage->expert_weights || !stage->positions || !stage->seqs || !stage->spans || !stage->panels)
        return bora_counted_fail(stage->options.pipeline->ledger, "buffers for batches", stage->refused_size, err);

    bora_rope_freqs(hp->rope_theta, hp->head_dim, stage->rope_freqs);
    for (uint32_t l = 0; l < stage->options.n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(stage->model, stage->options.first_layer + l);
        float *norms = stage->norms + (size_t)l * 2 * hp->dim;
        bora_dequantize(NULL, &layer->attention_norm, 0, 1, norms);
        bora_dequantize(NULL, &layer->ffn_norm, 0, 1, norms + hp->dim);
    }
    if (stage->options.is_last)
        bora_dequantize(NULL, bora_model_norm(stage->model), 0, 1, stage->final_norm);
    return BORA_OK;
}

static bora_status make_layer(bora_stage *stage, const bora_layer_weights *weights, stage_layer *layer, bora_error *err)
{
    const struct {
        const bora_tensor *tensor;
        bora_matrix **matrix;
    } all[] = {{&weights->wq, &layer->wq},
               {&weights->wk, &layer->wk},
               {&weights->wv, &layer->wv},
               {&weights->wo, &layer->wo},
               {&weights->router, &layer->router}};
    bora_status st = BORA_OK;
    for (size_t i = 0; st == BORA_OK && i < BORA_ARRAY_SIZE(all); i++)
        if (all[i].tensor->data)
            st = bora_matrix_new(stage->kernels, stage->region, all[i].tensor, all[i].matrix, err);
    return st;
}

static void free_layer(stage_layer *layer)
{
    bora_matrix_free(layer->wq);
    bora_matrix_free(layer->wk);
    bora_matrix_free(layer->wv);
    bora_matrix_free(layer->wo);
    bora_matrix_free(layer->router);
}

/* In the order of the layers, and so of most files. */
static bora_status make_matrices(bora_stage *stage, bora_error *err)
{
    stage->layers = bora_calloc(stage->options.n_layers, sizeof *stage->layers);
    if (!stage->layers)
        return bora_fail(err, BORA_E_NOMEM, "layers");
    bora_kernels_set_rounding(stage->kernels, stage->options.pipeline->rounding);
    bora_status st = bora_region_new(stage->options.pipeline->ledger, BORA_LEDGER_WEIGHTS, &stage->region, err);
    for (uint32_t l = 0; st == BORA_OK && l < stage->options.n_layers; l++) {
        if (bora_pipeline_is_cancelled(stage->options.pipeline))
            return bora_fail(err, BORA_E_CANCELLED, "cancelled");
        st = make_layer(stage, bora_model_layer(stage->model, stage->options.first_layer + l), &stage->layers[l], err);
    }
    if (st == BORA_OK && stage->options.is_last)
        st = bora_matrix_new(stage->kernels, stage->region, bora_model_output(stage->model), &stage->output, err);
    return st;
}

static bora_status put_in_use(bora_stage *stage, uint32_t kind, bora_error *err)
{
    bora_stage_instance *instance = NULL;
    bora_status st = bora_stage_instance_new(stage, kind, stage->options.libraries[kind],
                                             stage->options.pipeline->plugin_options[kind], &instance, err);
    if (st != BORA_OK)
        return st;
    bora_stage_exchange(stage, instance);
    bora_stage_instance_free(instance); /* holds what was there before: nothing */
    return BORA_OK;
}

static void stage_freep(bora_stage **stage)
{
    bora_stage_free(*stage);
}

bora_status bora_stage_new(const bora_model *model, const bora_stage_options *options, const bora_log *log,
                           bora_stage **ret_stage, bora_error *err)
{
    BORA_CLEANUP(stage_freep) bora_stage *stage = bora_calloc(1, sizeof *stage);
    if (!stage)
        return bora_fail(err, BORA_E_NOMEM, "stage");
    stage->model = model;
    stage->log = log;
    stage->hparams = bora_model_hparams(model);
    stage->options = *options;

    const bora_hparams *hp = stage->hparams;
    size_t max_cols = hp->dim;
    if (max_cols < (size_t)hp->n_heads * hp->head_dim)
        max_cols = (size_t)hp->n_heads * hp->head_dim;
    if (max_cols < hp->hidden_dim)
        max_cols = hp->hidden_dim;
    bora_status st = bora_pool_new(options->n_threads, &stage->pool, err);
    if (st == BORA_OK)
        st = bora_kernels_new(options->cpu, stage->pool, max_cols, options->pipeline->ledger, &stage->kernels, err);
    if (st == BORA_OK)
        st = make_buffers(stage, err);
    if (st == BORA_OK) {
        bora_kernels_set_reader(stage->kernels, options->pipeline->reader, options->pipeline->reader_arg);
        st = make_matrices(stage, err);
    }
    for (uint32_t kind = BORA_PLUGIN_ATTENTION; st == BORA_OK && kind <= BORA_PLUGIN_EXPERT; kind++)
        st = put_in_use(stage, kind, err);
    if (st != BORA_OK)
        return st;
    *ret_stage = bora_steal(&stage);
    return BORA_OK;
}

void bora_stage_free(bora_stage *stage)
{
    if (!stage)
        return;
    for (uint32_t kind = BORA_PLUGIN_EXPERT; kind >= BORA_PLUGIN_ATTENTION; kind--)
        bora_stage_instance_end(&stage->in_use[kind]);
    for (uint32_t l = 0; stage->layers && l < stage->options.n_layers; l++)
        free_layer(&stage->layers[l]);
    bora_free(stage->layers);
    bora_matrix_free(stage->output);
    bora_region_free(stage->region);
    bora_kernels_free(stage->kernels);
    bora_pool_free(stage->pool);
    void *const buffers[] = {stage->panels,      stage->rope_freqs,
                             stage->rope_angles, stage->norms,
                             stage->final_norm,  stage->norm,
                             stage->q,           stage->heads,
                             stage->k,           stage->v,
                             stage->out,         stage->router_logits,
                             stage->experts,     stage->expert_weights,
                             stage->positions,   stage->seqs,
                             stage->spans};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(buffers); i++)
        bora_counted_free(buffers[i]);
    bora_free(stage);
}
