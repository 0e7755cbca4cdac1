/* One thread, one queue. A job's mail links it first into the queue, then into the replies' mailbox, so that neither
 * way allocates. */
#include "session/store.h"

#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

struct bora_store {
    /* Constant while the thread runs. */
    const char *path; /* borrowed; only until the thread is ready */
    const bora_log *log;
    bora_mailbox *replies;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t work;             /* a job was queued, or closing */
    pthread_cond_t ready;            /* is_ready was set */
    bora_store_job *oldest, *newest; /* protected by lock: the queue, linked by mail.next */
    bool closing;                    /* protected by lock */
    bool is_ready;                   /* protected by lock: open_status and open_error are set */
    bora_status open_status;
    bora_error open_error;
    atomic_uint n_pending; /* atomic so that any thread may ask without the lock */
};

/* ---- the store thread ---------------------------------------------------------------------------------- */

/* The oldest job; waits for one. NULL when the queue is empty and no more will come. */
static bora_store_job *take_job(bora_store *store)
{
    (void)pthread_mutex_lock(&store->lock);
    while (!store->oldest && !store->closing)
        (void)pthread_cond_wait(&store->work, &store->lock);
    bora_store_job *job = store->oldest;
    if (job) {
        store->oldest = (bora_store_job *)job->mail.next; /* the mail is the job's first member */
        if (!store->oldest)
            store->newest = NULL;
    }
    (void)pthread_mutex_unlock(&store->lock);
    return job;
}

static void *store_main(void *arg)
{
    bora_store *store = arg;
    bora_db *db = NULL;
    bora_error error = {{0}};
    bora_status st = bora_db_open(store->path, store->log, &db, &error);
    (void)pthread_mutex_lock(&store->lock);
    store->open_status = st;
    store->open_error = error;
    store->is_ready = true;
    (void)pthread_cond_signal(&store->ready);
    (void)pthread_mutex_unlock(&store->lock);
    if (st != BORA_OK)
        return NULL;
    bora_store_job *job;
    while ((job = take_job(store))) {
        job->run(job, db);
        /* First, so that whoever has the reply finds it counted no more. */
        (void)atomic_fetch_sub(&store->n_pending, 1);
        bora_mailbox_send(store->replies, &job->mail);
    }
    bora_db_close(db);
    return NULL;
}

/* ---- its clients --------------------------------------------------------------------------------------- */

/* The thread takes no signals: they are the loop's. */
static int start_thread(bora_store *store)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&store->thread, NULL, store_main, store);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void store_free(bora_store *store)
{
    (void)pthread_cond_destroy(&store->ready);
    (void)pthread_cond_destroy(&store->work);
    (void)pthread_mutex_destroy(&store->lock);
    bora_free(store);
}

bora_status bora_store_open(const char *path, const bora_log *log, bora_mailbox *replies, bora_store **ret_store,
                            bora_error *err)
{
    bora_store *store = bora_calloc(1, sizeof *store);
    if (!store)
        return bora_fail(err, BORA_E_NOMEM, "session store");
    store->path = path;
    store->log = log;
    store->replies = replies;
    (void)pthread_mutex_init(&store->lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_cond_init(&store->work, NULL);
    (void)pthread_cond_init(&store->ready, NULL);
    int code = start_thread(store);
    if (code) {
        store_free(store);
        return bora_fail(err, BORA_E_IO, "starting the store thread: %s", strerror(code));
    }
    (void)pthread_mutex_lock(&store->lock);
    while (!store->is_ready)
        (void)pthread_cond_wait(&store->ready, &store->lock);
    bora_status st = store->open_status;
    (void)pthread_mutex_unlock(&store->lock);
    store->path = NULL;
    if (st != BORA_OK) {
        (void)pthread_join(store->thread, NULL);
        if (err)
            *err = store->open_error;
        store_free(store);
        return st;
    }
    *ret_store = store;
    return BORA_OK;
}

void bora_store_submit(bora_store *store, bora_store_job *job)
{
    job->mail.next = NULL;
    (void)atomic_fetch_add(&store->n_pending, 1);
    (void)pthread_mutex_lock(&store->lock);
    if (store->newest)
        store->newest->mail.next = &job->mail;
    else
        store->oldest = job;
    store->newest = job;
    (void)pthread_cond_signal(&store->work);
    (void)pthread_mutex_unlock(&store->lock);
}

uint32_t bora_store_pending(const bora_store *store)
{
    return atomic_load(&store->n_pending);
}

void bora_store_close(bora_store *store)
{
    if (!store)
        return;
    (void)pthread_mutex_lock(&store->lock);
    store->closing = true;
    (void)pthread_cond_signal(&store->work);
    (void)pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->thread, NULL);
    store_free(store);
}
