/* A growing list of token ids. Doubling keeps appending linear; the list stays whole when memory runs out. */
#include "model/tokenizer/tokenizer.h"

#include "base/memory.h"
#include "base/size.h"

#include <string.h>

bora_status bora_tokens_append(bora_tokens *tokens, const int32_t *ids, size_t n, bora_error *err)
{
    size_t needed;
    if (!bora_size_add(tokens->n, n, &needed))
        return bora_fail(err, BORA_E_NOMEM, "%zu more tokens", n);
    if (needed > tokens->capacity) {
        size_t capacity = tokens->capacity > SIZE_MAX / 2 ? needed : tokens->capacity * 2;
        if (capacity < needed)
            capacity = needed;
        if (capacity < 64)
            capacity = 64;
        int32_t *grown = bora_realloc(tokens->ids, capacity, sizeof *grown);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "%zu tokens", capacity);
        tokens->ids = grown;
        tokens->capacity = capacity;
    }
    if (n)
        memcpy(tokens->ids + tokens->n, ids, n * sizeof *ids);
    tokens->n = needed;
    return BORA_OK;
}

bora_status bora_tokens_push(bora_tokens *tokens, int32_t id, bora_error *err)
{
    return bora_tokens_append(tokens, &id, 1, err);
}

void bora_tokens_release(bora_tokens *tokens)
{
    bora_free(tokens->ids);
    *tokens = (bora_tokens){0};
}
