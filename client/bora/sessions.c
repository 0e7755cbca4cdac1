/* bora sessions: the conversations that are kept. */
#include "command.h"

bool bora_sessions_print(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[] = {
        {"SESSION", false}, {"TOKENS", true}, {"MESSAGES", true}, {"LAST USED", false}, {"MODEL", false}};
    const bora_client_value *sessions = bora_client_value_get(value, "sessions");
    uint32_t n = bora_client_value_count(sessions);
    if (n == 0) {
        bora_print_note(&cli->print, "No sessions. 'bora chat' begins one.");
        return true;
    }
    bora_table table;
    bora_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < n; i++) {
        const bora_client_value *session = bora_client_value_at(sessions, i);
        size_t size = 0;
        const char *model = bora_client_value_text(bora_client_value_get(session, "model_name"), &size);
        bool is_current = bora_client_value_bool(bora_client_value_get(session, "current_model"), true);
        bora_table_add_value(&table, bora_client_value_get(session, "name"));
        bora_table_add_value(&table, bora_client_value_get(session, "n_tokens"));
        bora_table_add_value(&table, bora_client_value_get(session, "n_messages"));
        bora_table_add(&table,
                       bora_show_time(bora_client_value_uint(bora_client_value_get(session, "updated"), 0)).text);
        bora_table_addf(&table, "%.*s%s", (int)size, model, is_current ? "" : " (not loaded)");
    }
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    return bora_cli_list(cli, n_words, words, bora_client_session_list, bora_sessions_print);
}

const bora_command bora_command_sessions = {
    .name = "sessions",
    .words = "",
    .summary = "list your conversations, the last used first",
    .details = "",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
