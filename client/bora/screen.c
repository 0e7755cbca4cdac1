/* The few sequences that every terminal of today knows (ECMA-48, and xterm's alternate page). One write per page, each
 * line wiped behind its text, so that nothing flickers. */
#include "screen.h"

#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l\033[H\033[2J"
#define LEAVE "\033[?25h\033[?1049l"

struct bora_screen {
    struct termios before;
};

bool bora_screen_is_possible(void)
{
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static bool take(const bora_screen *screen)
{
    struct termios keys = screen->before;
    keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    keys.c_cc[VMIN] = 0; /* a read never waits */
    keys.c_cc[VTIME] = 0;
    keys.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped program would leave the shell without its page */
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &keys) == 0;
}

bora_screen *bora_screen_open(void)
{
    bora_screen *screen = calloc(1, sizeof *screen);
    if (!screen || tcgetattr(STDIN_FILENO, &screen->before) != 0 || !take(screen)) {
        free(screen);
        return NULL;
    }
    (void)fputs(ENTER, stdout);
    (void)fflush(stdout); /* whoever writes next says what is wrong */
    return screen;
}

void bora_screen_close(bora_screen *screen)
{
    if (!screen)
        return;
    (void)fputs(LEAVE, stdout);
    (void)fflush(stdout);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &screen->before); /* fails if the terminal is gone: then it is all one */
    free(screen);
}

void bora_screen_take_again(bora_screen *screen)
{
    (void)take(screen); /* as in close */
    (void)fputs(ENTER, stdout);
}

int bora_screen_key(const bora_screen *screen)
{
    unsigned char key = 0;
    (void)screen;
    ssize_t n = read(STDIN_FILENO, &key, 1);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : -1;
    return n == 1 ? key : -1; /* readable, and nothing there: hung up */
}

static size_t line_size(const char *lines, size_t size)
{
    const char *end = size > 0 ? memchr(lines, '\n', size) : NULL;
    return end ? (size_t)(end - lines) : size;
}

static size_t count_lines(const char *lines, size_t size)
{
    size_t n = 0;
    for (size_t at = 0; at < size; n++)
        at += line_size(lines + at, size - at) + 1;
    return n;
}

/* Wiped first: behind a line as long as the screen is wide, its last character would go too. */
static void add_line(bora_text *page, const char *line, size_t size, size_t columns, bool bold)
{
    bora_text_append_string(page, bold ? "\033[K\033[1m" : "\033[K");
    bora_text_append(page, line, bora_text_fit(line, size, columns));
    bora_text_append_string(page, bold ? "\033[0m" : "");
}

/* The lines that fit above the foot; of those that do not, how many there are. */
static void add_lines(bora_text *page, const char *lines, size_t size, size_t rows, size_t columns, bool bold)
{
    size_t n = count_lines(lines, size), n_shown = n < rows ? n : rows - 1;
    for (size_t i = 0, at = 0; i < n_shown; i++) {
        size_t own = line_size(lines + at, size - at);
        char more[64];
        (void)snprintf(more, sizeof more, "... and %zu more lines", n - n_shown + 1);
        if (i + 1 == n_shown && n > n_shown)
            add_line(page, more, strlen(more), columns, false);
        else
            add_line(page, lines + at, own, columns, bold && i == 0);
        bora_text_append_string(page, "\n"); /* the terminal still adds the return */
        at += own + 1;
    }
}

bool bora_screen_show(const bora_screen *screen, const char *lines, size_t size, const char *foot, bool bold)
{
    struct winsize window = {0};
    (void)screen;
    size_t rows = 24, columns = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_row > 0 && window.ws_col > 0) {
        rows = window.ws_row;
        columns = window.ws_col;
    }
    char last[32];
    bora_text page = {0};
    bora_text_append_string(&page, "\033[H");
    add_lines(&page, lines, size, rows, columns, bold);
    (void)snprintf(last, sizeof last, "\033[J\033[%zuH", rows);
    bora_text_append_string(&page, last);
    add_line(&page, foot, strlen(foot), columns, false);
    bool done = !page.failed;
    if (done)
        (void)fwrite(page.data, 1, page.size, stdout); /* the stream remembers a failure */
    (void)fflush(stdout);
    bora_text_release(&page);
    return done;
}
