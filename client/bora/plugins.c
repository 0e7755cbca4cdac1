/* bora plugins: the implementations the daemon found. */
#include "command.h"

static bool print(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[] = {{"KIND", false},   {"NAME", false},      {"VERSION", false},
                                          {"IN USE", false}, {"INVARIANT", false}, {"FILE", false}};
    const bora_client_value *plugins = bora_client_value_get(value, "plugins");
    bora_table table;
    bora_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < bora_client_value_count(plugins); i++) {
        const bora_client_value *plugin = bora_client_value_at(plugins, i);
        bool is_used = bora_client_value_bool(bora_client_value_get(plugin, "in_use"), false);
        bool is_invariant = bora_client_value_bool(bora_client_value_get(plugin, "batch_invariant"), false);
        bora_table_add_value(&table, bora_client_value_get(plugin, "kind"));
        bora_table_add_value(&table, bora_client_value_get(plugin, "name"));
        bora_table_add_value(&table, bora_client_value_get(plugin, "version"));
        bora_table_add(&table, is_used ? "yes" : "no");
        bora_table_add(&table, is_invariant ? "yes" : "no");
        bora_table_add_value(&table, bora_client_value_get(plugin, "path"));
    }
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    return bora_cli_list(cli, n_words, words, bora_client_plugin_list, print);
}

const bora_command bora_command_plugins = {
    .name = "plugins",
    .words = "",
    .summary = "the daemon's plugins, and which are in use",
    .details = "INVARIANT: the same numbers whatever else runs beside it.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
