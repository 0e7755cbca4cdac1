#include "base/memory.h"

#include "base/size.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one piece of process-wide state below main: a counter that only tests arm. Atomic because allocations come
 * from every thread. */
static atomic_uint_fast64_t alloc_count;
static atomic_uint_fast64_t alloc_fail_at;

bool bora_memory_refused(void)
{
    uint64_t count = atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed) + 1;
    uint64_t fail_at = atomic_load_explicit(&alloc_fail_at, memory_order_relaxed);
    return fail_at && count >= fail_at;
}

uint64_t bora_memory_fail_at(uint64_t n)
{
    atomic_store(&alloc_fail_at, n);
    return atomic_exchange(&alloc_count, 0);
}

void *bora_alloc(size_t size)
{
    return bora_memory_refused() ? NULL : malloc(size ? size : 1);
}

void *bora_calloc(size_t n, size_t size)
{
    if (bora_memory_refused())
        return NULL;
    return n && size ? calloc(n, size) : calloc(1, 1);
}

void *bora_realloc(void *memory, size_t n, size_t size)
{
    size_t total;
    if (!bora_size_mul(n, size, &total) || bora_memory_refused())
        return NULL;
    return realloc(memory, total ? total : 1);
}

void *bora_alloc_aligned(size_t alignment, size_t size)
{
    size_t total;
    if (!bora_size_round_up(size ? size : 1, alignment, &total) || bora_memory_refused())
        return NULL;
    return aligned_alloc(alignment, total);
}

char *bora_strdup(const char *text)
{
    return text ? bora_strndup(text, strlen(text)) : NULL;
}

char *bora_strndup(const char *text, size_t n)
{
    size_t size;
    if (!bora_size_add(n, 1, &size))
        return NULL;
    char *copy = bora_alloc(size);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *bora_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : bora_alloc((size_t)n + 1);
    if (text)
        (void)vsnprintf(text, (size_t)n + 1, format, again); /* the size was just measured */
    va_end(again);
    va_end(args);
    return text;
}

void bora_free(void *memory)
{
    free(memory);
}

void bora_memory_trim(void)
{
    (void)malloc_trim(0); /* whether there was anything */
}
