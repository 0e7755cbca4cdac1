/* The commands inside a chat: lines that begin with a slash. */
#include "chat.h"

#include "signals.h"

#include <stdlib.h>
#include <string.h>

typedef struct slash {
    const char *name;
    const char *argument; /* NULL: none; in brackets: may be left out */
    const char *help;     /* NULL: not listed */
    void (*run)(bora_chat *chat, const char *argument);
} slash;

static void complain(const bora_client_error *error)
{
    (void)bora_signals_take_interrupt(); /* Ctrl-C ended the call, not the chat */
    (void)bora_cli_failed(error);
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void pick(bora_chat *chat, const char *session)
{
    if (!bora_chat_pick(chat, session))
        (void)bora_cli_no_memory();
}

static void run_session(bora_chat *chat, const char *argument)
{
    if (*argument)
        pick(chat, argument);
    else if (chat->session)
        bora_print_note(&chat->cli->print, "[this is session %s]", chat->session);
    else
        bora_print_note(&chat->cli->print, "[this is a new session; it gets a name with the first message]");
}

static void run_new(bora_chat *chat, const char *argument)
{
    pick(chat, *argument ? argument : NULL);
    if (!*argument)
        bora_print_note(&chat->cli->print, "[a new session; it gets a name with the first message]");
}

static void run_sessions(bora_chat *chat, const char *argument)
{
    (void)argument;
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    if (bora_client_session_list(chat->cli->client, &result, &error) != BORA_CLIENT_OK)
        complain(&error);
    else
        (void)bora_cli_show(chat->cli, &result, bora_sessions_print);
}

static void run_show(bora_chat *chat, const char *argument)
{
    const char *session = *argument ? argument : chat->session;
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    if (!session)
        bora_print_note(&chat->cli->print, "[nothing has been said yet]");
    else if (bora_client_session_show(chat->cli->client, session, &result, &error) != BORA_CLIENT_OK)
        complain(&error);
    else
        (void)bora_cli_show(chat->cli, &result, bora_session_print);
}

static void run_rename(bora_chat *chat, const char *argument)
{
    bora_client_error error = {0};
    if (!*argument) {
        bora_print_complaint("/rename takes the new name");
        return;
    }
    if (!chat->session) {
        bora_print_note(&chat->cli->print, "[nothing has been said yet; /new %s gives the name at once]", argument);
        return;
    }
    if (bora_client_session_rename(chat->cli->client, chat->session, argument, &error) != BORA_CLIENT_OK) {
        complain(&error);
        return;
    }
    char *copy = strdup(argument);
    if (!copy) {
        (void)bora_cli_no_memory();
        return;
    }
    free(chat->session);
    chat->session = copy;
}

static void run_system(bora_chat *chat, const char *argument)
{
    if (!*argument) {
        bora_print_note(&chat->cli->print,
                        chat->system ? "[system prompt for new sessions: %s]" : "[no system prompt%s]",
                        chat->system ? chat->system : "");
        return;
    }
    char *copy = strdup(argument);
    if (!copy) {
        (void)bora_cli_no_memory();
        return;
    }
    free(chat->system);
    chat->system = copy;
    if (chat->has_begun || chat->is_resumed)
        bora_print_note(&chat->cli->print, "[used from the next new session on; /new begins one]");
}

/* ---- the rest ---- */

static void run_settings(bora_chat *chat, const char *argument)
{
    (void)argument;
    const bora_client_generation *g = &chat->cli->options.generation;
    if (g->set == 0 && g->n_stops == 0 && g->n_biases == 0 && !g->ignore_eos)
        bora_print_note(&chat->cli->print, "[nothing is set: the daemon's defaults hold]");
    else
        bora_options_show_sampling(&chat->cli->options, stdout);
}

static void run_quit(bora_chat *chat, const char *argument)
{
    (void)argument;
    chat->is_ending = true;
}

static void run_help(bora_chat *chat, const char *argument);

static const slash commands[] = {
    {"help", NULL, "this list", run_help},
    {"session", "[NAME]", "go on in another session, or make it; alone: which one this is", run_session},
    {"sessions", NULL, "list your sessions", run_sessions},
    {"new", "[NAME]", "begin a new session", run_new},
    {"show", "[NAME]", "show this session and its messages, or another's", run_show},
    {"rename", "NAME", "give this session another name", run_rename},
    {"system", "[TEXT]", "the system prompt of new sessions", run_system},
    {"settings", NULL, "what is set of the following", run_settings},
    {"seed", "N|random", "same seed, same answer", NULL},
    {"temp", "T", "temperature; 0 always takes the best token", NULL},
    {"max-tokens", "N", "at most N tokens in an answer; also /top-k /top-p /min-p /stop ...", NULL},
    {"quit", NULL, "end (also Ctrl-D)", run_quit},
    {"exit", NULL, NULL, run_quit},
};

static void run_help(bora_chat *chat, const char *argument)
{
    (void)chat;
    (void)argument;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (!commands[i].help)
            continue;
        char left[48];
        (void)snprintf(left, sizeof left, "/%s%s%s", commands[i].name, commands[i].argument ? " " : "",
                       commands[i].argument ? commands[i].argument : "");
        (void)printf("  %-18s  %s\n", left, commands[i].help);
    }
    (void)fputs("A line that ends in \\ goes on in the next one. A message that begins with a slash: type two.\n",
                stdout);
}

void bora_chat_slash(bora_chat *chat, const char *line)
{
    char name[64], argument[4096], why[256];
    size_t size = strcspn(line, " \t\n");
    const char *rest = line + size + strspn(line + size, " \t\n");
    size_t rest_size = strlen(rest);
    while (rest_size > 0 && strchr(" \t\n", rest[rest_size - 1]))
        rest_size--;
    if (size >= sizeof name || rest_size >= sizeof argument) {
        bora_print_complaint("this command is too long; /help lists the commands");
        return;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)size, line);
    (void)snprintf(argument, sizeof argument, "%.*s", (int)rest_size, rest);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (commands[i].run && strcmp(commands[i].name, name) == 0) {
            if (!commands[i].argument && *argument)
                bora_print_complaint("/%s takes no words", name);
            else
                commands[i].run(chat, argument);
            return;
        }
    /* the sampling options, under the names they have on the command line */
    if (!bora_options_set(&chat->cli->options, name, argument, &why))
        bora_print_complaint("%s", why);
}
