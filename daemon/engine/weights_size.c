/* What the weights will take, known from the headers alone: a model that cannot fit is refused before it is read. */
#include "engine/pipeline_private.h"
#include "kernels/matrix.h"

/* Sums end at UINT64_MAX. */
static void add(uint64_t *sum, const bora_tensor *tensor)
{
    if (tensor->data && __builtin_add_overflow(*sum, bora_matrix_packed_size(tensor), sum))
        *sum = UINT64_MAX;
}

uint64_t bora_pipeline_packed_size(const bora_pipeline *pipeline)
{
    uint64_t sum = 0;
    if (pipeline->options.rounding == BORA_ROUNDING_F32)
        return sum;
    const uint32_t flags = bora_plugin_flags(pipeline->libraries[BORA_PLUGIN_EXPERT]);
    add(&sum, bora_model_output(pipeline->model));
    for (uint32_t l = 0; l < pipeline->hparams->n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(pipeline->model, l);
        const bora_tensor *const own[] = {&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->router};
        for (size_t i = 0; i < BORA_ARRAY_SIZE(own); i++)
            add(&sum, own[i]);
        for (uint32_t e = 0; flags & BORA_PLUGIN_PACKS_WEIGHTS && e < pipeline->hparams->n_experts; e++) {
            add(&sum, &layer->w1[e]);
            add(&sum, &layer->w2[e]);
            add(&sum, &layer->w3[e]);
        }
    }
    return sum;
}

/* What of the ledger is still taken when the pipeline is built. */
static uint64_t kept_size(const bora_pipeline *pipeline, const bora_ledger_state *state)
{
    const uint64_t *accounts = state->accounts;
    if (!pipeline->options.replaces)
        return state->used;
    const uint64_t goes = accounts[BORA_LEDGER_WEIGHTS] + accounts[BORA_LEDGER_KV] + accounts[BORA_LEDGER_ACTIVATIONS] +
                          accounts[BORA_LEDGER_PLUGINS] + accounts[BORA_LEDGER_REQUESTS];
    return state->used - goes + bora_model_copied_size(pipeline->model); /* which are weights, too, and stay */
}

bora_status bora_pipeline_check_weights(const bora_pipeline *pipeline, bora_error *err)
{
    bora_ledger_state state;
    const uint64_t size = bora_pipeline_packed_size(pipeline);
    if (!pipeline->options.ledger)
        return BORA_OK;
    bora_ledger_get(pipeline->options.ledger, &state);
    const uint64_t kept = kept_size(pipeline, &state), room = state.limit > kept ? state.limit - kept : 0;
    if (size <= room)
        return BORA_OK;
    return bora_fail(
        err, BORA_E_LIMIT,
        "memory limit: the weights of '%.100s' take %s packed; with %s in use that is %s more than the limit "
        "of %s. Raise memory.limit, or take a smaller model or one of fewer bits, or set engine.products = "
        "f32, which is slow but leaves them in the file",
        bora_model_name(pipeline->model), bora_show_size(size).text, bora_show_size(kept).text,
        bora_show_size(size - room).text, bora_show_size(state.limit).text);
}
