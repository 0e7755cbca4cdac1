/* The host table: each service is a thin call into base or kernels. Memory goes through base/counted.h: it is in the
 * ledger's books, and tests can make a plugin's N-th allocation fail. Matrices are kept in a list and in one region,
 * and end with the host: a plugin has no call to free one. */
#include "plugin/plugin.h"

#include "base/arena.h"
#include "base/counted.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/matrix.h"
#include "model/blocks.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

typedef struct host_option {
    const char *key, *value;
    bool asked; /* written during create only, by the instance's thread */
} host_option;

typedef struct host_matrix host_matrix;
struct host_matrix {
    host_matrix *next;
    bora_matrix *matrix;
};

struct bora_plugin_host {
    bora_host table; /* its self points back here */
    const bora_log *log;
    bora_pool *pool;
    bora_kernels *kernels;
    bora_region *region;   /* of the matrices; NULL while there are none */
    host_matrix *matrices; /* in the arena, the matrices themselves not */
    const bora_cpu *cpu;
    bora_ledger *ledger;
    uint32_t account;
    atomic_bool has_refusal; /* atomic: whoever sets it first fills in refusal; any thread may allocate */
    bora_error refusal;      /* why the ledger said no; read when the call that allocated has returned */
    host_option *options;    /* [n_options], in the arena */
    size_t n_options;
    bora_arena arena;
};

static void host_log(const bora_host *host, int32_t level, const char *message)
{
    const bora_plugin_host *self = host->self;
    bora_logf(self->log, level, "%s", message);
}

static void *host_alloc(const bora_host *host, size_t size)
{
    bora_plugin_host *self = host->self;
    void *memory = bora_counted_alloc(self->ledger, self->account, size); /* aligned to 64, as the SDK has it */
    bora_error why;
    if (!memory && bora_counted_fail(self->ledger, bora_ledger_name(self->account), size, &why) == BORA_E_LIMIT &&
        !atomic_exchange(&self->has_refusal, true))
        self->refusal = why;
    return memory;
}

static void host_free(const bora_host *host, void *memory)
{
    (void)host;
    bora_counted_free(memory);
}

static const char *host_option_value(const bora_host *host, const char *key)
{
    bora_plugin_host *self = host->self;
    const char *value = NULL;
    for (size_t i = 0; i < self->n_options; i++) {
        if (strcmp(self->options[i].key, key) != 0)
            continue;
        self->options[i].asked = true;
        value = self->options[i].value; /* given twice: the last one counts, as in the rest of the configuration */
    }
    return value;
}

static uint64_t host_now_ns(const bora_host *host)
{
    (void)host;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint32_t host_n_threads(const bora_host *host)
{
    const bora_plugin_host *self = host->self;
    return self->pool ? bora_pool_n_threads(self->pool) : 1;
}

static void host_parallel_for(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg)
{
    const bora_plugin_host *self = host->self;
    if (self->pool)
        bora_pool_parallel_for(self->pool, n_items, fn, arg);
    else if (n_items)
        fn(arg, 0, n_items, 0);
}

static void host_dequantize(const bora_host *host, const bora_tensor *w, uint64_t first_row, uint64_t n_rows,
                            float *out)
{
    const bora_plugin_host *self = host->self;
    bora_dequantize(self->cpu, w, first_row, n_rows, out);
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* Kernels take what the model loader let through for granted; a plugin's tensor is looked at first. */
static bora_status check_tensor(const bora_plugin_host *self, const bora_tensor *w, bora_error *err)
{
    size_t row_size;
    if (w->dtype >= BORA_DTYPE_COUNT)
        return bora_fail(err, BORA_E_UNSUPPORTED, "a matrix of element type %u", w->dtype);
    if (!w->data || w->n_rows == 0 || w->n_cols == 0 || !bora_block_row_size(w->dtype, w->n_cols, &row_size) ||
        row_size > w->row_size)
        return bora_fail(err, BORA_E_INVAL, "a matrix of %llu x %llu %s in rows of %llu bytes",
                         (unsigned long long)w->n_rows, (unsigned long long)w->n_cols, bora_block_of(w->dtype)->name,
                         (unsigned long long)w->row_size);
    if (w->n_cols > bora_kernels_max_cols(self->kernels))
        return bora_fail(err, BORA_E_LIMIT, "a matrix of %llu columns, at most %zu are possible here",
                         (unsigned long long)w->n_cols, bora_kernels_max_cols(self->kernels));
    return BORA_OK;
}

static bora_status host_matrix_new(const bora_host *host, const bora_tensor *w, bora_matrix **ret_matrix,
                                   bora_error *err)
{
    bora_plugin_host *self = host->self;
    if (!self->kernels)
        return bora_fail(err, BORA_E_UNSUPPORTED, "matrices are not possible here");
    bora_status status = check_tensor(self, w, err);
    if (status == BORA_OK && !self->region)
        status = bora_region_new(self->ledger, BORA_LEDGER_WEIGHTS, &self->region, err);
    if (status != BORA_OK)
        return status;
    host_matrix *entry = bora_arena_alloc(&self->arena, 1, sizeof *entry);
    if (!entry)
        return bora_fail(err, BORA_E_NOMEM, "a matrix");
    status = bora_matrix_new(self->kernels, self->region, w, &entry->matrix, err);
    if (status != BORA_OK)
        return status;
    entry->next = self->matrices;
    self->matrices = entry;
    *ret_matrix = entry->matrix;
    return BORA_OK;
}

static uint32_t host_matrix_n_strips(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_n_strips(matrix);
}

static uint32_t host_matrix_is_packed(const bora_host *host, const bora_matrix *matrix)
{
    (void)host;
    return bora_matrix_reads_panels(matrix);
}

static size_t host_input_size(const bora_host *host, uint32_t n_rows, uint32_t n_cols)
{
    (void)host;
    return bora_input_size(n_rows, n_cols);
}

static uint32_t host_input_n_panels(const bora_host *host, uint32_t n_rows)
{
    (void)host;
    return bora_input_n_panels(n_rows);
}

static void host_input_fill(const bora_host *host, const bora_input *input, uint32_t first, uint32_t end)
{
    const bora_plugin_host *self = host->self;
    if (self->kernels) /* without them there is no matrix to fill it for */
        bora_input_fill(self->kernels, input, first, end);
}

static void host_matrix_multiply(const bora_host *host, const bora_matrix *matrix, const bora_input *input,
                                 uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y, uint64_t y_stride)
{
    const bora_plugin_host *self = host->self;
    bora_matrix_multiply(self->kernels, matrix, input, strip_begin, strip_end, worker, y, y_stride);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void host_freep(bora_plugin_host **host)
{
    bora_plugin_host_free(*host);
}

static bora_status copy_options(bora_plugin_host *host, const bora_plugin_options *options, bora_error *err)
{
    if (!options || options->n == 0)
        return BORA_OK;
    host->options = bora_arena_alloc(&host->arena, options->n, sizeof *host->options);
    if (!host->options)
        return bora_fail(err, BORA_E_NOMEM, "plugin options");
    for (size_t i = 0; i < options->n; i++) {
        const bora_plugin_option *from = &options->items[i];
        host_option *to = &host->options[i];
        to->key = bora_arena_text(&host->arena, from->key, strlen(from->key));
        to->value = bora_arena_text(&host->arena, from->value, strlen(from->value));
        if (!to->key || !to->value)
            return bora_fail(err, BORA_E_NOMEM, "plugin options");
    }
    host->n_options = options->n;
    return BORA_OK;
}

bora_status bora_plugin_host_new(const bora_log *log, bora_pool *pool, bora_kernels *kernels, const bora_cpu *cpu,
                                 const bora_plugin_options *options, bora_ledger *ledger, uint32_t account,
                                 bora_plugin_host **ret_host, bora_error *err)
{
    BORA_CLEANUP(host_freep) bora_plugin_host *host = bora_calloc(1, sizeof *host);
    if (!host)
        return bora_fail(err, BORA_E_NOMEM, "plugin host");
    host->log = log;
    host->pool = pool;
    host->kernels = kernels;
    host->cpu = cpu;
    host->ledger = ledger;
    host->account = account;
    bora_status status = copy_options(host, options, err);
    if (status != BORA_OK)
        return status;
    host->table = (bora_host){
        .struct_size = sizeof(bora_host),
        .abi_major = BORA_ABI_MAJOR,
        .abi_minor = BORA_ABI_MINOR,
        .self = host,
        .log = host_log,
        .alloc = host_alloc,
        .free = host_free,
        .option = host_option_value,
        .now_ns = host_now_ns,
        .n_threads = host_n_threads,
        .parallel_for = host_parallel_for,
        .dequantize = host_dequantize,
        .matrix_new = host_matrix_new,
        .matrix_n_strips = host_matrix_n_strips,
        .matrix_is_packed = host_matrix_is_packed,
        .input_size = host_input_size,
        .input_n_panels = host_input_n_panels,
        .input_fill = host_input_fill,
        .matrix_multiply = host_matrix_multiply,
    };
    *ret_host = bora_steal(&host);
    return BORA_OK;
}

void bora_plugin_host_free(bora_plugin_host *host)
{
    if (!host)
        return;
    for (host_matrix *entry = host->matrices; entry; entry = entry->next)
        bora_matrix_free(entry->matrix);
    bora_region_free(host->region);
    bora_arena_release(&host->arena);
    bora_free(host);
}

const bora_host *bora_plugin_host_table(const bora_plugin_host *host)
{
    return &host->table;
}

const char *bora_plugin_host_unknown_option(const bora_plugin_host *host)
{
    for (size_t i = 0; i < host->n_options; i++)
        if (!host->options[i].asked)
            return host->options[i].key;
    return NULL;
}

bora_status bora_plugin_created(const bora_plugin_library *library, const bora_plugin_host *host, bora_status st,
                                bora_error *err)
{
    const char *path = bora_plugin_path(library), *name = bora_plugin_name(library);
    if (st == BORA_E_NOMEM && atomic_load(&host->has_refusal)) /* the plugin only saw that there was none */
        return bora_fail(err, BORA_E_LIMIT, "plugin '%s': %.300s", *path ? path : name, host->refusal.message);
    if (st != BORA_OK && err) {
        bora_error why = *err;
        return bora_fail(err, st, "plugin '%s': %.400s", *path ? path : name, why.message);
    }
    if (st != BORA_OK)
        return st;
    const char *key = bora_plugin_host_unknown_option(host);
    if (key)
        return bora_fail(err, BORA_E_INVAL, "unknown option '%s' for plugin %s/%s", key,
                         bora_plugin_kind_name(bora_plugin_kind(library)), name);
    return BORA_OK;
}
