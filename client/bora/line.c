/* Editing is libedit's. It would swallow the first signal that comes while it reads, and its own handling of signals
 * reaches the whole process group; so characters are read here, where a signal is looked at when it comes. */
#include "line.h"

#include "signals.h"

#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000

struct bora_line {
    EditLine *edit; /* NULL: plain reading */
    History *history;
    char history_path[PATH_MAX]; /* "": not kept */
    const char *prompt;
    bool has_colours, goes_on;
    char *buffer; /* of getline */
    size_t buffer_size;
    bora_text text; /* of the last answer */
};

/* Between \1 stand bytes that take no room on the screen; libedit writes them with the character that follows. */
static char *prompt_of(EditLine *edit)
{
    static char plain[] = "> ", bold[] = "\1\033[1m\1>\1\033[0m\1 ", more[] = ". ";
    bora_line *line = NULL;
    (void)el_get(edit, EL_CLIENTDATA, &line);
    if (!line)
        return plain;
    return line->goes_on ? more : line->has_colours ? bold : plain;
}

/* Makes libedit put the terminal back into its mode after the shell has had it. */
static void resume_terminal(EditLine *edit)
{
    (void)el_set(edit, EL_PREP_TERM, 0);
    (void)el_set(edit, EL_PREP_TERM, 1);
    (void)el_set(edit, EL_REFRESH);
}

/* One character: 1; 0 at the end; -1 if the line is given up. */
static int read_character(EditLine *edit, wchar_t *ret_character)
{
    mbstate_t state = {0};
    for (;;) {
        if (bora_signals_has_interrupt() || bora_signals_ending())
            return -1;
        if (!bora_signals_wait_input(STDIN_FILENO)) {
            if (bora_signals_take_resize())
                el_resize(edit);
            if (bora_signals_take_continue())
                resume_terminal(edit);
            continue;
        }
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        size_t size = mbrtowc(ret_character, &byte, 1, &state);
        if (size == (size_t)-2)
            continue; /* the rest of the character is to come */
        if (size == (size_t)-1) {
            state = (mbstate_t){0}; /* not UTF-8: not typed */
            continue;
        }
        return 1;
    }
}

/* $BORA_HISTORY, else bora/history in the user's folder for state. */
static void find_history_path(bora_line *line)
{
    const char *given = getenv("BORA_HISTORY");
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    char folder[PATH_MAX] = "";
    int size = 0;
    if (given) {
        (void)snprintf(line->history_path, sizeof line->history_path, "%s", given);
        return;
    }
    if (state && *state == '/')
        size = snprintf(folder, sizeof folder, "%s/bora", state);
    else if (home && *home == '/')
        size = snprintf(folder, sizeof folder, "%s/.local/state/bora", home);
    if (size <= 0 || size >= (int)sizeof folder - 16)
        return;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(folder, 0700); /* whether it is there shows below */
        *slash = '/';
    }
    if (mkdir(folder, 0700) == 0 || errno == EEXIST)
        (void)snprintf(line->history_path, sizeof line->history_path, "%.*s/history", (int)sizeof folder - 16, folder);
}

static bool open_editor(bora_line *line, FILE *out)
{
    HistEvent event;
    line->edit = el_init("bora", stdin, out, stderr);
    line->history = history_init();
    if (!line->edit || !line->history)
        return false;
    (void)history(line->history, &event, H_SETSIZE, HISTORY_LINES);
    (void)history(line->history, &event, H_SETUNIQUE, 1);
    find_history_path(line);
    if (line->history_path[0])
        (void)history(line->history, &event, H_LOAD, line->history_path); /* there may be none yet */
    (void)el_set(line->edit, EL_CLIENTDATA, line);
    (void)el_set(line->edit, EL_EDITOR, "emacs");
    (void)el_set(line->edit, EL_SIGNAL, 0);
    (void)el_set(line->edit, EL_PROMPT_ESC, prompt_of, '\1');
    (void)el_set(line->edit, EL_HIST, history, line->history);
    (void)el_set(line->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_set(line->edit, EL_GETCFN, read_character);
    (void)el_source(line->edit, NULL); /* ~/.editrc, if there is one */
    return true;
}

bora_line *bora_line_open(const bora_print *print)
{
    bora_line *line = calloc(1, sizeof *line);
    if (!line)
        return NULL;
    line->has_colours = print->has_colours;
    bool can_edit = isatty(STDIN_FILENO) == 1 && (print->out_is_terminal || print->err_is_terminal);
    if (can_edit && !open_editor(line, print->out_is_terminal ? stdout : stderr)) {
        bora_line_close(line);
        return NULL;
    }
    return line;
}

void bora_line_close(bora_line *line)
{
    if (!line)
        return;
    HistEvent event;
    if (line->history && line->history_path[0]) {
        mode_t mask = umask(077); /* what people write is theirs alone */
        (void)history(line->history, &event, H_SAVE, line->history_path);
        (void)umask(mask);
    }
    if (line->edit)
        el_end(line->edit);
    if (line->history)
        history_end(line->history);
    bora_text_release(&line->text);
    free(line->buffer);
    free(line);
}

bool bora_line_is_interactive(const bora_line *line)
{
    return line->edit != NULL;
}

/* One line as it comes, with its newline if it has one; NULL at the end or when a signal came. */
static const char *read_one(bora_line *line, size_t *ret_size)
{
    if (line->edit) {
        int n = 0;
        (void)el_set(line->edit, EL_PREP_TERM, 1); /* before the prompt: what is typed at it must not be echoed twice */
        const char *text = el_gets(line->edit, &n);
        *ret_size = text && n > 0 ? (size_t)n : 0;
        return n > 0 ? text : NULL;
    }
    errno = 0;
    ssize_t n = getline(&line->buffer, &line->buffer_size, stdin);
    *ret_size = n > 0 ? (size_t)n : 0;
    return n > 0 ? line->buffer : NULL;
}

enum bora_line_read bora_line_next(bora_line *line, const char **ret_text)
{
    bora_text_release(&line->text);
    for (line->goes_on = false;; line->goes_on = true) {
        size_t size = 0;
        const char *part = read_one(line, &size);
        if (!part && bora_signals_has_interrupt() && !bora_signals_ending()) {
            (void)bora_signals_take_interrupt();
            clearerr(stdin);
            return BORA_LINE_CLEARED;
        }
        if (!part && !line->edit && ferror(stdin) && !bora_signals_ending())
            return BORA_LINE_FAILED;
        if (!part) {
            if (line->text.size > 0)
                break; /* the file ends after a backslash */
            return BORA_LINE_END;
        }
        while (size > 0 && (part[size - 1] == '\n' || part[size - 1] == '\r'))
            size--;
        bool goes_on = size > 0 && part[size - 1] == '\\';
        bora_text_append(&line->text, part, goes_on ? size - 1 : size);
        if (!goes_on)
            break;
        bora_text_append_string(&line->text, "\n");
    }
    if (line->text.failed) {
        errno = ENOMEM;
        return BORA_LINE_FAILED;
    }
    if (line->edit && line->text.size > 0) {
        HistEvent event;
        (void)history(line->history, &event, H_ENTER, line->text.data);
    }
    *ret_text = line->text.data;
    return BORA_LINE_OK;
}
