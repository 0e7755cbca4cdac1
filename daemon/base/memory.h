/* The one way to heap memory, so that tests can make the N-th allocation fail. Any thread. */
#ifndef BORA_BASE_MEMORY_H
#define BORA_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All return NULL when there is no memory (or the size overflows); free with bora_free. Zero-sized requests give
 * a valid pointer. */
void *bora_alloc(size_t size);                           /* not cleared */
void *bora_calloc(size_t n, size_t size);                /* cleared; n * size checked */
void *bora_realloc(void *memory, size_t n, size_t size); /* n * size checked; memory stays valid on failure */
void *bora_alloc_aligned(size_t alignment, size_t size); /* alignment: a power of two >= sizeof(void *); not cleared */
char *bora_strdup(const char *text);                     /* NULL gives NULL */
char *bora_strndup(const char *text, size_t n);
__attribute__((format(printf, 1, 2))) char *bora_format(const char *format, ...); /* printf into a new string */
/* Gives what is free in the allocator's heaps back to the system. Takes a look at every heap, one after the other,
 * while its users wait: for when memory is short. Any thread. */
void bora_memory_trim(void);
void bora_free(void *memory); /* NULL is a no-op */

/* For tests: the n-th allocation from now on fails, and every later one while it stays set (n counts from 1);
 * 0 switches it off. Allocations counted since the last call are returned. */
uint64_t bora_memory_fail_at(uint64_t n);
/* Counts one allocation of memory that comes from elsewhere (mmap); true: it is to fail. */
bool bora_memory_refused(void);

#endif
