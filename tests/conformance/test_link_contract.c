/* Every link plugin: what plugin.h demands of all kinds; close while threads are stuck in the link. */
#define CONTRACT_KIND   link
#define CONTRACT_RESULT 96u
#include "contract.h"

#include <stdlib.h>
#include <sys/syscall.h>

#define N_HOPS   2u
#define DEPTH    2u
#define MAX_HEAD 16u

static const size_t contract_shape_needed = sizeof(bora_link_shape);

static void contract_shape(const bora_plugin_library *library, uint32_t variant, bora_link_shape *ret_shape)
{
    (void)library;
    *ret_shape = (bora_link_shape){
        .struct_size = sizeof *ret_shape,
        .n_hops = N_HOPS + variant,
        .depth = DEPTH,
        .max_head_size = MAX_HEAD,
        .max_body_size = CONTRACT_RESULT,
    };
}

static bora_status contract_ready(const bora_plugin_library *library, bora_link *link, uint32_t variant,
                                  bora_error *err)
{
    (void)library, (void)link, (void)variant, (void)err;
    return BORA_OK;
}

/* Through every hop; what is sent is spoiled before it is received. */
static bora_status contract_use(const bora_plugin_library *library, bora_link *link, uint32_t variant, float *result,
                                bora_error *err)
{
    const bora_link_ops *ops = bora_plugin_link_ops(library);
    float body[CONTRACT_RESULT];
    unsigned char head[MAX_HEAD], room[MAX_HEAD];
    for (uint32_t i = 0; i < CONTRACT_RESULT; i++)
        result[i] = (float)(i * (variant + 1));
    for (uint32_t i = 0; i < MAX_HEAD; i++)
        head[i] = (unsigned char)(i + variant);
    bora_status status = BORA_OK;
    for (uint32_t hop = 0; hop < N_HOPS + variant && status == BORA_OK; hop++) {
        memcpy(body, result, sizeof body);
        bora_link_message message = {.head = head, .body = body, .head_size = MAX_HEAD, .body_size = CONTRACT_RESULT};
        status = ops->send(link, hop, &message, err);
        memset(body, 0xff, sizeof body);
        memset(head, 0xff, sizeof head);
        message = (bora_link_message){.head = room, .body = result};
        memset(result, 0xff, CONTRACT_RESULT * sizeof *result);
        if (status == BORA_OK)
            status = ops->recv(link, hop, &message, err);
        if (status == BORA_OK && (message.head_size != MAX_HEAD || message.body_size != CONTRACT_RESULT))
            return bora_fail(err, BORA_E_INTERNAL, "a message came with other sizes");
        memcpy(head, room, sizeof head);
    }
    for (uint32_t i = 0; i < MAX_HEAD && status == BORA_OK; i++)
        if (head[i] != (unsigned char)(i + variant))
            return bora_fail(err, BORA_E_INTERNAL, "a head came with other bytes");
    return status;
}

/* ---- stop while busy ---------------------------------------------------------------------------------------- */

typedef struct waiter {
    const bora_link_ops *ops;
    bora_link *link;
    uint32_t hop;
    bool sends;
    atomic_long id; /* of the thread, once it runs */
    bora_status last;
    uint32_t n_done; /* both read after the join */
    pthread_t thread;
} waiter;

/* Sends or receives until it fails. */
static void *waiter_main(void *arg)
{
    waiter *wt = arg;
    float body[CONTRACT_RESULT] = {0};
    unsigned char head[MAX_HEAD] = {0};
    atomic_store(&wt->id, syscall(SYS_gettid));
    wt->last = BORA_OK;
    while (wt->last == BORA_OK) {
        bora_link_message message = {.head = head, .body = body, .head_size = 1, .body_size = 1};
        wt->last = wt->sends ? wt->ops->send(wt->link, wt->hop, &message, NULL)
                             : wt->ops->recv(wt->link, wt->hop, &message, NULL);
        wt->n_done += wt->last == BORA_OK;
    }
    return NULL;
}

/* Whether the thread sleeps, by the kernel's word, and how often it has gone to sleep so far. */
static bool is_asleep(const waiter *wt, unsigned long *ret_n_sleeps)
{
    const long id = atomic_load(&wt->id);
    char path[64], line[256];
    bool asleep = false;
    *ret_n_sleeps = 0;
    (void)snprintf(path, sizeof path, "/proc/self/task/%ld/status", id);
    FILE *file = id ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        asleep = asleep || strncmp(line, "State:\tS", 8) == 0;
        if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
            *ret_n_sleeps = strtoul(line + 24, NULL, 10);
    }
    if (file)
        (void)fclose(file);
    return asleep;
}

/* Until both sleep at the same time: then neither waits for the other, and both wait for what is not there. A link that
 * waits awake never gets there; it is given some time. */
static void wait_until_asleep(const waiter waiters[2])
{
    const time_t end = suite_seconds() + 2;
    unsigned long before, after, other;
    while (suite_seconds() < end) {
        if (is_asleep(&waiters[0], &before) && is_asleep(&waiters[1], &other) && is_asleep(&waiters[0], &after) &&
            before == after)
            return;
        (void)sched_yield();
    }
}

typedef struct closer {
    const bora_link_ops *ops;
    bora_link *link;
    pthread_barrier_t *start;
    pthread_t thread;
} closer;

static void *closer_main(void *arg)
{
    closer *cl = arg;
    (void)pthread_barrier_wait(cl->start);
    cl->ops->close(cl->link);
    return NULL;
}

/* A sender stuck on a full hop and a receiver stuck on an empty one; close comes from two threads at once. Neither is
 * left waiting, and both are told. */
static void close_while_busy(void **state)
{
    for (int round = 0; round < 3; round++) {
        suite_host host;
        suite_host_init(&host, 1);
        const bora_link_ops *ops = bora_plugin_link_ops(*state);
        bora_link *link = contract_create(*state, &host.table, 0);
        waiter waiters[2] = {{.ops = ops, .link = link, .hop = 0, .sends = true}, {.ops = ops, .link = link, .hop = 1}};
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&waiters[i].thread, NULL, waiter_main, &waiters[i]), 0);
        wait_until_asleep(waiters);
        pthread_barrier_t start;
        assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
        closer closers[2] = {{.ops = ops, .link = link, .start = &start}, {.ops = ops, .link = link, .start = &start}};
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&closers[i].thread, NULL, closer_main, &closers[i]), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_join(closers[i].thread, NULL), 0);
        struct timespec deadline;
        assert_int_equal(clock_gettime(CLOCK_REALTIME, &deadline), 0);
        deadline.tv_sec += suite_patience();
        for (int i = 0; i < 2; i++)
            if (pthread_timedjoin_np(waiters[i].thread, NULL, &deadline) != 0) {
                /* It cannot be ended, and the link is in use: there is no way on. */
                fprintf(stderr, "[  ERROR   ] --- after close a %s is still waiting\n", i ? "recv" : "send");
                fprintf(stderr, "[  FAILED  ] %s_close_while_busy\n", bora_plugin_name(*state));
                _exit(1);
            }
        assert_int_equal(pthread_barrier_destroy(&start), 0);
        for (int i = 0; i < 2; i++)
            SUITE_DEMAND(waiters[i].last == BORA_E_CLOSED, "close woke a %s with %d, not with BORA_E_CLOSED (%d)",
                         i ? "recv" : "send", waiters[i].last, BORA_E_CLOSED);
        SUITE_DEMAND(waiters[0].n_done == DEPTH, "%u messages fitted into a hop of depth %u", waiters[0].n_done, DEPTH);
        SUITE_DEMAND(waiters[1].n_done == 0, "recv gave a message that nobody had sent");
        /* What was waiting in the hop is no longer delivered. */
        float result[CONTRACT_RESULT];
        unsigned char head[MAX_HEAD];
        bora_link_message message = {.head = head, .body = result};
        SUITE_DEMAND(ops->recv(link, 0, &message, NULL) == BORA_E_CLOSED, "recv after close delivers what was waiting");
        contract_end(*state, link);
        suite_host_release(&host);
    }
}

int main(void)
{
    static const suite_test tests[] = {CONTRACT_TESTS, SUITE_TEST(close_while_busy)};
    return suite_run(BORA_PLUGIN_LINK, tests, BORA_ARRAY_SIZE(tests));
}
