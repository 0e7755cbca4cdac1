/* One owner: its clients, each a thread with a connection of its own, and what they share. Runs in a process of its own
 * with the owner's uid. */
#ifndef BORA_LOAD_OWNER_H
#define BORA_LOAD_OWNER_H

#include "answer.h"
#include "plan.h"
#include "stats.h"

#include <pthread.h>
#include <stdatomic.h>

/* Read-only while clients run, but for what says otherwise. */
typedef struct bora_load_owner {
    const bora_load_options *options;
    uint32_t index;        /* 0 to n_owners - 1 */
    uint32_t first_client; /* of n_clients_of[index] */
    bora_load_canary canary;
    uint64_t slot_us;
    double start; /* of the load, seconds of the monotonic clock */
    /* Held while a connection is closed. libzmq closes its descriptors unseen by ThreadSanitizer: without an order
     * between closers it would take one of ours that has the number of one that another client watched for a race. */
    pthread_mutex_t closing;
    _Atomic bool no_metrics;              /* the daemon does not know the verb; any client may find out */
    char *prompts[BORA_LOAD_PROMPTS_MAX]; /* owned texts */
    char *turns[BORA_LOAD_SCRIPTS][BORA_LOAD_TURNS];
    bora_load_answer alone[BORA_LOAD_PROMPTS_MAX]; /* with --check-solo; empty without */
    bora_load_answer alone_turns[BORA_LOAD_SCRIPTS][BORA_LOAD_TURNS];
} bora_load_owner;

/* The texts. False: no memory. */
bool bora_load_owner_init(bora_load_owner *owner, const bora_load_options *options, uint32_t index);
void bora_load_owner_release(bora_load_owner *owner);

/* Takes away what an earlier run left, and says the common prompt; with --check-solo then answers every text alone.
 * What goes wrong is told in stats; false if there is no going on. One thread. */
bool bora_load_owner_prepare(bora_load_owner *owner, bora_load_stats *stats);
/* The load: all clients, until their time is over. stats is added to. False if threads or memory are missing, told in
 * stats. */
bool bora_load_owner_run(bora_load_owner *owner, bora_load_stats *stats);

/* Seconds of the monotonic clock. */
double bora_load_now(void);

#endif
