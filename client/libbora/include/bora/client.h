/* libbora: talking to borad from C or C++.
 *
 * A bora_client is one connection. There are two ways to use it, which may be mixed:
 *  - blocking: bora_client_call and the verbs below it wait for one result; bora_client_generate hands over every event
 *    until the answer has ended.
 *  - with an event loop: bora_client_submit sends a request and returns; poll bora_client_fd for readability and let
 *    bora_client_dispatch call the handlers.
 *
 * Threads: a client belongs to one thread at a time (hand it over as you like, but never use it from two at once).
 * Only bora_client_interrupt may be called from anywhere, a signal handler included. Several clients are independent.
 * A process that forks must not use its clients in the child.
 *
 * Errors: a function that can fail returns a bora_client_status and takes a bora_client_error last, which may be NULL.
 * Outputs (ret_...) are written only on success. Nothing is printed, and nothing but memory and descriptors is kept.
 *
 * Text is UTF-8. What the daemon sends is not zero-terminated: it comes with its size in bytes. */
#ifndef BORA_CLIENT_H
#define BORA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BORA_CLIENT_API __attribute__((visibility("default")))

/* ---- errors ------------------------------------------------------------------------------------------ */

typedef int32_t bora_client_status;
enum {
    BORA_CLIENT_OK = 0,
    BORA_CLIENT_E_INVALID = -1,   /* wrong use or argument; nothing was sent */
    BORA_CLIENT_E_NO_MEMORY = -2, /* */
    BORA_CLIENT_E_IO = -3,        /* the system refused: descriptors, permissions */
    BORA_CLIENT_E_NO_DAEMON = -4, /* nobody listens; the message says how to start a daemon */
    BORA_CLIENT_E_LOST = -5,      /* the connection broke while the request was open: it may or may not have run */
    BORA_CLIENT_E_TIMEOUT = -6,   /* somebody listens but does not answer the greeting */
    BORA_CLIENT_E_INTERRUPTED =
        -7,                     /* bora_client_interrupt, or the request was cancelled before it produced anything */
    BORA_CLIENT_E_REFUSED = -8, /* the daemon answered with an error: see code */
    BORA_CLIENT_E_PROTOCOL = -9 /* what listens there does not speak the protocol */
};

typedef struct bora_client_error {
    bora_client_status status;
    char code[32];     /* with E_REFUSED: the protocol's stable error code, e.g. "not_found"; else "" */
    char message[512]; /* one sentence */
} bora_client_error;

/* Stable lower-case name of a status, e.g. "no_daemon". Static. Any thread. */
BORA_CLIENT_API const char *bora_client_status_name(bora_client_status status);

/* ---- connection ---------------------------------------------------------------------------------------- */

typedef struct bora_client bora_client;

typedef struct bora_client_options {
    const char *endpoint; /* a ZeroMQ endpoint, or a path (then ipc); NULL: bora_client_endpoint_default */
    const char *name;     /* for the daemon's log, e.g. "mytool 1.2"; NULL: libbora and its version */
    uint32_t timeout_ms;  /* how long to wait for the daemon's greeting; 0: 5000 */
} bora_client_options;

/* Where the daemon listens if nothing else is said: $BORA_SOCKET, else bora/bora.sock under $XDG_RUNTIME_DIR, else
 * under /run/user/<uid> if that is there, else /tmp/bora-<uid>/bora.sock. Yours to free(); NULL: no memory. */
BORA_CLIENT_API char *bora_client_endpoint_default(void);

/* Connects and greets; blocks until the daemon has answered, at most timeout_ms. options may be NULL; its strings are
 * borrowed for the call. The client in *ret_client is yours to close. */
BORA_CLIENT_API bora_client_status bora_client_open(const bora_client_options *options, bora_client **ret_client,
                                                    bora_client_error *err);

/* Ends the connection; the daemon cancels what was running. Open requests end without a call of their handlers. NULL
 * is a no-op. Not from a handler. */
BORA_CLIENT_API void bora_client_close(bora_client *client);

/* The endpoint as used, and the daemon's version as it said in its greeting. Valid until the next call on client. */
BORA_CLIENT_API const char *bora_client_endpoint(const bora_client *client);
BORA_CLIENT_API const char *bora_client_daemon_version(const bora_client *client);

/* Makes the blocking call that is under way, or else the next one, return BORA_CLIENT_E_INTERRUPTED. A generation is
 * cancelled in the daemon and waited for, so that its handler still gets what was there and the `done`; a second
 * interrupt stops waiting at once. Async-signal-safe, any thread. Event-driven use does not notice it. */
BORA_CLIENT_API void bora_client_interrupt(bora_client *client);
/* Forgets an interrupt that no call has taken yet. */
BORA_CLIENT_API void bora_client_interrupt_clear(bora_client *client);

/* ---- values -------------------------------------------------------------------------------------------- */

/* A value that the daemon sent. Borrowed: lives as long as its result, or as the handler's call. Every function here
 * accepts NULL (nothing there), so that lookups can be chained. */
typedef struct bora_client_value bora_client_value;

enum {
    BORA_CLIENT_VALUE_NONE = 0, /* NULL, nil, or something a client has no use for */
    BORA_CLIENT_VALUE_BOOL = 1,
    BORA_CLIENT_VALUE_UINT = 2,
    BORA_CLIENT_VALUE_INT = 3, /* negative */
    BORA_CLIENT_VALUE_FLOAT = 4,
    BORA_CLIENT_VALUE_TEXT = 5,
    BORA_CLIENT_VALUE_ARRAY = 6,
    BORA_CLIENT_VALUE_MAP = 7
};
BORA_CLIENT_API int32_t bora_client_value_kind(const bora_client_value *value);

/* Items of an array or pairs of a map; 0 for anything else. */
BORA_CLIENT_API uint32_t bora_client_value_count(const bora_client_value *value);
/* Item of an array, or value and key of a map's pair; NULL past the end. */
BORA_CLIENT_API const bora_client_value *bora_client_value_at(const bora_client_value *value, uint32_t i);
BORA_CLIENT_API const bora_client_value *bora_client_value_key(const bora_client_value *map, uint32_t i);
/* Value of a map's key; NULL if there is none. */
BORA_CLIENT_API const bora_client_value *bora_client_value_get(const bora_client_value *map, const char *key);

/* The value itself: otherwise (or if it does not fit) what the caller gives as otherwise. */
BORA_CLIENT_API bool bora_client_value_bool(const bora_client_value *value, bool otherwise);
BORA_CLIENT_API uint64_t bora_client_value_uint(const bora_client_value *value, uint64_t otherwise);
BORA_CLIENT_API int64_t bora_client_value_int(const bora_client_value *value, int64_t otherwise);
BORA_CLIENT_API double bora_client_value_float(const bora_client_value *value, double otherwise);
/* UTF-8, not zero-terminated; "" and size 0 if it is no text. Never NULL. */
BORA_CLIENT_API const char *bora_client_value_text(const bora_client_value *value, size_t *ret_size);

/* ---- requests and results -------------------------------------------------------------------------------- */

/* A request being put together: a verb and its arguments (proto/PROTOCOL.md). A failed allocation is remembered and
 * reported when it is sent. Keys and values are copied. */
typedef struct bora_client_request bora_client_request;

BORA_CLIENT_API bora_client_request *bora_client_request_new(const char *verb); /* NULL: no memory */
BORA_CLIENT_API void bora_client_request_free(bora_client_request *request);    /* NULL is a no-op */
/* The value of an argument. A NULL text (with size 0) leaves the argument out. request may be NULL. */
BORA_CLIENT_API void bora_client_request_string(bora_client_request *request, const char *key, const char *text);
BORA_CLIENT_API void bora_client_request_text(bora_client_request *request, const char *key, const char *text,
                                              size_t size);
BORA_CLIENT_API void bora_client_request_uint(bora_client_request *request, const char *key, uint64_t value);
BORA_CLIENT_API void bora_client_request_float(bora_client_request *request, const char *key, double value);
BORA_CLIENT_API void bora_client_request_bool(bora_client_request *request, const char *key, bool value);
BORA_CLIENT_API void bora_client_request_tokens(bora_client_request *request, const char *key, const int32_t *tokens,
                                                size_t n_tokens);

/* What a verb answered. Yours to free. */
typedef struct bora_client_result bora_client_result;

/* The map with the answer's fields. Lives as long as the result. */
BORA_CLIENT_API const bora_client_value *bora_client_result_value(const bora_client_result *result);
BORA_CLIENT_API void bora_client_result_free(bora_client_result *result); /* NULL is a no-op */

/* Sends a request and waits for its one result. Takes *request and sets it to NULL, whatever happens (NULL in it: no
 * memory). ret_result may be NULL. Waits as long as the daemon takes; not from a handler. */
BORA_CLIENT_API bora_client_status bora_client_call(bora_client *client, bora_client_request **request,
                                                    bora_client_result **ret_result, bora_client_error *err);

struct bora_client_event; /* below */

/* The same, and handler (may be NULL) is called for every event: those on the way, and the last. */
BORA_CLIENT_API bora_client_status bora_client_call_watched(bora_client *client, bora_client_request **request,
                                                            int (*handler)(void *context,
                                                                           const struct bora_client_event *event),
                                                            void *context, bora_client_result **ret_result,
                                                            bora_client_error *err);

/* The verbs, ready made. Results as in proto/PROTOCOL.md. */
BORA_CLIENT_API bora_client_status bora_client_daemon_status(bora_client *client, bora_client_result **ret_result,
                                                             bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_model(bora_client *client, bora_client_result **ret_result,
                                                     bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_plugin_list(bora_client *client, bora_client_result **ret_result,
                                                           bora_client_error *err);
/* kind: "attention", "cache", "expert" or "link"; name: as in the list, or an absolute path. use exchanges the daemon's
 * plugin of that kind for everybody: only its own user and root may; it waits until that is done. */
BORA_CLIENT_API bora_client_status bora_client_plugin_info(bora_client *client, const char *kind, const char *name,
                                                           bora_client_result **ret_result, bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_plugin_use(bora_client *client, const char *kind, const char *name,
                                                          bora_client_result **ret_result, bora_client_error *err);
/* Numbers in Prometheus's text format, in the field "text". */
BORA_CLIENT_API bora_client_status bora_client_metrics(bora_client *client, bora_client_result **ret_result,
                                                       bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_tokenize(bora_client *client, const char *text, size_t size, bool bos,
                                                        bora_client_result **ret_result, bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_detokenize(bora_client *client, const int32_t *tokens, size_t n_tokens,
                                                          bora_client_result **ret_result, bora_client_error *err);
/* name NULL: the daemon makes one up. system may be NULL. */
BORA_CLIENT_API bora_client_status bora_client_session_create(bora_client *client, const char *name, const char *system,
                                                              bora_client_result **ret_result, bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_session_list(bora_client *client, bora_client_result **ret_result,
                                                            bora_client_error *err);
/* session: name or id. */
BORA_CLIENT_API bora_client_status bora_client_session_show(bora_client *client, const char *session,
                                                            bora_client_result **ret_result, bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_session_rename(bora_client *client, const char *session,
                                                              const char *name, bora_client_error *err);
BORA_CLIENT_API bora_client_status bora_client_session_delete(bora_client *client, const char *session,
                                                              bora_client_error *err);

/* ---- events ---------------------------------------------------------------------------------------------- */

enum {
    BORA_CLIENT_EVENT_ACCEPTED = 1,
    BORA_CLIENT_EVENT_PROGRESS = 2,
    BORA_CLIENT_EVENT_TOKEN = 3,
    BORA_CLIENT_EVENT_DONE = 4,    /* last */
    BORA_CLIENT_EVENT_RESULT = 5,  /* last */
    BORA_CLIENT_EVENT_ERROR = 6,   /* last; also made by the library when the connection breaks */
    BORA_CLIENT_EVENT_LOADING = 7, /* before ACCEPTED: the daemon is still loading its model */
    BORA_CLIENT_EVENT_QUEUED = 8,  /* before ACCEPTED: it waits for others to make room */
    BORA_CLIENT_EVENT_CHOICE = 9   /* one of several answers has ended; DONE follows the last of them */
};

/* What a handler is given. Everything in it is borrowed for the call. */
typedef struct bora_client_event {
    int32_t kind;
    uint64_t request; /* as bora_client_submit gave it */
    const char *text; /* TOKEN, CHOICE, DONE: what can be shown now, [text_size]; never NULL */
    size_t text_size;
    uint64_t index;                 /* TOKEN: from 0 */
    int32_t token;                  /* TOKEN: its id */
    double logprob;                 /* TOKEN: natural logarithm */
    uint64_t n_done, n_total;       /* PROGRESS: prompt tokens run, and to run; LOADING: bytes */
    const bora_client_value *value; /* the event's map with all fields; NULL if the library made the event */
    const bora_client_error *error; /* ERROR; else NULL */
    uint64_t place, n_waiting;      /* QUEUED: from 1; how many wait in all */
    uint32_t choice;                /* TOKEN, CHOICE: which of several answers, from 0 */
} bora_client_event;

/* Called by the thread that uses the client, from inside its call. May submit and cancel on the client, but neither
 * close it nor make blocking calls. Non-zero from a handler of a running generation: cancel it (its `done` still
 * comes); otherwise the value is ignored. */
typedef int (*bora_client_handler)(void *context, const bora_client_event *event);

/* ---- generation ------------------------------------------------------------------------------------------ */

typedef struct bora_client_bias {
    int32_t token;
    float bias;
} bora_client_bias;

/* Which of the settings below are given; the daemon has defaults for the others. */
enum {
    BORA_CLIENT_SET_MAX_TOKENS = 1 << 0,
    BORA_CLIENT_SET_TEMPERATURE = 1 << 1,
    BORA_CLIENT_SET_TOP_K = 1 << 2,
    BORA_CLIENT_SET_TOP_P = 1 << 3,
    BORA_CLIENT_SET_MIN_P = 1 << 4,
    BORA_CLIENT_SET_REPETITION_PENALTY = 1 << 5,
    BORA_CLIENT_SET_REPETITION_WINDOW = 1 << 6,
    BORA_CLIENT_SET_SEED = 1 << 7
};

/* What to generate. All zero is a good start; then give exactly one of text, prompt and tokens. */
typedef struct bora_client_generation {
    const char *text; /* a user's message: a chat turn */
    size_t text_size;
    const char *prompt; /* raw completion of a text */
    size_t prompt_size;
    const int32_t *tokens; /* raw completion of token ids, [n_tokens] */
    size_t n_tokens;

    const char *session; /* name or id; NULL: nothing is kept */
    const char *system;  /* system prompt of a session's first turn, or NULL */
    bool no_create;      /* fail if there is no such session */
    bool no_bos;         /* with prompt: no BOS before it */
    bool ignore_eos;

    uint32_t set; /* BORA_CLIENT_SET_... of those that follow */
    uint32_t max_tokens;
    uint32_t top_k;
    uint32_t repetition_window;
    double temperature, top_p, min_p, repetition_penalty;
    uint64_t seed;

    const char *const *stops; /* [n_stops] */
    size_t n_stops;
    const bora_client_bias *biases; /* [n_biases] */
    size_t n_biases;

    bool is_background;  /* it gets what others leave */
    uint32_t timeout_ms; /* the answer ends then, as far as it has come (reason "deadline"); 0: never */
    uint32_t n_choices;  /* so many answers to the one prompt, each with the next seed; 0: one. More only without a
                          * session */
    /* What the answer has to look like: a JSON schema, or a grammar in bora's notation; [size]. One of them, or none.
     */
    const char *json_schema, *grammar;
    size_t json_schema_size, grammar_size;
    uint32_t n_top_logprobs; /* likeliest tokens told with each token ("top" of its value); 0: none */
} bora_client_generation;

/* The generation as a request, for bora_client_submit. NULL: no memory. */
BORA_CLIENT_API bora_client_request *bora_client_generation_request(const bora_client_generation *generation);

/* Generates: handler (may be NULL) is called for every event in order. Returns BORA_CLIENT_OK after DONE, unless it
 * was interrupted; the status and error of the ERROR event otherwise. Not from a handler. */
BORA_CLIENT_API bora_client_status bora_client_generate(bora_client *client, const bora_client_generation *generation,
                                                        bora_client_handler handler, void *context,
                                                        bora_client_error *err);

/* ---- with an event loop ---------------------------------------------------------------------------------- */

/* A descriptor that is readable when bora_client_dispatch has something to do. Only to be polled; the same for the
 * client's life. */
BORA_CLIENT_API int bora_client_fd(const bora_client *client);

/* Sends a request; its handler will be called from bora_client_dispatch (or from a blocking call on this client) until
 * an event that is the last. Takes *request and sets it to NULL, whatever happens. Does not block: if the connection
 * broke earlier, a new one is begun. ret_id may be NULL. */
BORA_CLIENT_API bora_client_status bora_client_submit(bora_client *client, bora_client_request **request,
                                                      bora_client_handler handler, void *context, uint64_t *ret_id,
                                                      bora_client_error *err);

/* Asks the daemon to end a generation. Its handler gets the `done`. OK also if the request has ended meanwhile. */
BORA_CLIENT_API bora_client_status bora_client_cancel(bora_client *client, uint64_t id, bora_client_error *err);

/* Handles everything that has arrived. Does not block. A broken connection is told to the handlers of the open
 * requests and is no failure of this function. Not from a handler. */
BORA_CLIENT_API bora_client_status bora_client_dispatch(bora_client *client, bora_client_error *err);

/* Requests whose last event is to come. */
BORA_CLIENT_API uint32_t bora_client_n_open(const bora_client *client);

#ifdef __cplusplus
}
#endif

#endif
