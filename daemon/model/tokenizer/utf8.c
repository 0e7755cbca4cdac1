/* Well-formed UTF-8, as Unicode's table 3-7 has it: nothing overlong, no surrogates, nothing above U+10FFFF. */
#include "model/tokenizer/tokenizer_private.h"

/* How many bytes a character with this first byte has, and what the second may be; 0 if none begins so. */
static size_t shape_of(uint8_t first, uint8_t *ret_second_min, uint8_t *ret_second_max)
{
    *ret_second_min = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *ret_second_max = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0x80)
        return 1;
    if (first < 0xc2)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
}

size_t bora_utf8_char(const char *text, size_t size, bool *ret_partial)
{
    bool partial = false;
    size_t found = 0;
    if (size > 0) {
        uint8_t min, max;
        size_t n = shape_of((uint8_t)text[0], &min, &max);
        size_t i = 1;
        for (; i < n && i < size && (uint8_t)text[i] >= min && (uint8_t)text[i] <= max; i++) {
            min = 0x80;
            max = 0xbf;
        }
        if (n > 0 && i == n)
            found = n;
        else
            partial = n > 0 && i == size;
    }
    if (ret_partial)
        *ret_partial = partial;
    return found;
}
