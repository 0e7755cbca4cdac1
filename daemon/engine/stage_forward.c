/* The transformer's layers, as in Mistral's reference: attention with RoPE over the cache, then experts, each added to
 * the residual. Nothing is allocated but, once, room for the spans of unusually many sequences. */
#include "engine/pipeline_private.h"
#include "engine/stage_private.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Rows up to which work that is not a matrix product is not worth sharing out. */
#define FEW_ROWS 8u

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
    bora_kv_span *spans = stage_rows_alloc(stage, n, 1, sizeof *spans);
    if (!spans)
        return bora_counted_fail(stage->options.pipeline->ledger, "spans of a batch", n * sizeof *spans, err);
    memcpy(spans, stage->spans, stage->spans_capacity * sizeof *spans);
    bora_counted_free(stage->spans);
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
        const uint64_t to = part->first + part->n;
        uint32_t n = stage->cache_ops->spans(stage->cache, part->cache_seq, l, from, to, BORA_CACHE_SPANS_MAX,
                                             stage->spans + n_spans);
        if (n > BORA_CACHE_SPANS_MAX) {
            st = spans_reserve(stage, n_spans + n, err);
            if (st != BORA_OK)
                return st;
            n = stage->cache_ops->spans(stage->cache, part->cache_seq, l, from, to, n, stage->spans + n_spans);
        }
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

/* Parts that were dropped leave, and what is behind them moves up: rows of the batch do not know of each other. */
static void leave_dropped(bora_stage *stage, bora_stage_part *parts, uint32_t *n_parts, size_t *n_tokens, float *hidden)
{
    const size_t dim = stage->hparams->dim, angles = 2 * (size_t)stage->hparams->head_dim;
    size_t from = 0, to = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < *n_parts; i++) {
        const size_t rows = parts[i].n;
        if (!*parts[i].dropped) {
            if (from != to) {
                memmove(hidden + to * dim, hidden + from * dim, rows * dim * sizeof *hidden);
                memmove(stage->positions + to, stage->positions + from, rows * sizeof *stage->positions);
                memmove(stage->rope_angles + to * angles, stage->rope_angles + from * angles,
                        rows * angles * sizeof *stage->rope_angles);
            }
            parts[n++] = parts[i];
            to += rows;
        }
        from += rows;
    }
    *n_parts = n;
    *n_tokens = to;
}

bora_status bora_stage_forward(bora_stage *stage, const int32_t *tokens, bora_stage_part *parts, uint32_t n_parts,
                               const atomic_bool *cancel, void (*between)(void *arg), void *between_arg,
                               const bora_trace *trace, float *hidden, float *logits, bora_error *err)
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
        if (between) {
            between(between_arg);
            leave_dropped(stage, parts, &n_parts, &n_tokens, hidden);
            if (n_parts == 0)
                return BORA_OK;
        }
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
