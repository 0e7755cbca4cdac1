/* bora metrics: the daemon's numbers, as a monitoring system reads them. */
#include "command.h"

static bool print(const bora_cli *cli, const bora_client_value *value)
{
    size_t size = 0;
    const char *text = bora_client_value_text(bora_client_value_get(value, "text"), &size);
    bora_print_text(&cli->print, text, size);
    return true;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    return bora_cli_list(cli, n_words, words, bora_client_metrics, print);
}

const bora_command bora_command_metrics = {
    .name = "metrics",
    .words = "",
    .summary = "the daemon's numbers in Prometheus's text format",
    .details = "",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON,
    .run = run,
};
