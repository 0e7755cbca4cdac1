/* The session database: one SQLite connection and everything that is stored.
 *
 * Synchronous, for one thread (the store thread; see store.h). Every function that changes something is one
 * transaction: it happens as a whole or not at all. Owners are strings ("uid:1000"); no function sees another owner's
 * rows. */
#ifndef BORA_SESSION_DB_H
#define BORA_SESSION_DB_H

#include "base/log.h"
#include "base/status.h"
#include "engine/pages.h"

#include <stdbool.h>

#define BORA_SESSION_ID_SIZE   33 /* 32 hex digits (128 bit, sortable by time) and a zero */
#define BORA_SESSION_NAME_SIZE 65

typedef struct bora_db bora_db;

/* One session without its contents. Caller-owned; release frees what it points to. */
typedef struct bora_session_record {
    char id[BORA_SESSION_ID_SIZE];
    char name[BORA_SESSION_NAME_SIZE];
    char model[33]; /* fingerprint */
    char *model_name;
    char *system;             /* system prompt; NULL: none */
    int64_t created, updated; /* ms since 1970 */
    uint64_t n_tokens;
    uint64_t n_cached; /* tokens whose keys and values are stored (pages cover what the windows need) */
    uint64_t n_messages;
    uint64_t n_turns; /* number that the next turn gets */
} bora_session_record;

typedef struct bora_session_message {
    uint64_t turn;    /* from 0; a user's message and its answer share it */
    char *role;       /* "user" or "assistant" */
    char *text;       /* zero-terminated UTF-8 */
    size_t text_size; /* bytes; an answer may have zero bytes in it */
    bool interrupted;
    int64_t created; /* ms since 1970 */
} bora_session_message;

typedef struct bora_session_contents {
    bora_session_record record;
    bora_session_message *messages; /* [n_messages] */
    size_t n_messages;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
    bora_page *pages; /* [n_pages], by class, then ascending */
    size_t n_pages;
    char *damage; /* not NULL: pages that were left out and why, for the log */
} bora_session_contents;

void bora_session_record_release(bora_session_record *record);
void bora_session_contents_release(bora_session_contents *contents);

/* Opens or creates the file (0600) with WAL, foreign keys, page_size 65536, synchronous FULL; migrates older schemas
 * in order (PRAGMA user_version); refuses newer ones (UNSUPPORTED), files that are not ours (FORMAT), a file that
 * another daemon holds (BUSY; a lock file beside it). Runs a quick integrity check of the schema and the small tables.
 */
bora_status bora_db_open(const char *path, const bora_log *log, bora_db **ret_db, bora_error *err);
void bora_db_close(bora_db *db); /* NULL is a no-op */

/* Makes a session. name NULL or "": one is made up (from the time, unique). Errors: EXISTS, FULL, IO, INVAL (name rules
 * of PROTOCOL.md). */
bora_status bora_db_create(bora_db *db, const char *owner, const char *name, const char *system, const char *model,
                           const char *model_name, bora_session_record *ret_record, bora_error *err);
/* The owner's sessions, last used first; an array of *ret_n records (bora_free after releasing each). */
bora_status bora_db_list(bora_db *db, const char *owner, bora_session_record **ret_records, size_t *ret_n,
                         bora_error *err);

#define BORA_DB_MESSAGES 1u
#define BORA_DB_TOKENS   2u
#define BORA_DB_PAGES    4u
/* One session by name or id, with the parts asked for, as it stood at one moment. Pages that are not what was stored
 * are left out and named in contents.damage, and so are gaps; tokens that are not are FORMAT. Errors: NOT_FOUND, IO,
 * FORMAT, NOMEM. */
bora_status bora_db_load(bora_db *db, const char *owner, const char *name_or_id, unsigned parts,
                         bora_session_contents *ret_contents, bora_error *err);

/* A finished turn. All borrowed. */
typedef struct bora_turn {
    const char *session_id;
    const char *model;       /* fingerprint */
    uint64_t turn;           /* number of the user's message */
    const char *user_text;   /* zero-terminated; NULL: only tokens and pages change */
    const char *answer_text; /* [answer_size] */
    size_t answer_size;      /* bytes */
    const char *system;      /* not NULL: becomes the session's system prompt (its first turn brought it) */
    bool interrupted;        /* of the answer */
    int64_t user_created, answer_created; /* ms since 1970 */
    uint64_t first_token;                 /* position of tokens[0]: must be what is stored now (n_tokens), else BUSY */
    const int32_t *tokens;                /* [n_tokens] that the turn added */
    size_t n_tokens;
    uint64_t n_cached;      /* after the turn */
    const bora_page *pages; /* [n_pages] new or grown: replace those of the same class and index. Of each class, in
                             * ascending order without gaps up to n_cached */
    size_t n_pages;
    const uint64_t *keep_from; /* [n_classes] pages of class c with index < keep_from[c] are deleted */
    size_t n_classes;
    bool replace_pages; /* delete all older pages first (the whole cache was run again) */
} bora_turn;

/* One transaction; costs what the turn's own pages cost. Errors: NOT_FOUND (deleted meanwhile, other owner),
 * UNSUPPORTED (another model's session), INVAL (counts or pages that contradict each other), FULL, IO, BUSY. */
bora_status bora_db_commit(bora_db *db, const char *owner, const bora_turn *turn, bora_error *err);
bora_status bora_db_rename(bora_db *db, const char *owner, const char *name_or_id, const char *new_name,
                           bora_session_record *ret_record, bora_error *err);
/* With all it holds; the file gets smaller if there is room for that. ret_id may be NULL. */
bora_status bora_db_delete(bora_db *db, const char *owner, const char *name_or_id, char ret_id[BORA_SESSION_ID_SIZE],
                           bora_error *err);

/* The rules for names; see PROTOCOL.md. Errors: INVAL, with the rule that is broken. */
bora_status bora_session_name_check(const char *name, bora_error *err);

#endif
