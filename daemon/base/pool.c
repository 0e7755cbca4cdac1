/* One word says what goes on: which call it is, whether it is open, how many workers are inside. A worker enters by
 * changing that word from "open, n inside" to "open, n + 1 inside", so it can neither enter a call that is over nor
 * miss that it has changed. The caller opens, works, closes when nothing is left to take, and waits until nobody is
 * inside. Who comes late finds the door closed and does not matter.
 *
 * The items are cut evenly into shares, one per thread, each a pair (begin, end) in one word. The owner takes runs from
 * the beginning, others from the end, both by compare-and-swap.
 *
 * Sleeping: who is about to sleep first says so, then looks once more; who changes something first changes it, then
 * looks whether somebody sleeps. All four are sequentially consistent, so one of the two sees the other. */
#include "base/pool.h"

#include "base/memory.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define CACHE_LINE   64u
/* How long to wait awake: longer than what a step does between two calls, shorter than what would be felt. */
#define SPIN_NS      100000u
/* Of this, the part before a waiting thread lets others have its core between two looks. */
#define SPIN_HARD_NS 5000u
#define PAUSES       16u /* between two looks at the clock */

/* An owner takes an eighth of what is left of its share at a time, a thief a quarter: runs get shorter towards the end,
 * where they decide how long all wait for the last one. */
#define OWNER_PART   8u
#define THIEF_PART   4u

#define STATE_INSIDE 0x1ffffu /* workers inside */
#define STATE_OPEN   (UINT64_C(1) << 17)
#define STATE_STOP   (UINT64_C(1) << 18)
#define STATE_CALL   (UINT64_C(1) << 19) /* counts calls from here on: 45 bits do not wrap */

typedef struct pool_share {
    /* begin << 32 | end of the items nobody has taken. Atomic: owner and thieves take from it. */
    _Alignas(CACHE_LINE) _Atomic uint64_t left;
} pool_share;

typedef struct pool_worker {
    bora_pool *pool;
    pthread_t thread;
    uint32_t index; /* 1 .. n_threads-1 */
} pool_worker;

struct bora_pool {
    /* STATE_*. Atomic: the door, as told above. */
    _Alignas(CACHE_LINE) _Atomic uint64_t state;
    /* Written by the caller while the call is closed and nobody is inside; entering makes them visible. */
    bora_parallel_fn fn;
    void *arg;
    uint32_t n_threads;
    bool spins;
    _Alignas(CACHE_LINE) atomic_uint n_sleeping; /* workers; atomic: see above */
    atomic_bool caller_sleeps;                   /* atomic: see above */
    pthread_mutex_t lock;                        /* held from the last look until asleep, and to wake */
    pthread_cond_t work_ready, work_done;
    uint32_t n_started;   /* threads to join */
    pool_worker *workers; /* [n_threads - 1] */
    pool_share shares[];  /* [n_threads] */
};

/* ---- waiting -------------------------------------------------------------------------------------------------- */

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Waits awake until state & mask is something else than value; false when that took too long. */
static bool spin_while(bora_pool *pool, uint64_t mask, uint64_t value)
{
    if (!pool->spins)
        return (atomic_load_explicit(&pool->state, memory_order_acquire) & mask) != value;
    for (uint64_t start = now_ns();;) {
        for (uint32_t i = 0; i < PAUSES; i++) {
            if ((atomic_load_explicit(&pool->state, memory_order_acquire) & mask) != value)
                return true;
            pause_briefly();
        }
        uint64_t passed = now_ns() - start;
        if (passed > SPIN_NS)
            return false;
        if (passed > SPIN_HARD_NS)
            (void)sched_yield(); /* cannot fail on Linux */
    }
}

/* A worker waits until the call is another one than seen (its number, or the pool's stop). */
static void await_call(bora_pool *pool, uint64_t seen)
{
    const uint64_t mask = ~(uint64_t)(STATE_INSIDE | STATE_OPEN);
    if (spin_while(pool, mask, seen))
        return;
    (void)pthread_mutex_lock(&pool->lock);
    (void)atomic_fetch_add(&pool->n_sleeping, 1);
    while ((atomic_load(&pool->state) & mask) == seen)
        (void)pthread_cond_wait(&pool->work_ready, &pool->lock);
    (void)atomic_fetch_sub(&pool->n_sleeping, 1);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* The caller, having closed the call, waits until nobody is inside. */
static void await_leaving(bora_pool *pool)
{
    uint64_t state = atomic_load_explicit(&pool->state, memory_order_acquire);
    while (state & STATE_INSIDE) {
        if (spin_while(pool, ~UINT64_C(0), state)) {
            state = atomic_load_explicit(&pool->state, memory_order_acquire);
            continue;
        }
        (void)pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->caller_sleeps, true);
        while (atomic_load(&pool->state) & STATE_INSIDE)
            (void)pthread_cond_wait(&pool->work_done, &pool->lock);
        atomic_store(&pool->caller_sleeps, false);
        (void)pthread_mutex_unlock(&pool->lock);
        return;
    }
}

static void wake_workers(bora_pool *pool)
{
    if (atomic_load(&pool->n_sleeping) == 0)
        return;
    (void)pthread_mutex_lock(&pool->lock);
    (void)pthread_cond_broadcast(&pool->work_ready);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* ---- sharing -------------------------------------------------------------------------------------------------- */

static uint64_t pack(uint32_t begin, uint32_t end)
{
    return (uint64_t)begin << 32 | end;
}

/* Takes one run of a share, from its beginning if it is the worker's own, else from its end. False: nothing is left. */
static bool take(pool_share *share, bool is_own, uint32_t *ret_begin, uint32_t *ret_end)
{
    /* Relaxed: only the numbers themselves are handed over; fn, arg and what they stand for came with entering. */
    uint64_t left = atomic_load_explicit(&share->left, memory_order_relaxed), rest;
    do {
        const uint32_t begin = (uint32_t)(left >> 32), end = (uint32_t)left, n = end - begin;
        if (n == 0)
            return false;
        const uint32_t part = is_own ? OWNER_PART : THIEF_PART, taken = n / part ? n / part : 1;
        *ret_begin = is_own ? begin : end - taken;
        *ret_end = is_own ? begin + taken : end;
        rest = is_own ? pack(begin + taken, end) : pack(begin, end - taken);
    } while (
        !atomic_compare_exchange_weak_explicit(&share->left, &left, rest, memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* Own share first, then the others', until nothing is left to take anywhere. */
static void work(bora_pool *pool, uint32_t worker)
{
    for (uint32_t i = 0; i < pool->n_threads; i++) {
        pool_share *share = &pool->shares[(worker + i) % pool->n_threads];
        uint32_t begin, end;
        while (take(share, i == 0, &begin, &end))
            pool->fn(pool->arg, begin, end, worker);
    }
}

static void *worker_main(void *arg)
{
    const pool_worker *worker = arg;
    bora_pool *pool = worker->pool;
    for (uint64_t seen = 0;;) {
        await_call(pool, seen);
        uint64_t state = atomic_load_explicit(&pool->state, memory_order_relaxed);
        bool is_inside = false;
        while ((state & STATE_OPEN) && !is_inside) /* acquire: what the caller wrote before opening */
            is_inside = atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1, memory_order_acquire,
                                                              memory_order_relaxed);
        if (state & STATE_STOP)
            return NULL;
        seen = state & ~(uint64_t)(STATE_INSIDE | STATE_OPEN);
        if (!is_inside)
            continue;
        work(pool, worker->index);
        state = atomic_fetch_sub(&pool->state, 1); /* releases what fn has written */
        if ((state & STATE_INSIDE) == 1 && atomic_load(&pool->caller_sleeps)) {
            (void)pthread_mutex_lock(&pool->lock);
            (void)pthread_cond_signal(&pool->work_done);
            (void)pthread_mutex_unlock(&pool->lock);
        }
    }
}

void bora_pool_parallel_for(bora_pool *pool, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    if (n_items == 0)
        return;
    if (pool->n_threads == 1 || n_items == 1) {
        fn(arg, 0, n_items, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    for (uint32_t i = 0; i < pool->n_threads; i++) {
        uint32_t begin = (uint32_t)((uint64_t)n_items * i / pool->n_threads);
        uint32_t end = (uint32_t)((uint64_t)n_items * (i + 1) / pool->n_threads);
        atomic_store_explicit(&pool->shares[i].left, pack(begin, end), memory_order_relaxed);
    }
    (void)atomic_fetch_add(&pool->state, STATE_CALL + STATE_OPEN);
    wake_workers(pool);
    work(pool, 0);
    (void)atomic_fetch_sub(&pool->state, STATE_OPEN);
    await_leaving(pool);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

/* Waiting awake takes a core from those who work unless every thread has one. */
static bool has_cores_for(uint32_t n_threads)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) != 0 || (uint32_t)CPU_COUNT(&set) >= n_threads;
}

bora_status bora_pool_new(uint32_t n_threads, bora_pool **ret_pool, bora_error *err)
{
    if (n_threads < 1)
        n_threads = 1;
    if (n_threads > STATE_INSIDE)
        return bora_fail(err, BORA_E_NOMEM, "thread pool of %u", n_threads);
    size_t size = sizeof(bora_pool) + n_threads * sizeof(pool_share);
    bora_pool *pool = bora_alloc_aligned(CACHE_LINE, size);
    if (!pool)
        return bora_fail(err, BORA_E_NOMEM, "thread pool of %u", n_threads);
    memset(pool, 0, size);
    pool->n_threads = n_threads;
    pool->spins = has_cores_for(n_threads);
    (void)pthread_mutex_init(&pool->lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_cond_init(&pool->work_ready, NULL);
    (void)pthread_cond_init(&pool->work_done, NULL);
    pool->workers = bora_calloc(n_threads - 1, sizeof *pool->workers);
    if (!pool->workers) {
        bora_pool_free(pool);
        return bora_fail(err, BORA_E_NOMEM, "thread pool of %u", n_threads);
    }
    for (uint32_t i = 1; i < n_threads; i++) {
        pool_worker *worker = &pool->workers[i - 1];
        *worker = (pool_worker){.pool = pool, .index = i};
        int code = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (code) {
            bora_pool_free(pool);
            return bora_fail(err, BORA_E_IO, "starting compute thread %u of %u: %s", i, n_threads, strerror(code));
        }
        pool->n_started++;
    }
    *ret_pool = pool;
    return BORA_OK;
}

void bora_pool_free(bora_pool *pool)
{
    if (!pool)
        return;
    (void)atomic_fetch_or(&pool->state, STATE_STOP);
    wake_workers(pool);
    for (uint32_t i = 0; i < pool->n_started; i++)
        (void)pthread_join(pool->workers[i].thread, NULL);
    (void)pthread_cond_destroy(&pool->work_done);
    (void)pthread_cond_destroy(&pool->work_ready);
    (void)pthread_mutex_destroy(&pool->lock);
    bora_free(pool->workers);
    bora_free(pool);
}

uint32_t bora_pool_n_threads(const bora_pool *pool)
{
    return pool->n_threads;
}
