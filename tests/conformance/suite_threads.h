/* The threads of this process, by the kernel's word. */
#ifndef BORA_TESTS_CONFORMANCE_SUITE_THREADS_H
#define BORA_TESTS_CONFORMANCE_SUITE_THREADS_H

#include "support/skip.h"

#include <dirent.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SUITE_THREAD_IDS_MAX 256u

/* Seconds, where something must come that nobody can wait on; then the test fails. BORA_CONFORMANCE_PATIENCE is for
 * plugins of which it is known that it never comes. */
static inline time_t suite_patience(void)
{
    const char *text = getenv("BORA_CONFORMANCE_PATIENCE");
    const long seconds = text ? strtol(text, NULL, 10) : 0;
    return seconds > 0 ? seconds : 10;
}

typedef struct suite_thread_ids {
    uint32_t n;
    long ids[SUITE_THREAD_IDS_MAX];
} suite_thread_ids;

static inline void suite_thread_ids_get(suite_thread_ids *ret_ids)
{
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    ret_ids->n = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        const long id = strtol(entry->d_name, NULL, 10);
        if (id > 0 && ret_ids->n < SUITE_THREAD_IDS_MAX)
            ret_ids->ids[ret_ids->n++] = id;
    }
    (void)closedir(folder);
    assert_true(ret_ids->n > 0 && ret_ids->n < SUITE_THREAD_IDS_MAX);
}

/* Threads that are there now and were not then. */
static inline uint32_t suite_threads_since(const suite_thread_ids *then)
{
    suite_thread_ids now;
    suite_thread_ids_get(&now);
    uint32_t n_new = 0;
    for (uint32_t i = 0; i < now.n; i++) {
        bool is_new = true;
        for (uint32_t j = 0; j < then->n; j++)
            is_new = is_new && now.ids[i] != then->ids[j];
        n_new += is_new;
    }
    return n_new;
}

static inline time_t suite_seconds(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return now.tv_sec;
}

/* A thread that was joined leaves the list a moment later, and there is nothing to wait on for that. */
static inline bool suite_threads_gone(const suite_thread_ids *then)
{
    const time_t end = suite_seconds() + suite_patience();
    while (suite_threads_since(then) > 0) {
        if (suite_seconds() > end)
            return false;
        (void)sched_yield();
    }
    return true;
}

#endif
