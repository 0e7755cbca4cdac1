/* What the system says of a daemon: a witness for what the daemon says of itself. Everything here fails the running
 * test by itself. */
#ifndef BORA_TESTS_INTEGRATION_PROCESS_H
#define BORA_TESTS_INTEGRATION_PROCESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PROCESS_IS_SANITIZED 1 /* it has memory of its own, and keeps what was freed */
#else
#define PROCESS_IS_SANITIZED 0
#endif

#define PROCESS_PATIENCE_MS 30000 /* until what ends by itself has ended */

/* A number of /proc/PID/status as it stands there (sizes in KiB): "Threads", "VmHWM", "RssAnon", ... */
static inline uint64_t process_number(pid_t pid, const char *key)
{
    char path[64], line[256];
    unsigned long long value = 0;
    bool found = false;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (!found && fgets(line, sizeof line, file))
        found = strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), ": %llu", &value) == 1;
    (void)fclose(file);
    if (!found)
        fail_msg("%s says nothing of %s", path, key);
    return value;
}

static inline size_t process_descriptors(pid_t pid)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    (void)closedir(folder);
    return n;
}

/* Between two looks at what ends by itself. False when patience has ended; *ms counts, 0 before the first. */
static inline bool process_wait(int *ms)
{
    struct timespec pause = {.tv_nsec = 10000000};
    *ms += 10;
    (void)nanosleep(&pause, NULL); /* polling, bounded */
    return *ms < PROCESS_PATIENCE_MS;
}

#endif
