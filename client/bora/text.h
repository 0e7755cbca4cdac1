/* Text in memory: growing it, checking it, and making it fit for a terminal. */
#ifndef BORA_BORA_TEXT_H
#define BORA_BORA_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* A growing text. All zero is empty; a failed allocation is remembered in failed, and later appends do nothing. */
typedef struct bora_text {
    char *data; /* [size], followed by a zero byte; NULL if nothing was ever appended; owned */
    size_t size, capacity;
    bool failed;
} bora_text;

void bora_text_release(bora_text *text); /* back to empty */
void bora_text_append(bora_text *text, const char *bytes, size_t size);
void bora_text_append_string(bora_text *text, const char *string);

enum bora_text_lines {
    BORA_TEXT_LINES,   /* newlines and tabs stay */
    BORA_TEXT_ONE_LINE /* they are escaped as well: table cells, names */
};

/* Size in bytes of the longest start of [size] that may go to a terminal as it is. */
size_t bora_text_safe_size(const char *bytes, size_t size, enum bora_text_lines lines);
/* Appends the text with everything that could steer a terminal written out: control characters, characters that turn
 * the direction of writing, and bytes that are no UTF-8, as \x1b or \u202e. */
void bora_text_append_safe(bora_text *text, const char *bytes, size_t size, enum bora_text_lines lines);

/* Columns that the text takes on a terminal. */
size_t bora_text_width(const char *bytes, size_t size);
/* Size in bytes of the longest start that takes at most so many columns. */
size_t bora_text_fit(const char *bytes, size_t size, size_t columns);

bool bora_text_is_utf8(const char *bytes, size_t size);

enum bora_text_read {
    BORA_TEXT_READ_OK,
    BORA_TEXT_READ_TOO_LONG, /* more than size_max bytes */
    BORA_TEXT_READ_NO_TEXT,  /* not UTF-8 */
    BORA_TEXT_READ_FAILED    /* errno says why */
};
/* Appends all that fd has until its end. */
enum bora_text_read bora_text_read_all(bora_text *text, int fd, size_t size_max);

#endif
