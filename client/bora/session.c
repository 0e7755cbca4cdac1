/* bora session: looking at one conversation, renaming and deleting it. */
#include "command.h"

#include "json.h"

#include <string.h>

static bool text_is(const bora_client_value *value, const char *word)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

static bool print_facts(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[2];
    size_t size = 0;
    const char *model = bora_client_value_text(bora_client_value_get(value, "model_name"), &size);
    bool is_current = bora_client_value_bool(bora_client_value_get(value, "current_model"), true);
    bora_table table;
    bora_table_init(&table, columns, 2);
    bora_table_add(&table, "session");
    bora_table_add_value(&table, bora_client_value_get(value, "name"));
    bora_table_add(&table, "id");
    bora_table_add_value(&table, bora_client_value_get(value, "session_id"));
    bora_table_add(&table, "model");
    bora_table_addf(&table, "%.*s%s", (int)size, model, is_current ? "" : " (not the one that is loaded)");
    bora_table_add(&table, "created");
    bora_table_add(&table, bora_show_time(bora_client_value_uint(bora_client_value_get(value, "created"), 0)).text);
    bora_table_add(&table, "last used");
    bora_table_add(&table, bora_show_time(bora_client_value_uint(bora_client_value_get(value, "updated"), 0)).text);
    bora_table_add(&table, "tokens");
    bora_table_add_value(&table, bora_client_value_get(value, "n_tokens"));
    bora_table_add(&table, "messages");
    bora_table_add_value(&table, bora_client_value_get(value, "n_messages"));
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static void print_message(const bora_cli *cli, const char *role, size_t role_size, const bora_client_value *text,
                          bool is_interrupted)
{
    size_t size = 0;
    const char *bytes = bora_client_value_text(text, &size);
    (void)fputs(cli->print.has_colours ? "\n\033[1m" : "\n", stdout);
    bora_print_text(&cli->print, role, role_size);
    (void)fputs(cli->print.has_colours ? "\033[0m\n" : "\n", stdout);
    bora_print_indented(&cli->print, bytes, size);
    if (is_interrupted)
        (void)fputs("  [interrupted]\n", stdout);
}

bool bora_session_print(const bora_cli *cli, const bora_client_value *value)
{
    if (!print_facts(cli, value))
        return false;
    const bora_client_value *system = bora_client_value_get(value, "system");
    const bora_client_value *messages = bora_client_value_get(value, "messages");
    size_t size = 0;
    bool has_system = false; /* as a message */
    for (uint32_t i = 0; i < bora_client_value_count(messages); i++)
        has_system = has_system || text_is(bora_client_value_get(bora_client_value_at(messages, i), "role"), "system");
    (void)bora_client_value_text(system, &size);
    if (size > 0 && !has_system)
        print_message(cli, "system", strlen("system"), system, false);
    for (uint32_t i = 0; i < bora_client_value_count(messages); i++) {
        const bora_client_value *message = bora_client_value_at(messages, i);
        const char *role = bora_client_value_text(bora_client_value_get(message, "role"), &size);
        print_message(cli, role, size, bora_client_value_get(message, "text"),
                      text_is(bora_client_value_get(message, "state"), "interrupted"));
    }
    return true;
}

static int show(bora_cli *cli, const char *session)
{
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    if (bora_client_session_show(cli->client, session, &result, &error) != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    return bora_cli_show(cli, &result, bora_session_print);
}

static int run(bora_cli *cli, int n_words, char **words)
{
    const char *action = n_words > 0 ? words[0] : "";
    bool is_rename = strcmp(action, "rename") == 0, is_delete = strcmp(action, "delete") == 0;
    if (!is_rename && !is_delete && strcmp(action, "show") != 0)
        return bora_cli_usage(cli, n_words > 0 ? "there is no 'session %s'" : "say what: show, rename or delete%s",
                              n_words > 0 ? action : "");
    if (n_words != (is_rename ? 3 : 2))
        return bora_cli_usage(cli, "%s takes %s", action, is_rename ? "the old NAME and the NEW one" : "one NAME");
    if ((is_rename || is_delete) && cli->options.json)
        return bora_cli_usage(cli, "%s prints nothing that --json could change", action);
    int code = bora_cli_connect(cli);
    if (code != BORA_EXIT_OK)
        return code;
    bora_client_error error = {0};
    if (is_rename && bora_client_session_rename(cli->client, words[1], words[2], &error) != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    if (is_delete && bora_client_session_delete(cli->client, words[1], &error) != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    return is_rename || is_delete ? BORA_EXIT_OK : show(cli, words[1]);
}

const bora_command bora_command_session = {
    .name = "session",
    .words = "show NAME | rename NAME NEW | delete NAME",
    .summary = "show, rename or delete one conversation",
    .details = "NAME is a session's name or id.\n"
               "  show NAME        when it was used, how long it is, and its messages\n"
               "  rename NAME NEW  give it another name\n"
               "  delete NAME      delete it for good; an answer that is being made in it is cancelled\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
