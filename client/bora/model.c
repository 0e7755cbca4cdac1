/* bora model: what the daemon has loaded. */
#include "command.h"

#include <inttypes.h>

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

static int run(bora_cli *cli, int n_words, char **words)
{
    return bora_cli_list(cli, n_words, words, bora_client_model, print);
}

const bora_command bora_command_model = {
    .name = "model",
    .words = "",
    .summary = "which model is loaded, and its dimensions",
    .details = "",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
