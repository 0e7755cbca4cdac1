/* The plugins of a stage: instances are made beside the ones in use and then change places with them. */
#include "engine/pipeline_private.h"
#include "engine/stage_private.h"

bora_cache *bora_stage_cache(const bora_stage *stage)
{
    return stage->cache;
}

const bora_cache_ops *bora_stage_cache_ops(const bora_stage *stage)
{
    return stage->cache_ops;
}

bora_cache *bora_stage_instance_cache(const bora_stage_instance *instance)
{
    return instance->cache;
}

static bora_status make_cache(const bora_stage *stage, bora_stage_instance *instance, bora_error *err)
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
    return bora_plugin_cache_ops(instance->library)
        ->create(bora_plugin_host_table(instance->host), &shape, &instance->cache, err);
}

static bora_status make_attention(const bora_stage *stage, bora_stage_instance *instance, bora_error *err)
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
    return bora_plugin_attention_ops(instance->library)
        ->create(bora_plugin_host_table(instance->host), &shape, &instance->attention, err);
}

static bora_status make_expert(const bora_stage *stage, bora_stage_instance *instance, bora_error *err)
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
    const bora_expert_ops *ops = bora_plugin_expert_ops(instance->library);
    bora_status st = ops->create(bora_plugin_host_table(instance->host), &shape, &instance->expert, err);
    for (uint32_t l = 0; st == BORA_OK && l < stage->options.n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(stage->model, stage->options.first_layer + l);
        bora_expert_weights weights = {.w1 = layer->w1, .w2 = layer->w2, .w3 = layer->w3};
        if (bora_pipeline_is_cancelled(stage->options.pipeline))
            st = bora_fail(err, BORA_E_CANCELLED, "cancelled");
        else
            st = ops->prepare(instance->expert, l, &weights, err);
    }
    return st;
}

static void instance_freep(bora_stage_instance **instance)
{
    bora_stage_instance_free(*instance);
}

bora_status bora_stage_instance_new(bora_stage *stage, uint32_t kind, const bora_plugin_library *library,
                                    const bora_plugin_options *options, bora_stage_instance **ret_instance,
                                    bora_error *err)
{
    BORA_CLEANUP(instance_freep) bora_stage_instance *instance = bora_calloc(1, sizeof *instance);
    if (!instance)
        return bora_fail(err, BORA_E_NOMEM, "plugin instance");
    instance->kind = kind;
    instance->library = library;
    if (stage->options.n_layers > 0) {
        bora_status st = bora_plugin_host_new(stage->log, stage->pool, stage->kernels, stage->options.cpu, options,
                                              stage->options.pipeline->ledger,
                                              kind == BORA_PLUGIN_CACHE ? BORA_LEDGER_KV : BORA_LEDGER_PLUGINS,
                                              &instance->host, err);
        if (st != BORA_OK)
            return st;
        if (kind == BORA_PLUGIN_CACHE)
            st = make_cache(stage, instance, err);
        else if (kind == BORA_PLUGIN_ATTENTION)
            st = make_attention(stage, instance, err);
        else
            st = make_expert(stage, instance, err);
        st = bora_plugin_created(library, instance->host, st, err);
        if (st != BORA_OK)
            return st;
    }
    *ret_instance = bora_steal(&instance);
    return BORA_OK;
}

/* close, stop, destroy of one instance, where the first two are optional. */
#define INSTANCE_END(ops, instance)                                                                                    \
    do {                                                                                                               \
        if (instance) {                                                                                                \
            if ((ops)->close)                                                                                          \
                (ops)->close(instance);                                                                                \
            if ((ops)->stop)                                                                                           \
                (ops)->stop(instance);                                                                                 \
            (ops)->destroy(instance);                                                                                  \
        }                                                                                                              \
    } while (0)

void bora_stage_instance_end(bora_stage_instance *instance)
{
    if (!instance->host)
        return;
    if (instance->kind == BORA_PLUGIN_CACHE)
        INSTANCE_END(bora_plugin_cache_ops(instance->library), instance->cache);
    else if (instance->kind == BORA_PLUGIN_ATTENTION)
        INSTANCE_END(bora_plugin_attention_ops(instance->library), instance->attention);
    else
        INSTANCE_END(bora_plugin_expert_ops(instance->library), instance->expert);
    bora_plugin_host_free(instance->host);
    *instance = (bora_stage_instance){.host = NULL};
}

void bora_stage_instance_free(bora_stage_instance *instance)
{
    if (!instance)
        return;
    bora_stage_instance_end(instance);
    bora_free(instance);
}

void bora_stage_exchange(bora_stage *stage, bora_stage_instance *instance)
{
    const uint32_t kind = instance->kind;
    const bora_stage_instance old = stage->in_use[kind];
    stage->in_use[kind] = *instance;
    *instance = old;
    instance->kind = kind; /* also where there was none */
    const bora_stage_instance *used = &stage->in_use[kind];
    stage->options.libraries[kind] = used->library;
    if (kind == BORA_PLUGIN_CACHE) {
        stage->cache_ops = bora_plugin_cache_ops(used->library);
        stage->cache = used->cache;
    } else if (kind == BORA_PLUGIN_ATTENTION) {
        stage->attention_ops = bora_plugin_attention_ops(used->library);
        stage->attention = used->attention;
    } else {
        stage->expert_ops = bora_plugin_expert_ops(used->library);
        stage->expert = used->expert;
    }
}
