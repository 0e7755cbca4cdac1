/* The memory ledger: one limit for what the daemon takes, and where every byte of it went.
 *
 * Whoever is about to allocate something that counts takes its size first and gives it back after freeing. Numbers
 * only: nothing is allocated here. Any thread; a NULL ledger allows everything and counts nothing. */
#ifndef BORA_BASE_LEDGER_H
#define BORA_BASE_LEDGER_H

#include "base/mailbox.h"
#include "base/status.h"

#include <stdbool.h>

#define BORA_LEDGER_WEIGHTS     0u /* packed or converted weights; those read straight from a mapped file do not count */
#define BORA_LEDGER_KV          1u /* what cache plugins have */
#define BORA_LEDGER_ACTIVATIONS 2u /* buffers of the stages and of the scheduler */
#define BORA_LEDGER_PLUGINS     3u /* what other plugins have */
#define BORA_LEDGER_REQUESTS    4u /* generations that wait or run: tokens, texts, grammars */
#define BORA_LEDGER_STORE       5u /* pages and histories on their way to or from the store */
#define BORA_LEDGER_PROGRAM     6u /* code, libraries, tables of the tokenizer, the store's cache: an allowance */
#define BORA_LEDGER_COUNT       7u

typedef struct bora_ledger bora_ledger;

/* limit in bytes. Errors: NOMEM. */
bora_status bora_ledger_new(uint64_t limit, bora_ledger **ret_ledger, bora_error *err);
void bora_ledger_free(bora_ledger *ledger); /* NULL is a no-op */

/* False, and nothing is taken, if the sum of all accounts would pass the limit. */
bool bora_ledger_take(bora_ledger *ledger, uint32_t account, uint64_t size);
void bora_ledger_give(bora_ledger *ledger, uint32_t account, uint64_t size);

/* For one that waits for room: the next give sends mail to box, once. box NULL: none does any more. */
void bora_ledger_wake(bora_ledger *ledger, bora_mailbox *box, bora_mail *mail);

typedef struct bora_ledger_state {
    uint64_t limit, used, peak; /* peak: the most that was ever used at once */
    uint64_t accounts[BORA_LEDGER_COUNT];
} bora_ledger_state;

/* NULL ledger: all zero. */
void bora_ledger_get(const bora_ledger *ledger, bora_ledger_state *ret_state);
/* "weights", "kv", "activations", "plugins", "requests", "store", "program", as in PROTOCOL.md; "unknown" for any other
 * number. */
const char *bora_ledger_name(uint32_t account);
/* Says why size bytes for what ("packed weights") could not be had: LIMIT if the ledger has not that much left, with
 * limit and use in the message; else NOMEM. */
bora_status bora_ledger_fail(const bora_ledger *ledger, const char *what, uint64_t size, bora_error *err);

/* A size for people: "512 MiB", "3.5 KiB". */
typedef struct bora_size_text {
    char text[32];
} bora_size_text;
bora_size_text bora_show_size(uint64_t size);

/* What the machine allows this process: nine tenths of bora_machine_memory, the least of physical memory, the cgroup's
 * memory.max (and those above it) and RLIMIT_AS and RLIMIT_DATA. */
uint64_t bora_ledger_default_limit(void);

#endif
