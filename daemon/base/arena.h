/* An arena: many small allocations with one common end. Not thread-safe; one owner. */
#ifndef BORA_BASE_ARENA_H
#define BORA_BASE_ARENA_H

#include <stddef.h>

typedef struct bora_arena_chunk bora_arena_chunk;

/* Caller-owned; all zero is an empty arena. */
typedef struct bora_arena {
    bora_arena_chunk *chunks; /* newest first */
} bora_arena;

/* n * size bytes, cleared, aligned for any type; NULL when there is no memory or the product overflows. Lives
 * until bora_arena_release. */
void *bora_arena_alloc(bora_arena *arena, size_t n, size_t size);
/* A zero-terminated copy of n bytes of text. */
char *bora_arena_text(bora_arena *arena, const char *text, size_t n);
size_t bora_arena_size(const bora_arena *arena); /* bytes of memory that it has */
/* Frees everything; the arena is empty afterwards. */
void bora_arena_release(bora_arena *arena);

#endif
