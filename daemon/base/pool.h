/* The compute thread pool: one caller, n_threads - 1 workers.
 *
 * A step of the engine is some hundred short calls with little between them. So workers and caller wait for each other
 * awake for a moment, and only then go to sleep; an idle pool costs nothing. The caller never waits for a worker that
 * has not begun: what such a worker would have done is done by the others. */
#ifndef BORA_BASE_POOL_H
#define BORA_BASE_POOL_H

#include "base/status.h"

typedef struct bora_pool bora_pool;

/* n_threads: the caller included, at least 1. Errors: NOMEM, IO (a thread could not be started). */
bora_status bora_pool_new(uint32_t n_threads, bora_pool **ret_pool, bora_error *err);
/* Joins the workers. NULL is a no-op. */
void bora_pool_free(bora_pool *pool);
uint32_t bora_pool_n_threads(const bora_pool *pool);
/* Cuts 0 .. n_items-1 into contiguous runs and returns when fn has run on all, each once. A worker (0: the caller) may
 * get several runs, but not two at once: the first ones ascend through its own n_threads-th of the items, so that
 * undisturbed it goes through memory in one sweep; then it takes from the ends of what others have left. One caller at
 * a time; fn must not call parallel_for on the same pool. */
void bora_pool_parallel_for(bora_pool *pool, uint32_t n_items, bora_parallel_fn fn, void *arg);

#endif
