/* bora status: how the daemon is. */
#include "command.h"
#include "text.h"

#include <string.h>

static uint64_t number(const bora_client_value *map, const char *key)
{
    return bora_client_value_uint(bora_client_value_get(map, key), 0);
}

static void add_text(bora_table *table, const bora_client_value *map, const char *key)
{
    bora_table_add_value(table, bora_client_value_get(map, key));
}

static bool is_named(const bora_client_value *key, const char *name)
{
    size_t size = 0;
    const char *text = bora_client_value_text(key, &size);
    return text && size == strlen(name) && memcmp(text, name, size) == 0;
}

bool bora_status_is_account(const bora_client_value *key)
{
    static const char *const totals[] = {"limit", "used", "peak", "rss_bytes"};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        if (is_named(key, totals[i]))
            return false;
    return true;
}

void bora_status_append_plugins(bora_text *text, const bora_client_value *plugins)
{
    for (uint32_t i = 0; i < bora_client_value_count(plugins); i++) {
        size_t kind_size = 0, name_size = 0;
        const char *kind = bora_client_value_text(bora_client_value_key(plugins, i), &kind_size);
        const char *name = bora_client_value_text(bora_client_value_at(plugins, i), &name_size);
        bora_text_append_string(text, i > 0 ? ", " : "");
        bora_text_append_safe(text, kind, kind_size, BORA_TEXT_ONE_LINE);
        bora_text_append_string(text, " ");
        bora_text_append_safe(text, name, name_size, BORA_TEXT_ONE_LINE);
    }
}

static void add_plugins(bora_table *table, const bora_client_value *plugins)
{
    bora_text text = {0};
    if (bora_client_value_count(plugins) == 0)
        return; /* an older daemon does not say */
    bora_status_append_plugins(&text, plugins);
    bora_table_add(table, "plugins");
    bora_table_add(table, text.data ? text.data : "");
    table->failed = table->failed || text.failed;
    bora_text_release(&text);
}

/* An account's name and size behind the others. One of which there is nothing is left out, but for the two that
 * everybody looks for. */
static void append_account(bora_text *text, const bora_client_value *key, uint64_t size, const char *type,
                           size_t type_size)
{
    const bool is_kv = is_named(key, "kv");
    size_t name_size = 0;
    const char *name = bora_client_value_text(key, &name_size);
    if (size == 0 && !is_kv && !is_named(key, "weights"))
        return;
    bora_text_append_string(text, text->size ? ", " : "");
    if (is_kv)
        bora_text_append_string(text, "sessions");
    else
        bora_text_append_safe(text, name ? name : "", name_size, BORA_TEXT_ONE_LINE);
    bora_text_append_string(text, " ");
    bora_text_append_string(text, bora_show_bytes(size).text);
    if (is_kv && type_size) {
        bora_text_append_string(text, " (");
        bora_text_append_safe(text, type, type_size, BORA_TEXT_ONE_LINE);
        bora_text_append_string(text, ")");
    }
}

/* memory: the map of that name; promised: bytes beside it; type: elements of the caches. */
static void add_memory(bora_table *table, const bora_client_value *memory, uint64_t promised, const char *type,
                       size_t type_size)
{
    bora_text accounts = {0};
    for (uint32_t i = 0; i < bora_client_value_count(memory); i++) {
        const bora_client_value *key = bora_client_value_key(memory, i);
        if (bora_status_is_account(key))
            append_account(&accounts, key, bora_client_value_uint(bora_client_value_at(memory, i), 0), type, type_size);
    }
    bora_table_add(table, "memory");
    bora_table_addf(table, "%s of %s: %s", bora_show_bytes(number(memory, "used")).text,
                    bora_show_bytes(number(memory, "limit")).text, accounts.data ? accounts.data : "");
    bora_table_add(table, "resident");
    bora_table_addf(table, "%s; at most %s were in use so far", bora_show_bytes(number(memory, "rss_bytes")).text,
                    bora_show_bytes(number(memory, "peak")).text);
    if (promised) {
        bora_table_add(table, "promised");
        bora_table_addf(table, "%s more to the answers under way", bora_show_bytes(promised).text);
    }
    bora_text_release(&accounts);
}

static void add_facts(bora_table *table, const bora_client_value *value)
{
    size_t version_size = 0, state_size = 0, type_size = 0, path_size = 0, name_size = 0;
    const char *version = bora_client_value_text(bora_client_value_get(value, "version"), &version_size);
    const char *state = bora_client_value_text(bora_client_value_get(value, "state"), &state_size);
    const char *type = bora_client_value_text(bora_client_value_get(value, "kv_dtype"), &type_size);
    const char *path = bora_client_value_text(bora_client_value_get(value, "model_path"), &path_size);
    const char *name = bora_client_value_text(bora_client_value_get(value, "model"), &name_size);
    uint64_t n_threads = number(value, "n_threads"), n_stages = number(value, "n_stages");
    uint64_t n_connections = number(value, "n_connections"), n_steps = number(value, "n_steps");
    uint64_t n_prompt = number(value, "n_prompt_tokens");

    bora_table_add(table, "daemon");
    bora_table_addf(table, "borad %.*s, process %lu, %.*s", (int)version_size, version,
                    (unsigned long)number(value, "pid"), (int)state_size, state);
    if (bora_client_value_get(value, "n_load_bytes")) {
        const uint64_t n_done = number(value, "n_loaded_bytes"), n_all = number(value, "n_load_bytes");
        bora_table_add(table, "loading");
        bora_table_addf(table, "%.0f %%, %s of %s", n_all > 0 ? (double)n_done / (double)n_all * 100 : 0,
                        bora_show_bytes(n_done).text, bora_show_bytes(n_all).text);
    }
    bora_table_add(table, "up");
    bora_table_add(table, bora_show_duration(number(value, "uptime_ms")).text);
    bora_table_add(table, "model");
    bora_table_addf(table, "%.*s", (int)name_size, name);
    bora_table_add(table, "file");
    bora_table_addf(table, "%.*s", (int)path_size, path);
    bora_table_add(table, "compute");
    bora_table_addf(table, "%lu thread%s, %lu pipeline stage%s", (unsigned long)n_threads, bora_plural(n_threads),
                    (unsigned long)n_stages, bora_plural(n_stages));
    bora_table_add(table, "processor");
    add_text(table, value, "cpu");
    add_plugins(table, bora_client_value_get(value, "plugins"));
    add_memory(table, bora_client_value_get(value, "memory"), number(value, "promised_bytes"), type, type_size);
    bora_table_add(table, "work");
    bora_table_addf(table, "%s running, %s waiting, %s connection%s", bora_show_count(number(value, "n_running")).text,
                    bora_show_count(number(value, "n_waiting")).text, bora_show_count(n_connections).text,
                    bora_plural(n_connections));
    const bora_client_value *prompt_rate = bora_client_value_get(value, "prompt_tokens_per_second");
    const bora_client_value *generated_rate = bora_client_value_get(value, "generated_tokens_per_second");
    if (prompt_rate && generated_rate) { /* an older daemon does not say */
        bora_table_add(table, "speed");
        bora_table_addf(table, "%.1f prompt tokens and %.1f generated per second, over the last 5 seconds",
                        bora_client_value_float(prompt_rate, 0), bora_client_value_float(generated_rate, 0));
    }
    bora_table_add(table, "so far");
    bora_table_addf(table, "%s prompt token%s, %s more reused, %s generated, %s step%s", bora_show_count(n_prompt).text,
                    bora_plural(n_prompt), bora_show_count(number(value, "n_reused_tokens")).text,
                    bora_show_count(number(value, "n_generated_tokens")).text, bora_show_count(n_steps).text,
                    bora_plural(n_steps));
}

static bool print_sessions(const bora_cli *cli, const bora_client_value *sessions)
{
    static const bora_column columns[] = {{"SESSION IN MEMORY", false},
                                          {"TOKENS", true},
                                          {"KV CACHE", true},
                                          {"STATE", false}};
    bora_table table;
    bora_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        const bora_client_value *session = bora_client_value_at(sessions, i);
        add_text(&table, session, "name");
        add_text(&table, session, "n_tokens");
        bora_table_add(&table, bora_show_bytes(number(session, "kv_bytes")).text);
        bool is_running = bora_client_value_bool(bora_client_value_get(session, "running"), false);
        bora_table_add(&table, is_running ? "answering" : "idle");
    }
    (void)putchar('\n');
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static bool print(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[2];
    bora_table table;
    bora_table_init(&table, columns, 2);
    add_facts(&table, value);
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    const bora_client_value *sessions = bora_client_value_get(value, "sessions");
    return done && (bora_client_value_count(sessions) == 0 || print_sessions(cli, sessions));
}

static int run(bora_cli *cli, int n_words, char **words)
{
    return bora_cli_list(cli, n_words, words, bora_client_daemon_status, print);
}

const bora_command bora_command_status = {
    .name = "status",
    .words = "",
    .summary = "how the daemon is: load, memory, your sessions in memory",
    .details = "",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
