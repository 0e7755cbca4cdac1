/* bora model: what the daemon has loaded; and loading another. */
#include "command.h"

#include "json.h"
#include "signals.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t number(const bora_client_value *map, const char *key)
{
    return bora_client_value_uint(bora_client_value_get(map, key), 0);
}

static bora_shown count(const bora_client_value *map, const char *key)
{
    return bora_show_count(number(map, key));
}

/* "256 in every layer", "none", or how many layers have which: windows differ between the layers of some models. */
static void add_windows(bora_table *table, const bora_client_value *windows, const bora_client_value *source)
{
    bora_text text = {0};
    uint32_t n = bora_client_value_count(windows);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t window = bora_client_value_uint(bora_client_value_at(windows, i), 0);
        uint32_t n_same = 0;
        bool was_before = false;
        for (uint32_t j = 0; j < n; j++) {
            bool is_same = bora_client_value_uint(bora_client_value_at(windows, j), 0) == window;
            n_same += is_same;
            was_before = was_before || (is_same && j < i);
        }
        if (was_before)
            continue;
        char part[96];
        const char *separator = text.size > 0 ? ", " : "";
        if (n_same == n && window == 0)
            (void)snprintf(part, sizeof part, "none");
        else if (n_same == n)
            (void)snprintf(part, sizeof part, "%s in every layer", bora_show_count(window).text);
        else if (window == 0)
            (void)snprintf(part, sizeof part, "%snone in %" PRIu32 " layers", separator, n_same);
        else
            (void)snprintf(part, sizeof part, "%s%s in %" PRIu32 " layers", separator, bora_show_count(window).text,
                           n_same);
        bora_text_append_string(&text, part);
    }
    size_t source_size = 0;
    const char *source_text = bora_client_value_text(source, &source_size);
    if (source_size > 0) { /* a daemon of an older version does not say it */
        bora_text_append_string(&text, "; ");
        bora_text_append(&text, source_text, source_size);
    }
    table->failed = table->failed || text.failed;
    bora_table_add_text(table, text.data ? text.data : "-", text.data ? text.size : 1);
    bora_text_release(&text);
}

static void add_fact(bora_table *table, const char *title, const bora_client_value *value, const char *key)
{
    bora_table_add(table, title);
    bora_table_add_value(table, bora_client_value_get(value, key));
}

static bool print(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[2];
    bora_table table;
    bora_table_init(&table, columns, 2);
    add_fact(&table, "name", value, "name");
    add_fact(&table, "file", value, "path");
    add_fact(&table, "format", value, "format");
    add_fact(&table, "fingerprint", value, "fingerprint");
    add_fact(&table, "chat layout", value, "layout");
    bora_table_add(&table, "parameters");
    if (number(value, "n_active_parameters") != number(value, "n_parameters"))
        bora_table_addf(&table, "%s, of which a token uses %s", count(value, "n_parameters").text,
                        count(value, "n_active_parameters").text);
    else
        bora_table_add_value(&table, bora_client_value_get(value, "n_parameters"));
    add_fact(&table, "layers", value, "n_layers");
    bora_table_add(&table, "width");
    bora_table_addf(&table, "%s, feed-forward %s", count(value, "dim").text, count(value, "hidden_dim").text);
    bora_table_add(&table, "heads");
    bora_table_addf(&table, "%s of width %s, sharing %s key/value heads", count(value, "n_heads").text,
                    count(value, "head_dim").text, count(value, "n_kv_heads").text);
    bora_table_add(&table, "experts");
    if (number(value, "n_experts") > 1)
        bora_table_addf(&table, "%s, of which a token uses %s", count(value, "n_experts").text,
                        count(value, "n_experts_per_tok").text);
    else
        bora_table_add(&table, "none (dense)");
    add_fact(&table, "vocabulary", value, "vocab_size");
    add_fact(&table, "context", value, "context");
    bora_table_add(&table, "window");
    add_windows(&table, bora_client_value_get(value, "windows"), bora_client_value_get(value, "window_source"));
    bora_table_add(&table, "rope theta");
    bora_table_addf(&table, "%.10g", bora_client_value_float(bora_client_value_get(value, "rope_theta"), 0));
    bora_table_add(&table, "norm epsilon");
    bora_table_addf(&table, "%.6g", bora_client_value_float(bora_client_value_get(value, "norm_eps"), 0));
    bora_table_add(&table, "weights");
    bora_table_add(&table, bora_show_bytes(number(value, "weight_bytes")).text);
    add_fact(&table, "tensor types", value, "tensor_types");
    bora_table_add(&table, "KV cache");
    bora_table_addf(&table, "%s per token, at most %s per session",
                    bora_show_bytes(number(value, "kv_bytes_per_token")).text,
                    bora_show_bytes(number(value, "kv_bytes_per_session")).text);
    bora_table_add(&table, "memory");
    bora_table_addf(&table, "about %s with one such session", bora_show_bytes(number(value, "memory_bytes")).text);
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

/* ---- load ------------------------------------------------------------------------------------------------------ */

/* A path is from here, wherever the daemon stands; a name stays one, unless something is called so here. false: too
 * long, or this folder is gone. */
static bool resolve(const char *model, char path[PATH_MAX])
{
    char here[PATH_MAX];
    if (realpath(model, path))
        return true;
    const char *folder = strchr(model, '/') && model[0] != '/' ? getcwd(here, sizeof here) : "";
    int size = folder ? snprintf(path, PATH_MAX, "%s%s%s", folder, *folder ? "/" : "", model) : -1;
    return size >= 0 && size < PATH_MAX;
}

typedef struct progress {
    const bora_cli *cli;
    bool is_shown;
} progress;

static bool may_show(const progress *p)
{
    return !p->cli->options.json && p->cli->print.has_colours && p->cli->print.err_is_terminal;
}

static int on_event(void *context, const bora_client_event *event)
{
    progress *p = context;
    if (!may_show(p))
        return 0;
    if (event->kind == BORA_CLIENT_EVENT_LOADING) {
        const double share = event->n_total > 0 ? (double)event->n_done / (double)event->n_total : 0;
        (void)fprintf(stderr, "\r\033[K[loading: %.0f %%]", share < 0.99 ? share * 100 : 99);
        p->is_shown = true;
    } else if (p->is_shown) { /* the last */
        (void)fputs("\r\033[K", stderr);
        p->is_shown = false;
    }
    return 0;
}

static bool print_loaded(const bora_cli *cli, const bora_client_value *value)
{
    size_t name_size = 0, path_size = 0;
    const char *name = bora_client_value_text(bora_client_value_get(value, "name"), &name_size);
    const char *path = bora_client_value_text(bora_client_value_get(value, "path"), &path_size);
    bora_print_text(&cli->print, name, name_size);
    (void)fputs(" (", stdout);
    bora_print_text(&cli->print, path, path_size);
    (void)printf(") is loaded, after %.1f s\n", (double)number(value, "took_ms") / 1000);
    return true;
}

static int load(bora_cli *cli, const char *model)
{
    char path[PATH_MAX];
    progress p = {.cli = cli};
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    if (!*model || !resolve(model, path))
        return bora_cli_usage(cli, "'%.100s' is no path", model);
    int code = bora_cli_connect(cli);
    if (code != BORA_EXIT_OK)
        return code;
    bora_client_request *request = bora_client_request_new("model.load");
    bora_client_request_string(request, "model", path);
    if (cli->options.has_drain_ms)
        bora_client_request_uint(request, "timeout_ms", cli->options.drain_ms);
    if (may_show(&p)) {
        (void)fputs("[waiting for answers that run]", stderr);
        p.is_shown = true;
    }
    bora_signals_catch_interrupt(cli->client);
    bora_client_status status = bora_client_call_watched(cli->client, &request, on_event, &p, &result, &error);
    bora_signals_release();
    if (p.is_shown)
        (void)fputc('\n', stderr);
    if (status == BORA_CLIENT_E_INTERRUPTED)
        (void)snprintf(error.message, sizeof error.message, "not waiting any longer; the daemon goes on");
    return status == BORA_CLIENT_OK ? bora_cli_show(cli, &result, print_loaded) : bora_cli_failed(&error);
}

static int run(bora_cli *cli, int n_words, char **words)
{
    const bool is_load = n_words > 0 && strcmp(words[0], "load") == 0;
    if (is_load && n_words != 2)
        return bora_cli_usage(cli, "load takes one PATH or name");
    if (!is_load && cli->options.has_drain_ms)
        return bora_cli_usage(cli, "--timeout goes with load");
    return is_load ? load(cli, words[1]) : bora_cli_list(cli, n_words, words, bora_client_model, print);
}

const bora_command bora_command_model = {
    .name = "model",
    .words = "[load PATH|NAME]",
    .summary = "which model is loaded, and its dimensions; load another",
    .details =
        "  load PATH  put another model in its place, while the daemon runs: answers that run may end, sessions are\n"
        "             kept, and go on when their model is back. NAME: one that the daemon finds by itself\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON | BORA_OPTIONS_LOAD,
    .run = run,
};
