/* bora plugin: looking at one plugin, and exchanging it while the daemon runs. */
#include "command.h"

#include <string.h>

static void add_types(bora_table *table, const bora_client_value *types)
{
    bora_text text = {0};
    for (uint32_t i = 0; i < bora_client_value_count(types); i++) {
        size_t size = 0;
        const char *name = bora_client_value_text(bora_client_value_at(types, i), &size);
        bora_text_append_string(&text, i > 0 ? ", " : "");
        bora_text_append(&text, name, size);
    }
    bora_table_add_text(table, text.size ? text.data : "-", text.size ? text.size : 1);
    table->failed = table->failed || text.failed;
    bora_text_release(&text);
}

static void add_flag(bora_table *table, const char *title, const bora_client_value *value, const char *key)
{
    bora_table_add(table, title);
    bora_table_add(table, bora_client_value_bool(bora_client_value_get(value, key), false) ? "yes" : "no");
}

static bool print_info(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[2];
    static const char *const texts[][2] = {
        {"kind", "kind"}, {"name", "name"}, {"version", "version"}, {"file", "path"}, {"interface", "abi"}};
    bora_table table;
    bora_table_init(&table, columns, 2);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        bora_table_add(&table, texts[i][0]);
        bora_table_add_value(&table, bora_client_value_get(value, texts[i][1]));
    }
    bora_table_add(&table, "types");
    add_types(&table, bora_client_value_get(value, "types"));
    add_flag(&table, "invariant", value, "batch_invariant");
    add_flag(&table, "packs weights", value, "packs_weights");
    add_flag(&table, "in use", value, "in_use");
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static bool print_use(const bora_cli *cli, const bora_client_value *value)
{
    size_t kind_size = 0, name_size = 0, version_size = 0;
    const char *kind = bora_client_value_text(bora_client_value_get(value, "kind"), &kind_size);
    const char *name = bora_client_value_text(bora_client_value_get(value, "name"), &name_size);
    const char *version = bora_client_value_text(bora_client_value_get(value, "version"), &version_size);
    bora_print_note(&cli->print, "[%.*s %.*s %.*s is in use now]", (int)kind_size, kind, (int)name_size, name,
                    (int)version_size, version);
    return true;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    const char *action = n_words > 0 ? words[0] : "";
    bool is_use = strcmp(action, "use") == 0;
    if (!is_use && strcmp(action, "info") != 0)
        return bora_cli_usage(cli, n_words > 0 ? "there is no 'plugin %s'" : "say what: info or use%s",
                              n_words > 0 ? action : "");
    if (n_words != 3)
        return bora_cli_usage(cli, "%s takes a KIND and a NAME", action);
    int code = bora_cli_connect(cli);
    if (code != BORA_EXIT_OK)
        return code;
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    bora_client_status status =
        (is_use ? bora_client_plugin_use : bora_client_plugin_info)(cli->client, words[1], words[2], &result, &error);
    if (status != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    return bora_cli_show(cli, &result, is_use ? print_use : print_info);
}

const bora_command bora_command_plugin = {
    .name = "plugin",
    .words = "info KIND NAME | use KIND NAME",
    .summary = "look at one plugin, or have the daemon use it",
    .details = "KIND is attention, cache, expert or link; NAME is one that 'bora plugins' lists, or an absolute path.\n"
               "  info KIND NAME  what it says of itself: version, file, element types\n"
               "  use KIND NAME   exchange it while conversations go on; for the daemon's own user and root\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
