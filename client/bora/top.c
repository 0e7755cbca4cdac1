/* bora top: the daemon's status on a screen, anew every second, until q or Ctrl-C. Outlives the daemon: what is wrong
 * is said where the page was. */
#include "command.h"
#include "screen.h"
#include "signals.h"
#include "top_page.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REFRESH_MS 1000
#define FOOT       "q: quit"

static bool print_once(const bora_cli *cli, const bora_client_value *value)
{
    bora_top_past past = {0};
    (void)cli;
    return bora_top_page(stdout, value, &past);
}

/* ---- on a screen
 * ----------------------------------------------------------------------------------------------------- */

/* What is on the screen. */
typedef struct live {
    bora_screen *screen;
    bora_top_past past;
    char *lines; /* [size]; free() */
    size_t size;
} live;

static bool write_page(live *self, const bora_client_value *status, const bora_client_error *error)
{
    char *lines = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&lines, &size);
    if (!file)
        return false;
    bool done = true;
    bora_text why = {0};
    if (status) {
        done = bora_top_page(file, status, &self->past);
    } else {
        bora_text_append_safe(&why, error->message, strlen(error->message), BORA_TEXT_ONE_LINE);
        (void)fprintf(file, "%s\ntrying again every second\n", why.data ? why.data : "");
    }
    bora_text_release(&why);
    done = fclose(file) == 0 && done;
    free(self->lines);
    self->lines = lines;
    self->size = done ? size : 0;
    return done;
}

/* Asks and shows. False: no memory. */
static bool refresh(bora_cli *cli, live *self)
{
    bora_client_result *result = NULL;
    bora_client_error error = {0};
    bora_client_status status = bora_client_daemon_status(cli->client, &result, &error);
    if (status == BORA_CLIENT_E_INTERRUPTED)
        return true; /* the loop knows why */
    bool done = write_page(self, status == BORA_CLIENT_OK ? bora_client_result_value(result) : NULL, &error);
    bora_client_result_free(result);
    return done;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* True when the person, a signal or the terminal asks for the end; *ret_redraw: the page must be drawn again. */
static bool wait_for_end(live *self, int timeout_ms, bool *ret_redraw)
{
    int news = bora_signals_wait(STDIN_FILENO, timeout_ms);
    *ret_redraw = false;
    if (bora_signals_take_interrupt() || bora_signals_ending())
        return true;
    bool has_continued = bora_signals_take_continue();
    if (has_continued)
        bora_screen_take_again(self->screen);
    *ret_redraw = bora_signals_take_resize() || has_continued;
    int key = news > 0 ? bora_screen_key(self->screen) : 0;
    return key == 'q' || key == 'Q' || key < 0;
}

static int watch(bora_cli *cli, live *self)
{
    for (;;) {
        int64_t next = now_ms() + REFRESH_MS, left = REFRESH_MS;
        bool redraw = true;
        if (!refresh(cli, self))
            return bora_cli_no_memory();
        do {
            if (redraw && !bora_screen_show(self->screen, self->lines, self->size, FOOT, cli->print.has_colours))
                return bora_cli_no_memory();
            if (ferror(stdout))
                return BORA_EXIT_OK; /* bora_cli_flush says why it is none */
            left = next - now_ms();
            if (wait_for_end(self, left > 0 ? (int)left : 0, &redraw))
                return BORA_EXIT_OK;
        } while (left > 0);
    }
}

static int run_live(bora_cli *cli)
{
    live self = {.lines = NULL};
    bora_signals_catch_all(cli->client);
    self.screen = bora_screen_open();
    int code = BORA_EXIT_FAILED;
    if (self.screen)
        code = watch(cli, &self);
    else
        bora_print_complaint("cannot take the terminal: %s", strerror(errno));
    bora_screen_close(self.screen); /* before a signal may end the program */
    free(self.lines);
    int ending = bora_signals_ending();
    bora_signals_release();
    if (ending)
        (void)raise(ending);
    return code;
}

static int run(bora_cli *cli, int n_words, char **words)
{
    if (cli->options.once || cli->options.json || !bora_screen_is_possible())
        return bora_cli_list(cli, n_words, words, bora_client_daemon_status, print_once);
    if (n_words > 0)
        return bora_cli_usage(cli, "takes no words, such as '%s'", words[0]);
    int code = bora_cli_connect(cli);
    return code == BORA_EXIT_OK ? run_live(cli) : code;
}

const bora_command bora_command_top = {
    .name = "top",
    .words = "",
    .summary = "watch the daemon: speed, queue, memory, your sessions",
    .details = "Shown anew every second until q or Ctrl-C; once if there is no terminal.\n",
    .groups = BORA_OPTIONS_COMMON | BORA_OPTIONS_JSON | BORA_OPTIONS_ONCE,
    .run = run,
};
