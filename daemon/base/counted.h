/* Heap memory that is in a ledger's books: taken before it is allocated, given back when it is freed. In front of each
 * piece lie 64 bytes that say how large it is and whose; they count as well. Any thread. */
#ifndef BORA_BASE_COUNTED_H
#define BORA_BASE_COUNTED_H

#include "base/ledger.h"

#include <stddef.h>

/* size bytes aligned to 64, not cleared. ledger (may be NULL) is borrowed and outlives the memory. NULL: the ledger
 * says no, or there is no memory (bora_counted_fail tells them apart), or the size overflows. */
void *bora_counted_alloc(bora_ledger *ledger, uint32_t account, size_t size);
/* n * size bytes, checked, cleared, aligned for any type; pages that are never written take no memory. */
void *bora_counted_calloc(bora_ledger *ledger, uint32_t account, size_t n, size_t size);
void bora_counted_free(void *memory); /* NULL is a no-op */
/* What to answer when size bytes for what could not be had: bora_ledger_fail. */
bora_status bora_counted_fail(const bora_ledger *ledger, const char *what, size_t size, bora_error *err);

#endif
