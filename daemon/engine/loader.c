#include "engine/loader.h"

#include "base/memory.h"
#include "engine/task.h"

#define AHEAD_SIZE ((size_t)32 << 20)   /* read ahead at least this much: more than a disk has under way */
#define LINE_NS    UINT64_C(5000000000) /* between two lines of the log */

struct bora_loader {
    const bora_model *model;
    const bora_log *log;
    atomic_bool cancel;           /* atomic: raised by any thread */
    _Atomic uint64_t n_done;      /* atomic: read by any thread, written by the one that builds */
    bool forgets;                 /* memory is short: the page cache gives the file up, too */
    uint64_t started_ns, told_ns; /* of the run, of the log's last line */
    bool is_running;              /* later, plugins that take the place of others may read weights again */
    bool (*begin)(void *arg);     /* may be NULL */
    void *begin_arg;
    const uint8_t *ahead, *behind; /* end of what was asked for ahead of time, and of what was read last */
};

bora_status bora_loader_new(const bora_model *model, const bora_log *log, bora_loader **ret_loader, bora_error *err)
{
    bora_loader *loader = bora_calloc(1, sizeof *loader);
    if (!loader)
        return bora_fail(err, BORA_E_NOMEM, "loader");
    loader->model = model;
    loader->log = log;
    *ret_loader = loader;
    return BORA_OK;
}

void bora_loader_free(bora_loader *loader)
{
    bora_free(loader);
}

static double seconds_since(uint64_t from_ns)
{
    return (double)(bora_task_now_ns() - from_ns) / 1e9;
}

/* Parts come in ascending order within a tensor, and tensors mostly as they lie in the file: from where it goes on, the
 * next ones are asked for in steps of half the distance, so that what is cached is looked up once. */
static void read_ahead(bora_loader *loader, const uint8_t *end)
{
    if (loader->behind && end > loader->behind && end <= loader->ahead) {
        if ((size_t)(loader->ahead - end) > AHEAD_SIZE / 2)
            return;
    } else {
        loader->ahead = end; /* somewhere else */
    }
    const size_t size = AHEAD_SIZE - (size_t)(loader->ahead - end);
    bora_model_read_ahead(loader->model, loader->ahead, size);
    loader->ahead += size;
}

static void on_read(void *arg, const void *from, size_t size)
{
    bora_loader *loader = arg;
    const uint8_t *end = (const uint8_t *)from + size;
    read_ahead(loader, end);
    loader->behind = end;
    if (loader->forgets)
        bora_model_forget(loader->model, from, size);
    else
        bora_model_release(loader->model, from, size);
    uint64_t done = atomic_load_explicit(&loader->n_done, memory_order_relaxed) + size;
    atomic_store_explicit(&loader->n_done, done, memory_order_relaxed);
    const uint64_t now = bora_task_now_ns();
    if (!loader->is_running || now - loader->told_ns < LINE_NS)
        return;
    loader->told_ns = now;
    const double seconds = seconds_since(loader->started_ns);
    bora_logf(loader->log, BORA_LOG_INFO, "loading: %u %% (%llu of %llu MiB, %.2f GB/s)",
              bora_load_percent(done, bora_model_size(loader->model)), (unsigned long long)(done >> 20),
              (unsigned long long)(bora_model_size(loader->model) >> 20), (double)done / seconds / 1e9);
}

void bora_loader_watch(bora_loader *loader, bora_pipeline_options *options)
{
    options->reader = on_read;
    options->reader_arg = loader;
    options->cancel = &loader->cancel;
}

static void log_end(const bora_loader *loader)
{
    const double seconds = seconds_since(loader->started_ns);
    const uint64_t done = atomic_load_explicit(&loader->n_done, memory_order_relaxed);
    if (done > 0)
        bora_logf(loader->log, BORA_LOG_INFO, "model loaded in %.2f s: %llu MiB read, %.2f GB/s", seconds,
                  (unsigned long long)(done >> 20), (double)done / seconds / 1e9);
    else
        bora_logf(loader->log, BORA_LOG_INFO, "model ready in %.2f s: its weights are read as they are used", seconds);
}

bora_status bora_loader_run(bora_loader *loader, bora_pipeline *pipeline, bora_error *err)
{
    const uint64_t size = bora_model_size(loader->model);
    if (loader->begin && !loader->begin(loader->begin_arg))
        return bora_fail(err, BORA_E_CANCELLED, "cancelled");
    loader->started_ns = loader->told_ns = bora_task_now_ns();
    loader->forgets = bora_model_memory_is_short(loader->model);
    bora_logf(loader->log, BORA_LOG_INFO, "loading model '%s', %llu MiB%s", bora_model_name(loader->model),
              (unsigned long long)(size >> 20),
              loader->forgets ? "; memory is short: not keeping its file in the page cache" : "");
    loader->is_running = true;
    bora_status st = bora_pipeline_build(pipeline, err);
    loader->is_running = false;
    if (st == BORA_OK)
        log_end(loader);
    return st;
}

void bora_loader_begin_with(bora_loader *loader, bool (*fn)(void *arg), void *arg)
{
    loader->begin = fn;
    loader->begin_arg = arg;
}

void bora_loader_cancel(bora_loader *loader)
{
    atomic_store(&loader->cancel, true);
}

void bora_loader_progress(const bora_loader *loader, uint64_t *ret_done, uint64_t *ret_total)
{
    const uint64_t total = bora_model_size(loader->model);
    const uint64_t done = atomic_load_explicit(&loader->n_done, memory_order_relaxed);
    *ret_done = done < total ? done : total;
    *ret_total = total;
}

uint32_t bora_load_percent(uint64_t done, uint64_t total)
{
    const double percent = total ? (double)done / (double)total * 100 : 0;
    return percent < 99 ? (uint32_t)percent : 99;
}
