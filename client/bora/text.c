/* UTF-8 as it comes: every byte is either part of a whole, shortest-form character or shown as a number. */
#include "text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#define READ_SIZE 16384

void bora_text_release(bora_text *text)
{
    free(text->data);
    *text = (bora_text){0};
}

void bora_text_append(bora_text *text, const char *bytes, size_t size)
{
    if (text->failed)
        return;
    if (size >= SIZE_MAX / 4 - text->size) {
        text->failed = true;
        return;
    }
    size_t needed = text->size + size + 1;
    if (needed > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 64;
        while (capacity < needed)
            capacity *= 2;
        char *data = realloc(text->data, capacity);
        if (!data) {
            text->failed = true;
            return;
        }
        text->data = data;
        text->capacity = capacity;
    }
    if (size > 0)
        memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = '\0';
}

void bora_text_append_string(bora_text *text, const char *string)
{
    bora_text_append(text, string, strlen(string));
}

/* One character from the front; 0 if there is no whole, valid one. Sizes and lower bounds by RFC 3629. */
static size_t decode(const char *bytes, size_t size, uint32_t *ret_character)
{
    const unsigned char *b = (const unsigned char *)bytes;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (size == 0)
        return 0;
    if (b[0] < 0x80) {
        *ret_character = b[0];
        return 1;
    }
    size_t n = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || size < n)
        return 0;
    uint32_t character = b[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (b[i] & 0x3fU);
    }
    if (character < least[n] || character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
        return 0;
    *ret_character = character;
    return n;
}

static bool is_safe(uint32_t c, enum bora_text_lines lines)
{
    if (c == '\n' || c == '\t')
        return lines == BORA_TEXT_LINES;
    return c >= 0x20 && !(c >= 0x7f && c <= 0x9f) && !(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

size_t bora_text_safe_size(const char *bytes, size_t size, enum bora_text_lines lines)
{
    size_t at = 0;
    while (at < size) {
        uint32_t character = 0;
        size_t n = decode(bytes + at, size - at, &character);
        if (n == 0 || !is_safe(character, lines))
            break;
        at += n;
    }
    return at;
}

void bora_text_append_safe(bora_text *text, const char *bytes, size_t size, enum bora_text_lines lines)
{
    size_t at = 0;
    while (at < size) {
        size_t safe = bora_text_safe_size(bytes + at, size - at, lines);
        bora_text_append(text, bytes + at, safe);
        at += safe;
        if (at == size)
            break;
        uint32_t character = 0;
        size_t n = decode(bytes + at, size - at, &character);
        char shown[16];
        if (character == '\n')
            (void)snprintf(shown, sizeof shown, "\\n");
        else if (character == '\t')
            (void)snprintf(shown, sizeof shown, "\\t");
        else if (n <= 1)
            (void)snprintf(shown, sizeof shown, "\\x%02x", (unsigned)(unsigned char)bytes[at]);
        else
            (void)snprintf(shown, sizeof shown, "\\u%04x", (unsigned)character);
        bora_text_append_string(text, shown);
        at += n ? n : 1;
    }
}

/* Bytes and columns of the character at the front; size > 0. */
static size_t measure(const char *bytes, size_t size, size_t *ret_columns)
{
    uint32_t character = 0;
    size_t n = decode(bytes, size, &character);
    int columns = n ? wcwidth((wchar_t)character) : 1;
    *ret_columns = columns > 0 ? (size_t)columns : 0;
    return n ? n : 1;
}

size_t bora_text_width(const char *bytes, size_t size)
{
    size_t width = 0;
    for (size_t at = 0, columns; at < size; width += columns)
        at += measure(bytes + at, size - at, &columns);
    return width;
}

size_t bora_text_fit(const char *bytes, size_t size, size_t columns)
{
    for (size_t at = 0, width = 0; at < size;) {
        size_t own = 0, n = measure(bytes + at, size - at, &own);
        if (own > columns - width)
            return at;
        width += own;
        at += n;
    }
    return size;
}

bool bora_text_is_utf8(const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint32_t character = 0;
        size_t n = decode(bytes + at, size - at, &character);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

enum bora_text_read bora_text_read_all(bora_text *text, int fd, size_t size_max)
{
    size_t start = text->size;
    for (;;) {
        char buffer[READ_SIZE];
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return BORA_TEXT_READ_FAILED;
        if (n == 0)
            break;
        if ((size_t)n > size_max - (text->size - start))
            return BORA_TEXT_READ_TOO_LONG;
        bora_text_append(text, buffer, (size_t)n);
        if (text->failed) {
            errno = ENOMEM;
            return BORA_TEXT_READ_FAILED;
        }
    }
    return bora_text_is_utf8(text->data ? text->data + start : "", text->size - start) ? BORA_TEXT_READ_OK
                                                                                       : BORA_TEXT_READ_NO_TEXT;
}
