/* plugin.info: what one plugin says of itself, in use or not. One that is not is loaded for it, with all checks. */
#include "server/server_private.h"

#include "base/memory.h"
#include "model/blocks.h"

#include <string.h>

static void answer(bora_request *request, const bora_plugin_info *info, bool in_use)
{
    char abi[16];
    bora_pack pack;
    (void)snprintf(abi, sizeof abi, "%u.%u", (unsigned)info->abi_major, (unsigned)info->abi_minor); /* fits */
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "kind", bora_plugin_kind_name(info->kind));
    bora_pack_string(&pack, "name", info->name);
    bora_pack_string(&pack, "version", info->version);
    bora_pack_string(&pack, "path", info->path);
    bora_pack_string(&pack, "abi", abi);
    bora_pack_bool(&pack, "batch_invariant", info->flags & BORA_PLUGIN_BATCH_INVARIANT);
    bora_pack_bool(&pack, "packs_weights", info->flags & BORA_PLUGIN_PACKS_WEIGHTS);
    bora_pack_array(&pack, "types");
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        if (info->dtypes & BORA_DTYPE_BIT(dtype))
            bora_pack_string(&pack, NULL, bora_block_of(dtype)->name);
    bora_pack_end(&pack);
    bora_pack_bool(&pack, "in_use", in_use);
    bora_request_end(request, &pack);
}

/* A path may lead to any library, whose code would run: that is for those who may exchange plugins. */
static bora_status check_name(const bora_request *request, const char *name, bora_error *err)
{
    return strchr(name, '/') ? bora_request_check_admin(request, err) : BORA_OK;
}

bora_status bora_verb_plugin_info(bora_request *request, bora_error *err)
{
    const bora_server *server = request->server;
    BORA_CLEANUP(bora_text_freep) char *kind_name = NULL, *name = NULL;
    bora_status st = bora_argument_text(request, "kind", true, &kind_name, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "name", true, &name, err);
    if (st != BORA_OK)
        return st;
    uint32_t kind = bora_plugin_kind_parse(kind_name);
    if (!kind)
        return bora_fail(err, BORA_E_INVAL, "kind must be attention, cache, expert or link, not '%.40s'", kind_name);
    bora_plugin_info used, info;
    bool is_used = bora_pipeline_plugin_info(server->options.pipeline, kind, &used);
    if (is_used && strcmp(name, used.name) == 0) {
        answer(request, &used, true);
        return BORA_OK;
    }
    BORA_CLEANUP(bora_freep) char *path = NULL;
    bora_plugin_library *library = NULL;
    st = check_name(request, name, err);
    if (st == BORA_OK)
        st = bora_plugin_find(kind, name, server->options.plugin_path, &path, err);
    if (st == BORA_OK)
        st = bora_plugin_load(path, kind, server->log, &library, err);
    if (st != BORA_OK)
        return st;
    bora_plugin_info_of(library, &info);
    answer(request, &info, is_used && strcmp(info.path, used.path) == 0);
    bora_plugin_unload(library); /* the code, with the texts, stays */
    return BORA_OK;
}
