/* The store thread: jobs in order, a queue with an end, replies, and a close that loses nothing. */
#include "db_fixture.h"

#include "base/mailbox.h"
#include "session/store.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>

typedef struct store_fixture {
    fixture base; /* without a database of its own */
    bora_mailbox *replies;
    bora_store *store;
    sem_t started, gate; /* of jobs that wait */
    unsigned n_run;      /* jobs run so far: of the store thread alone until close */
    unsigned n_done;     /* of the test's thread */
} store_fixture;

typedef struct test_job {
    bora_store_job job; /* first */
    store_fixture *owner;
    bool waits;
    unsigned number, run_as, done_as; /* run_as, done_as: counted from 0 */
    bora_session_record record;
    bool all_signals_blocked;
} test_job;

static void job_run(bora_store_job *base, bora_db *db)
{
    test_job *job = (test_job *)base;
    char name[32];
    if (job->waits) {
        (void)sem_post(&job->owner->started);
        while (sem_wait(&job->owner->gate) != 0)
            ;
    }
    job->run_as = job->owner->n_run++;
    sigset_t blocked;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    job->all_signals_blocked = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT);
    (void)snprintf(name, sizeof name, "s%u", job->number);
    base->status = bora_db_create(db, OWNER, name, NULL, MODEL, "tiny", &job->record, &base->error);
}

static void job_done(bora_store_job *base, void *context)
{
    test_job *job = (test_job *)base;
    assert_ptr_equal(context, job->owner);
    job->done_as = job->owner->n_done++;
    if (base->status == BORA_OK)
        bora_session_record_release(&job->record);
}

static void submit(store_fixture *s, test_job *job, unsigned number, bool waits)
{
    *job = (test_job){.job = {.run = job_run, .done = job_done}, .owner = s, .number = number, .waits = waits};
    bora_store_submit(s->store, &job->job);
}

/* Waits for n replies and hands them to their jobs. */
static void take_replies(store_fixture *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        bora_store_job *job = (bora_store_job *)bora_mailbox_wait(s->replies, -1);
        job->done(job, s);
    }
}

static int setup(void **state)
{
    store_fixture *s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    bora_temp_folder_make(&s->base.folder);
    bora_temp_folder_path(&s->base.folder, "sessions.db", s->base.path);
    (void)sem_init(&s->started, 0, 0);
    (void)sem_init(&s->gate, 0, 0);
    *state = s;
    return bora_mailbox_new(&s->replies, NULL) == BORA_OK &&
                   bora_store_open(s->base.path, NULL, s->replies, &s->store, NULL) == BORA_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    store_fixture *s = *state;
    bora_store_close(s->store);
    bora_mailbox_free(s->replies);
    (void)sem_destroy(&s->started);
    (void)sem_destroy(&s->gate);
    bora_temp_folder_remove(&s->base.folder);
    free(s);
    return 0;
}

static void test_jobs_run_in_order(void **state)
{
    store_fixture *s = *state;
    static test_job jobs[150];
    for (unsigned i = 0; i < BORA_ARRAY_SIZE(jobs); i++)
        submit(s, &jobs[i], i, false);
    take_replies(s, BORA_ARRAY_SIZE(jobs));
    assert_int_equal(bora_store_pending(s->store), 0);
    for (unsigned i = 0; i < BORA_ARRAY_SIZE(jobs); i++) {
        assert_int_equal(jobs[i].job.status, BORA_OK);
        assert_int_equal(jobs[i].run_as, i);
        assert_int_equal(jobs[i].done_as, i);
        assert_true(jobs[i].all_signals_blocked);
    }
}

static void test_a_job_has_its_own_error(void **state)
{
    store_fixture *s = *state;
    test_job good, bad;
    submit(s, &good, 1, false);
    submit(s, &bad, 1, false); /* the same name */
    take_replies(s, 2);
    assert_int_equal(good.job.status, BORA_OK);
    assert_int_equal(bad.job.status, BORA_E_EXISTS);
    assert_non_null(strstr(bad.job.error.message, "s1"));
}

static void test_pending_counts_waiting_and_running(void **state)
{
    store_fixture *s = *state;
    test_job jobs[4];
    assert_int_equal(bora_store_pending(s->store), 0);
    submit(s, &jobs[0], 0, true);
    assert_int_equal(sem_wait(&s->started), 0); /* it runs */
    for (unsigned i = 1; i < 4; i++) {
        submit(s, &jobs[i], i, true);
        assert_int_equal(bora_store_pending(s->store), i + 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        (void)sem_post(&s->gate);
        take_replies(s, 1);
        assert_int_equal(bora_store_pending(s->store), 3 - i);
    }
}

/* However many wait: the one who submits never does. */
static void test_submitting_never_waits(void **state)
{
    store_fixture *s = *state;
    static test_job jobs[4 * BORA_STORE_QUEUE_MAX];
    submit(s, &jobs[0], 0, true);
    assert_int_equal(sem_wait(&s->started), 0);
    for (unsigned i = 1; i < BORA_ARRAY_SIZE(jobs); i++)
        submit(s, &jobs[i], i, false); /* or the test would stand still here */
    assert_int_equal(bora_store_pending(s->store), BORA_ARRAY_SIZE(jobs));
    (void)sem_post(&s->gate);
    take_replies(s, BORA_ARRAY_SIZE(jobs));
    for (unsigned i = 0; i < BORA_ARRAY_SIZE(jobs); i++)
        assert_int_equal(jobs[i].run_as, i);
}

static void test_close_finishes_what_is_queued(void **state)
{
    store_fixture *s = *state;
    static test_job jobs[20];
    for (unsigned i = 0; i < BORA_ARRAY_SIZE(jobs); i++)
        submit(s, &jobs[i], i, i == 0);
    assert_int_equal(sem_wait(&s->started), 0);
    (void)sem_post(&s->gate);
    bora_store_close(s->store);
    s->store = NULL;
    assert_int_equal(bora_mailbox_count(s->replies), BORA_ARRAY_SIZE(jobs));
    take_replies(s, BORA_ARRAY_SIZE(jobs));
    for (unsigned i = 0; i < BORA_ARRAY_SIZE(jobs); i++)
        assert_int_equal(jobs[i].job.status, BORA_OK);
    assert_int_equal(ask(s->base.path, "SELECT count(*) FROM session"), BORA_ARRAY_SIZE(jobs));
    bora_store_close(NULL);
}

static void test_open_says_why_not(void **state)
{
    store_fixture *s = *state;
    bora_store *second = NULL;
    bora_error error = {{0}};
    assert_int_equal(bora_store_open(s->base.path, NULL, s->replies, &second, &error), BORA_E_BUSY);
    assert_non_null(strstr(error.message, "in use"));
    assert_int_equal(bora_store_open("/proc/no/such/folder", NULL, s->replies, &second, &error), BORA_E_IO);
    assert_null(second);
    for (uint64_t n = 1; n < 4; n++) { /* the store, the database, the name of its lock */
        (void)bora_memory_fail_at(n);
        bora_status st = bora_store_open(s->base.path, NULL, s->replies, &second, &error);
        (void)bora_memory_fail_at(0);
        assert_int_equal(st, BORA_E_NOMEM);
        assert_null(second);
    }
}

static void test_sessions_outlive_the_store(void **state)
{
    store_fixture *s = *state;
    test_job job;
    for (unsigned i = 0; i < 3; i++) {
        submit(s, &job, i, false);
        take_replies(s, 1);
        assert_int_equal(job.job.status, BORA_OK);
        bora_store_close(s->store);
        s->store = NULL;
        assert_int_equal(bora_store_open(s->base.path, NULL, s->replies, &s->store, NULL), BORA_OK);
    }
    assert_int_equal(ask(s->base.path, "SELECT count(*) FROM session"), 3);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_jobs_run_in_order),
        STORE_TEST(test_a_job_has_its_own_error),
        STORE_TEST(test_pending_counts_waiting_and_running),
        STORE_TEST(test_submitting_never_waits),
        STORE_TEST(test_close_finishes_what_is_queued),
        STORE_TEST(test_open_says_why_not),
        STORE_TEST(test_sessions_outlive_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
