/* A region: large memory that is only added to, in huge pages where the system has them, and freed as a whole.
 *
 * Address space is reserved in steps that grow with what is asked for; pages that were never written take no memory.
 * One thread at a time. */
#ifndef BORA_BASE_REGION_H
#define BORA_BASE_REGION_H

#include "base/status.h"

#include <stddef.h>

typedef struct bora_region bora_region;

bora_status bora_region_new(bora_region **ret_region, bora_error *err);
void bora_region_free(bora_region *region); /* NULL is a no-op */
/* size bytes aligned to 64, zero; NULL when there is no memory. Counts as an allocation for bora_memory_fail_at. */
void *bora_region_alloc(bora_region *region, size_t size);
size_t bora_region_size(const bora_region *region); /* bytes handed out */

#endif
