/* bora tokenize and detokenize: between text and the model's token ids. */
#include "command.h"

#include <inttypes.h>

/* Ids separated by commas: what --tokens takes. */
static bool print_ids(const bora_cli *cli, const bora_client_value *value)
{
    (void)cli;
    const bora_client_value *tokens = bora_client_value_get(value, "tokens");
    for (uint32_t i = 0; i < bora_client_value_count(tokens); i++)
        (void)printf("%s%" PRId64, i > 0 ? "," : "", bora_client_value_int(bora_client_value_at(tokens, i), -1));
    (void)putchar('\n');
    return true;
}

/* Pieces stand in quotes: blanks at their ends count. */
static bool print_pieces(const bora_cli *cli, const bora_client_value *value)
{
    static const bora_column columns[] = {{"ID", true}, {"PIECE", false}};
    const bora_client_value *tokens = bora_client_value_get(value, "tokens");
    const bora_client_value *pieces = bora_client_value_get(value, "pieces");
    bora_table table;
    bora_table_init(&table, columns, 2);
    for (uint32_t i = 0; i < bora_client_value_count(tokens); i++) {
        size_t size = 0;
        const char *piece = bora_client_value_text(bora_client_value_at(pieces, i), &size);
        bora_table_addf(&table, "%" PRId64, bora_client_value_int(bora_client_value_at(tokens, i), -1));
        bora_table_addf(&table, "\"%.*s\"", (int)size, piece);
    }
    bool done = bora_table_print(&table, &cli->print);
    bora_table_release(&table);
    return done;
}

static int run_tokenize(bora_cli *cli, int n_words, char **words)
{
    if (cli->options.ids && cli->options.json)
        return bora_cli_usage(cli, "give --ids or --json, not both");
    bora_text text = {0};
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    int code = bora_cli_gather_text(cli, n_words, words, false, &text);
    if (code == BORA_EXIT_OK)
        code = bora_cli_connect(cli);
    if (code == BORA_EXIT_OK &&
        bora_client_tokenize(cli->client, text.data, text.size, cli->options.bos, &result, &error) != BORA_CLIENT_OK)
        code = bora_cli_failed(&error);
    if (result)
        code = bora_cli_show(cli, &result, cli->options.ids ? print_ids : print_pieces);
    bora_text_release(&text);
    return code;
}

static bool print_text(const bora_cli *cli, const bora_client_value *value)
{
    size_t size = 0;
    const char *text = bora_client_value_text(bora_client_value_get(value, "text"), &size);
    bora_print_text(&cli->print, text, size);
    if (cli->print.out_is_terminal)
        (void)putchar('\n');
    return true;
}

static int run_detokenize(bora_cli *cli, int n_words, char **words)
{
    char why[256];
    bora_text text = {0};
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    int code = bora_cli_gather_text(cli, n_words, words, false, &text);
    if (code == BORA_EXIT_OK && !bora_options_add_tokens(&cli->options, text.data, &why))
        code = bora_cli_usage(cli, "%s", why);
    const bora_client_generation *g = &cli->options.generation;
    if (code == BORA_EXIT_OK && g->n_tokens == 0)
        code = bora_cli_usage(cli, "no token ids are given");
    if (code == BORA_EXIT_OK)
        code = bora_cli_connect(cli);
    if (code == BORA_EXIT_OK &&
        bora_client_detokenize(cli->client, g->tokens, g->n_tokens, &result, &error) != BORA_CLIENT_OK)
        code = bora_cli_failed(&error);
    if (result)
        code = bora_cli_show(cli, &result, print_text);
    bora_text_release(&text);
    return code;
}

const bora_command bora_command_tokenize = {
    .name = "tokenize",
    .words = "TEXT...",
    .summary = "the tokens of a text: ids and pieces",
    .details = "The words of TEXT are joined by blanks; without any, the text comes from standard input.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON | BORA_OPTIONS_BOS | BORA_OPTIONS_IDS,
    .run = run_tokenize,
};

const bora_command bora_command_detokenize = {
    .name = "detokenize",
    .words = "ID...",
    .summary = "the text of token ids",
    .details = "IDs are separated by blanks or commas; without any, they come from standard input.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run_detokenize,
};
