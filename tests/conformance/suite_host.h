/* A host for one test. It keeps count of the memory it hands out, refuses it when told to, and notes when a plugin
 * breaks the rules of plugin.h: suite_host_release fails the test then. Rules are noted rather than asserted, because a
 * plugin may call from any thread and cmocka's asserts belong to one. */
#ifndef BORA_TESTS_CONFORMANCE_SUITE_HOST_H
#define BORA_TESTS_CONFORMANCE_SUITE_HOST_H

#include "support/skip.h"

#include "base/memory.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/matrix.h"
#include "plugin/plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SUITE_THREADS     4u
#define SUITE_COLS_MAX    1024u /* of a matrix */
#define SUITE_KEYS_MAX    16u
#define SUITE_KEY_SIZE    64u

#define SUITE_MARGIN      64u /* bytes around what is handed out; keeps the alignment */
#define SUITE_MARGIN_BYTE 0xa5
#define SUITE_BLOCK_ALIVE UINT64_C(0x6b6c6f62206e6120)

typedef struct suite_host {
    bora_host table;
    bora_pool *pool;         /* NULL: one thread */
    pthread_t owner;         /* the instance's thread */
    atomic_ulong fail_at;    /* 0: never; 1: the next request */
    bool fail_once;          /* the fail_at-th alone, not all from there on */
    atomic_ulong n_requests; /* since the last suite_host_fail_at */
    atomic_long n_blocks;    /* handed out and not given back; atomic: any thread may alloc and free */
    const char *key, *value; /* the one option, or NULL */
    bool created;            /* set by tests that know: options may no longer be asked for */
    uint32_t n_keys;         /* that the plugin asked for */
    char keys[SUITE_KEYS_MAX][SUITE_KEY_SIZE];
    _Atomic(const char *) breach; /* the first rule that was broken; static text */
    bora_cpu cpu;
    bora_pool *matrix_pool; /* these three: made with the first matrix */
    bora_kernels *kernels;
    bora_plugin_host *matrices;
} suite_host;

/* Whose items this thread works on at the moment, and as which worker. */
static _Thread_local const suite_host *suite_inside;
static _Thread_local uint32_t suite_inside_worker;

static inline void suite_breach(const bora_host *host, const char *rule)
{
    suite_host *self = host->self;
    const char *none = NULL;
    (void)atomic_compare_exchange_strong(&self->breach, &none, rule);
}

/* For services that the function given to parallel_for must not call. */
static inline void suite_not_inside(const bora_host *host, const char *rule)
{
    if (suite_inside)
        suite_breach(host, rule);
}

static inline void suite_log(const bora_host *host, int32_t level, const char *message)
{
    if (strchr(message, '\n'))
        suite_breach(host, "a log message is one line");
    fprintf(stderr, "log %d: %s\n", level, message);
}

static inline bool suite_refuses(suite_host *self)
{
    const unsigned long n = atomic_fetch_add(&self->n_requests, 1) + 1, fail_at = atomic_load(&self->fail_at);
    return fail_at && (self->fail_once ? n == fail_at : n >= fail_at);
}

/* Before and after the block lie SUITE_MARGIN bytes: first whether it is alive and its size, then a pattern. */
static inline void *suite_alloc(const bora_host *host, size_t size)
{
    suite_host *self = host->self;
    suite_not_inside(host, "alloc was called inside parallel_for");
    if (suite_refuses(self) || size > SIZE_MAX / 2)
        return NULL;
    unsigned char *block = bora_alloc_aligned(64, size + 2 * SUITE_MARGIN);
    if (!block)
        return NULL;
    const uint64_t about[2] = {SUITE_BLOCK_ALIVE, size};
    memset(block, SUITE_MARGIN_BYTE, SUITE_MARGIN);
    memcpy(block, about, sizeof about);
    /* Filled with NaN patterns: whoever reads what was never written shows. */
    memset(block + SUITE_MARGIN, 0xff, size);
    memset(block + SUITE_MARGIN + size, SUITE_MARGIN_BYTE, SUITE_MARGIN);
    atomic_fetch_add(&self->n_blocks, 1);
    return block + SUITE_MARGIN;
}

static inline bool suite_margin_is_whole(const unsigned char *margin, size_t size)
{
    size_t n = 0;
    while (n < size && margin[n] == SUITE_MARGIN_BYTE)
        n++;
    return n == size;
}

static inline void suite_free(const bora_host *host, void *memory)
{
    suite_host *self = host->self;
    suite_not_inside(host, "free was called inside parallel_for");
    if (!memory)
        return;
    unsigned char *block = (unsigned char *)memory - SUITE_MARGIN;
    uint64_t about[2];
    memcpy(about, block, sizeof about);
    if (about[0] != SUITE_BLOCK_ALIVE) {
        suite_breach(host, "free got what alloc had not given, or the bytes before the block were overwritten");
        return;
    }
    if (!suite_margin_is_whole(block + sizeof about, SUITE_MARGIN - sizeof about))
        suite_breach(host, "the bytes before a block of alloc were overwritten");
    if (!suite_margin_is_whole(block + SUITE_MARGIN + about[1], SUITE_MARGIN))
        suite_breach(host, "the bytes behind a block of alloc were overwritten");
    memset(block, 0, sizeof about);
    atomic_fetch_sub(&self->n_blocks, 1);
    bora_free(block);
}

static inline const char *suite_option(const bora_host *host, const char *key)
{
    suite_host *self = host->self;
    if (self->created)
        suite_breach(host, "option was called after create");
    bool known = false;
    for (uint32_t i = 0; i < self->n_keys; i++)
        known = known || strcmp(self->keys[i], key) == 0;
    if (!known && self->n_keys < SUITE_KEYS_MAX && strlen(key) < SUITE_KEY_SIZE)
        memcpy(self->keys[self->n_keys++], key, strlen(key) + 1);
    return self->key && strcmp(self->key, key) == 0 ? self->value : NULL;
}

static inline uint64_t suite_now_ns(const bora_host *host)
{
    suite_not_inside(host, "now_ns was called inside parallel_for");
    return 1; /* nothing a plugin computes may depend on the time */
}

static inline uint32_t suite_n_threads(const bora_host *host)
{
    const suite_host *self = host->self;
    suite_not_inside(host, "n_threads was called inside parallel_for");
    return self->pool ? bora_pool_n_threads(self->pool) : 1;
}

typedef struct suite_items {
    const suite_host *host;
    bora_parallel_fn fn;
    void *arg;
} suite_items;

static inline void suite_items_run(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const suite_items *items = arg;
    suite_inside = items->host;
    suite_inside_worker = worker;
    items->fn(items->arg, begin, end, worker);
    suite_inside = NULL;
}

static inline void suite_parallel_for(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    const suite_host *self = host->self;
    if (suite_inside) {
        suite_breach(host, "parallel_for was called inside parallel_for");
        return;
    }
    if (!pthread_equal(self->owner, pthread_self())) {
        suite_breach(host, "parallel_for was called by a thread that is not the instance's");
        return;
    }
    suite_items items = {.host = self, .fn = fn, .arg = arg};
    if (self->pool) {
        bora_pool_parallel_for(self->pool, n_items, suite_items_run, &items);
        return;
    }
    /* One thread, but in pieces of uneven size: results must not depend on the cut. */
    for (uint32_t begin = 0, step = 1; begin < n_items; step = step % 5 + 1) {
        uint32_t end = n_items - begin < step ? n_items : begin + step;
        suite_items_run(&items, begin, end, 0);
        begin = end;
    }
}

static inline void suite_dequantize(const bora_host *host, const bora_tensor *w, uint64_t first_row, uint64_t n_rows,
                                    float *out)
{
    if (first_row > w->n_rows || n_rows > w->n_rows - first_row) {
        suite_breach(host, "dequantize got rows that lie outside of the matrix");
        return;
    }
    bora_dequantize(NULL, w, first_row, n_rows, out);
}

/* Matrices are the real host's. */
static inline bora_status suite_matrix_new(const bora_host *host, const bora_tensor *w, bora_matrix **ret_matrix,
                                           bora_error *err)
{
    suite_host *self = host->self;
    suite_not_inside(host, "matrix_new was called inside parallel_for");
    if (suite_refuses(self))
        return bora_fail(err, BORA_E_NOMEM, "no memory for a matrix, says the test");
    if (!self->matrices) {
        bora_cpu_detect(&self->cpu);
        if (!self->pool)
            assert_int_equal(bora_pool_new(1, &self->matrix_pool, NULL), BORA_OK);
        bora_pool *pool = self->pool ? self->pool : self->matrix_pool;
        assert_int_equal(bora_kernels_new(&self->cpu, pool, SUITE_COLS_MAX, NULL, &self->kernels, NULL), BORA_OK);
        assert_int_equal(bora_plugin_host_new(NULL, pool, self->kernels, &self->cpu, NULL, NULL, 0, &self->matrices,
                                              NULL),
                         BORA_OK);
    }
    const bora_host *real = bora_plugin_host_table(self->matrices);
    return real->matrix_new(real, w, ret_matrix, err);
}

static inline uint32_t suite_matrix_n_strips(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_n_strips(matrix);
}

static inline uint32_t suite_matrix_is_packed(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_is_packed(matrix);
}

static inline size_t suite_input_size(const bora_host *host, uint32_t n_rows, uint32_t n_cols)
{
    (void)host;
    return bora_input_size(n_rows, n_cols);
}

static inline uint32_t suite_input_n_panels(const bora_host *host, uint32_t n_rows)
{
    (void)host;
    return bora_input_n_panels(n_rows);
}

static inline void suite_input_fill(const bora_host *host, const bora_input *input, uint32_t first, uint32_t end)
{
    const suite_host *self = host->self;
    if (first > end || end > bora_input_n_panels(input->n_rows) || (uintptr_t)input->panels % 64 != 0) {
        suite_breach(host, "input_fill got panels that do not exist, or that are not aligned to 64");
        return;
    }
    bora_input_fill(self->kernels, input, first, end);
}

static inline void suite_matrix_multiply(const bora_host *host, const bora_matrix *matrix, const bora_input *input,
                                         uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y,
                                         uint64_t y_stride)
{
    const suite_host *self = host->self;
    if (strip_begin > strip_end || strip_end > bora_matrix_n_strips(matrix)) {
        suite_breach(host, "matrix_multiply got strips that do not exist");
        return;
    }
    if (worker != (suite_inside ? suite_inside_worker : 0)) {
        suite_breach(host, "matrix_multiply got another worker than parallel_for gave (outside of it: 0)");
        return;
    }
    bora_matrix_multiply(self->kernels, matrix, input, strip_begin, strip_end, worker, y, y_stride);
}

static inline void suite_host_init(suite_host *host, uint32_t n_threads)
{
    memset(host, 0, sizeof *host);
    host->owner = pthread_self();
    if (n_threads > 1)
        assert_int_equal(bora_pool_new(n_threads, &host->pool, NULL), BORA_OK);
    host->table = (bora_host){
        .struct_size = sizeof(bora_host),
        .abi_major = BORA_ABI_MAJOR,
        .abi_minor = BORA_ABI_MINOR,
        .self = host,
        .log = suite_log,
        .alloc = suite_alloc,
        .free = suite_free,
        .option = suite_option,
        .now_ns = suite_now_ns,
        .n_threads = suite_n_threads,
        .parallel_for = suite_parallel_for,
        .dequantize = suite_dequantize,
        .matrix_new = suite_matrix_new,
        .matrix_n_strips = suite_matrix_n_strips,
        .matrix_is_packed = suite_matrix_is_packed,
        .input_size = suite_input_size,
        .input_n_panels = suite_input_n_panels,
        .input_fill = suite_input_fill,
        .matrix_multiply = suite_matrix_multiply,
    };
}

/* Ends the host without a judgement: for threads, which must not use cmocka's asserts. */
static inline void suite_host_end(suite_host *host)
{
    bora_plugin_host_free(host->matrices);
    bora_kernels_free(host->kernels);
    bora_pool_free(host->matrix_pool);
    bora_pool_free(host->pool);
    host->pool = host->matrix_pool = NULL;
    host->kernels = NULL;
    host->matrices = NULL;
}

/* No rule was broken, and everything that was handed out has come back. */
static inline void suite_host_judge(suite_host *host)
{
    const char *breach = atomic_load(&host->breach);
    if (breach)
        fail_msg("%s", breach);
    const long n_blocks = atomic_load(&host->n_blocks);
    if (n_blocks)
        fail_msg("%ld blocks of memory were not given back", n_blocks);
}

static inline void suite_host_release(suite_host *host)
{
    suite_host_end(host);
    suite_host_judge(host);
}

/* The n-th request from now on fails, and all after it; 0: none. */
static inline void suite_host_fail_at(suite_host *host, uint64_t n)
{
    atomic_store(&host->fail_at, n);
    atomic_store(&host->n_requests, 0);
}

#endif
