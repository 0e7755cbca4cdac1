/* The length of a character, for those who do not care why there is none, and of what is none. */
#include "model/tokenizer/utf8.h"

#include "model/tokenizer/tokenizer_private.h"

size_t bora_utf8_char(const char *text, size_t size, bool *ret_partial)
{
    int step = size ? bora_utf8_step(text, size) : BORA_UTF8_BAD;
    if (ret_partial)
        *ret_partial = step == BORA_UTF8_MORE;
    return step > 0 ? (size_t)step : 0;
}

size_t bora_utf8_bad_size(const char *text, size_t size)
{
    size_t n = 1;
    while (n < size && bora_utf8_step(text, n + 1) == BORA_UTF8_MORE)
        n++;
    return n;
}
