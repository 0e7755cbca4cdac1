/* One step of UTF-8, as Unicode defines it: no surrogates, no overlong forms, nothing above U+10FFFF. Shared by the
 * way in (a bad byte becomes U+FFFD) and the way out (bytes wait until their character is complete). */
#ifndef BORA_TOKENIZER_UTF8_H
#define BORA_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define BORA_UTF8_MORE        0    /* a beginning that some further bytes would complete */
#define BORA_UTF8_BAD         (-1) /* the first byte is part of no character */

#define BORA_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Length (1 .. 4) of the character that text begins with, or one of the above. size: bytes there are, at least 1. */
static inline int bora_utf8_step(const char *text, size_t size)
{
    uint8_t lead = (uint8_t)text[0];
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return BORA_UTF8_BAD;
    int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == size)
            return BORA_UTF8_MORE;
        uint8_t byte = (uint8_t)text[i];
        /* The second byte's range is narrower where overlong forms, surrogates or numbers too large would begin. */
        uint8_t low = i > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = i > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (byte < low || byte > high)
            return BORA_UTF8_BAD;
    }
    return length;
}

#endif
