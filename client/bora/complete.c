/* bora complete: what the model would write after a text, without the layout of a chat. */
#include "answer.h"
#include "signals.h"

static int run(bora_cli *cli, int n_words, char **words)
{
    const bora_options *o = &cli->options;
    bool has_tokens = o->generation.tokens != NULL;
    if (has_tokens && n_words > 0)
        return bora_cli_usage(cli, "give TEXT or --tokens, not both");
    if (has_tokens && o->generation.no_bos)
        return bora_cli_usage(cli, "--no-bos goes with TEXT: --tokens are taken as they are");
    bora_text text = {0};
    int code = has_tokens ? BORA_EXIT_OK : bora_cli_gather_text(cli, n_words, words, false, &text);
    if (code == BORA_EXIT_OK)
        code = bora_cli_connect(cli);
    if (code == BORA_EXIT_OK) {
        bora_client_generation g = o->generation;
        g.prompt = has_tokens ? NULL : text.data;
        g.prompt_size = text.size;
        bora_signals_catch_interrupt(cli->client);
        code = bora_answer_run(cli, &g, o->json ? BORA_ANSWER_JSON : BORA_ANSWER_RAW, false, NULL);
        bora_signals_release();
    }
    bora_text_release(&text);
    return code;
}

const bora_command bora_command_complete = {
    .name = "complete",
    .words = "TEXT...",
    .summary = "continue a text, without the layout of a chat",
    .details =
        "The words of TEXT are joined by blanks; without any, the text comes from standard input.\n"
        "Only the continuation is printed. With --json every event is printed as a JSON object on a line of its\n"
        "own: accepted (with the seed), progress, token (with id, text and logprob), done.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON | BORA_OPTIONS_RAW | BORA_OPTIONS_SAMPLING | BORA_OPTIONS_ANSWER |
              BORA_OPTIONS_TERMS | BORA_OPTIONS_CHOICES,
    .run = run,
};
