/* The pool: every item once, whoever does it; nobody is waited for who has not begun; workers come when they are needed
 * and sleep when they are not. A wake-up that is lost shows as a test that does not end. */
#include "support/skip.h"

#include "base/memory.h"
#include "base/pool.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX 64u
#define ITEMS_MAX   3000u

static bora_pool *new_pool(uint32_t n_threads)
{
    bora_pool *pool = NULL;
    bora_error err = {""};
    if (bora_pool_new(n_threads, &pool, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(bora_pool_n_threads(pool), n_threads);
    return pool;
}

/* ---- every item once ------------------------------------------------------------------------------------------ */

typedef struct visits {
    uint32_t n_threads, n_items;
    uint8_t items[ITEMS_MAX];         /* plain: each belongs to one call, and the caller may read them afterwards */
    atomic_bool is_busy[THREADS_MAX]; /* that worker runs */
    atomic_uint n_wrong;              /* runs that should not be */
    uint32_t own_end[THREADS_MAX];    /* of a worker's last run in its own share; plain: its own */
} visits;

static void visit(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    visits *v = arg;
    if (worker >= v->n_threads || begin >= end || end > v->n_items || atomic_exchange(&v->is_busy[worker], true)) {
        (void)atomic_fetch_add(&v->n_wrong, 1);
        return;
    }
    for (uint32_t i = begin; i < end; i++)
        v->items[i]++;
    /* In its own share a worker ascends without gaps. */
    const uint32_t share = (uint32_t)((uint64_t)v->n_items * worker / v->n_threads);
    const uint32_t share_end = (uint32_t)((uint64_t)v->n_items * (worker + 1) / v->n_threads);
    if (v->n_items > 1 && v->n_threads > 1 && begin >= share && begin < share_end) {
        if (begin != (v->own_end[worker] ? v->own_end[worker] : share))
            (void)atomic_fetch_add(&v->n_wrong, 1);
        v->own_end[worker] = end;
    }
    atomic_store(&v->is_busy[worker], false);
}

static void test_every_item_once(void **state)
{
    (void)state;
    static const uint32_t threads[] = {1, 2, 3, 4, 7, THREADS_MAX};
    static const uint32_t counts[] = {0, 1, 2, 3, 4, 5, 16, 63, 64, 65, 100, 999, ITEMS_MAX};
    static visits v;
    for (size_t t = 0; t < BORA_ARRAY_SIZE(threads); t++) {
        bora_pool *pool = new_pool(threads[t]);
        for (int round = 0; round < 20; round++)
            for (size_t c = 0; c < BORA_ARRAY_SIZE(counts); c++) {
                memset(&v, 0, sizeof v);
                v.n_threads = threads[t];
                v.n_items = counts[c];
                bora_pool_parallel_for(pool, counts[c], visit, &v);
                assert_int_equal(atomic_load(&v.n_wrong), 0);
                for (uint32_t i = 0; i < ITEMS_MAX; i++)
                    assert_int_equal(v.items[i], i < counts[c]);
            }
        bora_pool_free(pool);
    }
    bora_pool_free(NULL);
}

static void count(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    (void)atomic_fetch_add((_Atomic uint64_t *)arg, end - begin);
}

static void test_as_many_items_as_there_can_be(void **state)
{
    (void)state;
    static const uint32_t counts[] = {UINT32_MAX, UINT32_MAX - 1, UINT32_C(1) << 31};
    for (uint32_t n_threads = 1; n_threads <= 5; n_threads += 2) {
        bora_pool *pool = new_pool(n_threads);
        for (size_t c = 0; c < BORA_ARRAY_SIZE(counts); c++) {
            _Atomic uint64_t sum = 0;
            bora_pool_parallel_for(pool, counts[c], count, &sum);
            assert_true(atomic_load(&sum) == counts[c]);
        }
        bora_pool_free(pool);
    }
}

static void test_memory_can_be_refused(void **state)
{
    (void)state;
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st != BORA_OK; n++) {
        bora_pool *pool = NULL;
        (void)bora_memory_fail_at(n);
        st = bora_pool_new(3, &pool, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK ? pool != NULL : st == BORA_E_NOMEM && !pool);
        bora_pool_free(pool);
    }
}

/* ---- waiting for each other ----------------------------------------------------------------------------------- */

#define HELD_ITEMS 100u

typedef struct hold {
    uint32_t holder;     /* worker whose first run ends when everything else is done */
    atomic_uint n_done;  /* items */
    atomic_bool is_held; /* the holder's first run has begun */
} hold;

static void hold_up(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    hold *h = arg;
    if (worker == h->holder && !atomic_exchange(&h->is_held, true))
        while (atomic_load(&h->n_done) < HELD_ITEMS - (end - begin))
            ; /* the others work */
    (void)atomic_fetch_add(&h->n_done, end - begin);
}

static void stay_busy(uint64_t ns)
{
    struct timespec start, now;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    do
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    while ((uint64_t)((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec) < ns);
}

/* A caller that is held up has its share done by workers, so they must come: from their sleep or not. The gaps between
 * calls lie around the time they wait awake. */
static void test_workers_come_and_take_what_the_caller_cannot_do(void **state)
{
    (void)state;
    for (uint32_t n_threads = 2; n_threads <= 4; n_threads++) {
        bora_pool *pool = new_pool(n_threads);
        for (uint32_t round = 0; round < 300; round++) {
            hold h = {.holder = 0};
            bora_pool_parallel_for(pool, HELD_ITEMS, hold_up, &h);
            assert_int_equal(atomic_load(&h.n_done), HELD_ITEMS);
            stay_busy(round % 16 * 12500);
        }
        bora_pool_free(pool);
    }
}

/* A worker that is held up loses its share to the others; the caller waits for its one run, long enough to sleep. */
static void test_others_take_what_a_worker_cannot_do(void **state)
{
    (void)state;
    for (uint32_t n_threads = 2; n_threads <= 4; n_threads++) {
        bora_pool *pool = new_pool(n_threads);
        for (uint32_t round = 0; round < 300; round++) {
            hold h = {.holder = n_threads - 1};
            bora_pool_parallel_for(pool, HELD_ITEMS, hold_up, &h);
            assert_int_equal(atomic_load(&h.n_done), HELD_ITEMS);
        }
        bora_pool_free(pool);
    }
}

static void dawdle(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    if (worker > 0 && !atomic_exchange((atomic_bool *)arg, true))
        stay_busy(1000000); /* the caller has long gone to sleep */
    (void)begin;
    (void)end;
}

static void test_the_caller_is_woken(void **state)
{
    (void)state;
    bora_pool *pool = new_pool(2);
    for (int round = 0; round < 20; round++) {
        atomic_bool was = false;
        bora_pool_parallel_for(pool, HELD_ITEMS, dawdle, &was);
    }
    bora_pool_free(pool);
}

/* ---- rest ----------------------------------------------------------------------------------------------------- */

/* Threads of this process that are not asleep. */
static uint32_t count_awake(void)
{
    uint32_t n_awake = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *entry = readdir(tasks); entry; entry = readdir(tasks)) {
        char path[64 + sizeof entry->d_name], text[256] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file)
            continue;
        (void)fread(text, 1, sizeof text - 1, file);
        (void)fclose(file);
        const char *end_of_name = strrchr(text, ')');
        n_awake += !end_of_name || end_of_name[1] == '\0' || end_of_name[2] != 'S';
    }
    (void)closedir(tasks);
    return n_awake;
}

/* Ends when all workers sleep: never, if they wait awake for ever. */
static void test_idle_workers_sleep(void **state)
{
    (void)state;
    bora_pool *pool = new_pool(2);
    _Atomic uint64_t sum = 0;
    for (int round = 0; round < 3; round++) {
        bora_pool_parallel_for(pool, 1000, count, &sum);
        while (count_awake() > 1)
            ;
    }
    assert_int_equal(atomic_load(&sum), 3000);
    bora_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_as_many_items_as_there_can_be),
        cmocka_unit_test(test_memory_can_be_refused),
        cmocka_unit_test(test_workers_come_and_take_what_the_caller_cannot_do),
        cmocka_unit_test(test_others_take_what_a_worker_cannot_do),
        cmocka_unit_test(test_the_caller_is_woken),
        cmocka_unit_test(test_idle_workers_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
