/* metrics: numbers for Prometheus, in its text format 0.0.4. Totals over all owners, and nothing by which one could be
 * told from another: no names, no ids, no texts. Answered at once, whatever the engine does. */
#include "server/server_private.h"

#include "base/machine_memory.h"
#include "base/memory.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

/* A growing text. */
typedef struct page {
    char *text;
    size_t size, capacity;
    bool failed; /* no memory */
} page;

__attribute__((format(printf, 2, 3))) static void add(page *p, const char *format, ...)
{
    while (!p->failed) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(p->text ? p->text + p->size : NULL, p->capacity - p->size, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < p->capacity - p->size) {
            p->size += (size_t)n;
            return;
        }
        size_t capacity = (p->capacity ? 2 * p->capacity : 4096) + (n > 0 ? (size_t)n : 0);
        char *text = n >= 0 ? bora_realloc(p->text, capacity, 1) : NULL;
        p->failed = !text;
        p->text = text ? text : p->text;
        p->capacity = text ? capacity : p->capacity;
    }
}

/* The lines before a metric's samples; a counter's name ends in _total. */
static void head(page *p, const char *name, const char *help)
{
    size_t size = strlen(name);
    bool is_counter = size > 6 && strcmp(name + size - 6, "_total") == 0;
    add(p, "# HELP bora_%s %s\n# TYPE bora_%s %s\n", name, help, name, is_counter ? "counter" : "gauge");
}

static void whole(page *p, const char *name, const char *help, uint64_t value)
{
    head(p, name, help);
    add(p, "bora_%s %llu\n", name, (unsigned long long)value);
}

static void number(page *p, const char *name, const char *help, double value)
{
    head(p, name, help);
    add(p, "bora_%s %.9g\n", name, value);
}

static void sample(page *p, const char *name, const char *label, const char *of, uint64_t value)
{
    add(p, "bora_%s{%s=\"%s\"} %llu\n", name, label, of, (unsigned long long)value);
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* A label's value: quotes, backslashes and newlines are written out. */
static void add_label(page *p, const char *value)
{
    for (; *value; value++) {
        if (*value == '\n')
            add(p, "\\n");
        else
            add(p, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    }
}

static void add_daemon(page *p, const bora_server *server, const bora_scheduler_stats *stats)
{
    struct timespec now;
    uint32_t n_open = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    uint64_t now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    for (const bora_connection *c = server->connections; c; c = c->next)
        n_open += c->n_open;
    head(p, "info", "Which daemon and which model this is.");
    add(p, "bora_info{version=\"" BORA_VERSION "\",model=\"");
    add_label(p, bora_model_name(server->options.model));
    add(p, "\"} 1\n");
    number(p, "uptime_seconds", "Since the daemon began.", seconds(now_ns - server->started_ns));
    whole(p, "loading", "1 while the model is being loaded.", stats->is_loading);
    whole(p, "connections", "Clients that are connected.", server->n_connections);
    whole(p, "open_requests", "Requests whose last event is to come, this one among them.", n_open);
    head(p, "requests_total", "Requests since the daemon began.");
    for (size_t i = 0; bora_server_verb_name(i); i++)
        sample(p, "requests_total", "verb", bora_server_verb_name(i), server->counters.requests[i]);
    head(p, "errors_total", "Requests that ended with an error.");
    for (size_t i = 0; bora_error_code_name(i); i++)
        sample(p, "errors_total", "code", bora_error_code_name(i), server->counters.errors[i]);
}

static void add_generations(page *p, const bora_server *server, const bora_scheduler_stats *stats)
{
    bora_sessions_stats sessions;
    bora_sessions_stats_get(server->options.sessions, &sessions);
    whole(p, "generations_running", "Generations that the engine works on.", stats->n_running);
    whole(p, "generations_waiting", "Generations that wait for a place.", stats->n_waiting);
    whole(p, "generations_open", "Generations that have not ended, those with the store among them.", sessions.n_open);
    head(p, "generations_total", "Generations that have ended, by the reason.");
    for (int reason = 1; reason < BORA_REASON_COUNT; reason++)
        sample(p, "generations_total", "reason", bora_reason_name(reason), sessions.n_ended[reason]);
    head(p, "generation_seconds_total", "What the generations that have ended spent waiting, reading and writing.");
    add(p, "bora_generation_seconds_total{phase=\"queue\"} %.9g\n", seconds(sessions.queue_ns));
    add(p, "bora_generation_seconds_total{phase=\"prefill\"} %.9g\n", seconds(sessions.prefill_ns));
    add(p, "bora_generation_seconds_total{phase=\"decode\"} %.9g\n", seconds(sessions.decode_ns));
    whole(p, "sessions_in_memory", "Sessions that need not be fetched from the store.", sessions.n_live);
    whole(p, "store_queue", "Jobs that the store has not finished.", sessions.n_store_jobs);
}

static void add_engine(page *p, const bora_scheduler_stats *stats)
{
    whole(p, "steps_total", "Batch steps.", stats->n_steps);
    whole(p, "slow_steps_total", "Steps that took longer than log.slow_step_ms.", stats->n_slow_steps);
    number(p, "busy_seconds_total", "Time in steps.", seconds(stats->busy_ns));
    number(p, "step_seconds", "What the last step took.", seconds(stats->step_ns));
    whole(p, "step_rows", "Rows of the last step.", stats->step_rows);
    whole(p, "prompt_tokens_total", "Prompt tokens that were run.", stats->n_prompt_tokens);
    whole(p, "generated_tokens_total", "Tokens that were generated.", stats->n_generated_tokens);
    whole(p, "reused_tokens_total", "Prompt tokens taken over from another sequence of the same owner.",
          stats->n_reused_tokens);
    number(p, "prompt_tokens_per_second", "Over the last seconds.", stats->prompt_rate);
    number(p, "generated_tokens_per_second", "Over the last seconds.", stats->generated_rate);
    whole(p, "cancelled_total", "Answers that were cancelled while they ran.", stats->n_cancelled);
    whole(p, "swaps_total", "Plugins that were exchanged.", stats->n_swaps);
    whole(p, "pressures_total", "Times that sessions had to leave memory for a generation to begin.",
          stats->n_pressures);
    whole(p, "load_bytes", "While the model is being loaded: bytes of weights.", stats->n_to_load);
    whole(p, "loaded_bytes", "Of these, ready.", stats->n_loaded);
}

static void add_memory(page *p, const bora_server *server, const bora_scheduler_stats *stats)
{
    bora_ledger_state books;
    bora_ledger_get(server->options.ledger, &books);
    whole(p, "memory_limit_bytes", "What the daemon may take (memory.limit).", books.limit);
    whole(p, "memory_used_bytes", "The sum of the accounts.", books.used);
    whole(p, "memory_peak_bytes", "The most that was used at once.", books.peak);
    head(p, "memory_bytes", "What is used, by account.");
    for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
        sample(p, "memory_bytes", "account", bora_ledger_name(account), books.accounts[account]);
    whole(p, "memory_promised_bytes", "Set aside for generations that run, not used yet.", stats->promised_bytes);
    whole(p, "resident_bytes", "What the system has in memory for the process.", bora_machine_rss());
    whole(p, "kv_bytes", "Keys and values of all sequences.", stats->kv_bytes);
    whole(p, "shelf_bytes", "Of these, sequences that no session or generation has.", stats->shelf_bytes);
    whole(p, "sequences_on_shelf", "Sequences at rest.", stats->n_on_shelf);
    whole(p, "sequences_left_over", "Of these, of no session.", stats->n_left_over);
}

bora_status bora_verb_metrics(bora_request *request, bora_error *err)
{
    const bora_server *server = request->server;
    bora_scheduler_stats stats;
    page p = {0};
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    add_daemon(&p, server, &stats);
    add_generations(&p, server, &stats);
    add_engine(&p, &stats);
    add_memory(&p, server, &stats);
    BORA_CLEANUP(bora_freep) char *text = p.text;
    if (p.failed)
        return bora_fail(err, BORA_E_NOMEM, "metrics");
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_text(&pack, "text", text, p.size);
    bora_request_end(request, &pack);
    return BORA_OK;
}
