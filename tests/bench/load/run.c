#include "run.h"

#include "client.h"
#include "watch.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct process {
    pid_t pid;        /* 0: there is none */
    int orders, news; /* our ends of two pipes; -1: closed */
} process;

/* ---- a child ---------------------------------------------------------------------------------------------------- */

/* Waits until the first process says go on; false if it has ended. */
static bool wait_for_order(int orders)
{
    char byte;
    ssize_t n;
    do
        n = read(orders, &byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

static bool send_byte(int fd)
{
    ssize_t n;
    do
        n = write(fd, "!", 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

static bool become(uint32_t uid)
{
    return setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0;
}

/* Prepares when told to, says so, loads when told to. Exit status 0: its results are whole. */
static int run_owner(const bora_load_options *options, bora_load_results *results, uint32_t index, int orders, int news)
{
    bora_load_stats *stats = &results->owners[index];
    bora_load_owner *owner = calloc(1, sizeof *owner);
    if (results->several_uids && !become(options->uid_first + index)) {
        bora_load_stats_tell(stats, "owner %u: cannot be uid %u: %s", index, options->uid_first + index,
                             strerror(errno));
        free(owner);
        return 1;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* after becoming somebody else, which would forget it */
    bool good = owner && bora_load_owner_init(owner, options, index) && wait_for_order(orders) &&
                bora_load_owner_prepare(owner, stats) && send_byte(news) && wait_for_order(orders) &&
                bora_load_owner_run(owner, stats);
    if (owner)
        bora_load_owner_release(owner);
    free(owner);
    return good ? 0 : 1;
}

static int run_watcher(const bora_load_options *options, bora_load_results *results)
{
    bora_load_canary canary;
    /* Where all are one user, all secrets are its own. */
    uint32_t owner = results->several_uids ? BORA_LOAD_NOBODY : 0;
    bora_load_canary_init(&canary, options->seed, options->n_owners, owner);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    bora_load_watch_run(options, options->canary ? &canary : NULL, &results->stop_watching, &results->watch);
    return 0;
}

/* ---- the first process ------------------------------------------------------------------------------------------ */

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* Closes the ends of all others too: the end of a process must be seen as the end of its pipe. */
static bool begin(process *processes, uint32_t index, const bora_load_options *options, bora_load_results *results)
{
    process *p = &processes[index];
    int orders[2], news[2];
    if (pipe(orders) != 0)
        return false;
    if (pipe(news) != 0) {
        (void)close(orders[0]);
        (void)close(orders[1]);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (uint32_t i = 0; i < index; i++) {
            close_end(&processes[i].orders);
            close_end(&processes[i].news);
        }
        (void)close(orders[1]);
        (void)close(news[0]);
        (void)signal(SIGPIPE, SIG_IGN);
        _exit(index < options->n_owners ? run_owner(options, results, index, orders[0], news[1])
                                        : run_watcher(options, results));
    }
    (void)close(orders[0]);
    (void)close(news[1]);
    *p = (process){.pid = pid > 0 ? pid : 0, .orders = orders[1], .news = news[0]};
    return pid > 0;
}

/* A byte from the process; false if it ended, or is silent for so long. */
static bool hear(const process *p, int timeout_ms)
{
    struct pollfd item = {.fd = p->news, .events = POLLIN};
    char byte;
    int n;
    do
        n = poll(&item, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    return n == 1 && read(p->news, &byte, 1) == 1;
}

/* Its end: true if it was a good one. After timeout_ms (-1: never) it is killed. */
static bool finish(process *p, int timeout_ms)
{
    int status = 0;
    if (p->pid == 0)
        return false;
    close_end(&p->orders);
    (void)hear(p, timeout_ms); /* nothing comes but the end */
    struct pollfd item = {.fd = p->news, .events = POLLIN};
    if (poll(&item, 1, 0) != 1)
        (void)kill(p->pid, SIGKILL);
    close_end(&p->news);
    while (waitpid(p->pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    p->pid = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Owners prepare one after the other: alone means alone. */
static bool prepare(process *owners, const bora_load_options *options, bora_load_results *results)
{
    double start = bora_load_now();
    for (uint32_t i = 0; i < options->n_owners; i++)
        if (!send_byte(owners[i].orders) || !hear(&owners[i], -1)) {
            fprintf(stderr, "load: owner %u cannot begin\n", i);
            return false;
        }
    results->alone_seconds = bora_load_now() - start;
    return true;
}

static bool load(process *processes, const bora_load_options *options, bora_load_results *results)
{
    const uint32_t n = options->n_owners;
    /* Each request ends, or is given up, in bounded time; beyond that an owner hangs. */
    int timeout_ms = options->n_requests > 0 ? -1 : (int)((options->seconds + 4 * BORA_LOAD_PATIENCE) * 1000);
    bool good = begin(processes, n, options, results);
    double start = bora_load_now();
    for (uint32_t i = 0; i < n; i++)
        good = send_byte(processes[i].orders) && good;
    for (uint32_t i = 0; i < n; i++)
        if (!finish(&processes[i], timeout_ms)) {
            fprintf(stderr, "load: owner %u did not come to its end\n", i);
            good = false;
        }
    results->seconds = bora_load_now() - start;
    atomic_store(&results->stop_watching, 1);
    return finish(&processes[n], (int)(BORA_LOAD_PATIENCE * 1000)) && good;
}

bool bora_load_run(bora_load_options *options, bora_load_results **ret_results)
{
    process processes[BORA_LOAD_OWNERS_MAX + 1] = {0};
    bora_load_results *results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *ret_results = NULL;
    if (results == MAP_FAILED) {
        fprintf(stderr, "load: no memory for results: %s\n", strerror(errno));
        return false;
    }
    *ret_results = results;
    if (options->n_owners > 1 && geteuid() != 0) {
        fprintf(stderr, "load: only root can be several users: one owner with all %u clients\n", options->n_clients);
        options->n_owners = 1;
        options->n_clients_of[0] = options->n_clients;
    }
    results->several_uids = options->n_owners > 1;
    (void)signal(SIGPIPE, SIG_IGN); /* a child that ended is noticed where it is written to */
    uint32_t n = 0;
    while (n < options->n_owners && begin(processes, n, options, results))
        n++;
    bool good = n == options->n_owners && prepare(processes, options, results) && load(processes, options, results);
    if (n < options->n_owners)
        fprintf(stderr, "load: no process for owner %u: %s\n", n, strerror(errno));
    for (uint32_t i = 0; i <= options->n_owners; i++)
        if (processes[i].pid > 0) {
            (void)kill(processes[i].pid, SIGKILL);
            (void)finish(&processes[i], -1);
        }
    return good;
}

void bora_load_results_free(bora_load_results *results)
{
    if (results)
        (void)munmap(results, sizeof *results);
}
