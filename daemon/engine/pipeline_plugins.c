/* Which plugins a pipeline uses: loading them, and whether they go together. */
#include "base/memory.h"
#include "engine/pipeline_private.h"
#include "model/blocks.h"

bora_status bora_pipeline_load_plugin(const bora_pipeline *pipeline, uint32_t kind, const char *name,
                                      bora_plugin_library **ret_library, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *path = NULL;
    bora_status st = bora_plugin_find(kind, name, pipeline->options.plugin_path, &path, err);
    if (st == BORA_OK)
        st = bora_plugin_load(path, kind, pipeline->log, ret_library, err);
    return st;
}

bora_status bora_pipeline_load_plugins(bora_pipeline *pipeline, bora_error *err)
{
    const bora_pipeline_options *options = &pipeline->options;
    for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_LINK; kind++) {
        if (kind == BORA_PLUGIN_LINK && options->n_stages == 1)
            continue;
        if (!options->plugins[kind])
            return bora_fail(err, BORA_E_INVAL, "no %s plugin is named", bora_plugin_kind_name(kind));
        bora_status st =
            bora_pipeline_load_plugin(pipeline, kind, options->plugins[kind], &pipeline->libraries[kind], err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

/* Types may be mixed within a file, even within a layer. */
static bora_status check_expert_types(const bora_pipeline *pipeline, const bora_plugin_library *library,
                                      bora_error *err)
{
    uint32_t types = 0;
    for (uint32_t l = 0; l < pipeline->hparams->n_layers; l++) {
        const bora_layer_weights *layer = bora_model_layer(pipeline->model, l);
        for (uint32_t e = 0; e < pipeline->hparams->n_experts; e++)
            types |= BORA_DTYPE_BIT(layer->w1[e].dtype) | BORA_DTYPE_BIT(layer->w2[e].dtype) |
                     BORA_DTYPE_BIT(layer->w3[e].dtype);
    }
    const uint32_t strange = types & ~bora_plugin_dtypes(library);
    if (strange)
        return bora_fail(err, BORA_E_UNSUPPORTED, "plugin expert/%s cannot use %s weights, which this model has",
                         bora_plugin_name(library), bora_block_of((uint32_t)__builtin_ctz(strange))->name);
    return BORA_OK;
}

/* Refuses a pair that cannot talk, by name and reason. */
bora_status bora_pipeline_check_plugins(const bora_pipeline *pipeline, bora_plugin_library *const libraries[5],
                                        bora_error *err)
{
    uint32_t dtype = pipeline->options.kv_dtype;
    size_t head_size;
    if (dtype != BORA_DTYPE_F32 && dtype != BORA_DTYPE_F16 && dtype != BORA_DTYPE_Q8_0)
        return bora_fail(err, BORA_E_INVAL, "the cache's element type must be f32, f16 or q8_0");
    if (!bora_block_row_size(dtype, pipeline->hparams->head_dim, &head_size))
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "keys of %u elements are not whole blocks of %s, which has %u in each",
                         pipeline->hparams->head_dim, bora_block_of(dtype)->name, bora_block_of(dtype)->n_elements);
    for (uint32_t kind = BORA_PLUGIN_ATTENTION; kind <= BORA_PLUGIN_CACHE; kind++)
        if (!(bora_plugin_dtypes(libraries[kind]) & BORA_DTYPE_BIT(dtype)))
            return bora_fail(err, BORA_E_UNSUPPORTED, "plugin %s/%s does not speak %s keys and values",
                             bora_plugin_kind_name(kind), bora_plugin_name(libraries[kind]),
                             bora_block_of(dtype)->name);
    return check_expert_types(pipeline, libraries[BORA_PLUGIN_EXPERT], err);
}

const bora_plugin_library *bora_pipeline_plugin(const bora_pipeline *pipeline, uint32_t kind)
{
    return kind < BORA_ARRAY_SIZE(pipeline->libraries) ? pipeline->libraries[kind] : NULL;
}

bora_plugin_library *bora_pipeline_set_plugin(bora_pipeline *pipeline, uint32_t kind, bora_plugin_library *library)
{
    (void)pthread_mutex_lock(&pipeline->libraries_lock);
    bora_plugin_library *old = pipeline->libraries[kind];
    pipeline->libraries[kind] = library;
    (void)pthread_mutex_unlock(&pipeline->libraries_lock);
    return old;
}

bool bora_pipeline_plugin_info(bora_pipeline *pipeline, uint32_t kind, bora_plugin_info *ret_info)
{
    (void)pthread_mutex_lock(&pipeline->libraries_lock);
    const bora_plugin_library *library = bora_pipeline_plugin(pipeline, kind);
    if (library)
        bora_plugin_info_of(library, ret_info);
    (void)pthread_mutex_unlock(&pipeline->libraries_lock);
    return library != NULL;
}
