/* The growing lists of token ids and of text. */
#include "model/tokenizer/tokenizer_private.h"

#include "base/memory.h"
#include "base/size.h"

#include <string.h>

bora_status bora_list_grow(void **elements, size_t *capacity, size_t n, size_t element_size, bora_error *err)
{
    if (n <= *capacity)
        return BORA_OK;
    size_t wanted = n < 64 ? 64 : n;
    if (*capacity <= SIZE_MAX / 2 && wanted < *capacity * 2)
        wanted = *capacity * 2;
    void *moved = bora_realloc(*elements, wanted, element_size);
    if (!moved)
        return bora_fail(err, BORA_E_NOMEM, "list of %zu elements of %zu bytes", wanted, element_size);
    *elements = moved;
    *capacity = wanted;
    return BORA_OK;
}

bora_status bora_tokens_push(bora_tokens *tokens, int32_t id, bora_error *err)
{
    return bora_tokens_append(tokens, &id, 1, err);
}

bora_status bora_tokens_append(bora_tokens *tokens, const int32_t *ids, size_t n, bora_error *err)
{
    size_t total;
    if (!bora_size_add(tokens->n, n, &total))
        return bora_fail(err, BORA_E_NOMEM, "too many tokens");
    if (n == 0)
        return BORA_OK;
    void *elements = tokens->ids;
    bora_status st = bora_list_grow(&elements, &tokens->capacity, total, sizeof *ids, err);
    if (st != BORA_OK)
        return st;
    tokens->ids = elements;
    memcpy(tokens->ids + tokens->n, ids, n * sizeof *ids);
    tokens->n = total;
    return BORA_OK;
}

void bora_tokens_release(bora_tokens *tokens)
{
    bora_free(tokens->ids);
    *tokens = (bora_tokens){0};
}

bora_status bora_text_reserve(bora_text *text, size_t size, bora_error *err)
{
    size_t total;
    if (!bora_size_add(text->size, size, &total) || !bora_size_add(total, 1, &total))
        return bora_fail(err, BORA_E_NOMEM, "text too long");
    void *bytes = text->bytes;
    bora_status st = bora_list_grow(&bytes, &text->capacity, total, 1, err);
    text->bytes = bytes;
    if (st == BORA_OK)
        text->bytes[text->size] = '\0'; /* a string, even if nothing is added */
    return st;
}

bora_status bora_text_append(bora_text *text, const char *bytes, size_t size, bora_error *err)
{
    bora_status st = bora_text_reserve(text, size, err);
    if (st != BORA_OK)
        return st;
    if (size)
        memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
    return BORA_OK;
}

void bora_text_release(bora_text *text)
{
    bora_free(text->bytes);
    *text = (bora_text){0};
}
