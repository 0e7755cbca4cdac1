/* Workers wait on a condition variable for the next generation of work; the caller takes part as worker 0. Items are
 * cut evenly; a worker whose run is empty does nothing. */
#include "base/pool.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

typedef struct pool_worker {
    bora_pool *pool;
    pthread_t thread;
    uint32_t index; /* 1 .. n_threads-1 */
} pool_worker;

struct bora_pool {
    pthread_mutex_t lock;
    pthread_cond_t work_ready, work_done;
    uint64_t generation; /* protected by lock: grows with each call */
    uint32_t n_busy;     /* protected by lock: workers that have not finished this generation */
    bool stopping;       /* protected by lock */
    bora_parallel_fn fn; /* protected by lock while it changes; constant during a generation */
    void *arg;
    uint32_t n_items;
    uint32_t n_threads;
    uint32_t n_started; /* threads to join */
    pool_worker workers[];
};

static void run_share(const bora_pool *pool, uint32_t worker)
{
    uint32_t begin = (uint32_t)((uint64_t)pool->n_items * worker / pool->n_threads);
    uint32_t end = (uint32_t)((uint64_t)pool->n_items * (worker + 1) / pool->n_threads);
    if (begin < end)
        pool->fn(pool->arg, begin, end, worker);
}

static void *worker_main(void *arg)
{
    pool_worker *worker = arg;
    bora_pool *pool = worker->pool;
    uint64_t seen = 0;
    (void)pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->generation == seen && !pool->stopping)
            (void)pthread_cond_wait(&pool->work_ready, &pool->lock);
        if (pool->stopping)
            break;
        seen = pool->generation;
        (void)pthread_mutex_unlock(&pool->lock);
        run_share(pool, worker->index);
        (void)pthread_mutex_lock(&pool->lock);
        if (--pool->n_busy == 0)
            (void)pthread_cond_signal(&pool->work_done);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

bora_status bora_pool_new(uint32_t n_threads, bora_pool **ret_pool, bora_error *err)
{
    if (n_threads < 1)
        n_threads = 1;
    bora_pool *pool = bora_calloc(1, sizeof *pool + (n_threads - 1) * sizeof pool->workers[0]);
    if (!pool)
        return bora_fail(err, BORA_E_NOMEM, "thread pool of %u", n_threads);
    pool->n_threads = n_threads;
    (void)pthread_mutex_init(&pool->lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_cond_init(&pool->work_ready, NULL);
    (void)pthread_cond_init(&pool->work_done, NULL);
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
    (void)pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->work_ready);
    (void)pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->n_started; i++)
        (void)pthread_join(pool->workers[i].thread, NULL);
    (void)pthread_cond_destroy(&pool->work_done);
    (void)pthread_cond_destroy(&pool->work_ready);
    (void)pthread_mutex_destroy(&pool->lock);
    bora_free(pool);
}

uint32_t bora_pool_n_threads(const bora_pool *pool)
{
    return pool->n_threads;
}

void bora_pool_parallel_for(bora_pool *pool, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    if (n_items == 0)
        return;
    if (pool->n_threads == 1 || n_items == 1) {
        fn(arg, 0, n_items, 0);
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->arg = arg;
    pool->n_items = n_items;
    pool->n_busy = pool->n_threads - 1;
    pool->generation++;
    (void)pthread_cond_broadcast(&pool->work_ready);
    (void)pthread_mutex_unlock(&pool->lock);
    run_share(pool, 0);
    (void)pthread_mutex_lock(&pool->lock);
    while (pool->n_busy)
        (void)pthread_cond_wait(&pool->work_done, &pool->lock);
    (void)pthread_mutex_unlock(&pool->lock);
}
