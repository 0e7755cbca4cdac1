/* plugin.list: the plugins that are loaded, and the others that are there. */
#include "server/server_private.h"

#include "base/memory.h"

#include <string.h>

static void pack_plugin(bora_pack *pack, uint32_t kind, const char *name, const char *version, const char *path,
                        uint32_t flags, bool in_use)
{
    bora_pack_map(pack, NULL);
    bora_pack_string(pack, "kind", bora_plugin_kind_name(kind));
    bora_pack_string(pack, "name", name);
    bora_pack_string(pack, "version", version);
    bora_pack_string(pack, "path", path);
    bora_pack_bool(pack, "batch_invariant", flags & BORA_PLUGIN_BATCH_INVARIANT);
    bora_pack_bool(pack, "in_use", in_use);
    bora_pack_end(pack);
}

/* One that lies in a folder and is not in use. What cannot be loaded is left out, with a word in the log. */
static void pack_other(bora_pack *pack, const bora_server *server, uint32_t kind, const char *name)
{
    BORA_CLEANUP(bora_freep) char *path = NULL;
    bora_plugin_library *library = NULL;
    bora_error why = {{0}};
    bora_status st = bora_plugin_find(kind, name, server->options.plugin_path, &path, &why);
    if (st == BORA_OK)
        st = bora_plugin_load(path, kind, server->log, &library, &why);
    if (st != BORA_OK) {
        bora_logf(server->log, BORA_LOG_WARN, "ignoring plugin %s/%s: %s", bora_plugin_kind_name(kind), name,
                  why.message);
        return;
    }
    pack_plugin(pack, kind, bora_plugin_name(library), bora_plugin_version(library), bora_plugin_path(library),
                bora_plugin_flags(library), false);
    bora_plugin_unload(library);
}

bora_status bora_verb_plugin_list(bora_request *request, bora_error *err)
{
    const bora_server *server = request->server;
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_array(&pack, "plugins");
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++) {
        bora_plugin_info used;
        const bool is_used = bora_pipeline_plugin_info(server->options.pipeline, kind, &used);
        if (is_used)
            pack_plugin(&pack, kind, used.name, used.version, used.path, used.flags, true);
        char **names = NULL;
        bora_status st = bora_plugin_names(kind, server->options.plugin_path, &names, err);
        if (st != BORA_OK) {
            bora_pack_release(&pack);
            return st;
        }
        for (size_t i = 0; names[i]; i++)
            if (!is_used || strcmp(names[i], used.name) != 0)
                pack_other(&pack, server, kind, names[i]);
        bora_plugin_names_free(names);
    }
    bora_pack_end(&pack);
    bora_request_end(request, &pack);
    return BORA_OK;
}
