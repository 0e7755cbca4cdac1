/* Facts first, then memory by account with bars, then the sessions in memory, those that answer first. */
#include "top_page.h"

#include "command.h"

#include <string.h>

#define BAR_WIDTH 24

static uint64_t number(const bora_client_value *map, const char *key)
{
    return bora_client_value_uint(bora_client_value_get(map, key), 0);
}

static double fraction(const bora_client_value *map, const char *key)
{
    return bora_client_value_float(bora_client_value_get(map, key), 0);
}

/* A text of the map, made safe; for one use in a row of arguments each. */
typedef struct words {
    char text[256];
} words;

static words text_of(const bora_client_value *map, const char *key)
{
    words w = {""};
    size_t size = 0;
    const char *bytes = bora_client_value_text(bora_client_value_get(map, key), &size);
    bora_text safe = {0};
    bora_text_append_safe(&safe, bytes, size, BORA_TEXT_ONE_LINE);
    if (safe.data) {
        size_t fits = bora_text_fit(safe.data, safe.size, sizeof w.text / 4); /* a character has at most 4 bytes */
        (void)snprintf(w.text, sizeof w.text, "%.*s", fits < sizeof w.text ? (int)fits : 0, safe.data);
    }
    bora_text_release(&safe);
    return w;
}

/* ---- facts ----------------------------------------------------------------------------------------------------------
 */

/* Share of the time in steps, since the page before or else since the daemon's start; in per cent. */
static double busy_share(const bora_client_value *status, bora_top_past *past)
{
    bora_top_past now = {.pid = number(status, "pid"),
                         .uptime_ms = number(status, "uptime_ms"),
                         .busy_ms = fraction(status, "busy_ms")};
    bool is_same = past->pid == now.pid && past->uptime_ms < now.uptime_ms && past->busy_ms <= now.busy_ms;
    double busy = now.busy_ms - (is_same ? past->busy_ms : 0);
    double time = (double)(now.uptime_ms - (is_same ? past->uptime_ms : 0));
    *past = now;
    double share = time > 0 ? busy / time * 100 : 0;
    return share < 100 ? share : 100; /* a step is counted when it ends */
}

static void write_facts(FILE *file, const bora_client_value *status, bora_top_past *past)
{
    const bora_client_value *limits = bora_client_value_get(status, "limits");
    const uint64_t n_threads = number(status, "n_threads"), n_stages = number(status, "n_stages");
    const uint64_t n_all = number(status, "n_load_bytes"), n_resting = number(status, "n_on_shelf");
    (void)fprintf(file, "borad %s, process %lu, %s, up %s\n", text_of(status, "version").text,
                  (unsigned long)number(status, "pid"), text_of(status, "state").text,
                  bora_show_duration(number(status, "uptime_ms")).text);
    if (n_all > 0)
        (void)fprintf(file, "loading   %.0f %% of %s\n", (double)number(status, "n_loaded_bytes") / (double)n_all * 100,
                      bora_show_bytes(n_all).text);
    (void)fprintf(file, "model     %s; %lu thread%s, %lu stage%s; %s\n", text_of(status, "model").text,
                  (unsigned long)n_threads, bora_plural(n_threads), (unsigned long)n_stages, bora_plural(n_stages),
                  text_of(status, "cpu").text);
    (void)fprintf(file, "speed     %.1f prompt and %.1f generated tokens per second; engine busy %.0f %%\n",
                  fraction(status, "prompt_tokens_per_second"), fraction(status, "generated_tokens_per_second"),
                  busy_share(status, past));
    (void)fprintf(file, "steps     %s, the last %.1f ms for %s row%s; %s slow\n",
                  bora_show_count(number(status, "n_steps")).text, fraction(status, "last_step_ms"),
                  bora_show_count(number(status, "last_step_rows")).text, bora_plural(number(status, "last_step_rows")),
                  bora_show_count(number(status, "n_slow_steps")).text);
    (void)fprintf(file, "tokens    %s prompt, %s more reused, %s generated; %s cancelled\n",
                  bora_show_count(number(status, "n_prompt_tokens")).text,
                  bora_show_count(number(status, "n_reused_tokens")).text,
                  bora_show_count(number(status, "n_generated_tokens")).text,
                  bora_show_count(number(status, "n_cancelled")).text);
    (void)fprintf(file, "queue     %s running, %s waiting", bora_show_count(number(status, "n_running")).text,
                  bora_show_count(number(status, "n_waiting")).text);
    if (limits)
        (void)fprintf(file, "; at most %s open, %s of one user", bora_show_count(number(limits, "open_max")).text,
                      number(limits, "open_per_owner") ? bora_show_count(number(limits, "open_per_owner")).text
                                                       : "as many");
    (void)fprintf(file, "; %s connected\n", bora_show_count(number(status, "n_connections")).text);
    (void)fprintf(file, "at rest   %s sequence%s, %s of no session with %s\n", bora_show_count(n_resting).text,
                  bora_plural(n_resting), bora_show_count(number(status, "n_left_over")).text,
                  bora_show_bytes(number(status, "shelf_bytes")).text);
}

static bool write_plugins(FILE *file, const bora_client_value *plugins)
{
    bora_text text = {0};
    bora_status_append_plugins(&text, plugins);
    if (text.size > 0)
        (void)fprintf(file, "plugins   %s\n", text.data);
    bool done = !text.failed;
    bora_text_release(&text);
    return done;
}

/* ---- memory
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct bar {
    char text[BAR_WIDTH + 3];
} bar;

static bar bar_of(uint64_t part, uint64_t whole)
{
    bar b = {"["};
    double share = whole > 0 ? (double)part / (double)whole : 0;
    int n = (int)((share < 1 ? share : 1) * BAR_WIDTH + 0.5);
    n += n == 0 && part > 0; /* something is there */
    memset(b.text + 1, '#', (size_t)n);
    memset(b.text + 1 + n, '.', (size_t)(BAR_WIDTH - n));
    b.text[BAR_WIDTH + 1] = ']';
    b.text[BAR_WIDTH + 2] = '\0';
    return b;
}

static bool write_memory(FILE *file, const bora_client_value *memory, uint64_t promised)
{
    static const bora_column columns[] = {{NULL, false}, {NULL, false}, {NULL, true}};
    uint64_t limit = number(memory, "limit"), used = number(memory, "used");
    bora_table table;
    if (!memory)
        return true;
    (void)fprintf(file, "memory    %s %s of %s; at most %s so far; resident %s\n", bar_of(used, limit).text,
                  bora_show_bytes(used).text, bora_show_bytes(limit).text, bora_show_bytes(number(memory, "peak")).text,
                  bora_show_bytes(number(memory, "rss_bytes")).text);
    bora_table_init(&table, columns, 3);
    for (uint32_t i = 0; i < bora_client_value_count(memory); i++) {
        const bora_client_value *key = bora_client_value_key(memory, i);
        uint64_t size = bora_client_value_uint(bora_client_value_at(memory, i), 0);
        if (!bora_status_is_account(key) || size == 0)
            continue;
        size_t name_size = 0;
        const char *name = bora_client_value_text(key, &name_size);
        bora_table_addf(&table, "  %.*s", name_size < 32 ? (int)name_size : 32, name);
        bora_table_add(&table, bar_of(size, limit).text);
        bora_table_add(&table, bora_show_bytes(size).text);
    }
    if (promised) {
        bora_table_add(&table, "  promised");
        bora_table_add(&table, bar_of(promised, limit).text);
        bora_table_add(&table, bora_show_bytes(promised).text);
    }
    bool done = bora_table_write(&table, file);
    bora_table_release(&table);
    return done;
}

/* ---- sessions
 * --------------------------------------------------------------------------------------------------------- */

static void add_sessions(bora_table *table, const bora_client_value *sessions, bool are_running)
{
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        const bora_client_value *session = bora_client_value_at(sessions, i);
        if (bora_client_value_bool(bora_client_value_get(session, "running"), false) != are_running)
            continue;
        bora_table_add_value(table, bora_client_value_get(session, "name"));
        bora_table_add_value(table, bora_client_value_get(session, "n_tokens"));
        bora_table_add(table, bora_show_bytes(number(session, "kv_bytes")).text);
        bora_table_add(table, are_running ? "answering" : "idle");
    }
}

static bool write_sessions(FILE *file, const bora_client_value *sessions)
{
    static const bora_column columns[] = {{"YOUR SESSION IN MEMORY", false},
                                          {"TOKENS", true},
                                          {"KV CACHE", true},
                                          {"STATE", false}};
    bora_table table;
    if (bora_client_value_count(sessions) == 0)
        return true;
    bora_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    add_sessions(&table, sessions, true);
    add_sessions(&table, sessions, false);
    (void)fputc('\n', file);
    bool done = bora_table_write(&table, file);
    bora_table_release(&table);
    return done;
}

bool bora_top_page(FILE *file, const bora_client_value *status, bora_top_past *past)
{
    write_facts(file, status, past);
    return write_plugins(file, bora_client_value_get(status, "plugins")) &&
           write_memory(file, bora_client_value_get(status, "memory"), number(status, "promised_bytes")) &&
           write_sessions(file, bora_client_value_get(status, "sessions"));
}
