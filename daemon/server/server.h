/* The server: the loop thread, the only owner of every client socket.
 *
 * It answers what it can at once, hands the rest to the session manager, and turns what comes back into frames. It
 * never waits for the engine or the disk (but for a full store queue), so that status is answered whatever they do. */
#ifndef BORA_SERVER_SERVER_H
#define BORA_SERVER_SERVER_H

#include "house/house.h"

typedef struct bora_server bora_server;

typedef struct bora_server_options {
    const char *endpoint; /* ipc://path */
    int listen_fd;        /* an already listening socket at that path (systemd); -1: bind it */
    bool private_dir;     /* the socket's folder is ours alone: it is made, and kept at mode 0700 */
    uint32_t max_tokens;  /* defaults of generate */
    bora_sampling sampling;
    const char *plugin_path; /* for plugin.list */
    /* The configured options of a plugin, for plugin.use; valid until the next call. NULL: none. */
    bora_plugin_options (*plugin_options)(void *arg, uint32_t kind, const char *name);
    void *plugin_options_arg;

    const bora_ledger *ledger; /* for status */
    bora_store *store;
    bora_house *house;     /* started, not entered; others may take its place later: bora_server_house */
    bora_mailbox *replies; /* from the store */

    /* What is in the house; the server fills it in, and anew when the model is exchanged. */
    const bora_model *model;
    bora_pipeline
        *pipeline; /* only for what does not change: shape, plugins, options; the scheduler may be building it */
    bora_scheduler *scheduler;
    bora_sessions *sessions;
    bora_mailbox *events; /* from the engine */
} bora_server_options;

/* Binds the socket. Everything in options is borrowed and outlives the server. SIGTERM, SIGINT and SIGHUP must be
 * blocked in all threads: the loop reads them. Errors: INVAL (endpoint), PERMISSION (the folder is not ours), BUSY
 * (another daemon listens there), IO, NOMEM. */
bora_status bora_server_new(const bora_server_options *options, const bora_log *log, bora_server **ret_server,
                            bora_error *err);
/* Lets the house in, and serves until a signal ends it: then running turns are cut, stored and told, and it returns OK.
 * A second signal does not wait for them. If the model cannot be loaded, it ends in the same way, with the loader's
 * error. */
bora_status bora_server_run(bora_server *server, bora_error *err);
/* The house that is in use; the caller's, as options.house was. */
bora_house *bora_server_house(const bora_server *server);
/* NULL is a no-op. */
void bora_server_free(bora_server *server);

/* ipc://path of a listening Unix socket, the caller's (bora_free). Errors: INVAL, NOMEM. */
bora_status bora_server_endpoint_of(int listen_fd, char **ret_endpoint, bora_error *err);

#endif
