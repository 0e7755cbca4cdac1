/* status: what the daemon is doing. Answered at once, whatever the engine does. */
#include "server/server_private.h"

#include "base/machine_memory.h"
#include "model/blocks.h"

#include <time.h>
#include <unistd.h>

static void pack_live(void *arg, const bora_live_session *live)
{
    bora_pack *pack = arg;
    bora_pack_map(pack, NULL);
    bora_pack_string(pack, "name", live->name);
    bora_pack_string(pack, "session_id", live->id);
    bora_pack_uint(pack, "n_tokens", live->n_tokens);
    bora_pack_uint(pack, "kv_bytes", live->kv_bytes);
    bora_pack_bool(pack, "running", live->running);
    bora_pack_end(pack);
}

static void pack_memory(bora_pack *pack, const bora_ledger *ledger)
{
    bora_ledger_state books;
    bora_ledger_get(ledger, &books);
    bora_pack_map(pack, "memory");
    bora_pack_uint(pack, "limit", books.limit);
    bora_pack_uint(pack, "used", books.used);
    bora_pack_uint(pack, "peak", books.peak);
    bora_pack_uint(pack, "rss_bytes", bora_machine_rss());
    for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
        bora_pack_uint(pack, bora_ledger_name(account), books.accounts[account]);
    bora_pack_end(pack);
}

static void pack_engine(bora_pack *pack, const bora_scheduler_stats *stats)
{
    bora_pack_uint(pack, "n_steps", stats->n_steps);
    bora_pack_uint(pack, "n_slow_steps", stats->n_slow_steps);
    bora_pack_float(pack, "busy_ms", (double)stats->busy_ns / 1e6);
    bora_pack_float(pack, "last_step_ms", (double)stats->step_ns / 1e6);
    bora_pack_uint(pack, "last_step_rows", stats->step_rows);
    bora_pack_uint(pack, "n_reused_tokens", stats->n_reused_tokens);
    bora_pack_uint(pack, "n_cancelled", stats->n_cancelled);
    bora_pack_uint(pack, "n_swaps", stats->n_swaps);
    bora_pack_uint(pack, "n_pressures", stats->n_pressures);
    bora_pack_uint(pack, "n_on_shelf", stats->n_on_shelf);
    bora_pack_uint(pack, "n_left_over", stats->n_left_over);
    bora_pack_uint(pack, "shelf_bytes", stats->shelf_bytes);
    bora_pack_uint(pack, "promised_bytes", stats->promised_bytes);
}

static void pack_limits(bora_pack *pack, const bora_server *server)
{
    const bora_sessions_options *sessions = bora_sessions_options_of(server->options.sessions);
    bora_ledger_state books;
    bora_ledger_get(server->options.ledger, &books);
    bora_pack_map(pack, "limits");
    bora_pack_uint(pack, "memory", books.limit);
    bora_pack_uint(pack, "open_max", sessions->n_open_max);
    bora_pack_uint(pack, "open_per_owner", sessions->n_owner_max);
    bora_pack_uint(pack, "live_max", sessions->n_live_max);
    bora_pack_uint(pack, "context", sessions->context);
    bora_pack_end(pack);
}

static void pack_plugins(bora_pack *pack, const bora_server *server)
{
    bora_plugin_info used;
    bora_pack_map(pack, "plugins");
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++)
        if (bora_pipeline_plugin_info(server->options.pipeline, kind, &used))
            bora_pack_string(pack, bora_plugin_kind_name(kind), used.name);
    bora_pack_end(pack);
}

bora_status bora_verb_status(bora_request *request, bora_error *err)
{
    (void)err;
    const bora_server *server = request->server;
    const bora_pipeline_options *options = bora_pipeline_options_of(server->options.pipeline);
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    uint64_t now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;

    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "version", BORA_VERSION);
    bora_pack_uint(&pack, "pid", (uint64_t)getpid());
    bora_pack_uint(&pack, "uptime_ms", (now_ns - server->started_ns) / 1000000);
    bora_pack_string(&pack, "state",
                     server->is_stopping                 ? "stopping"
                     : stats.is_loading                  ? "loading"
                     : bora_exchange_is_draining(server) ? "draining"
                                                         : "ready");
    if (stats.is_loading) {
        bora_pack_uint(&pack, "n_loaded_bytes", stats.n_loaded);
        bora_pack_uint(&pack, "n_load_bytes", stats.n_to_load);
    }
    bora_pack_string(&pack, "model", bora_model_name(server->options.model));
    bora_pack_string(&pack, "model_path", bora_model_path(server->options.model));
    bora_pack_uint(&pack, "n_running", stats.n_running);
    bora_pack_uint(&pack, "n_waiting", stats.n_waiting);
    bora_pack_uint(&pack, "n_connections", server->n_connections);
    bora_pack_uint(&pack, "kv_bytes", stats.kv_bytes);
    bora_pack_uint(&pack, "weight_bytes", bora_model_size(server->options.model));
    pack_memory(&pack, server->options.ledger);
    bora_pack_uint(&pack, "n_prompt_tokens", stats.n_prompt_tokens);
    bora_pack_uint(&pack, "n_generated_tokens", stats.n_generated_tokens);
    pack_engine(&pack, &stats);
    bora_pack_float(&pack, "prompt_tokens_per_second", stats.prompt_rate);
    bora_pack_float(&pack, "generated_tokens_per_second", stats.generated_rate);
    bora_pack_uint(&pack, "n_threads", options->n_threads);
    bora_pack_uint(&pack, "n_stages", options->n_stages);
    bora_pack_string(&pack, "kv_dtype", bora_block_of(options->kv_dtype)->name);
    pack_limits(&pack, server);
    pack_plugins(&pack, server);
    bora_pack_string(&pack, "cpu", bora_cpu_name(bora_pipeline_cpu(server->options.pipeline)));
    bora_pack_array(&pack, "sessions");
    bora_sessions_each_live(server->options.sessions, request->connection->owner, pack_live, &pack);
    bora_pack_end(&pack);
    bora_request_end(request, &pack);
    return BORA_OK;
}
