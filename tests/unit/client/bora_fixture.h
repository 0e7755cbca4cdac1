/* What the tests of the command bora share: a fake daemon, runs to their end, and runs in a terminal. */
#ifndef BORA_TESTS_UNIT_CLIENT_BORA_FIXTURE_H
#define BORA_TESTS_UNIT_CLIENT_BORA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

#include "fake_house.h"

#define BORA        BORA_BUILD_DIR "/bin/bora"
#define WORDS_MAX   40
#define PATIENCE_MS 10000
#define OUTPUT_SIZE 65536

typedef struct fixture {
    fake_daemon *daemon;
    char out[OUTPUT_SIZE], err[OUTPUT_SIZE]; /* of the last run */
    pid_t pid;                               /* of a run in a terminal */
    int terminal;
    size_t n_seen, n_used; /* of out: bytes from the terminal, and bytes expected already */
} fixture;

static inline int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f)
        return -1;
    f->terminal = -1;
    f->daemon = fake_start_with(FAKE_GOOD, NULL, house_answers);
    return f->daemon ? 0 : -1;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
        (void)waitpid(f->pid, NULL, 0);
    }
    if (f->terminal >= 0)
        (void)close(f->terminal);
    fake_stop(f->daemon, false);
    free(f);
    return 0;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static inline const char *const *words_of(fixture *f, const char *const *words, const char **all)
{
    size_t n = 0;
    all[n++] = BORA;
    all[n++] = "--socket";
    all[n++] = f->daemon->endpoint;
    while (*words && n < WORDS_MAX - 1)
        all[n++] = *words++;
    all[n] = NULL;
    return all;
}

/* In the child, between fork and exec. */
static inline void become_bora(const char *const *all)
{
    (void)setenv("BORA_HISTORY", "", 1);
    (void)setenv("TERM", "xterm", 1);
    (void)unsetenv("NO_COLOR");
    (void)execv(BORA, (char **)(uintptr_t)all);
    _exit(127);
}

static inline void read_file(FILE *file, char *text)
{
    rewind(file);
    size_t n = fread(text, 1, OUTPUT_SIZE - 1, file);
    text[n] = '\0';
    (void)fclose(file);
}

/* Runs bora with the words (NULL at the end) and input (NULL: /dev/null) to its end; its exit code, or -signal. */
static inline int run(fixture *f, const char *input, const char *const *words)
{
    const char *all[WORDS_MAX];
    FILE *out = tmpfile(), *err = tmpfile(), *in = input ? tmpfile() : fopen("/dev/null", "r");
    assert_true(out && err && in);
    if (input) {
        (void)fputs(input, in);
        rewind(in);
    }
    (void)words_of(f, words, all);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(fileno(in), 0);
        (void)dup2(fileno(out), 1);
        (void)dup2(fileno(err), 2);
        become_bora(all);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_file(out, f->out);
    read_file(err, f->err);
    (void)fclose(in);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#define RUN(f, input, ...) run(f, input, (const char *const[]){__VA_ARGS__, NULL})

static inline void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

static inline void assert_has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("'%s' is in: %s", part, text);
}

/* ---- in a terminal ----------------------------------------------------------------------------------------------- */

static inline void start_in_terminal(fixture *f, const char *const *words)
{
    const char *all[WORDS_MAX];
    (void)words_of(f, words, all);
    f->n_seen = f->n_used = 0;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    f->pid = forkpty(&f->terminal, NULL, NULL, &size);
    assert_true(f->pid >= 0);
    if (f->pid == 0)
        become_bora(all);
}

/* More output of the terminal's; false at its end. */
static inline bool see(fixture *f)
{
    struct pollfd item = {.fd = f->terminal, .events = POLLIN};
    assert_true(f->n_seen < OUTPUT_SIZE - 1);
    if (poll(&item, 1, PATIENCE_MS) != 1)
        fail_msg("nothing more came after: %s", f->out);
    ssize_t n = read(f->terminal, f->out + f->n_seen, OUTPUT_SIZE - 1 - f->n_seen);
    if (n <= 0)
        return false; /* EIO: its last user closed it */
    f->n_seen += (size_t)n;
    f->out[f->n_seen] = '\0';
    return true;
}

/* Waits until the text stands in what came since the last call. */
static inline void expect(fixture *f, const char *text)
{
    f->out[f->n_seen] = '\0';
    const char *found;
    while (!(found = strstr(f->out + f->n_used, text)))
        if (!see(f))
            fail_msg("'%s' did not come in: %s", text, f->out + f->n_used);
    f->n_used = (size_t)(found - f->out) + strlen(text);
}

static inline void type(fixture *f, const char *text)
{
    assert_int_equal(write(f->terminal, text, strlen(text)), strlen(text));
}

/* Reads to the end; its exit code, or -signal. */
static inline int wait_for_end(fixture *f)
{
    int status = 0;
    while (see(f))
        ;
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    f->pid = 0;
    (void)close(f->terminal);
    f->terminal = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
