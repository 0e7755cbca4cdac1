/* Plugins that do less than ours, or fail on the way: one of ours with some operations exchanged, for each
 * -DPLUGIN_<VARIANT>. */
#include <bora/plugin.h>

#define bora_plugin_entry ours
static const bora_plugin *ours(const bora_host *host, bora_error *err);
#if defined(PLUGIN_refuses_layers) || defined(PLUGIN_strange_weights)
#include "../../../../plugins/expert/reference/reference.c"
typedef bora_expert_ops odd_ops;
#else
#include "../../../../plugins/cache/ring/ring.c"
typedef bora_cache_ops odd_ops;
#endif
#undef bora_plugin_entry

#if defined(PLUGIN_refuses_layers)
static bora_status refuse(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights, bora_error *err)
{
    return layer == 1 ? bora_fail(err, BORA_E_LIMIT, "no layer 1, please")
                      : reference_prepare(expert, layer, weights, err);
}
#elif defined(PLUGIN_refuses_pages)
static bora_status refuse(bora_cache *cache, bora_cache_seq *seq, uint32_t layer, uint64_t first, uint32_t n,
                          const void *in, bora_error *err)
{
    if (first >= 64)
        return bora_fail(err, BORA_E_LIMIT, "no second page, please");
    return ring_import_page(cache, seq, layer, first, n, in, err);
}
#elif defined(PLUGIN_sized)
static uint64_t size_of(const bora_cache *cache, uint64_t n_positions)
{
    return cache->n_layers * (n_positions + 1000000);
}
#endif

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    static odd_ops ops;
    static bora_plugin plugin;
    plugin = *ours(host, err);
    memcpy(&ops, plugin.ops, sizeof ops);
#if defined(PLUGIN_bare)
    plugin.name = "bare";
    ops.seq_fork = NULL;
    ops.seq_size = NULL;
#elif defined(PLUGIN_sized)
    plugin.name = "sized";
    ops.seq_size = size_of;
#elif defined(PLUGIN_halves)
    plugin.name = "halves";
    ops.dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F16);
#elif defined(PLUGIN_refuses_pages)
    plugin.name = "refuses_pages";
    ops.import_page = refuse;
#elif defined(PLUGIN_refuses_layers)
    plugin.name = "refuses_layers";
    ops.prepare = refuse;
#elif defined(PLUGIN_strange_weights)
    plugin.name = "strange_weights";
    ops.dtypes = BORA_DTYPE_BIT(BORA_DTYPE_Q2_K);
#endif
    plugin.ops = &ops;
    return &plugin;
}
