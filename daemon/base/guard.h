/* Mapped files that are cut short under our feet.
 *
 * Touching a page that lies behind the end of its file raises SIGBUS, and a daemon with every conversation in it would
 * be gone for one file. So the host installs a handler: inside a guarded range it puts zero pages over the hole and
 * raises the range's flag; whoever computes with the range looks at the flag before the result goes anywhere. A SIGBUS
 * from elsewhere ends the process as before.
 *
 * Signals belong to the process, so this is the one table that is global; it is fixed and lock-free, because a
 * handler reads it. */
#ifndef BORA_BASE_GUARD_H
#define BORA_BASE_GUARD_H

#include "base/status.h"

#include <stdbool.h>

#define BORA_GUARD_RANGES_MAX 4096u

/* Installs the handler, once, before there are threads. Without it ranges can be added, but nothing guards them.
 * Errors: IO. */
bora_status bora_guard_install(bora_error *err);

/* Guards the mapping data [size], which begins on a page. The number of the range, from 1; 0 when the table is full.
 * Any thread. */
uint32_t bora_guard_add(const void *data, size_t size);
/* Before it is unmapped. 0 is a no-op. */
void bora_guard_remove(uint32_t range);
/* A page of it was lost; stays so until it is removed. false for 0. Any thread. */
bool bora_guard_is_damaged(uint32_t range);

#endif
