/* The list of tensors that the files of a model hold, as the files have them: name, shape, type, bytes. Formats add to
 * it; weights.c and the listings read it. Nothing here knows what a tensor is for. */
#include "base/memory.h"
#include "base/size.h"
#include "model/blocks.h"
#include "model/model_private.h"

#include <stdlib.h>
#include <string.h>

bora_quoted bora_quote(const char *text, size_t n)
{
    bora_quoted quoted;
    size_t max = sizeof quoted.text - 4; /* "..." and the zero */
    size_t i = 0;
    for (; i < n && i < max; i++)
        quoted.text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    memcpy(quoted.text + i, n > max ? "..." : "", n > max ? 4 : 1);
    return quoted;
}

void bora_names_free(char **names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        bora_free(names[i]);
    bora_free(names);
}

bora_status bora_model_entries_reserve(bora_model *model, size_t n, bora_error *err)
{
    size_t capacity;
    if (!bora_size_add(model->n_entries, n, &capacity) || capacity > BORA_TENSORS_MAX)
        return bora_fail(err, BORA_E_LIMIT, "more than %u tensors", BORA_TENSORS_MAX);
    if (capacity <= model->entries_capacity)
        return BORA_OK;
    bora_model_entry *entries = bora_realloc(model->entries, capacity, sizeof *entries);
    if (!entries)
        return bora_fail(err, BORA_E_NOMEM, "list of %zu tensors", capacity);
    model->entries = entries;
    model->entries_capacity = capacity;
    return BORA_OK;
}

bool bora_name_sane(const char *name, size_t n)
{
    if (n == 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return true;
}

/* Bytes of a tensor: whole rows, [shape but the last] of them. */
static bool size_of(const bora_tensor_info *info, uint64_t *ret_size)
{
    size_t size;
    if (!bora_block_row_size(info->dtype, info->shape[info->n_dims - 1], &size))
        return false;
    for (uint32_t i = 0; i + 1 < info->n_dims; i++) {
        if (info->shape[i] > SIZE_MAX / 2 || !bora_size_mul(size, (size_t)info->shape[i], &size))
            return false;
    }
    *ret_size = size;
    return true;
}

bora_status bora_model_entries_add(bora_model *model, const char *name, size_t name_size, const uint64_t *shape,
                                   uint32_t n_dims, uint32_t dtype, const uint8_t *data, size_t rest, bora_error *err)
{
    bora_quoted quoted = bora_quote(name, name_size);
    if (name_size > BORA_TENSOR_NAME_MAX || !bora_name_sane(name, name_size))
        return bora_fail(err, BORA_E_FORMAT, "'%s' is not a tensor name", quoted.text);
    if (n_dims < 1 || n_dims > 4)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has %u dimensions, expected 1 to 4", quoted.text, n_dims);
    bora_tensor_info info = {.n_dims = n_dims, .dtype = dtype, .shape = {1, 1, 1, 1}};
    for (uint32_t i = 0; i < n_dims; i++) {
        if (shape[i] == 0)
            return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has a dimension of 0", quoted.text);
        info.shape[i] = shape[i];
    }
    if (shape[n_dims - 1] % bora_block_of(dtype)->n_elements)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has rows of %llu elements, not whole %s blocks of %u",
                         quoted.text, (unsigned long long)shape[n_dims - 1], bora_block_of(dtype)->name,
                         bora_block_of(dtype)->n_elements);
    if (!size_of(&info, &info.size))
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is larger than any file", quoted.text);
    if (info.size > rest)
        return bora_fail(err, BORA_E_FORMAT, "tensor '%s' has %llu bytes, the file %zu from its start on", quoted.text,
                         (unsigned long long)info.size, rest);
    bora_status st = BORA_OK;
    if (model->n_entries == model->entries_capacity &&
        (st = bora_model_entries_reserve(model, model->n_entries / 2 + 64, err)) != BORA_OK)
        return st;
    info.name = bora_arena_text(&model->arena, name, name_size);
    if (!info.name)
        return bora_fail(err, BORA_E_NOMEM, "tensor '%s'", quoted.text);
    model->entries[model->n_entries++] = (bora_model_entry){.info = info, .data = data};
    return BORA_OK;
}

static int by_name(const void *a, const void *b)
{
    const bora_model_entry *const *x = a, *const *y = b;
    return strcmp((*x)->info.name, (*y)->info.name);
}

static int by_place(const void *a, const void *b)
{
    const bora_model_entry *const *x = a, *const *y = b;
    uintptr_t x_at = (uintptr_t)(*x)->data, y_at = (uintptr_t)(*y)->data;
    return (x_at > y_at) - (x_at < y_at);
}

/* No byte is two tensors': an offset that is wrong but inside the file would be read without a word. */
static bora_status overlap_check(bora_model_entry **entries, size_t n, bora_error *err)
{
    qsort(entries, n, sizeof *entries, by_place);
    for (size_t i = 1; i < n; i++) {
        const bora_tensor_info *before = &entries[i - 1]->info;
        if ((uintptr_t)entries[i]->data - (uintptr_t)entries[i - 1]->data < before->size)
            return bora_fail(err, BORA_E_FORMAT, "tensors '%s' and '%s' overlap",
                             bora_quote(before->name, strlen(before->name)).text,
                             bora_quote(entries[i]->info.name, strlen(entries[i]->info.name)).text);
    }
    return BORA_OK;
}

bora_status bora_model_entries_seal(bora_model *model, bora_error *err)
{
    bora_model_entry **sorted = bora_arena_alloc(&model->arena, model->n_entries, sizeof(bora_model_entry *));
    if (!sorted)
        return bora_fail(err, BORA_E_NOMEM, "index of %zu tensors", model->n_entries);
    for (size_t i = 0; i < model->n_entries; i++)
        sorted[i] = &model->entries[i];
    bora_status st = overlap_check(sorted, model->n_entries, err);
    if (st != BORA_OK)
        return st;
    qsort(sorted, model->n_entries, sizeof *sorted, by_name);
    for (size_t i = 1; i < model->n_entries; i++)
        if (strcmp(sorted[i - 1]->info.name, sorted[i]->info.name) == 0)
            return bora_fail(err, BORA_E_FORMAT, "tensor '%s' is there twice",
                             bora_quote(sorted[i]->info.name, strlen(sorted[i]->info.name)).text);
    model->by_name = sorted;
    return BORA_OK;
}

bora_model_entry *bora_model_entries_find(const bora_model *model, const char *name)
{
    bora_model_entry wanted = {.info = {.name = name}};
    const bora_model_entry *key = &wanted;
    bora_model_entry **found = bsearch(&key, model->by_name, model->n_entries, sizeof(bora_model_entry *), by_name);
    return found ? *found : NULL;
}
