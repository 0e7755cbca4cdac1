/* What the service manager is told: ready, a status line, signs of life. Without one (NOTIFY_SOCKET unset) nothing
 * happens. */
#include "server/server_private.h"

#include <systemd/sd-daemon.h>

#define STATUS_NS UINT64_C(1000000000) /* between two status lines */

static void tell_status(bora_server *server, uint64_t now_ns, const char *more)
{
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    server->last_status_ns = now_ns;
    server->told_running = stats.n_running;
    server->told_connections = server->n_connections;
    server->told_loading = stats.is_loading;
    if (stats.is_loading) {
        (void)sd_notifyf(0, "%sSTATUS=%s: loading %u %%", more, bora_model_name(server->options.model),
                         bora_load_percent(stats.n_loaded, stats.n_to_load)); /* nobody to tell is no failure */
        return;
    }
    (void)sd_notifyf(0, "%sSTATUS=%s: %u answering, %u waiting, %u connected", more,
                     bora_model_name(server->options.model), stats.n_running, stats.n_waiting,
                     server->n_connections); /* nobody to tell is no failure */
}

void bora_systemd_ready(bora_server *server)
{
    uint64_t usec = 0;
    if (sd_watchdog_enabled(0, &usec) > 0)
        server->watchdog_ns = usec * 1000 / 2;
    tell_status(server, server->started_ns, "READY=1\n");
}

void bora_systemd_stopping(bora_server *server)
{
    (void)server;
    (void)sd_notify(0, "STOPPING=1\nSTATUS=storing what runs"); /* nobody to tell is no failure */
}

uint64_t bora_systemd_tick(bora_server *server, uint64_t now_ns)
{
    uint64_t wait = UINT64_MAX;
    if (server->watchdog_ns) {
        if (now_ns - server->last_watchdog_ns >= server->watchdog_ns) {
            (void)sd_notify(0, "WATCHDOG=1"); /* nobody to tell is no failure */
            server->last_watchdog_ns = now_ns;
        }
        wait = server->watchdog_ns - (now_ns - server->last_watchdog_ns);
    }
    if (server->is_stopping)
        return wait;
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    if (!stats.is_loading && !server->told_loading && stats.n_running == server->told_running &&
        server->n_connections == server->told_connections)
        return wait;
    uint64_t since = now_ns - server->last_status_ns;
    if (since >= STATUS_NS || (server->told_loading && !stats.is_loading)) {
        tell_status(server, now_ns, "");
        since = 0;
        if (!server->told_loading)
            return wait;
    }
    return wait < STATUS_NS - since ? wait : STATUS_NS - since;
}
