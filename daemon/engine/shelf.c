#include "engine/shelf.h"

#include "base/memory.h"

#include <string.h>

size_t bora_tokens_common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = 0, end = n_a < n_b ? n_a : n_b;
    while (n < end && a[n] == b[n])
        n++;
    return n;
}

bora_status bora_shelf_reserve(bora_shelf *shelf, size_t n_more, bora_error *err)
{
    size_t need = shelf->n + n_more;
    if (need <= shelf->capacity)
        return BORA_OK;
    bora_shelf_entry *entries = bora_realloc(shelf->entries, need * 2, sizeof *entries);
    if (!entries)
        return bora_fail(err, BORA_E_NOMEM, "list of sequences");
    shelf->entries = entries;
    shelf->capacity = need * 2;
    return BORA_OK;
}

void bora_shelf_put(bora_shelf *shelf, bora_sequence *sequence, const char *owner, int32_t *tokens, size_t n,
                    bool is_handed_out)
{
    bora_shelf_entry *entry = &shelf->entries[shelf->n++]; /* reserved before */
    *entry = (bora_shelf_entry){
        .sequence = sequence, .tokens = tokens, .n = n, .is_handed_out = is_handed_out, .last_used = ++shelf->clock};
    strncpy(entry->owner, owner, sizeof entry->owner - 1);
}

static void remove_entry(bora_shelf *shelf, size_t i)
{
    bora_free(shelf->entries[i].tokens);
    shelf->entries[i] = shelf->entries[--shelf->n];
}

bool bora_shelf_take(bora_shelf *shelf, const bora_sequence *sequence)
{
    for (size_t i = 0; i < shelf->n; i++)
        if (shelf->entries[i].sequence == sequence) {
            remove_entry(shelf, i);
            return true;
        }
    return false;
}

bool bora_shelf_drop_oldest(bora_shelf *shelf)
{
    size_t oldest = shelf->n;
    for (size_t i = 0; i < shelf->n; i++)
        if (!shelf->entries[i].is_handed_out &&
            (oldest == shelf->n || shelf->entries[i].last_used < shelf->entries[oldest].last_used))
            oldest = i;
    if (oldest == shelf->n)
        return false;
    bora_sequence_close(shelf->entries[oldest].sequence);
    remove_entry(shelf, oldest);
    return true;
}

void bora_shelf_trim(bora_shelf *shelf, size_t n_max)
{
    size_t n = 0;
    for (size_t i = 0; i < shelf->n; i++)
        n += !shelf->entries[i].is_handed_out;
    for (; n > n_max; n--)
        (void)bora_shelf_drop_oldest(shelf); /* there is one */
}

bora_shelf_entry *bora_shelf_find(bora_shelf *shelf, const char *owner, const int32_t *tokens, size_t n, size_t *ret_n)
{
    bora_shelf_entry *best = NULL;
    size_t best_n = 0;
    for (size_t i = 0; i < shelf->n; i++) {
        bora_shelf_entry *entry = &shelf->entries[i];
        if (strcmp(entry->owner, owner) != 0)
            continue;
        size_t common = bora_tokens_common(entry->tokens, entry->n, tokens, n);
        if (common > best_n) {
            best = entry;
            best_n = common;
        }
    }
    *ret_n = best_n;
    return best;
}

void bora_shelf_release(bora_shelf *shelf)
{
    for (size_t i = 0; i < shelf->n; i++) {
        bora_sequence_close(shelf->entries[i].sequence);
        bora_free(shelf->entries[i].tokens);
    }
    bora_free(shelf->entries);
    *shelf = (bora_shelf){.n = 0};
}
