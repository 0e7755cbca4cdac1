/* A region: large memory that is only added to, in huge pages where the system has them, and freed as a whole.
 *
 * Address space is reserved in steps that grow with what is asked for; pages that were never written take no memory.
 * A ledger counts what is handed out. One thread at a time. */
#ifndef BORA_BASE_REGION_H
#define BORA_BASE_REGION_H

#include "base/ledger.h"

#include <stddef.h>

typedef struct bora_region bora_region;

/* What is handed out is taken from the account of the ledger, which may be NULL and is borrowed. */
bora_status bora_region_new(bora_ledger *ledger, uint32_t account, bora_region **ret_region, bora_error *err);
void bora_region_free(bora_region *region); /* NULL is a no-op */
/* size bytes aligned to 64, zero; NULL when there is no memory or the ledger says no. Counts as an allocation for
 * bora_memory_fail_at. */
void *bora_region_alloc(bora_region *region, size_t size);
/* What to answer then: bora_ledger_fail with the region's ledger. */
bora_status bora_region_fail(const bora_region *region, const char *what, size_t size, bora_error *err);
size_t bora_region_size(const bora_region *region); /* bytes handed out */

#endif
