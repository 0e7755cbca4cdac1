/* The way to the daemon and back to the shell. */
#include "command.h"

#include "json.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STDIN_SIZE_MAX ((size_t)1 << 20) /* no request is larger */

int bora_cli_connect(bora_cli *cli)
{
    bora_client_options options = {.endpoint = cli->options.socket, .name = "bora " BORA_VERSION};
    bora_client_error error = {0};
    if (bora_client_open(&options, &cli->client, &error) != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    return BORA_EXIT_OK;
}

int bora_cli_failed(const bora_client_error *error)
{
    if (error->status == BORA_CLIENT_E_REFUSED && error->code[0])
        bora_print_complaint("%s (%s)", error->message, error->code);
    else if (error->status == BORA_CLIENT_E_LOST)
        bora_print_complaint("%s before its answer was whole", error->message);
    else
        bora_print_complaint("%s", error->message);
    switch (error->status) {
    case BORA_CLIENT_E_NO_DAEMON:
    case BORA_CLIENT_E_TIMEOUT:
    case BORA_CLIENT_E_PROTOCOL:
        return BORA_EXIT_NO_DAEMON;
    case BORA_CLIENT_E_LOST:
        return BORA_EXIT_LOST;
    case BORA_CLIENT_E_INTERRUPTED:
        return BORA_EXIT_INTERRUPTED;
    default:
        return BORA_EXIT_FAILED;
    }
}

int bora_cli_usage(const bora_cli *cli, const char *format, ...)
{
    char *line = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&line, format, args);
    va_end(args);
    const char *name = cli->command ? cli->command->name : NULL;
    if (size >= 0)
        bora_print_complaint("%s%s%s; see: bora %s%s--help", name ? name : "", name ? ": " : "", line, name ? name : "",
                             name ? " " : "");
    free(line);
    return BORA_EXIT_USAGE;
}

int bora_cli_no_memory(void)
{
    bora_print_complaint("no memory");
    return BORA_EXIT_FAILED;
}

int bora_cli_flush(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    /* What an earlier write left in errno is gone: a pipe without a reader says it to poll as well. */
    int failure = errno;
    struct pollfd output = {.fd = STDOUT_FILENO};
    bool is_broken_pipe = failure == EPIPE || (failure == 0 && poll(&output, 1, 0) == 1 && (output.revents & POLLERR));
    clearerr(stdout); /* said once */
    if (is_broken_pipe)
        return BORA_EXIT_PIPE;
    bora_print_complaint("cannot write the output: %s", failure ? strerror(failure) : "an earlier write failed");
    return code == BORA_EXIT_OK ? BORA_EXIT_FAILED : code;
}

int bora_cli_show(bora_cli *cli, bora_client_result **result,
                  bool (*print)(const bora_cli *cli, const bora_client_value *value))
{
    const bora_client_value *value = bora_client_result_value(*result);
    bool done = cli->options.json ? bora_json_write(stdout, value, true) : print(cli, value);
    bora_client_result_free(*result);
    *result = NULL;
    return done ? BORA_EXIT_OK : bora_cli_no_memory();
}

int bora_cli_list(bora_cli *cli, int n_words, char **words, bora_cli_ask_fn ask,
                  bool (*print)(const bora_cli *cli, const bora_client_value *value))
{
    if (n_words > 0)
        return bora_cli_usage(cli, "takes no words, such as '%s'", words[0]);
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    int code = bora_cli_connect(cli);
    if (code != BORA_EXIT_OK)
        return code;
    if (ask(cli->client, &result, &error) != BORA_CLIENT_OK)
        return bora_cli_failed(&error);
    return bora_cli_show(cli, &result, print);
}

/* A file, pipe or connection; not a terminal and not /dev/null. */
static bool stdin_has_text(void)
{
    struct stat found;
    return fstat(STDIN_FILENO, &found) == 0 && !S_ISCHR(found.st_mode) && !S_ISDIR(found.st_mode);
}

int bora_cli_gather_text(const bora_cli *cli, int n_words, char **words, bool append, bora_text *text)
{
    for (int i = 0; i < n_words; i++) {
        if (i > 0)
            bora_text_append_string(text, " ");
        bora_text_append_string(text, words[i]);
    }
    if (text->size > 0 && !bora_text_is_utf8(text->data, text->size))
        return bora_cli_usage(cli, "TEXT is not UTF-8");
    if (stdin_has_text() && (n_words == 0 || append)) {
        size_t before = text->size;
        if (n_words > 0)
            bora_text_append_string(text, "\n\n");
        size_t start = text->size;
        switch (bora_text_read_all(text, STDIN_FILENO, STDIN_SIZE_MAX)) {
        case BORA_TEXT_READ_TOO_LONG:
            bora_print_complaint("standard input has more than %zu bytes", STDIN_SIZE_MAX);
            return BORA_EXIT_FAILED;
        case BORA_TEXT_READ_NO_TEXT:
            bora_print_complaint("standard input is not UTF-8 text");
            return BORA_EXIT_FAILED;
        case BORA_TEXT_READ_FAILED:
            bora_print_complaint("cannot read standard input: %s", strerror(errno));
            return BORA_EXIT_FAILED;
        default:
            break;
        }
        if (text->size == start && n_words > 0)
            text->data[text->size = before] = '\0'; /* an empty pipe adds nothing */
    }
    if (text->failed)
        return bora_cli_no_memory();
    return text->size > 0 ? BORA_EXIT_OK : bora_cli_usage(cli, "no TEXT is given and none comes from standard input");
}
