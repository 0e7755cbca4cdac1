/* bora ask: one question, one answer. */
#include "answer.h"
#include "signals.h"

static int run(bora_cli *cli, int n_words, char **words)
{
    bora_text text = {0};
    if (cli->options.session && cli->options.generation.n_choices > 1)
        return bora_cli_usage(cli, "--choices goes without --session: a conversation has one answer");
    int code = bora_cli_gather_text(cli, n_words, words, true, &text);
    if (code == BORA_EXIT_OK)
        code = bora_cli_connect(cli);
    if (code == BORA_EXIT_OK) {
        const bora_options *o = &cli->options;
        bora_client_generation g = o->generation;
        g.text = text.data;
        g.text_size = text.size;
        g.session = o->session;
        g.system = o->system;
        bora_signals_catch_interrupt(cli->client);
        code = bora_answer_run(cli, &g, o->json ? BORA_ANSWER_JSON : BORA_ANSWER_MESSAGE, o->verbose, NULL);
        bora_signals_release();
    }
    bora_text_release(&text);
    return code;
}

const bora_command bora_command_ask = {
    .name = "ask",
    .words = "TEXT...",
    .summary = "ask once and print the answer",
    .details =
        "The words of TEXT are joined by blanks. What is piped in is added after them, or is the question itself.\n"
        "Without -s nothing is kept; with it the question and its answer become part of that conversation.\n"
        "With --json every event is printed as a JSON object on a line of its own.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON | BORA_OPTIONS_SESSION | BORA_OPTIONS_SAMPLING |
              BORA_OPTIONS_ANSWER | BORA_OPTIONS_TERMS | BORA_OPTIONS_CHOICES,
    .run = run,
};
