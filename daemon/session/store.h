/* The store thread: the only owner of the session database.
 *
 * Work arrives as jobs, runs in order, and goes back to the sender's mailbox, where the job's done function is called
 * by whoever empties it. Ready handshake at start; close lets queued jobs finish, then joins. */
#ifndef BORA_SESSION_STORE_H
#define BORA_SESSION_STORE_H

#include "base/mailbox.h"
#include "session/db.h"

#define BORA_STORE_QUEUE_MAX 64u /* jobs waiting: then what can be refused is */

typedef struct bora_store bora_store;
typedef struct bora_store_job bora_store_job;

/* First member of a job's own struct. */
struct bora_store_job {
    bora_mail mail;
    void (*run)(bora_store_job *job, bora_db *db);    /* store thread: fills status and error */
    void (*done)(bora_store_job *job, void *context); /* the replies' reader; frees the job */
    bora_status status;
    bora_error error;
};

/* Opens the database on the new thread. Finished jobs are sent to replies (borrowed). */
bora_status bora_store_open(const char *path, const bora_log *log, bora_mailbox *replies, bora_store **ret_store,
                            bora_error *err);
/* The loop thread. Never waits. The queue has no limit of its own: generations are as many as may be open, and whoever
 * submits other jobs asks bora_store_pending first. */
void bora_store_submit(bora_store *store, bora_store_job *job);
/* Jobs that are waiting or running; one whose reply was sent is neither. Any thread. */
uint32_t bora_store_pending(const bora_store *store);
/* Finishes what is queued, closes the database, joins. Replies may still arrive until it returns. NULL is a no-op. */
void bora_store_close(bora_store *store);

#endif
