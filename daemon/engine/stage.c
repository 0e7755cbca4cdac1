/* The transformer's layers, as in Mistral's reference: attention with RoPE over the cache, then experts, each added to
 * the residual. Buffers are made once for the largest batch; a forward pass allocates nothing of its own. */
#include "engine/stage.h"

#include "base/memory.h"
#include "base/size.h"
#include "engine/pipeline_private.h"
#include "kernels/products.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* A layer's own matrices; those of the experts are the plugin's. */
typedef struct stage_layer {
    bora_matrix *wq, *wk, *wv, *wo, *router; /* router: NULL when dense */
} stage_layer;

/* Rows up to which work that is not a matrix product is not worth sharing out. */
#define FEW_ROWS 8u

struct bora_stage {
    const bora_model *model;
    const bora_hparams *hparams;
    bora_stage_options options;
    bora_pool *pool;
    bora_kernels *kernels;
    bora_region *region;        /* packed weights */
    stage_layer *layers;        /* [n_layers] */
    bora_matrix *output;        /* last stage */
    void *panels;               /* of the widest input: [max_tokens, max(dim, n_heads * head_dim)] */
    bora_plugin_host *hosts[5]; /* by kind */
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
    uint64_t mark_ns;                           /* when the work that is being done began */
    _Atomic uint64_t spent[BORA_PROFILE_COUNT]; /* relaxed: counts for whoever asks */
};

bora_cache *bora_stage_cache(const bora_stage *stage)
{
    return stage->cache;
}

const bora_cache_ops *bora_stage_cache_ops(const bora_stage *stage)
{
    return stage->cache_ops;
}

uint32_t bora_stage_first_layer(const bora_stage *stage)
{
    return stage->options.first_layer;
}

uint32_t bora_stage_n_layers(const bora_stage *stage)
{
    return stage->options.n_layers;
}

static void *rows_alloc(size_t n_rows, size_t n_cols, size_t size)
{
    size_t total;
    if (!bora_size_mul(n_rows, n_cols, &total) || !bora_size_mul(total, size, &total))
        return NULL;
    return bora_alloc_aligned(64, total);
}

static bora_status make_buffers(bora_stage *stage, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    size_t n = stage->options.pipeline->max_tokens;
    size_t q_dim = (size_t)hp->n_heads * hp->head_dim, kv_dim = (size_t)hp->n_kv_heads * hp->head_dim;
    stage->rope_freqs = rows_alloc(hp->head_dim, 1, sizeof(float));
    stage->rope_angles = rows_alloc(n, 2 * (size_t)hp->head_dim, sizeof(float));
    stage->norms = rows_alloc((size_t)stage->options.n_layers * 2, hp->dim, sizeof(float));
    stage->final_norm = rows_alloc(1, hp->dim, sizeof(float));
    stage->norm = rows_alloc(n, hp->dim, sizeof(float));
    stage->q = rows_alloc(n, q_dim, sizeof(float));
    stage->heads = rows_alloc(n, q_dim, sizeof(float));
    stage->k = rows_alloc(n, kv_dim, sizeof(float));
    stage->v = rows_alloc(n, kv_dim, sizeof(float));
    stage->out = rows_alloc(n, hp->dim, sizeof(float));
    stage->router_logits = rows_alloc(n, hp->n_experts, sizeof(float));
    stage->experts = rows_alloc(n, hp->n_experts_per_tok, sizeof(int32_t));
    stage->expert_weights = rows_alloc(n, hp->n_experts_per_tok, sizeof(float));
    stage->positions = rows_alloc(n, 1, sizeof(uint64_t));
    stage->seqs = rows_alloc(n, 1, sizeof(bora_attention_seq));
    size_t panels_size =
        bora_input_size(stage->options.pipeline->max_tokens, (uint32_t)(q_dim > hp->dim ? q_dim : hp->dim));
    stage->panels = bora_alloc_aligned(64, panels_size);
    stage->spans_capacity = BORA_CACHE_SPANS_MAX;
    stage->spans = rows_alloc(stage->spans_capacity, 1, sizeof(bora_kv_span));
    if (!stage->rope_freqs || !stage->rope_angles || !stage->norms || !stage->final_norm || !stage->norm || !stage->q ||
        !stage->heads || !stage->k || !stage->v || !stage->out || !stage->router_logits || !stage->experts ||
        !stage->expert_weights || !stage->positions || !stage->seqs || !stage->spans || !stage->panels)
        return bora_fail(err, BORA_E_NOMEM, "buffers for batches of %zu tokens", n);

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
    bora_kernels_set_packing(stage->kernels, !stage->options.pipeline->f32_products);
    bora_status st = bora_region_new(&stage->region, err);
    for (uint32_t l = 0; st == BORA_OK && l < stage->options.n_layers; l++)
        st = make_layer(stage, bora_model_layer(stage->model, stage->options.first_layer + l), &stage->layers[l], err);
    if (st == BORA_OK && stage->options.is_last)
        st = bora_matrix_new(stage->kernels, stage->region, bora_model_output(stage->model), &stage->output, err);
    return st;
}

static bora_status make_cache(bora_stage *stage, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    const bora_pipeline_options *options = stage->options.pipeline;
    uint32_t windows[BORA_LAYERS_MAX];
    for (uint32_t l = 0; l < stage->options.n_layers; l++)
        windows[l] = bora_hparams_window(hp, stage->options.first_layer + l);
    bora_cache_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = stage->options.n_layers,
        .n_kv_heads = hp->n_kv_heads,
        .head_dim = hp->head_dim,
        .dtype = options->kv_dtype,
        .slack = bora_pipeline_slack(options),
        .max_positions = options->max_positions,
        .windows = windows,
    };
    stage->cache_ops = bora_plugin_cache_ops(stage->options.libraries[BORA_PLUGIN_CACHE]);
    bora_status st =
        stage->cache_ops->create(bora_plugin_host_table(stage->hosts[BORA_PLUGIN_CACHE]), &shape, &stage->cache, err);
    return bora_plugin_created(stage->options.libraries[BORA_PLUGIN_CACHE], stage->hosts[BORA_PLUGIN_CACHE], st, err);
}

static bora_status make_attention(bora_stage *stage, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    bora_attention_shape shape = {
        .struct_size = sizeof shape,
        .n_heads = hp->n_heads,
        .n_kv_heads = hp->n_kv_heads,
        .head_dim = hp->head_dim,
        .max_tokens = stage->options.pipeline->max_tokens,
        .kv_dtype = stage->options.pipeline->kv_dtype,
    };
    stage->attention_ops = bora_plugin_attention_ops(stage->options.libraries[BORA_PLUGIN_ATTENTION]);
    bora_status st = stage->attention_ops->create(bora_plugin_host_table(stage->hosts[BORA_PLUGIN_ATTENTION]), &shape,
                                                  &stage->attention, err);
    return bora_plugin_created(stage->options.libraries[BORA_PLUGIN_ATTENTION], stage->hosts[BORA_PLUGIN_ATTENTION], st,
                               err);
}

static bora_status make_expert(bora_stage *stage, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    bora_expert_shape shape = {
        .struct_size = sizeof shape,
        .n_layers = stage->options.n_layers,
        .n_experts = hp->n_experts,
        .n_experts_per_tok = hp->n_experts_per_tok,
        .dim = hp->dim,
        .hidden_dim = hp->hidden_dim,
        .max_tokens = stage->options.pipeline->max_tokens,
    };
    stage->expert_ops = bora_plugin_expert_ops(stage->options.libraries[BORA_PLUGIN_EXPERT]);
    bora_status st = stage->expert_ops->create(bora_plugin_host_table(stage->hosts[BORA_PLUGIN_EXPERT]), &shape,
                                               &stage->expert, err);
    for (uint32_t l = 0; st == BORA_OK && l < stage->options.n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(stage->model, stage->options.first_layer + l);
        bora_expert_weights weights = {.w1 = layer->w1, .w2 = layer->w2, .w3 = layer->w3};
        if (bora_pipeline_is_cancelled(stage->options.pipeline))
            st = bora_fail(err, BORA_E_CANCELLED, "cancelled");
        else
            st = stage->expert_ops->prepare(stage->expert, l, &weights, err);
    }
    return bora_plugin_created(stage->options.libraries[BORA_PLUGIN_EXPERT], stage->hosts[BORA_PLUGIN_EXPERT], st, err);
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
        st = bora_kernels_new(options->cpu, stage->pool, max_cols, &stage->kernels, err);
    if (st == BORA_OK)
        st = make_buffers(stage, err);
    if (st == BORA_OK)
        st = make_matrices(stage, err);
    for (uint32_t kind = BORA_PLUGIN_ATTENTION; st == BORA_OK && kind <= BORA_PLUGIN_EXPERT; kind++)
        st = bora_plugin_host_new(log, stage->pool, stage->kernels, options->cpu,
                                  options->pipeline->plugin_options[kind], &stage->hosts[kind], err);
    if (st == BORA_OK && options->n_layers > 0) {
        st = make_cache(stage, err);
        if (st == BORA_OK)
            st = make_attention(stage, err);
        if (st == BORA_OK)
            st = make_expert(stage, err);
    }
    if (st != BORA_OK)
        return st;
    *ret_stage = bora_steal(&stage);
    return BORA_OK;
}

/* close, stop, destroy of one instance, where the first two are optional. */
#define INSTANCE_END(ops, instance)                                                                                    \
    do {                                                                                                               \
        if ((ops) && (instance)) {                                                                                     \
            if ((ops)->close)                                                                                          \
                (ops)->close(instance);                                                                                \
            if ((ops)->stop)                                                                                           \
                (ops)->stop(instance);                                                                                 \
            (ops)->destroy(instance);                                                                                  \
        }                                                                                                              \
    } while (0)

void bora_stage_free(bora_stage *stage)
{
    if (!stage)
        return;
    INSTANCE_END(stage->expert_ops, stage->expert);
    INSTANCE_END(stage->attention_ops, stage->attention);
    INSTANCE_END(stage->cache_ops, stage->cache);
    for (size_t kind = 0; kind < BORA_ARRAY_SIZE(stage->hosts); kind++)
        bora_plugin_host_free(stage->hosts[kind]);
    for (uint32_t l = 0; stage->layers && l < stage->options.n_layers; l++)
        free_layer(&stage->layers[l]);
    bora_free(stage->layers);
    bora_matrix_free(stage->output);
    bora_region_free(stage->region);
    bora_kernels_free(stage->kernels);
    bora_pool_free(stage->pool);
    void *const buffers[] = {stage->rope_freqs,
                             stage->rope_angles,
                             stage->norms,
                             stage->final_norm,
                             stage->norm,
                             stage->q,
                             stage->heads,
                             stage->k,
                             stage->v,
                             stage->out,
                             stage->router_logits,
                             stage->experts,
                             stage->expert_weights,
                             stage->positions,
                             stage->seqs,
                             stage->spans};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(buffers); i++)
        bora_free(buffers[i]);
    bora_free(stage);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The time since the last mark went into this kind of work. */
static void mark(bora_stage *stage, uint32_t kind)
{
    uint64_t now = now_ns();
    atomic_fetch_add_explicit(&stage->spent[kind], now - stage->mark_ns, memory_order_relaxed);
    stage->mark_ns = now;
}

void bora_stage_profile_add(const bora_stage *stage, bora_profile *profile)
{
    for (uint32_t kind = 0; kind < BORA_PROFILE_COUNT; kind++)
        profile->ns[kind] += atomic_load_explicit(&stage->spent[kind], memory_order_relaxed);
}

static void trace_rows(const bora_trace *trace, int layer, const char *name, const void *data, uint64_t n_rows,
                       uint64_t n_cols)
{
    if (!trace || !trace->fn)
        return;
    char full[64];
    if (layer >= 0)
        (void)snprintf(full, sizeof full, "layers.%d.%s", layer, name); /* names are short */
    else
        (void)snprintf(full, sizeof full, "%s", name);
    trace->fn(trace->arg, full, data, n_rows, n_cols);
}

/* ---- work by rows ------------------------------------------------------------------------------------------------ */

/* What one call does to rows of the batch. */
typedef struct rows_job {
    const bora_stage *stage;
    float *hidden;       /* [n_tokens, dim] */
    const float *weight; /* [dim] of the norm */
} rows_job;

static void for_rows(bora_stage *stage, size_t n, bora_parallel_fn fn, rows_job *job)
{
    job->stage = stage;
    if (n <= FEW_ROWS)
        fn(job, 0, (uint32_t)n, 0);
    else
        bora_pool_parallel_for(stage->pool, (uint32_t)n, fn, job);
}

static void norm_rows(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const rows_job *job = arg;
    size_t dim = job->stage->hparams->dim;
    bora_rmsnorm(end - begin, dim, job->hidden + begin * dim, job->weight, job->stage->hparams->norm_eps,
                 job->stage->norm + begin * dim);
}

/* stage->out onto the residual. */
static void add_rows(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const rows_job *job = arg;
    size_t dim = job->stage->hparams->dim;
    const float *x = job->stage->out;
    for (size_t i = begin * dim; i < end * dim; i++)
        job->hidden[i] += x[i];
}

static void rotate_rows(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    const rows_job *job = arg;
    const bora_hparams *hp = job->stage->hparams;
    const float *angles = job->stage->rope_angles + begin * 2 * (size_t)hp->head_dim;
    size_t q_dim = (size_t)hp->n_heads * hp->head_dim, kv_dim = (size_t)hp->n_kv_heads * hp->head_dim;
    bora_rope(end - begin, hp->n_heads, hp->head_dim, angles, job->stage->q + begin * q_dim);
    bora_rope(end - begin, hp->n_kv_heads, hp->head_dim, angles, job->stage->k + begin * kv_dim);
}

/* Products with stage->norm (of n_cols columns), or with another x. */
static void multiply(bora_stage *stage, size_t n_rows, size_t n_cols, const float *x, const bora_product *products,
                     uint32_t n_products)
{
    bora_input input = {.x = x, .panels = stage->panels, .n_rows = (uint32_t)n_rows, .n_cols = (uint32_t)n_cols};
    bora_products_run(stage->kernels, &input, products, n_products);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static bora_status spans_reserve(bora_stage *stage, size_t n, bora_error *err)
{
    if (n <= stage->spans_capacity)
        return BORA_OK;
    n += stage->spans_capacity; /* so that a batch of many parts does not grow it part by part */
    bora_kv_span *spans = rows_alloc(n, 1, sizeof *spans);
    if (!spans)
        return bora_fail(err, BORA_E_NOMEM, "spans of a batch");
    memcpy(spans, stage->spans, stage->spans_capacity * sizeof *spans);
    bora_free(stage->spans);
    stage->spans = spans;
    stage->spans_capacity = n;
    return BORA_OK;
}

/* Appends the new keys and values and describes to the attention plugin what each part may see. */
static bora_status gather_attention(bora_stage *stage, uint32_t l, const bora_stage_part *parts, uint32_t n_parts,
                                    bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    size_t q_dim = (size_t)hp->n_heads * hp->head_dim, kv_dim = (size_t)hp->n_kv_heads * hp->head_dim;
    uint32_t window = bora_hparams_window(hp, stage->options.first_layer + l);
    size_t row = 0, n_spans = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        const bora_stage_part *part = &parts[i];
        stage->cache_ops->append(stage->cache, part->cache_seq, l, part->first, part->n, stage->k + row * kv_dim,
                                 stage->v + row * kv_dim);
        bora_status st = spans_reserve(stage, n_spans + BORA_CACHE_SPANS_MAX, err);
        if (st != BORA_OK)
            return st;
        uint64_t from = window && part->first + 1 > window ? part->first + 1 - window : 0;
        uint32_t n = stage->cache_ops->spans(stage->cache, part->cache_seq, l, from, part->first + part->n,
                                             BORA_CACHE_SPANS_MAX, stage->spans + n_spans);
        stage->seqs[i] = (bora_attention_seq){
            .q = stage->q + row * q_dim,
            .out = stage->heads + row * q_dim,
            .first = part->first,
            .n = part->n,
            .window = window,
            .n_spans = n,
        };
        n_spans += n;
        row += part->n;
    }
    const bora_kv_span *spans = stage->spans; /* it does not move any more */
    for (uint32_t i = 0; i < n_parts; i++) {
        stage->seqs[i].spans = spans;
        spans += stage->seqs[i].n_spans;
    }
    return BORA_OK;
}

static bora_status attention_block(bora_stage *stage, uint32_t l, const bora_stage_part *parts, uint32_t n_parts,
                                   size_t n_tokens, const bora_trace *trace, float *hidden, bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    const stage_layer *layer = &stage->layers[l];
    int number = (int)(stage->options.first_layer + l);
    size_t q_dim = (size_t)hp->n_heads * hp->head_dim, kv_dim = (size_t)hp->n_kv_heads * hp->head_dim;

    rows_job rows = {.hidden = hidden, .weight = stage->norms + (size_t)l * 2 * hp->dim};
    for_rows(stage, n_tokens, norm_rows, &rows);
    trace_rows(trace, number, "attention_norm", stage->norm, n_tokens, hp->dim);
    mark(stage, BORA_PROFILE_NORMS);
    const bora_product qkv[] = {{layer->wq, stage->q, q_dim},
                                {layer->wk, stage->k, kv_dim},
                                {layer->wv, stage->v, kv_dim}};
    multiply(stage, n_tokens, hp->dim, stage->norm, qkv, BORA_ARRAY_SIZE(qkv));
    trace_rows(trace, number, "q_before_rope", stage->q, n_tokens, q_dim);
    trace_rows(trace, number, "k_before_rope", stage->k, n_tokens, kv_dim);
    trace_rows(trace, number, "v", stage->v, n_tokens, kv_dim);
    mark(stage, BORA_PROFILE_QKV);
    for_rows(stage, n_tokens, rotate_rows, &rows);
    mark(stage, BORA_PROFILE_ROPE);

    bora_status st = gather_attention(stage, l, parts, n_parts, err);
    mark(stage, BORA_PROFILE_APPEND);
    if (st == BORA_OK)
        st = stage->attention_ops->attend(stage->attention, n_parts, stage->seqs, err);
    mark(stage, BORA_PROFILE_ATTENTION);
    if (st != BORA_OK)
        return st;
    trace_rows(trace, number, "heads", stage->heads, n_tokens, q_dim);
    multiply(stage, n_tokens, q_dim, stage->heads, &(bora_product){layer->wo, stage->out, hp->dim}, 1);
    trace_rows(trace, number, "attention", stage->out, n_tokens, hp->dim);
    mark(stage, BORA_PROFILE_WO);
    for_rows(stage, n_tokens, add_rows, &rows);
    trace_rows(trace, number, "after_attention", hidden, n_tokens, hp->dim);
    return BORA_OK;
}

static bora_status expert_block(bora_stage *stage, uint32_t l, size_t n_tokens, const bora_trace *trace, float *hidden,
                                bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    const stage_layer *layer = &stage->layers[l];
    int number = (int)(stage->options.first_layer + l);
    uint32_t k = hp->n_experts_per_tok;

    rows_job rows = {.hidden = hidden, .weight = stage->norms + ((size_t)l * 2 + 1) * hp->dim};
    for_rows(stage, n_tokens, norm_rows, &rows);
    trace_rows(trace, number, "ffn_norm", stage->norm, n_tokens, hp->dim);
    mark(stage, BORA_PROFILE_NORMS);
    if (layer->router) {
        const bora_product router = {layer->router, stage->router_logits, hp->n_experts};
        multiply(stage, n_tokens, hp->dim, stage->norm, &router, 1);
        bora_route(n_tokens, hp->n_experts, k, stage->router_logits, stage->experts, stage->expert_weights);
        trace_rows(trace, number, "gate_logits", stage->router_logits, n_tokens, hp->n_experts);
        trace_rows(trace, number, "experts", stage->experts, n_tokens, k);
        trace_rows(trace, number, "weights", stage->expert_weights, n_tokens, k);
    } else {
        for (size_t i = 0; i < n_tokens; i++) {
            stage->experts[i] = 0;
            stage->expert_weights[i] = 1.0f;
        }
    }
    mark(stage, BORA_PROFILE_ROUTER);
    bora_routing routing = {.experts = stage->experts, .weights = stage->expert_weights};
    bora_status st =
        stage->expert_ops->forward(stage->expert, l, (uint32_t)n_tokens, stage->norm, stage->out, &routing, err);
    mark(stage, BORA_PROFILE_EXPERTS);
    if (st != BORA_OK)
        return st;
    for_rows(stage, n_tokens, add_rows, &rows);
    trace_rows(trace, number, "out", hidden, n_tokens, hp->dim);
    return BORA_OK;
}

/* Packs the rows that want logits into stage->out, norms them and multiplies by the output matrix. */
static void output_block(bora_stage *stage, const bora_stage_part *parts, uint32_t n_parts, const bora_trace *trace,
                         const float *hidden, float *logits)
{
    const bora_hparams *hp = stage->hparams;
    size_t row = 0, n = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        row += parts[i].n;
        memcpy(stage->out + n * hp->dim, hidden + (row - parts[i].n_logits) * hp->dim,
               (size_t)parts[i].n_logits * hp->dim * sizeof *hidden);
        n += parts[i].n_logits;
    }
    if (n == 0)
        return;
    bora_rmsnorm(n, hp->dim, stage->out, stage->final_norm, hp->norm_eps, stage->norm);
    trace_rows(trace, -1, "norm", stage->norm, n, hp->dim);
    multiply(stage, n, hp->dim, stage->norm, &(bora_product){stage->output, logits, hp->vocab_size}, 1);
    trace_rows(trace, -1, "logits", logits, n, hp->vocab_size);
}

bora_status bora_stage_forward(bora_stage *stage, const int32_t *tokens, const bora_stage_part *parts, uint32_t n_parts,
                               const atomic_bool *cancel, const bora_trace *trace, float *hidden, float *logits,
                               bora_error *err)
{
    const bora_hparams *hp = stage->hparams;
    size_t n_tokens = 0;
    for (uint32_t i = 0; i < n_parts; i++)
        for (uint32_t r = 0; r < parts[i].n; r++)
            stage->positions[n_tokens++] = parts[i].first + r;
    stage->mark_ns = now_ns();
    bora_rope_angles(n_tokens, hp->head_dim, stage->rope_freqs, stage->positions, stage->rope_angles);
    mark(stage, BORA_PROFILE_ROPE);

    if (stage->options.is_first) {
        for (size_t i = 0; i < n_tokens; i++)
            bora_dequantize(stage->options.cpu, bora_model_embeddings(stage->model), (uint64_t)tokens[i], 1,
                            hidden + i * hp->dim);
        trace_rows(trace, -1, "embeddings", hidden, n_tokens, hp->dim);
        mark(stage, BORA_PROFILE_EMBEDDINGS);
    }
    for (uint32_t l = 0; l < stage->options.n_layers; l++) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return bora_fail(err, BORA_E_CANCELLED, "cancelled");
        bora_status st = attention_block(stage, l, parts, n_parts, n_tokens, trace, hidden, err);
        if (st == BORA_OK)
            st = expert_block(stage, l, n_tokens, trace, hidden, err);
        if (st != BORA_OK)
            return st;
    }
    if (stage->options.is_last)
        output_block(stage, parts, n_parts, trace, hidden, logits);
    mark(stage, BORA_PROFILE_OUTPUT);
    return BORA_OK;
}
