/* A real borad for a test: in a private folder, on a private socket, with its output in a file. */
#ifndef BORA_TESTS_DAEMON_H
#define BORA_TESTS_DAEMON_H

#include "support/temp_folder.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct bora_test_daemon {
    pid_t pid;               /* 0: not running */
    bora_temp_folder folder; /* in /tmp: a socket's path must be short */
    char socket[108];        /* <folder>/run/bora.sock */
    char database[108];      /* <folder>/sessions.db */
    char log[108];           /* <folder>/borad.log: everything it wrote, over all starts */
    char cgroup[128];        /* folder of a control group that the next start joins; "": it stays where the test is */
    uint64_t data_limit;     /* RLIMIT_DATA of the next start, bytes; 0: as the test has it */
} bora_test_daemon;

/* The folder and the names; nothing runs yet. False if it cannot be made. */
bool bora_test_daemon_init(bora_test_daemon *daemon);
/* Starts borad --config none with socket and database as above and the given arguments (NULL at the end; may be NULL),
 * and waits for its READY=1 (for which it is given a notification socket). False if it ended before that or said
 * nothing for 60 s; *ret_exit (may be NULL) is then its exit status (or -signal). */
bool bora_test_daemon_start(bora_test_daemon *daemon, const char *const *arguments, int *ret_exit);
/* Sends the signal and waits for the end; its exit status, or -signal. */
int bora_test_daemon_end(bora_test_daemon *daemon, int signal);
/* True if its output has the text. */
bool bora_test_daemon_logged(const bora_test_daemon *daemon, const char *text);
/* SIGKILL if it still runs, and removes the folder. */
void bora_test_daemon_release(bora_test_daemon *daemon);

#endif
