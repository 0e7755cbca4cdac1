/* Runs a program to its end and keeps what it said: for daemons and tools that must refuse to work. */
#ifndef BORA_TESTS_INTEGRATION_SPAWN_H
#define BORA_TESTS_INTEGRATION_SPAWN_H

#include "support/skip.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_MS            60000
#define SPAWN_ARGUMENTS_MAX 32
#define BORAD               BORA_BUILD_DIR "/bin/borad"

typedef struct spawn_result {
    int code;          /* exit status, or -signal */
    char output[8192]; /* both streams; cut */
} spawn_result;

/* argv and environment ("NAME=value", or "NAME" to unset it) end with NULL; environment may be NULL. Fails the test if
 * the program does not end. */
static inline void spawn(const char *const *argv, const char *const *environment, spawn_result *ret)
{
    int ends[2];
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (size_t i = 0; environment && environment[i]; i++)
            if (strchr(environment[i], '=') ? putenv(strdup(environment[i])) : unsetenv(environment[i]))
                _exit(126);
        if (null >= 0 && dup2(null, 0) >= 0 && dup2(ends[1], 1) >= 0 && dup2(ends[1], 2) >= 0) {
            (void)close(ends[0]);
            (void)close(ends[1]);
            (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        }
        _exit(127);
    }
    (void)close(ends[1]);
    bool ended = false;
    while (!ended) {
        char bytes[4096];
        struct pollfd item = {.fd = ends[0], .events = POLLIN};
        ssize_t got = poll(&item, 1, SPAWN_MS) == 1 ? read(ends[0], bytes, sizeof bytes) : -1;
        if (got < 0)
            (void)kill(pid, SIGKILL);
        ended = got <= 0;
        size_t room = sizeof ret->output - 1 - n, taken = got <= 0 ? 0 : (size_t)got < room ? (size_t)got : room;
        memcpy(ret->output + n, bytes, taken);
        n += taken;
    }
    ret->output[n] = '\0';
    (void)close(ends[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    ret->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Runs it: the exit status must be code and the output must have text in it. */
static inline void spawn_expect(const char *const *argv, const char *const *environment, int code, const char *text)
{
    static spawn_result result;
    spawn(argv, environment, &result);
    if (result.code != code || !strstr(result.output, text))
        print_error("%s ended with %d, not %d; expected '%s' in:\n%s\n", argv[0], result.code, code, text,
                    result.output);
    assert_int_equal(result.code, code);
    assert_non_null(strstr(result.output, text));
}

#endif
