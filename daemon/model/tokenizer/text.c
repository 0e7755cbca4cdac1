/* Growing text, zero-terminated after every successful call so that it can be handed on as a string. */
#include "model/tokenizer/tokenizer.h"

#include "base/memory.h"
#include "base/size.h"

#include <string.h>

bora_status bora_text_reserve(bora_text *text, size_t size, bora_error *err)
{
    size_t needed;
    if (!bora_size_add(text->size, size, &needed) || !bora_size_add(needed, 1, &needed))
        return bora_fail(err, BORA_E_NOMEM, "%zu more bytes of text", size);
    if (needed > text->capacity) {
        size_t capacity = text->capacity > SIZE_MAX / 2 ? needed : text->capacity * 2;
        if (capacity < needed)
            capacity = needed;
        if (capacity < 64)
            capacity = 64;
        char *grown = bora_realloc(text->bytes, capacity, 1);
        if (!grown)
            return bora_fail(err, BORA_E_NOMEM, "%zu bytes of text", capacity);
        text->bytes = grown;
        text->capacity = capacity;
    }
    text->bytes[text->size] = '\0';
    return BORA_OK;
}

bora_status bora_text_append(bora_text *text, const char *bytes, size_t size, bora_error *err)
{
    bora_status status = bora_text_reserve(text, size, err);
    if (status != BORA_OK)
        return status;
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
