/* The length of a character, for those who do not care why there is none. */
#include "model/tokenizer/utf8.h"

#include "model/tokenizer/tokenizer_private.h"

size_t bora_utf8_char(const char *text, size_t size, bool *ret_partial)
{
    int step = size ? bora_utf8_step(text, size) : BORA_UTF8_BAD;
    if (ret_partial)
        *ret_partial = step == BORA_UTF8_MORE;
    return step > 0 ? (size_t)step : 0;
}
