/* Live swap: another plugin takes the place of the one in use, between two batches, with sequences open.
 *
 *   load, check the pair -> instances of all stages -> (cache) every sequence's pages -> exchange -> end the old ones
 *
 * Nothing fails after the exchange, and what was made and what is in use change places in it: so the same clean-up ends
 * the new ones after a failure and the old ones after success. */
#include "base/memory.h"
#include "base/size.h"
#include "engine/pipeline_private.h"

typedef struct swap {
    bora_pipeline *pipeline;
    uint32_t kind;
    bora_plugin_library *library;
    bora_stage_instance **instances; /* [n_stages] */
    bora_cache_seq **seqs;           /* [n_sequences, n_stages] in the order of the pipeline's list; of a cache */
    bora_stages *threads;            /* of a link */
} swap;

static bora_cache_seq **seqs_of(const swap *self, size_t i)
{
    return self->seqs + i * self->pipeline->options.n_stages;
}

static void close_seqs(swap *self)
{
    const bora_cache_ops *ops = bora_plugin_cache_ops(self->library);
    for (size_t i = 0; i < self->pipeline->n_sequences; i++)
        for (uint32_t s = 0; s < self->pipeline->options.n_stages; s++)
            if (seqs_of(self, i)[s])
                ops->seq_close(bora_stage_instance_cache(self->instances[s]), seqs_of(self, i)[s]);
}

static void swap_release(swap *self)
{
    if (self->seqs)
        close_seqs(self);
    bora_free(self->seqs);
    bora_stages_free(self->threads);
    for (uint32_t s = 0; self->instances && s < self->pipeline->options.n_stages; s++)
        bora_stage_instance_free(self->instances[s]);
    bora_free(self->instances);
    bora_plugin_unload(self->library);
}

/* ---- beside what is in use ----------------------------------------------------------------------------- */

static bora_status check(swap *self, bora_error *err)
{
    const bora_pipeline *pipeline = self->pipeline;
    if (self->kind == BORA_PLUGIN_LINK)
        return BORA_OK;
    bora_plugin_library *libraries[5];
    for (uint32_t kind = 0; kind < BORA_ARRAY_SIZE(libraries); kind++)
        libraries[kind] = kind == self->kind ? self->library : pipeline->libraries[kind];
    return bora_pipeline_check_plugins(pipeline, libraries, err);
}

static bora_status make_instances(swap *self, const bora_plugin_options *options, bora_error *err)
{
    const bora_pipeline *pipeline = self->pipeline;
    self->instances = bora_calloc(pipeline->options.n_stages, sizeof(bora_stage_instance *));
    if (!self->instances)
        return bora_fail(err, BORA_E_NOMEM, "plugin instances");
    for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
        bora_status st =
            bora_stage_instance_new(pipeline->stages[s], self->kind, self->library, options, &self->instances[s], err);
        if (st != BORA_OK)
            return st;
    }
    /* Weights were read again: zeros in the place of what is lost must not be taken for them. */
    if (self->kind == BORA_PLUGIN_EXPERT && bora_model_is_damaged(pipeline->model))
        return bora_fail(err, BORA_E_IO, "the model's file was cut short or cannot be read any more: '%.200s'",
                         bora_model_path(pipeline->model));
    return BORA_OK;
}

static bora_status carry_over(swap *self, bora_error *err)
{
    const bora_pipeline *pipeline = self->pipeline;
    const bora_cache_ops *ops = bora_plugin_cache_ops(self->library);
    size_t n, i = 0;
    if (bora_size_mul(pipeline->n_sequences, pipeline->options.n_stages, &n))
        self->seqs = bora_calloc(n, sizeof(bora_cache_seq *));
    if (!self->seqs)
        return bora_fail(err, BORA_E_NOMEM, "%zu sequences", pipeline->n_sequences);
    for (const bora_sequence *sequence = pipeline->sequences; sequence; sequence = sequence->next, i++)
        for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
            bora_cache *cache = bora_stage_instance_cache(self->instances[s]);
            if (!cache)
                continue; /* no layers */
            bora_status st = ops->seq_open(cache, &seqs_of(self, i)[s], err);
            if (st == BORA_OK)
                st = bora_sequence_copy_pages(sequence, s, sequence->n_cached, ops, cache, seqs_of(self, i)[s], err);
            if (st != BORA_OK)
                return st;
        }
    return BORA_OK;
}

static bora_status make(swap *self, const bora_plugin_options *options, bora_error *err)
{
    if (self->kind == BORA_PLUGIN_LINK)
        return bora_stages_new(self->pipeline, self->library, options, &self->threads, err);
    bora_status st = make_instances(self, options, err);
    if (st == BORA_OK && self->kind == BORA_PLUGIN_CACHE)
        st = carry_over(self, err);
    return st;
}

/* ---- changing places ----------------------------------------------------------------------------------- */

static void exchange(swap *self)
{
    bora_pipeline *pipeline = self->pipeline;
    size_t i = 0;
    /* What a sequence knows of itself stays true: the new cache holds the same, as far as whole pages go. */
    for (bora_sequence *sequence = self->seqs ? pipeline->sequences : NULL; sequence; sequence = sequence->next, i++)
        for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
            bora_cache_seq *old = sequence->seqs[s];
            sequence->seqs[s] = seqs_of(self, i)[s];
            seqs_of(self, i)[s] = old;
        }
    for (uint32_t s = 0; self->instances && s < pipeline->options.n_stages; s++)
        bora_stage_exchange(pipeline->stages[s], self->instances[s]);
    if (self->threads) {
        bora_stages *old = pipeline->threads;
        pipeline->threads = self->threads;
        self->threads = old;
    }
    self->library = bora_pipeline_set_plugin(pipeline, self->kind, self->library);
}

bora_status bora_pipeline_swap(bora_pipeline *pipeline, uint32_t kind, const char *name,
                               const bora_plugin_options *options, bora_error *err)
{
    if (!bora_plugin_kind_name(kind))
        return bora_fail(err, BORA_E_INVAL, "there is no plugin kind %u", kind);
    if (kind == BORA_PLUGIN_LINK && pipeline->options.n_stages == 1)
        return bora_fail(err, BORA_E_UNSUPPORTED, "a link is not in use with one stage");
    BORA_CLEANUP(swap_release) swap self = {.pipeline = pipeline, .kind = kind};
    bora_status st = bora_pipeline_load_plugin(pipeline, kind, name, &self.library, err);
    if (st == BORA_OK)
        st = check(&self, err);
    if (st == BORA_OK)
        st = make(&self, options, err);
    if (st == BORA_OK)
        exchange(&self);
    return st;
}
