#include "base/arena.h"

#include "base/memory.h"
#include "base/size.h"

#include <stdalign.h>
#include <string.h>

/* Chunks double from 4 KiB to 1 MiB; what is larger than half of that gets a chunk of its own. */
#define CHUNK_SIZE_MIN ((size_t)4096)
#define CHUNK_SIZE_MAX ((size_t)1 << 20)

struct bora_arena_chunk {
    bora_arena_chunk *next;
    size_t size, used; /* bytes of data */
    alignas(max_align_t) unsigned char data[];
};

static bora_arena_chunk *chunk_new(bora_arena *arena, size_t need)
{
    size_t size = arena->chunks ? arena->chunks->size * 2 : CHUNK_SIZE_MIN;
    if (size > CHUNK_SIZE_MAX)
        size = CHUNK_SIZE_MAX;
    if (size < need)
        size = need;
    size_t total;
    if (!bora_size_add(size, sizeof(bora_arena_chunk), &total))
        return NULL;
    bora_arena_chunk *chunk = bora_calloc(1, total);
    if (!chunk)
        return NULL;
    chunk->size = size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *bora_arena_alloc(bora_arena *arena, size_t n, size_t size)
{
    size_t need;
    if (!bora_size_mul(n, size, &need) || !bora_size_round_up(need ? need : 1, alignof(max_align_t), &need))
        return NULL;
    bora_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < need)
        chunk = chunk_new(arena, need);
    if (!chunk)
        return NULL;
    void *memory = chunk->data + chunk->used;
    chunk->used += need;
    return memory;
}

char *bora_arena_text(bora_arena *arena, const char *text, size_t n)
{
    size_t size;
    if (!bora_size_add(n, 1, &size))
        return NULL;
    char *copy = bora_arena_alloc(arena, size, 1);
    if (copy && n)
        memcpy(copy, text, n);
    return copy;
}

size_t bora_arena_size(const bora_arena *arena)
{
    size_t size = 0;
    for (const bora_arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next)
        size += sizeof *chunk + chunk->size; /* all of it is in memory: cannot overflow */
    return size;
}

void bora_arena_release(bora_arena *arena)
{
    while (arena->chunks) {
        bora_arena_chunk *next = arena->chunks->next;
        bora_free(arena->chunks);
        arena->chunks = next;
    }
}
