#include "engine/pipeline.h"

#include "base/counted.h"
#include "base/memory.h"
#include "base/size.h"
#include "engine/pipeline_private.h"
#include "model/blocks.h"

#include <string.h>

#define STAGES_MAX 64u

static bora_status find_classes(bora_pipeline *pipeline, bora_error *err)
{
    for (uint32_t l = 0; l < pipeline->hparams->n_layers; l++) {
        uint32_t window = bora_hparams_window(pipeline->hparams, l), c = 0;
        while (c < pipeline->n_classes && pipeline->classes[c].window != window)
            c++;
        if (c == BORA_CLASSES_MAX)
            return bora_fail(err, BORA_E_UNSUPPORTED, "more than %u different windows", BORA_CLASSES_MAX);
        bora_class *class = &pipeline->classes[c];
        if (c == pipeline->n_classes) {
            class->window = window;
            class->layers = bora_calloc(pipeline->hparams->n_layers, sizeof *class->layers);
            if (!class->layers)
                return bora_fail(err, BORA_E_NOMEM, "layer classes");
            pipeline->n_classes++;
        }
        class->layers[class->n_layers++] = l;
    }
    return BORA_OK;
}

static bora_status check_options(bora_pipeline *pipeline, bora_error *err)
{
    bora_pipeline_options *options = &pipeline->options;
    if (options->n_threads == 0)
        options->n_threads = pipeline->cpu.n_cores;
    if (options->n_threads > 1024)
        return bora_fail(err, BORA_E_INVAL, "%u threads: at most 1024", options->n_threads);
    if (options->n_stages < 1 || options->n_stages > STAGES_MAX)
        return bora_fail(err, BORA_E_INVAL, "%u stages: must be 1 .. %u", options->n_stages, STAGES_MAX);
    if (options->max_tokens < 1 || options->max_tokens > 65536 || options->slack < 1 || options->slack > 65536 ||
        options->max_positions < 1)
        return bora_fail(err, BORA_E_INVAL, "batch tokens and slack must be 1 .. 65536, context at least 1");
    if (options->max_logits < 1 || options->max_logits > options->max_tokens)
        options->max_logits = options->max_tokens;
    return BORA_OK;
}

static bora_status make_stages(bora_pipeline *pipeline, bora_error *err)
{
    uint32_t n_stages = pipeline->options.n_stages, n_layers = pipeline->hparams->n_layers;
    /* As the reference cuts: what ceil leaves for the last stages may be nothing. */
    uint32_t each = (n_layers + n_stages - 1) / n_stages;
    pipeline->stages = bora_calloc(n_stages, sizeof(bora_stage *));
    if (!pipeline->stages)
        return bora_fail(err, BORA_E_NOMEM, "%u stages", n_stages);
    bora_ledger *ledger = pipeline->options.ledger;
    size_t n_parts = (size_t)n_stages * pipeline->options.max_tokens, hidden_size;
    if (!bora_size_mul(pipeline->options.max_tokens, (size_t)pipeline->hparams->dim * sizeof(float), &hidden_size))
        return bora_fail(err, BORA_E_NOMEM, "hidden states");
    pipeline->parts = bora_counted_calloc(ledger, BORA_LEDGER_ACTIVATIONS, n_parts, sizeof(bora_stage_part));
    if (!pipeline->parts)
        return bora_counted_fail(ledger, "parts of a batch", n_parts * sizeof(bora_stage_part), err);
    pipeline->hidden = bora_counted_alloc(ledger, BORA_LEDGER_ACTIVATIONS, hidden_size);
    if (!pipeline->hidden)
        return bora_counted_fail(ledger, "hidden states of a batch", hidden_size, err);
    uint32_t share = pipeline->options.n_threads / n_stages;
    for (uint32_t s = 0; s < n_stages; s++) {
        if (bora_pipeline_is_cancelled(&pipeline->options))
            return bora_fail(err, BORA_E_CANCELLED, "cancelled");
        uint32_t first = s * each < n_layers ? s * each : n_layers;
        bora_stage_options options = {
            .pipeline = &pipeline->options,
            .cpu = &pipeline->cpu,
            .first_layer = first,
            .n_layers = n_layers - first < each ? n_layers - first : each,
            .is_first = s == 0,
            .is_last = s + 1 == n_stages,
            .n_threads = share ? share : 1,
        };
        for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_LINK; kind++)
            options.libraries[kind] = pipeline->libraries[kind];
        bora_status st = bora_stage_new(pipeline->model, &options, pipeline->log, &pipeline->stages[s], err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

static void pipeline_freep(bora_pipeline **pipeline)
{
    bora_pipeline_free(*pipeline);
}

bool bora_pipeline_is_cancelled(const bora_pipeline_options *options)
{
    return options->cancel && atomic_load_explicit(options->cancel, memory_order_relaxed);
}

bora_status bora_pipeline_open(const bora_model *model, const bora_pipeline_options *options, const bora_log *log,
                               bora_pipeline **ret_pipeline, bora_error *err)
{
    BORA_CLEANUP(pipeline_freep) bora_pipeline *pipeline = bora_calloc(1, sizeof *pipeline);
    if (!pipeline)
        return bora_fail(err, BORA_E_NOMEM, "pipeline");
    pipeline->model = model;
    pipeline->hparams = bora_model_hparams(model);
    pipeline->log = log;
    pipeline->options = *options;
    (void)pthread_mutex_init(&pipeline->trace_lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_mutex_init(&pipeline->libraries_lock, NULL);
    bora_cpu_detect(&pipeline->cpu);
    bora_status st = check_options(pipeline, err);
    if (st == BORA_OK)
        st = find_classes(pipeline, err);
    if (st == BORA_OK)
        st = bora_pipeline_load_plugins(pipeline, err);
    if (st == BORA_OK)
        st = bora_pipeline_check_plugins(pipeline, pipeline->libraries, err);
    if (st == BORA_OK)
        st = bora_pipeline_check_weights(pipeline, err);
    if (st != BORA_OK)
        return st;
    *ret_pipeline = bora_steal(&pipeline);
    return BORA_OK;
}

bora_status bora_pipeline_build(bora_pipeline *pipeline, bora_error *err)
{
    bora_status st = make_stages(pipeline, err);
    if (st == BORA_OK && pipeline->options.n_stages > 1)
        st = bora_stages_new(pipeline, pipeline->libraries[BORA_PLUGIN_LINK],
                             pipeline->options.plugin_options[BORA_PLUGIN_LINK], &pipeline->threads, err);
    return st;
}

bora_status bora_pipeline_new(const bora_model *model, const bora_pipeline_options *options, const bora_log *log,
                              bora_pipeline **ret_pipeline, bora_error *err)
{
    BORA_CLEANUP(pipeline_freep) bora_pipeline *pipeline = NULL;
    bora_status st = bora_pipeline_open(model, options, log, &pipeline, err);
    if (st == BORA_OK)
        st = bora_pipeline_build(pipeline, err);
    if (st != BORA_OK)
        return st;
    *ret_pipeline = bora_steal(&pipeline);
    return BORA_OK;
}

void bora_pipeline_free(bora_pipeline *pipeline)
{
    if (!pipeline)
        return;
    bora_stages_free(pipeline->threads);
    for (uint32_t s = 0; pipeline->stages && s < pipeline->options.n_stages; s++)
        bora_stage_free(pipeline->stages[s]);
    bora_free(pipeline->stages);
    bora_counted_free(pipeline->parts);
    bora_counted_free(pipeline->hidden);
    for (uint32_t c = 0; c < pipeline->n_classes; c++)
        bora_free(pipeline->classes[c].layers);
    for (size_t kind = 0; kind < BORA_ARRAY_SIZE(pipeline->libraries); kind++)
        bora_plugin_unload(pipeline->libraries[kind]);
    (void)pthread_mutex_destroy(&pipeline->libraries_lock);
    (void)pthread_mutex_destroy(&pipeline->trace_lock);
    bora_free(pipeline);
}

const bora_model *bora_pipeline_model(const bora_pipeline *pipeline)
{
    return pipeline->model;
}

const bora_pipeline_options *bora_pipeline_options_of(const bora_pipeline *pipeline)
{
    return &pipeline->options;
}

const bora_cpu *bora_pipeline_cpu(const bora_pipeline *pipeline)
{
    return &pipeline->cpu;
}

bora_stage *bora_pipeline_stage_of(const bora_pipeline *pipeline, uint32_t layer, uint32_t *ret_index,
                                   uint32_t *ret_local)
{
    uint32_t each = bora_stage_n_layers(pipeline->stages[0]);
    *ret_index = layer / each;
    *ret_local = layer % each;
    return pipeline->stages[*ret_index];
}

void bora_pipeline_profile(const bora_pipeline *pipeline, bora_profile *ret_profile)
{
    memset(ret_profile, 0, sizeof *ret_profile);
    for (uint32_t s = 0; s < pipeline->options.n_stages; s++)
        bora_stage_profile_add(pipeline->stages[s], ret_profile);
}

static void trace_locked(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols)
{
    bora_pipeline *pipeline = arg;
    (void)pthread_mutex_lock(&pipeline->trace_lock);
    if (pipeline->trace.fn)
        pipeline->trace.fn(pipeline->trace.arg, name, data, n_rows, n_cols);
    (void)pthread_mutex_unlock(&pipeline->trace_lock);
}

void bora_pipeline_trace(bora_pipeline *pipeline, bora_trace_fn fn, void *arg)
{
    (void)pthread_mutex_lock(&pipeline->trace_lock);
    pipeline->trace = (bora_trace){fn, arg};
    (void)pthread_mutex_unlock(&pipeline->trace_lock);
}

uint32_t bora_pipeline_slack(const bora_pipeline_options *options)
{
    return options->slack + BORA_PAGE_POSITIONS; /* slack is at most 65536: check_options */
}

/* Fills pipeline->parts for all stages and makes room in all caches. */
static bora_status prepare_batch(bora_pipeline *pipeline, const bora_batch *batch, bora_error *err)
{
    size_t n_tokens = 0, n_logits = 0;
    for (uint32_t i = 0; i < batch->n_parts; i++) {
        const bora_batch_part *part = &batch->parts[i];
        n_tokens += part->n;
        n_logits += part->n_logits;
        if (part->n < 1 || part->n > pipeline->options.slack || part->n_logits > part->n ||
            n_tokens > pipeline->options.max_tokens || n_logits > pipeline->options.max_logits)
            return bora_fail(err, BORA_E_INVAL, "a batch with %zu rows, %zu of them wanting logits, is too large",
                             n_tokens, n_logits);
        uint64_t end = part->sequence->n_cached + part->n;
        if (end > pipeline->options.max_positions)
            return bora_fail(err, BORA_E_LIMIT, "position %llu is past the context of %llu", (unsigned long long)end,
                             (unsigned long long)pipeline->options.max_positions);
        for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
            bora_stage *stage = pipeline->stages[s];
            bora_status st = BORA_OK;
            if (bora_stage_cache(stage))
                st = bora_stage_cache_ops(stage)->reserve(bora_stage_cache(stage), part->sequence->seqs[s], end, err);
            if (st != BORA_OK)
                return st;
            pipeline->parts[(size_t)s * pipeline->options.max_tokens + i] = (bora_stage_part){
                .cache_seq = part->sequence->seqs[s],
                .first = part->sequence->n_cached,
                .n = part->n,
                .n_logits = part->n_logits,
                .dropped = &part->dropped,
            };
        }
    }
    for (size_t i = 0; i < n_tokens; i++)
        if (batch->tokens[i] < 0 || (uint32_t)batch->tokens[i] >= pipeline->hparams->vocab_size)
            return bora_fail(err, BORA_E_INVAL, "token %d is not in the vocabulary of %u", (int)batch->tokens[i],
                             pipeline->hparams->vocab_size);
    return BORA_OK;
}

/* Everybody who generates is told, the log once. */
static bora_status damaged(bora_pipeline *pipeline, bora_error *err)
{
    const char *path = bora_model_path(pipeline->model);
    if (!pipeline->is_damage_logged)
        bora_logf(pipeline->log, BORA_LOG_ERROR,
                  "model '%s' was cut short or cannot be read any more: nothing is generated until a restart", path);
    pipeline->is_damage_logged = true;
    return bora_fail(err, BORA_E_IO, "the model's file was cut short or cannot be read any more: '%.200s'", path);
}

bora_status bora_pipeline_forward(bora_pipeline *pipeline, const bora_batch *batch, const atomic_bool *cancel,
                                  float *logits, bora_error *err)
{
    if (batch->n_parts == 0)
        return BORA_OK;
    bora_status st = prepare_batch(pipeline, batch, err);
    if (st != BORA_OK)
        return st;
    for (uint32_t i = 0; i < batch->n_parts; i++) { /* whether it succeeds or not: rows may be overwritten */
        bora_sequence *sequence = batch->parts[i].sequence;
        uint64_t end = sequence->n_cached + batch->parts[i].n;
        sequence->furthest = end > sequence->furthest ? end : sequence->furthest;
    }
    if (pipeline->threads) {
        st = bora_stages_forward(pipeline->threads, batch, cancel, logits, err);
    } else {
        bora_trace trace = {pipeline->trace.fn ? trace_locked : NULL, pipeline};
        st = bora_stage_forward(pipeline->stages[0], batch->tokens, pipeline->parts, batch->n_parts, cancel,
                                batch->between, batch->between_arg, &trace, pipeline->hidden, logits, err);
    }
    /* Looked at afterwards: what was lost before this batch shows as well, and is refused in the same way. */
    if (st == BORA_OK && bora_model_is_damaged(pipeline->model))
        st = damaged(pipeline, err);
    for (uint32_t i = 0; i < batch->n_parts; i++) {
        bora_sequence *sequence = batch->parts[i].sequence;
        if (batch->parts[i].dropped)
            continue; /* it may be gone */
        if (st == BORA_OK)
            sequence->n_cached += batch->parts[i].n;
        else
            (void)bora_sequence_truncate(sequence, sequence->n_cached, NULL); /* within slack: cannot fail */
    }
    return st;
}

/* ---- classes ------------------------------------------------------------------------------------------ */

uint32_t bora_pipeline_n_classes(const bora_pipeline *pipeline)
{
    return pipeline->n_classes;
}

uint32_t bora_pipeline_class_window(const bora_pipeline *pipeline, uint32_t class_id)
{
    return pipeline->classes[class_id].window;
}

size_t bora_pipeline_kv_row_size(const bora_pipeline *pipeline)
{
    size_t head_size = 0;
    (void)bora_block_row_size(pipeline->options.kv_dtype, pipeline->hparams->head_dim,
                              &head_size); /* checked in open */
    return pipeline->hparams->n_kv_heads * head_size;
}

size_t bora_pipeline_class_position_size(const bora_pipeline *pipeline, uint32_t class_id)
{
    return 2 * bora_pipeline_kv_row_size(pipeline) * pipeline->classes[class_id].n_layers;
}

uint64_t bora_pipeline_kv_position_size(const bora_pipeline *pipeline)
{
    return 2 * (uint64_t)bora_pipeline_kv_row_size(pipeline) * pipeline->hparams->n_layers;
}

uint64_t bora_pipeline_kv_sequence_max(const bora_pipeline *pipeline)
{
    uint64_t size = 0;
    for (uint32_t c = 0; c < pipeline->n_classes; c++) {
        uint64_t positions = pipeline->options.max_positions;
        uint64_t capacity = (uint64_t)pipeline->classes[c].window + bora_pipeline_slack(&pipeline->options);
        if (pipeline->classes[c].window && capacity < positions)
            positions = capacity;
        size += positions * bora_pipeline_class_position_size(pipeline, c);
    }
    return size;
}

/* Of a cache that does not say: twice what the elements of whole pages take, for growing by copying. */
static uint64_t stage_kv_size(const bora_pipeline *pipeline, const bora_stage *stage, uint64_t n_positions)
{
    uint64_t row_size = 2 * (uint64_t)bora_pipeline_kv_row_size(pipeline), size = 0;
    if (__builtin_add_overflow(n_positions, BORA_PAGE_POSITIONS - 1, &n_positions))
        return UINT64_MAX;
    n_positions = n_positions / BORA_PAGE_POSITIONS * BORA_PAGE_POSITIONS;
    for (uint32_t l = 0; l < bora_stage_n_layers(stage); l++) {
        uint32_t window = bora_hparams_window(pipeline->hparams, bora_stage_first_layer(stage) + l);
        uint64_t limit = (uint64_t)window + bora_pipeline_slack(&pipeline->options), layer_size;
        uint64_t positions = window && limit < n_positions ? limit : n_positions;
        if (__builtin_mul_overflow(2 * row_size, positions, &layer_size) ||
            __builtin_add_overflow(size, layer_size, &size))
            return UINT64_MAX;
    }
    return size;
}

uint64_t bora_pipeline_kv_size(const bora_pipeline *pipeline, uint64_t n_positions)
{
    uint64_t size = 0;
    if (n_positions > pipeline->options.max_positions)
        n_positions = pipeline->options.max_positions;
    for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
        const bora_stage *stage = pipeline->stages[s];
        if (!bora_stage_cache(stage))
            continue;
        const bora_cache_ops *ops = bora_stage_cache_ops(stage);
        uint64_t stage_size = ops->seq_size ? ops->seq_size(bora_stage_cache(stage), n_positions)
                                            : stage_kv_size(pipeline, stage, n_positions);
        if (__builtin_add_overflow(size, stage_size, &size))
            return UINT64_MAX;
    }
    return size;
}
