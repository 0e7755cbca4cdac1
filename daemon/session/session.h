/* Sessions: conversations that outlive clients and daemons.
 *
 * The manager keeps the sessions that are in memory (their tokens and, in the engine, their KV caches), brings others
 * in from the store when they are used, and turns requests into generations and generations into stored turns.
 * Everything here runs on the loop thread; the engine and the store answer through mailboxes that the loop empties into
 * bora_sessions_on_event and the store jobs' done functions (context: the manager).
 *
 *   generate ──▶ load (store) ──▶ restore + run (engine) ──events──▶ handler
 *                                        done ──▶ commit (store) ──▶ handler: DONE
 *
 * A turn's DONE reaches the handler after its transaction is on disk. If it cannot be stored, the handler gets ERROR,
 * and the session in memory is dropped: it stands as it was before the turn. (A session deleted while it answers: DONE,
 * cancelled, not stored; then the delete is answered.) */
#ifndef BORA_SESSION_SESSION_H
#define BORA_SESSION_SESSION_H

#include "engine/scheduler.h"
#include "session/store.h"

typedef struct bora_sessions bora_sessions;

typedef struct bora_sessions_options {
    bora_chat_layout layout; /* of chat turns; never AUTO */
    uint32_t n_live_max;     /* sessions in memory; idle ones beyond it leave, least recently used first */
    uint32_t n_open_max;     /* generations open at once, all owners; more are BUSY */
    uint32_t n_owner_max;    /* of these, of one owner; 0: no other limit */
    uint64_t context;        /* positions a session may reach */
    bora_mailbox *replies;   /* where jobs of the store and of the compiler of grammars come back; borrowed */
} bora_sessions_options;

/* All borrowed; they outlive the manager. */
bora_status bora_sessions_new(const bora_model *model, bora_pipeline *pipeline, bora_scheduler *scheduler,
                              bora_store *store, const bora_sessions_options *options, const bora_log *log,
                              bora_sessions **ret_sessions, bora_error *err);
/* The order at the end: stop; serve both mailboxes until n_open is 0; free the scheduler, close the store, empty the
 * mailboxes; free. Cut short, handlers still open are not called. NULL is a no-op. */
void bora_sessions_free(bora_sessions *sessions);

/* ---- what a request gets back -------------------------------------------------------------------------- */

#define BORA_REPLY_ACCEPTED 1
#define BORA_REPLY_PROGRESS 2
#define BORA_REPLY_TOKEN    3
#define BORA_REPLY_DONE     4 /* the last */
#define BORA_REPLY_ERROR    5 /* the last */
#define BORA_REPLY_RECORD   6 /* the last: create, rename, delete (id only) */
#define BORA_REPLY_LIST     7 /* the last */
#define BORA_REPLY_CONTENTS 8 /* the last: show */
#define BORA_REPLY_QUEUED   9
#define BORA_REPLY_CHOICE   10 /* one of several answers has ended */

/* Valid during the handler's call; which fields are set depends on type. */
typedef struct bora_reply {
    int type;
    uint64_t id;                           /* ACCEPTED: as bora_sessions_generate gave it */
    bora_status status;                    /* ERROR */
    const char *message;                   /* ERROR */
    const char *session_name, *session_id; /* ACCEPTED; NULL outside a session */
    uint64_t turn;                         /* ACCEPTED */
    uint64_t n_history;                    /* ACCEPTED: tokens the session had before this turn */
    uint64_t n_cached;                     /* ACCEPTED, DONE: of the history, tokens that are in the cache */
    uint64_t n_rerun;                      /* ACCEPTED: of the history, tokens that were run before and are run again */
    uint64_t n_prompt;                     /* ACCEPTED, PROGRESS, DONE: tokens run (to run) before the first new one */
    uint64_t n_done;                       /* PROGRESS */
    uint64_t n_reused;                     /* ACCEPTED, DONE: of n_cached, tokens taken over from elsewhere */
    uint32_t place, n_waiting;             /* QUEUED */
    uint64_t seed;                         /* ACCEPTED */
    bool system_ignored;                   /* ACCEPTED */
    const bora_event *event;               /* TOKEN, CHOICE, DONE: the engine's event */
    uint64_t n_generated;                  /* DONE: new tokens, of all answers */
    bool stored;                           /* DONE */
    uint64_t store_ns;                     /* DONE */
    const bora_session_record *records;    /* RECORD: one; LIST: [n_records] */
    size_t n_records;
    const bora_session_contents *contents; /* CONTENTS */
} bora_reply;

/* Called on the loop thread, any number of times, possibly before the request function has returned; the last call has
 * one of the types marked so, after which user is not touched any more. */
typedef void (*bora_reply_fn)(void *user, const bora_reply *reply);

/* ---- requests (loop thread) ---------------------------------------------------------------------------- */

typedef struct bora_generate_request {
    const char *owner;
    const char *session;   /* name or id; NULL: none, nothing is kept */
    bool create;           /* make it if it is not there */
    const char *text;      /* a user's message; zero-terminated UTF-8; or NULL and one of: */
    const char *prompt;    /* raw text */
    const int32_t *tokens; /* [n_tokens] raw ids */
    size_t n_tokens;
    bool bos;           /* with prompt */
    const char *system; /* may be NULL */
    uint32_t max_tokens;
    bora_sampling sampling;   /* seed set; biases borrowed */
    const char *const *stops; /* [n_stops], borrowed */
    uint32_t n_stops;
    bool ignore_eos;
    bool is_background;
    uint32_t timeout_ms; /* 0: none. When it is over, the answer ends with REASON_DEADLINE, or ERROR, CANCELLED if it
                          * has not begun */
    const char *schema;  /* a JSON schema that the answer is to follow; or */
    const char *grammar; /* a grammar in the notation of docs/grammar.md; NULL: any text */
    uint32_t n_top_logprobs;
    uint32_t n_choices; /* answers to one prompt, 1 .. BORA_CHOICES_MAX; more than one only without a session */
} bora_generate_request;

/* Everything borrowed for the call. On BORA_OK the handler will be called; *ret_id names the generation for cancel. On
 * an error it will not. Errors: INVAL, BUSY (too many open, in all or of this owner; the session is answering; no
 * memory for another), LIMIT (context), UNSUPPORTED (no chat layout), CLOSED (stopping), NOMEM. Errors found later
 * (NOT_FOUND ...) come through the handler. */
bora_status bora_sessions_generate(bora_sessions *sessions, const bora_generate_request *request, bora_reply_fn handler,
                                   void *user, uint64_t *ret_id, bora_error *err);
/* The generation ends with DONE, reason cancelled (or ERROR, CANCELLED, if it had not begun). Unknown ids are ignored:
 * false. */
bool bora_sessions_cancel(bora_sessions *sessions, uint64_t id);
/* As cancel, but the handler is not called any more: the client is gone. */
void bora_sessions_abandon(bora_sessions *sessions, uint64_t id);

/* Each answers through the handler with RECORD, LIST, CONTENTS or ERROR; on an error return it is not called. */
bora_status bora_sessions_create(bora_sessions *sessions, const char *owner, const char *name, const char *system,
                                 bora_reply_fn handler, void *user, bora_error *err);
bora_status bora_sessions_list(bora_sessions *sessions, const char *owner, bora_reply_fn handler, void *user,
                               bora_error *err);
bora_status bora_sessions_show(bora_sessions *sessions, const char *owner, const char *session, bora_reply_fn handler,
                               void *user, bora_error *err);
bora_status bora_sessions_rename(bora_sessions *sessions, const char *owner, const char *session, const char *new_name,
                                 bora_reply_fn handler, void *user, bora_error *err);
bora_status bora_sessions_delete(bora_sessions *sessions, const char *owner, const char *session, bora_reply_fn handler,
                                 void *user, bora_error *err);

/* The engine's events, in order. Takes ownership. */
void bora_sessions_on_event(bora_sessions *sessions, bora_event *event);

/* No new work is taken (CLOSED); what runs will end with reason shutdown and be stored, what has given no token yet
 * ends with ERROR, CLOSED. Stops the scheduler. */
void bora_sessions_stop(bora_sessions *sessions);
/* Generations (loads and commits included) and other requests that have not had their last reply. */
uint32_t bora_sessions_n_open(const bora_sessions *sessions);

/* Of these, the generations. */
uint32_t bora_sessions_n_generations(const bora_sessions *sessions);
/* Ends what is open, because of something that goes on here (why: one sentence, borrowed for good): answers that have
 * begun with reason shutdown, as interrupted turns; those that have not with ERROR, BUSY. New ones are none of it. */
void bora_sessions_cut(bora_sessions *sessions, const char *why);
/* Another manager, on the same store, takes the place of this one, which has no generations: other requests that the
 * store still has are finished by the other (the context of their done functions), which also goes on counting. The
 * other has had no requests yet. */
void bora_sessions_hand_over(bora_sessions *sessions, bora_sessions *to);

/* Generations since start, of all owners. */
typedef struct bora_sessions_stats {
    uint64_t n_ended[BORA_REASON_COUNT];      /* by BORA_REASON_*; ERROR: also those that could not be stored */
    uint64_t queue_ns, prefill_ns, decode_ns; /* sums over those that ended */
    uint32_t n_open;                          /* waiting, running, or on their way to or from the store */
    uint32_t n_live;                          /* sessions in memory */
    uint32_t n_store_jobs;                    /* waiting for the store, or in its hands */
} bora_sessions_stats;
void bora_sessions_stats_get(const bora_sessions *sessions, bora_sessions_stats *ret_stats);
const bora_sessions_options *bora_sessions_options_of(const bora_sessions *sessions);

/* The owner's sessions in memory, for status; valid during the call of fn. */
typedef struct bora_live_session {
    const char *name, *id;
    uint64_t n_tokens, kv_bytes;
    bool running;
} bora_live_session;
void bora_sessions_each_live(const bora_sessions *sessions, const char *owner,
                             void (*fn)(void *arg, const bora_live_session *live), void *arg);

#endif
