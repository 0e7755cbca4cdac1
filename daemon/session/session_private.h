/* What the files of the session manager share: the table of sessions in memory, and generations from request to last
 * reply. Everything belongs to the loop thread, except what a job that is under way lends to the store thread (stated
 * at the fields). */
#ifndef BORA_SESSION_SESSION_PRIVATE_H
#define BORA_SESSION_SESSION_PRIVATE_H

#include "session/compiler.h"
#include "session/session.h"

typedef struct bora_live bora_live;
typedef struct bora_open bora_open;
typedef struct bora_verb bora_verb;

/* A session in memory. Idle: its cache is in the engine and sequence is set. Running: open is set, and the engine or
 * the store is busy with it; tokens and record then are those of the last stored turn until the commit begins. */
struct bora_live {
    bora_live *next;
    char *owner;
    bora_session_record record;
    bora_tokens tokens;      /* the whole history; lent to the store thread during a commit */
    bora_sequence *sequence; /* NULL while a generation has it, or before the first one */
    bora_open *open;         /* NULL: idle */
    uint64_t n_tokens;       /* for status: with those of the running answer */
    uint64_t kv_bytes;
    uint64_t last_used; /* the manager's clock */
    bool deleted;       /* gone from the store; leaves memory when the generation has ended */
};

#define BORA_OPEN_COMPILING  4 /* the compiler has its grammar */
#define BORA_OPEN_LOADING    1 /* a load is in the store's queue */
#define BORA_OPEN_RUNNING    2 /* the engine has it */
#define BORA_OPEN_COMMITTING 3 /* the turn is in the store's queue */

/* One of a generation's two jobs: load, later commit. */
typedef struct bora_open_job {
    bora_store_job job;
    bora_open *open;
} bora_open_job;

/* A generation from request to last reply. */
struct bora_open {
    bora_open *next;
    bora_sessions *sessions;
    uint64_t id;
    int state;
    bora_reply_fn handler; /* NULL: abandoned */
    void *user;
    bool cancelled;      /* asked for */
    bool cancel_sent;    /* the engine knows */
    const char *cut_why; /* it was not asked for by whom the generation belongs to; may be NULL */

    /* The request. Read by the store thread, never changed. */
    char *owner;
    char *key; /* session's name or id; NULL: no session */
    bool create;
    char *text;   /* the user's message; NULL: raw */
    char *system; /* may be NULL */
    char *form;   /* a JSON schema or a grammar; NULL: any text */
    bool is_schema;
    uint32_t max_tokens;
    uint64_t seed;

    bora_generation *generation;    /* prepared; NULL once the engine has it */
    bora_tokens added;              /* what the turn adds to the history before the answer */
    bora_open_job store;            /* of the load, then of the commit */
    bora_session_contents contents; /* filled by the load (store thread) */
    bora_live *live;                /* NULL: no session, or not loaded yet */
    bool system_is_new;             /* the session takes its system prompt from this turn */
    bool system_ignored;
    bool replace_pages;  /* stored pages are damaged: what comes replaces them all */
    bool cut_by_context; /* the context leaves room for fewer tokens than were asked for */
    int64_t created;     /* ms since 1970, of the user's message */
    uint64_t n_history, n_cached, n_prompt;
    bool is_fetching;           /* its pages are: a job is in the store's queue */
    struct bora_command *reply; /* for the engine, that waits for them */
    uint64_t store_size;        /* of these pages, taken from the ledger */
    uint32_t n_choices_ended;   /* that gave tokens */
    uint64_t n_choice_tokens;   /* theirs */
    bora_event *early;          /* the engine's last, that came meanwhile */
    uint64_t requested_size;    /* bytes that the ledger counts for the request */

    bora_event *done;      /* the engine's last; read by the store thread during the commit */
    bora_turn turn;        /* of the commit */
    uint64_t committed_ns; /* when the commit was submitted */
    bora_verb *held;       /* deletes of this session, answered after the generation's last reply; by next */
};

/* A request that is one job for the store. */
struct bora_verb {
    bora_store_job job;
    bora_verb *next; /* behind it in bora_open.held */
    bora_reply_fn handler;
    void *user;
    int reply;                /* BORA_REPLY_* when all goes well */
    char *model, *model_name; /* fingerprint and name of a new session's model; read by the store thread, as are: */
    char *owner, *session, *name, *system;
    bora_session_contents contents; /* filled by the store thread, as are records; a record alone is in it too */
    bora_session_record *records;   /* [n_records] */
    size_t n_records;
};

struct bora_sessions {
    const bora_model *model;
    bora_scheduler *scheduler;
    bora_store *store;
    bora_sessions_options options;
    const bora_log *log;
    bora_compiler *compiler;
    bora_vocabulary *vocabulary;                /* for grammars; NULL: the model cannot be held to one */
    bora_ledger *ledger;                        /* the pipeline's; may be NULL */
    uint64_t kv_position_size, kv_sequence_max; /* bytes; the pipeline's */

    bora_live *live; /* no order */
    bora_open *open; /* no order */
    uint32_t n_open;
    uint64_t pressure;       /* bytes that the engine lacks and has not been answered about; 0: none */
    uint32_t n_verbs;        /* jobs of verbs in the store's queue or held */
    uint32_t n_name_changes; /* renames and deletes in the store's queue: names in memory may be old */
    uint64_t last_id, clock;
    bool stopping;
    bora_sessions_stats ended; /* what only grows of the statistics */
};

/* ---- live.c ---- */

/* The owner's session by name or id; NULL if it is not in memory (or its name may just be changing). */
bora_live *bora_live_find(const bora_sessions *sessions, const char *owner, const char *name_or_id);
bora_live *bora_live_find_id(const bora_sessions *sessions, const char *owner, const char *id);
/* Takes record and tokens out of contents. The new session is in the table, idle and without a sequence. */
bora_status bora_live_add(bora_sessions *sessions, const char *owner, bora_session_contents *contents,
                          bora_live **ret_live, bora_error *err);
/* Takes it out of memory; its sequence is closed. */
void bora_live_drop(bora_sessions *sessions, bora_live *live);
/* Idle sessions beyond n_live_max leave, least recently used first. */
void bora_live_shrink(bora_sessions *sessions);
/* While the engine lacks memory: idle sessions leave until that much is free, and the engine is told. What cannot be
 * done now is done when a generation ends. */
void bora_live_relieve(bora_sessions *sessions);
/* Closes a sequence that the engine handed out. */
void bora_live_close_sequence(bora_sessions *sessions, bora_sequence *sequence);
void bora_live_free(bora_live *live); /* not its sequence; NULL is a no-op */

/* ---- request.c ---- */

/* Checks the request and makes a copy that can run: sampling, stops and, without a session, the tokens. Not linked into
 * the manager yet. Errors: INVAL, UNSUPPORTED, LIMIT, NOMEM. */
bora_status bora_open_new(bora_sessions *sessions, const bora_generate_request *request, bora_reply_fn handler,
                          void *user, bora_open **ret_open, bora_error *err);
void bora_open_free(bora_open *open); /* with its last event; NULL is a no-op */
/* Makes the matcher of the request's grammar; the compiler's thread. Errors: what the grammar's compilers say,
 * UNSUPPORTED (the model cannot be held to one), BUSY (no memory for it). */
bora_status bora_open_compile(bora_open *open, bora_error *err);
/* Lays the turn out after the session's history (open->live). Errors: LIMIT, NOMEM. */
bora_status bora_open_lay_out(bora_open *open, bora_error *err);

/* ---- generate.c ---- */

void bora_open_cancel(bora_open *open);
void bora_open_on_event(bora_open *open, bora_event *event);

/* ---- verbs.c ---- */

/* Sends a held verb's answer and frees it. */
void bora_verb_finish(bora_sessions *sessions, bora_verb *verb);
/* Frees it, and those linked behind it; no handler is called. NULL is a no-op. */
void bora_verbs_free(bora_verb *verb);

#endif
