#include "watch.h"

#include "owner.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX 8192u
#define SAMPLE_MS   250u /* between looks at the process; twice that whenever the room for them is full */

__attribute__((format(printf, 2, 3))) static void tell(bora_load_watch *watch, const char *format, ...)
{
    if (*watch->failure)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(watch->failure, sizeof watch->failure, format, arguments);
    va_end(arguments);
}

/* ---- the daemon's process -------------------------------------------------------------------------------------- */

static uint64_t count_entries(uint64_t pid, const char *what)
{
    char path[64];
    uint64_t n = 0;
    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/%s", pid, what);
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder && (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    if (folder)
        (void)closedir(folder);
    return n;
}

static uint64_t resident_bytes(uint64_t pid)
{
    char path[64];
    uint64_t size = 0, resident = 0;
    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    int n = fscanf(file, "%" SCNu64 " %" SCNu64, &size, &resident);
    (void)fclose(file);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static uint64_t highest(const uint64_t *samples, size_t from, size_t to)
{
    uint64_t most = 0;
    for (size_t i = from; i < to; i++)
        most = samples[i] > most ? samples[i] : most;
    return most;
}

/* Equally spaced samples of the whole time in bounded room: when it is full, every other one goes. */
typedef struct memory {
    uint64_t *rss; /* [SAMPLES_MAX] */
    size_t n;
    uint32_t every, left; /* looks at the process between two that are kept, and until the next */
} memory;

static void sample(memory *m, bora_load_watch *watch)
{
    uint64_t rss = resident_bytes(watch->pid);
    uint64_t n_threads = count_entries(watch->pid, "task"), n_fds = count_entries(watch->pid, "fd");
    watch->n_threads_max = n_threads > watch->n_threads_max ? n_threads : watch->n_threads_max;
    watch->n_fds_max = n_fds > watch->n_fds_max ? n_fds : watch->n_fds_max;
    watch->rss_max = rss > watch->rss_max ? rss : watch->rss_max;
    if (rss == 0 || --m->left > 0)
        return;
    if (m->n == SAMPLES_MAX) {
        for (size_t i = 0; i < SAMPLES_MAX / 2; i++)
            m->rss[i] = m->rss[2 * i];
        m->n = SAMPLES_MAX / 2;
        m->every *= 2;
    }
    m->rss[m->n++] = rss;
    m->left = m->every;
}

static void conclude(const memory *m, bora_load_watch *watch)
{
    watch->n_samples = m->n;
    watch->has_memory = m->n >= 4;
    if (!watch->has_memory)
        return;
    watch->rss_first = m->rss[0];
    watch->rss_last = m->rss[m->n - 1];
    watch->rss_second_quarter = highest(m->rss, m->n / 4, m->n / 2);
    watch->rss_last_quarter = highest(m->rss, m->n - m->n / 4, m->n);
}

/* ---- status ---------------------------------------------------------------------------------------------------- */

/* A question that waits holds up those behind it, which would have waited too: they count with what was left of the
 * wait when they were due, or the worst would count once only. */
static void add_latency(bora_load_watch *watch, double seconds)
{
    for (double left = seconds; left > 0; left -= BORA_LOAD_WATCH_MS / 1000.0)
        bora_load_histogram_add(&watch->latency, (uint64_t)(left * 1e6));
}

static bool ask_status(bora_client *client, const bora_load_canary *canary, bora_load_watch *watch)
{
    bora_client_error error = {0};
    bora_client_result *result = NULL;
    double start = bora_load_now();
    watch->n_asked++;
    if (bora_client_daemon_status(client, &result, &error) != BORA_CLIENT_OK) {
        watch->n_errors++;
        tell(watch, "status: %.180s", error.message);
        return false;
    }
    add_latency(watch, bora_load_now() - start);
    const bora_client_value *value = bora_client_result_value(result);
    uint32_t owner = canary ? bora_load_canary_in_value(canary, value) : BORA_LOAD_NOBODY;
    if (owner != BORA_LOAD_NOBODY) {
        watch->n_leaks++;
        tell(watch, "status holds the secret of owner %u", owner);
    }
    watch->pid = bora_client_value_uint(bora_client_value_get(value, "pid"), 0);
    bora_client_result_free(result);
    return true;
}

static void add_ms(struct timespec *time, uint32_t ms)
{
    time->tv_nsec += (long)ms * 1000000;
    time->tv_sec += time->tv_nsec / 1000000000;
    time->tv_nsec %= 1000000000;
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static uint64_t us_since(const struct timespec *from, const struct timespec *to)
{
    int64_t us = (int64_t)(to->tv_sec - from->tv_sec) * 1000000 + (to->tv_nsec - from->tv_nsec) / 1000;
    return us > 0 ? (uint64_t)us : 0;
}

void bora_load_watch_run(const bora_load_options *options, const bora_load_canary *canary, const _Atomic int *stop,
                         bora_load_watch *watch)
{
    const bora_client_options connection = {.endpoint = options->socket, .name = "load's watcher", .timeout_ms = 60000};
    bora_client_error error = {0};
    bora_client *client = NULL;
    memory m = {.rss = calloc(SAMPLES_MAX, sizeof *m.rss), .every = 1, .left = 1};
    bool good = m.rss && bora_client_open(&connection, &client, &error) == BORA_CLIENT_OK;
    if (!good) {
        watch->n_errors++;
        tell(watch, "watcher: %.180s", m.rss ? error.message : "no memory");
    }
    struct timespec due, now;
    (void)clock_gettime(CLOCK_MONOTONIC, &due); /* cannot fail with this clock */
    for (uint64_t i = 0; good && !atomic_load(stop); i++) {
        good = ask_status(client, canary, watch);
        if (good && i % (SAMPLE_MS / BORA_LOAD_WATCH_MS) == 0)
            sample(&m, watch);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        do
            add_ms(&due, BORA_LOAD_WATCH_MS);
        while (is_before(&due, &now)); /* those in between were counted already */
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        bora_load_histogram_add(&watch->late, us_since(&due, &now));
    }
    if (m.rss)
        conclude(&m, watch);
    free(m.rss);
    bora_client_close(client);
}
