/* Which pages of a model's files are in memory: read ahead before they are needed, let go when they were.
 *
 * Two things are let go: the pages in this process (its resident memory), always; and the system's own copy, the page
 * cache, only where memory is short: a warm cache is what makes the next start fast, and the kernel takes it back by
 * itself, if later than one would like. */
#include "base/memory.h"
#include "model/model_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Page caches keep files in pieces of up to this size, and give back whole ones only. */
#define PIECE_SIZE ((uintptr_t)2 << 20)

typedef struct range {
    size_t file;
    uintptr_t begin, end; /* within the file's mapping; begin == end: nothing */
} range;

/* The part of from [size] that lies in a mapped file. False if from lies in none. */
static bool find_range(const bora_model *model, const void *from, size_t size, range *ret_range)
{
    const uintptr_t at = (uintptr_t)from;
    for (size_t i = 0; i < model->n_files; i++) {
        const uintptr_t data = (uintptr_t)model->files[i].data, end = data + model->files[i].size;
        if (!data || at < data || at >= end)
            continue;
        *ret_range = (range){.file = i, .begin = at, .end = size < end - at ? at + size : end};
        return true;
    }
    return false;
}

static uintptr_t page_mask(void)
{
    return (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
}

/* Cuts the range to pages that lie wholly in it; the one that the file ends in belongs to the range that ends there. */
static void cut_to_pages(const bora_model *model, range *inside)
{
    const uintptr_t mask = page_mask();
    const bora_file *file = &model->files[inside->file];
    if (inside->end == (uintptr_t)file->data + file->size)
        inside->end = (inside->end + mask) & ~mask;
    inside->begin = (inside->begin + mask) & ~mask;
    inside->end &= ~mask;
    if (inside->end < inside->begin)
        inside->end = inside->begin;
}

void bora_model_release(const bora_model *model, const void *from, size_t size)
{
    range inside;
    if (!find_range(model, from, size, &inside))
        return; /* a copy: there is no other */
    cut_to_pages(model, &inside);
    if (inside.begin < inside.end)
        (void)madvise((void *)inside.begin, inside.end - inside.begin, MADV_DONTNEED); /* a hint that may fail */
}

void bora_model_forget(const bora_model *model, const void *from, size_t size)
{
    range inside;
    if (!find_range(model, from, size, &inside))
        return;
    bora_model_release(model, from, size); /* first: what is mapped stays in the cache */
    const uintptr_t data = (uintptr_t)model->files[inside.file].data;
    const uintptr_t begin = (inside.begin - data) & ~(PIECE_SIZE - 1); /* what the last call left of its piece */
    BORA_CLEANUP(bora_closep) int fd = open(model->file_paths[inside.file], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) /* should it be another file by now, that one is read again when it is needed */
        (void)posix_fadvise(fd, (off_t)begin, (off_t)(inside.end - data - begin), POSIX_FADV_DONTNEED); /* a hint */
}

void bora_model_read_ahead(const bora_model *model, const void *from, size_t size)
{
    range inside;
    if (!find_range(model, from, size, &inside))
        return;
    const uintptr_t begin = inside.begin & ~page_mask();
    (void)madvise((void *)begin, inside.end - begin, MADV_WILLNEED); /* a hint that may fail */
}

/* Bytes that "MemAvailable:   123 kB" in the text of /proc/meminfo says; UINT64_MAX if it is not there. */
static uint64_t available_in(const char *text)
{
    unsigned long long kib;
    const char *line = strstr(text, "MemAvailable:");
    if (!line || sscanf(line, "MemAvailable: %llu kB", &kib) != 1 || kib > UINT64_MAX / 1024)
        return UINT64_MAX;
    return (uint64_t)kib * 1024;
}

bool bora_model_memory_is_short_in(const bora_model *model, const char *meminfo)
{
    return available_in(meminfo) / 2 < model->size;
}

bool bora_model_memory_is_short(const bora_model *model)
{
    char text[4096];
    BORA_CLEANUP(bora_closep) int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (n < 0)
        return false;
    text[n] = '\0';
    return bora_model_memory_is_short_in(model, text);
}
