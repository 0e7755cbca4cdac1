/* bora: the command line. Reads what every command has, picks the command, and turns its end into an exit code. */
#include "command.h"

#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const bora_command *const commands[] = {
    &bora_command_chat,       &bora_command_ask,     &bora_command_complete, &bora_command_sessions,
    &bora_command_session,    &bora_command_status,  &bora_command_top,      &bora_command_metrics,
    &bora_command_model,      &bora_command_plugins, &bora_command_plugin,   &bora_command_tokenize,
    &bora_command_detokenize,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const char exit_codes[] = "exit status:\n"
                                 "  0    done\n"
                                 "  1    the daemon refused, or something failed\n"
                                 "  2    the command line is wrong\n"
                                 "  3    no daemon listens, or none that can be talked to\n"
                                 "  4    the daemon went away before its answer was whole\n"
                                 "  130  interrupted (Ctrl-C)\n"
                                 "  141  nobody reads the output any more\n";

static void print_help(void)
{
    (void)fputs("usage: bora COMMAND [OPTION...] [WORD...]\n\n"
                "Talks to a language model through borad, the daemon that runs it and keeps the conversations.\n\n"
                "commands:\n",
                stdout);
    for (size_t i = 0; i < N_COMMANDS; i++)
        (void)printf("  %-11s %s\n", commands[i]->name, commands[i]->summary);
    (void)fputs("\n'bora COMMAND --help' explains a command and its options. Before any command may stand:\n", stdout);
    bora_options_help(stdout, BORA_OPTIONS_COMMON);
    (void)fputs("      --version               the version of bora\n\n", stdout);
    (void)fputs(exit_codes, stdout);
}

static void print_command_help(const bora_command *command)
{
    (void)printf("usage: bora %s [OPTION...]%s%s\n\n%c%s.\n%s\noptions:\n", command->name, *command->words ? " " : "",
                 command->words, command->summary[0] - 'a' + 'A', command->summary + 1, command->details);
    bora_options_help(stdout, command->groups);
    (void)printf("\n%s", exit_codes);
}

static int run_command(bora_cli *cli, int n_arguments, char **arguments)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, arguments[0]) == 0)
            cli->command = commands[i];
    if (!cli->command)
        return bora_cli_usage(cli, "there is no command '%s'", arguments[0]);
    int first = 0;
    char why[256] = "no memory";
    if (!bora_options_parse(&cli->options, cli->command->groups, n_arguments, arguments, &first, &why))
        return bora_cli_usage(cli, "%s", why);
    if (cli->options.help) {
        print_command_help(cli->command);
        return BORA_EXIT_OK;
    }
    return cli->command->run(cli, n_arguments - first, arguments + first);
}

static int run(bora_cli *cli, int n_arguments, char **arguments)
{
    int first = 0;
    char why[256] = "no memory";
    if (n_arguments == 2 && strcmp(arguments[1], "--version") == 0) {
        (void)puts("bora " BORA_VERSION);
        return BORA_EXIT_OK;
    }
    if (!bora_options_parse_leading(&cli->options, BORA_OPTIONS_COMMON, n_arguments, arguments, &first, &why))
        return bora_cli_usage(cli, "%s", why);
    if (cli->options.help) {
        print_help();
        return BORA_EXIT_OK;
    }
    if (first == n_arguments)
        return bora_cli_usage(cli, "say what to do, as in: bora chat");
    return run_command(cli, n_arguments - first, arguments + first);
}

/* A closed standard descriptor would be given to the next file or socket, which would then be written to: something
 * that cannot be used in its place stands there instead. */
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* Widths of characters, and reading them, need a locale; text is UTF-8 whatever the user's is. */
static void use_utf8(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
}

int main(int n_arguments, char **arguments)
{
    hold_standard_descriptors();
    use_utf8();
    (void)signal(SIGPIPE, SIG_IGN); /* a write says it too, and then the daemon is told */
    bora_cli cli = {.print = bora_print_find()};
    int code = bora_cli_flush(run(&cli, n_arguments, arguments));
    bora_client_close(cli.client);
    bora_options_release(&cli.options);
    return code;
}
