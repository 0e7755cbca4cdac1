/* The compiler thread: turns the schemas and grammars of requests into matchers, so that a large one makes nobody wait
 * but whoever asked for it. Jobs are the store's kind, and come back the same way. */
#ifndef BORA_SESSION_COMPILER_H
#define BORA_SESSION_COMPILER_H

#include "session/store.h"

typedef struct bora_compiler bora_compiler;

/* Finished jobs are sent to replies (borrowed). */
bora_status bora_compiler_new(bora_mailbox *replies, bora_compiler **ret_compiler, bora_error *err);
/* Any thread. job->run is called on the compiler's thread, with db NULL. */
void bora_compiler_submit(bora_compiler *compiler, bora_store_job *job);
/* Ends the job that runs; those that wait come back with CLOSED, not run. Joins. NULL is a no-op. */
void bora_compiler_free(bora_compiler *compiler);

#endif
