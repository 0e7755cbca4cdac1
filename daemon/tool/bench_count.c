/* How much work a pass is at least: bytes that must be read, multiply-adds that must be done. */
#include "tool/bench.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static double size_of(const bora_tensor *tensor)
{
    return tensor->data ? (double)tensor->row_size * (double)tensor->n_rows : 0;
}

static double macs_of(const bora_tensor *tensor)
{
    return tensor->data ? (double)tensor->n_cols * (double)tensor->n_rows : 0;
}

bora_status bora_bench_work_init(bora_bench_work *work, const bora_model *model, bora_error *err)
{
    const bora_hparams *hp = bora_model_hparams(model);
    *work = (bora_bench_work){.expert_bytes = bora_calloc(hp->n_layers, sizeof *work->expert_bytes)};
    if (!work->expert_bytes)
        return bora_fail(err, BORA_E_NOMEM, "%u layers", hp->n_layers);
    for (uint32_t l = 0; l < hp->n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(model, l);
        const bora_tensor *const fixed[] = {&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->router};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(fixed); i++) {
            work->fixed_bytes += size_of(fixed[i]);
            work->fixed_macs += macs_of(fixed[i]);
        }
        work->fixed_bytes += size_of(&layer->attention_norm) + size_of(&layer->ffn_norm);
        double bytes = 0, macs = 0;
        for (uint32_t e = 0; e < hp->n_experts; e++) {
            bytes += size_of(&layer->w1[e]) + size_of(&layer->w2[e]) + size_of(&layer->w3[e]);
            macs += macs_of(&layer->w1[e]) + macs_of(&layer->w2[e]) + macs_of(&layer->w3[e]);
        }
        work->expert_bytes[l] = bytes / hp->n_experts;
        work->expert_macs += macs / hp->n_experts * hp->n_experts_per_tok;
        work->weight_bytes += work->expert_bytes[l] * hp->n_experts_per_tok;
    }
    work->fixed_bytes += size_of(bora_model_norm(model)) + size_of(bora_model_output(model));
    work->output_macs = macs_of(bora_model_output(model));
    work->weight_bytes += work->fixed_bytes;
    return BORA_OK;
}

void bora_bench_work_release(bora_bench_work *work)
{
    bora_free(work->expert_bytes);
}

double bora_bench_kv_bytes(const bora_pipeline *pipeline, uint64_t position)
{
    double bytes = 0;
    for (uint32_t c = 0; c < bora_pipeline_n_classes(pipeline); c++) {
        uint64_t window = bora_pipeline_class_window(pipeline, c), seen = position + 1;
        bytes +=
            (double)(window && window < seen ? window : seen) * (double)bora_pipeline_class_position_size(pipeline, c);
    }
    return bytes;
}

double bora_bench_kv_memory(const bora_pipeline *pipeline, uint64_t n)
{
    const bora_pipeline_options *options = bora_pipeline_options_of(pipeline);
    double bytes = 0;
    n = 2 * n < options->max_positions ? 2 * n : options->max_positions; /* caches grow by doubling */
    for (uint32_t c = 0; c < bora_pipeline_n_classes(pipeline); c++) {
        uint64_t window = bora_pipeline_class_window(pipeline, c);
        uint64_t capacity = window + options->slack + BORA_PAGE_POSITIONS;
        bytes +=
            (double)(window && capacity < n ? capacity : n) * (double)bora_pipeline_class_position_size(pipeline, c);
    }
    return bytes;
}

void bora_bench_experts_count(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols)
{
    static const char prefix[] = "layers.";
    bora_bench_experts *experts = arg;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return;
    char *end = NULL;
    unsigned long layer = strtoul(name + sizeof prefix - 1, &end, 10);
    if (strcmp(end, ".experts") != 0)
        return;
    bool needed[BORA_EXPERTS_MAX] = {false};
    const int32_t *chosen = data;
    for (uint64_t i = 0; i < n_rows * n_cols; i++)
        needed[chosen[i]] = true;
    experts->layers++;
    for (uint32_t e = 0; e < experts->n_experts; e++) {
        experts->n += needed[e];
        experts->bytes += needed[e] ? experts->work->expert_bytes[layer] : 0;
    }
}
