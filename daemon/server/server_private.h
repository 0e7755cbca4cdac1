/* What the files of the server share: connections, requests, and how frames are sent. All of it belongs to the loop
 * thread. */
#ifndef BORA_SERVER_SERVER_PRIVATE_H
#define BORA_SERVER_SERVER_PRIVATE_H

#include "codec.h"
#include "server/server.h"

#define BORA_CONNECTIONS_MAX    1024u              /* fewer if the process may not have so many descriptors */
#define BORA_EVENTS_WAITING_MAX 1000               /* for one client that does not read */
#define BORA_FRAME_RECEIVED_MAX ((int64_t)4 << 20) /* bytes; ZeroMQ hangs up beyond it */
#define BORA_TEXT_MAX           BORA_FRAME_SIZE_MAX

/* ROUTER's own ids: a zero byte and a number that is never used twice. Ids that clients choose themselves are refused:
 * two users could choose the same. */
#define BORA_ROUTING_ID_SIZE    5

#define BORA_VERBS_MAX          32u

/* What is counted since start, for metrics. */
#define BORA_ERROR_CODES        19u
typedef struct bora_server_counters {
    uint64_t requests[BORA_VERBS_MAX]; /* by bora_server_verb_name's index */
    uint64_t errors[BORA_ERROR_CODES]; /* by bora_error_code_name's */
} bora_server_counters;

typedef struct bora_connection bora_connection;
typedef struct bora_request bora_request;
typedef struct bora_exchange bora_exchange;

struct bora_connection {
    bora_connection *next;
    uint8_t routing_id[BORA_ROUTING_ID_SIZE];
    int fd;             /* ZeroMQ's descriptor, by which the monitor names it */
    char owner[32];     /* "uid:1000" */
    bool is_greeted;    /* hello was said and answered */
    bool is_gone;       /* to be removed */
    bool does_not_read; /* its queue is full: its generations are to be ended */
    bora_request *requests;
    uint32_t n_open;
    /* Requests that were ended while the client did not read: each still gets its error. */
    uint64_t overdue[BORA_REQUESTS_MAX];
    uint32_t n_overdue;
};

struct bora_request {
    bora_request *next;
    bora_server *server;
    bora_connection *connection; /* NULL: gone */
    uint64_t id;                 /* the client's */
    uint64_t generation_id;      /* the session manager's; 0: not a generation */
    const bora_value *arguments; /* the request's map; only while its verb's function runs */
    uint64_t swap_id;            /* of a plugin.use that the engine has; 0: none */
    uint32_t swap_kind;
    bool in_call; /* its verb's function is running: it is freed afterwards */
    bool has_ended;
};

struct bora_server {
    bora_server_options options;
    const bora_log *log;
    void *zmq, *router, *monitor;
    int signal_fd;
    int lock_fd;
    char *lock_path;
    bool has_socket_file; /* it is bound, and the file is ours to remove */
    bora_connection *connections;
    uint32_t n_connections;
    uint64_t started_ns;
    bora_server_counters counters;
    uint64_t open_fds[64]; /* bit per descriptor below 4096: between ACCEPTED and DISCONNECTED */
    uint32_t n_open_fds, open_fds_max;
    bool is_crowded;      /* the log knows that there are too many connections */
    bool told_routing_id; /* the log knows that there are clients that choose their ids */
    bool is_stopping, must_stop;
    bool has_lapses; /* a connection is gone, does not read, or is owed something */

    uint64_t last_swap_id;
    uint32_t n_swaps;         /* that the engine has */
    bora_exchange *exchange;  /* of the model, if one is going on */
    bora_mailbox *opened;     /* the exchange comes back in it when its thread has ended */
    uint64_t told_loading_ns; /* when those who wait for the model were told how far it is */
    bora_status load_status;  /* of loading it, once that has failed: the loop ends with it */
    bora_error load_error;

    /* systemd.c */
    uint64_t watchdog_ns; /* interval; 0: none */
    uint64_t last_watchdog_ns, last_status_ns;
    uint32_t told_running, told_connections;
    bool told_loading;
};

/* ---- request.c ---------------------------------------------------------------------------------------- */

/* Opens the event's map. Events of a request whose client is gone are built and dropped. */
void bora_request_begin(const bora_request *request, const char *event, bora_pack *ret_pack);
/* Closes the map and sends it; releases the pack. */
void bora_request_send(bora_request *request, bora_pack *pack);
/* The same; it was the last event. The request is freed (after its verb's function, if that runs). */
void bora_request_end(bora_request *request, bora_pack *pack);
/* Ends with an error. */
void bora_request_fail(bora_request *request, bora_status status, const char *message);
void bora_request_fail_code(bora_request *request, const char *code, const char *message);
bora_request *bora_request_new(bora_connection *connection, bora_server *server, uint64_t id);
void bora_request_free(bora_request *request);
/* The protocol's error code for a status. */
const char *bora_error_code(bora_status status);

/* Every code there is, by index; NULL past the last. */
const char *bora_error_code_name(size_t i);
/* An error of this code is sent. */
void bora_server_count_error(bora_server *server, const char *code);

/* Arguments: absent ones leave *value as it is. Errors: INVAL, naming the argument. */
bora_status bora_argument_uint(const bora_request *request, const char *key, uint64_t min, uint64_t max,
                               uint64_t *value, bora_error *err);
bora_status bora_argument_u32(const bora_request *request, const char *key, uint32_t min, uint32_t max, uint32_t *value,
                              bora_error *err);
/* Finite. */
bora_status bora_argument_float(const bora_request *request, const char *key, float *value, bora_error *err);
bora_status bora_argument_bool(const bora_request *request, const char *key, bool *value, bora_error *err);
/* A zero-terminated copy (free()) without zero bytes. */
bora_status bora_argument_text(const bora_request *request, const char *key, bool required, char **value,
                               bora_error *err);
/* An array of token ids (bora_free). */
bora_status bora_argument_tokens(const bora_request *request, const char *key, bool required, int32_t **ret_tokens,
                                 size_t *ret_n, bora_error *err);

/* For BORA_CLEANUP: free(), since msgpack's side of the house uses libc's memory. */
void bora_text_freep(char **text);

/* Event loading: the generation waits for the model. */
void bora_request_tell_loading(bora_request *request, const bora_scheduler_stats *stats);

/* ---- connection.c ------------------------------------------------------------------------------------- */

/* fd must be the one that it began with. */
bora_connection *bora_connection_find(bora_server *server, const uint8_t *routing_id, int fd);
/* NULL: too many, or no memory. */
bora_connection *bora_connection_new(bora_server *server, const uint8_t *routing_id, int fd, const char *owner);
/* Sends one frame to a client; a failure is noted in the connection (which may be NULL). */
void bora_connection_send(bora_server *server, bora_connection *connection, const uint8_t *routing_id,
                          const bora_pack *pack);
void bora_connections_disconnected(bora_server *server, int fd);
/* Does what was noted: removes connections that are gone, ends the work of those that do not read, and tries again to
 * tell them. Not from inside a request's handler. */
void bora_connections_tidy(bora_server *server);
void bora_connections_free(bora_server *server);
/* Every open generation is told how far the model is. */
void bora_connections_tell_loading(bora_server *server, const bora_scheduler_stats *stats);

/* ---- dispatch.c --------------------------------------------------------------------------------------- */

/* One frame from a client. fd, owner: of its connection. data NULL: there were several in one message. */
void bora_server_dispatch(bora_server *server, const uint8_t *routing_id, int fd, const char *owner, const void *data,
                          size_t size);
/* The verbs, by index; NULL past the last. */
const char *bora_server_verb_name(size_t i);

/* ---- exchange.c: one model takes another's place ------------------------------------------------------ */

/* Begins it; the request is answered when it has ended. model: absolute path, or name. timeout_ms: for answers that
 * run. Errors: BUSY (another is going on, a plugin is being exchanged, the model is being loaded), CLOSED, NOMEM, IO.
 */
bora_status bora_exchange_begin(bora_request *request, const char *model, uint32_t timeout_ms, bora_error *err);
/* Error: BUSY, as long as no answer may begin. */
bora_status bora_exchange_check(const bora_server *server, bora_error *err);
bool bora_exchange_is_draining(const bora_server *server);
/* Does what is due. Returns ns until it wants to be called again; UINT64_MAX: when something has happened. */
uint64_t bora_exchange_tick(bora_server *server, uint64_t now_ns);
/* Its thread has ended. */
void bora_exchange_on_opened(bora_server *server);
/* Loading has ended, of the first model or another. Errors: those of the event, when no model is left to serve. */
bora_status bora_exchange_on_loaded(bora_server *server, const bora_event *event, bora_error *err);
/* Who asked is told how far the model is. */
void bora_exchange_tell_loading(bora_server *server, const bora_scheduler_stats *stats);
/* The daemon is ending: who asked is told. */
void bora_exchange_stop(bora_server *server);
void bora_exchange_free(bora_server *server);

/* ---- server.c ----------------------------------------------------------------------------------------- */

uint64_t bora_server_now_ns(void); /* the clock of everything here */
/* From now on everything is done in this house. */
void bora_server_move(bora_server *server, bora_house *house);
/* As a signal does; status, error: why, if it is no signal. */
void bora_server_stop(bora_server *server, bora_status status, const bora_error *error);

/* ---- endpoint.c --------------------------------------------------------------------------------------- */

/* Makes ready to bind: the folder, and a lock beside the socket so that no running daemon loses it. */
bora_status bora_endpoint_prepare(bora_server *server, bora_error *err);

/* ---- systemd.c ---------------------------------------------------------------------------------------- */

void bora_systemd_ready(bora_server *server);
void bora_systemd_stopping(bora_server *server);
/* Tells what has changed, if it is time to. Returns ns until it wants to be called again; UINT64_MAX: never. */
uint64_t bora_systemd_tick(bora_server *server, uint64_t now_ns);

/* ---- verbs/ ------------------------------------------------------------------------------------------- */

/* A verb's function. On an error the request is ended with it; on OK it has been ended, or will be by a handler. */
typedef bora_status bora_verb_fn(bora_request *request, bora_error *err);

bora_verb_fn bora_verb_hello;
bora_verb_fn bora_verb_status;
bora_verb_fn bora_verb_metrics;
bora_verb_fn bora_verb_model;
bora_verb_fn bora_verb_generate;
bora_verb_fn bora_verb_cancel;
bora_verb_fn bora_verb_tokenize;
bora_verb_fn bora_verb_detokenize;
bora_verb_fn bora_verb_session_create;
bora_verb_fn bora_verb_session_list;
bora_verb_fn bora_verb_session_show;
bora_verb_fn bora_verb_session_rename;
bora_verb_fn bora_verb_session_delete;
bora_verb_fn bora_verb_plugin_info;
bora_verb_fn bora_verb_plugin_list;
bora_verb_fn bora_verb_plugin_use;
bora_verb_fn bora_verb_model_load;

/* verbs/plugin_use.c. Errors: PERMISSION, for all but the daemon's own user and root. */
bora_status bora_request_check_admin(const bora_request *request, bora_error *err);
/* The engine's answer to plugin.use. */
void bora_server_on_swapped(bora_server *server, const bora_event *event);

/* verbs/session_reply.c: the fields of a session in lists, and the handler for those that answer with id and name. */
void bora_pack_record(bora_pack *pack, const bora_server *server, const bora_session_record *record);
void bora_session_reply(void *user, const bora_reply *reply);

#endif
