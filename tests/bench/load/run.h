/* The whole: a process per owner and one that watches, all forked from one without threads. */
#ifndef BORA_LOAD_RUN_H
#define BORA_LOAD_RUN_H

#include "stats.h"

/* In memory that the processes share: each writes what is its own, the first reads it when they have ended. */
typedef struct bora_load_results {
    double alone_seconds, seconds; /* of preparing, and of the load from its first request to its last answer */
    bool several_uids;             /* owners were users of their own */
    _Atomic int stop_watching;
    bora_load_watch watch;
    bora_load_stats owners[BORA_LOAD_OWNERS_MAX]; /* [n_owners] */
} bora_load_results;

/* options are changed to one owner if more are not possible here, which is said on stderr. False if the load could not
 * be run, which is said there too; *ret_results then is what there is, or NULL. Release it with bora_load_results_free.
 */
bool bora_load_run(bora_load_options *options, bora_load_results **ret_results);
void bora_load_results_free(bora_load_results *results); /* NULL is a no-op */

#endif
