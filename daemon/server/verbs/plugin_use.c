/* plugin.use: exchanges a plugin between two steps, with conversations open. The engine does it; the answer follows. */
#include "server/server_private.h"

#include "base/memory.h"

#include <string.h>
#include <unistd.h>

/* Who may change what everybody uses: the daemon's own user and root. */
bora_status bora_request_check_admin(const bora_request *request, bora_error *err)
{
    char own[32];
    const char *owner = request->connection->owner;
    (void)snprintf(own, sizeof own, "uid:%lu", (unsigned long)geteuid()); /* fits */
    if (strcmp(owner, own) == 0 || strcmp(owner, "uid:0") == 0)
        return BORA_OK;
    return bora_fail(err, BORA_E_PERMISSION, "only the daemon's own user and root may do this");
}

bora_status bora_verb_plugin_use(bora_request *request, bora_error *err)
{
    bora_server *server = request->server;
    BORA_CLEANUP(bora_text_freep) char *kind_name = NULL, *name = NULL;
    bora_status st = bora_request_check_admin(request, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "kind", true, &kind_name, err);
    if (st == BORA_OK)
        st = bora_argument_text(request, "name", true, &name, err);
    if (st != BORA_OK)
        return st;
    uint32_t kind = bora_plugin_kind_parse(kind_name);
    if (!kind)
        return bora_fail(err, BORA_E_INVAL, "kind must be attention, cache, expert or link, not '%.40s'", kind_name);
    if (server->is_stopping)
        return bora_fail(err, BORA_E_CLOSED, "the daemon is ending");
    if (server->exchange)
        return bora_fail(err, BORA_E_BUSY, "a model is being exchanged");
    bora_plugin_options options = {0};
    if (server->options.plugin_options)
        options = server->options.plugin_options(server->options.plugin_options_arg, kind, name);
    uint64_t id = ++server->last_swap_id;
    st = bora_scheduler_swap(server->options.scheduler, id, kind, name, &options, err);
    if (st != BORA_OK)
        return st;
    server->n_swaps++;
    request->swap_id = id;
    request->swap_kind = kind;
    bora_logf(server->log, BORA_LOG_INFO, "plugin.use %s %.100s (%s)", kind_name, name, request->connection->owner);
    return BORA_OK;
}

static void answer(bora_request *request, const bora_event *event)
{
    bora_server *server = request->server;
    bora_plugin_info used;
    if (event->status != BORA_OK) {
        bora_request_fail(request, event->status, event->error.message);
        return;
    }
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "kind", bora_plugin_kind_name(request->swap_kind));
    if (bora_pipeline_plugin_info(server->options.pipeline, request->swap_kind, &used)) {
        bora_pack_string(&pack, "name", used.name);
        bora_pack_string(&pack, "version", used.version);
        bora_pack_string(&pack, "path", used.path);
    }
    bora_request_end(request, &pack);
}

void bora_server_on_swapped(bora_server *server, const bora_event *event)
{
    server->n_swaps--;
    if (event->status != BORA_OK)
        bora_logf(server->log, BORA_LOG_WARN, "plugin.use: nothing has changed: %s", event->error.message);
    for (bora_connection *connection = server->connections; connection; connection = connection->next)
        for (bora_request *request = connection->requests; request; request = request->next)
            if (request->swap_id == event->id) {
                answer(request, event);
                return;
            }
}
