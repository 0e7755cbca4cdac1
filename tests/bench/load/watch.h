/* The watcher: one client that asks for status 20 times a second, whatever the others do, and looks at what the daemon
 * takes of the machine. Runs in a process of its own, so that no load of ours is between question and answer. */
#ifndef BORA_LOAD_WATCH_H
#define BORA_LOAD_WATCH_H

#include "canary.h"
#include "stats.h"

#include <stdatomic.h>

#define BORA_LOAD_WATCH_MS 50u

/* Until *stop is set by somebody else; watch is written while it runs. canary: whose secrets it must not see, or NULL.
 */
void bora_load_watch_run(const bora_load_options *options, const bora_load_canary *canary, const _Atomic int *stop,
                         bora_load_watch *watch);

#endif
