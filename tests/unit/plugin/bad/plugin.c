/* Plugins that the loader has to refuse, and some that look odd and are right: one for each -DPLUGIN_<VARIANT>. */
#include <bora/plugin.h>

static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,
                          bora_error *err)
{
    (void)host, (void)shape, (void)ret;
    return bora_fail(err, BORA_E_UNAVAILABLE, "made for tests");
}

static void destroy(bora_attention *attention)
{
    (void)attention;
}

#if !defined(PLUGIN_no_operation)
static bora_status attend(bora_attention *attention, uint32_t n_seqs, const bora_attention_seq *seqs, bora_error *err)
{
    (void)attention, (void)n_seqs, (void)seqs, (void)err;
    return BORA_OK;
}
#endif

/* A newer minor has operations behind those that are known here. */
static const struct {
    bora_attention_ops known;
    void (*unknown[3])(void);
} ops __attribute__((unused)) = {
    /* by no_table */
    .known =
        {
#if defined(PLUGIN_tiny_operations)
            .struct_size = 4,
#elif defined(PLUGIN_fewer_operations)
            .struct_size = offsetof(bora_attention_ops, attend),
#elif defined(PLUGIN_half_an_operation)
            .struct_size = offsetof(bora_attention_ops, attend) + 5,
#elif defined(PLUGIN_more_operations)
            .struct_size = sizeof ops,
#else
            .struct_size = sizeof(bora_attention_ops),
#endif
            .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32),
            .create = create,
            .destroy = destroy,
#if !defined(PLUGIN_no_operation)
            .attend = attend,
#endif
        },
};

static const struct {
    bora_plugin known;
    uint64_t unknown[8];
} plugin __attribute__((unused)) = {
    /* by those that decline */
    .known =
        {
#if defined(PLUGIN_small_table)
            .struct_size = sizeof(bora_plugin) - 1,
#elif defined(PLUGIN_more_operations)
            .struct_size = sizeof plugin,
#else
            .struct_size = sizeof(bora_plugin),
#endif
#if defined(PLUGIN_other_major)
            .abi_major = BORA_ABI_MAJOR + 1,
#else
            .abi_major = BORA_ABI_MAJOR,
#endif
#if defined(PLUGIN_more_operations)
            .abi_minor = BORA_ABI_MINOR + 7,
#else
            .abi_minor = BORA_ABI_MINOR,
#endif
#if defined(PLUGIN_other_kind)
            .kind = BORA_PLUGIN_CACHE,
#elif defined(PLUGIN_no_such_kind)
            .kind = 77,
#else
            .kind = BORA_PLUGIN_ATTENTION,
#endif
            .flags = BORA_PLUGIN_BATCH_INVARIANT,
#if defined(PLUGIN_bad_name)
            .name = "Odd Name",
#elif !defined(PLUGIN_no_name)
            .name = "odd",
#endif
#if !defined(PLUGIN_no_version)
            .version = "0.7",
#endif
#if !defined(PLUGIN_no_table)
            .ops = &ops,
#endif
        },
};

#if defined(PLUGIN_no_entry)
const bora_plugin *another_name(const bora_host *host, bora_error *err);
#define bora_plugin_entry another_name
#endif

#if defined(PLUGIN_unresolved)
void nobody_has_this(void);
#endif

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    /* Only log is there while a plugin is being loaded. */
    if (host->struct_size < sizeof *host || !host->log || host->alloc || host->option || host->parallel_for)
        return NULL;
    (void)err;
#if defined(PLUGIN_unresolved)
    nobody_has_this();
#endif
#if defined(PLUGIN_declines)
    (void)bora_fail(err, BORA_E_UNAVAILABLE, "the stars are wrong");
    return NULL;
#elif defined(PLUGIN_declines_silently)
    return NULL;
#else
    host->log(host, BORA_LOG_INFO, "odd: entered");
    return &plugin.known;
#endif
}
