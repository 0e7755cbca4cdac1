/* Reading lines: with editing and history from a terminal, as they are from anything else. */
#ifndef BORA_BORA_LINE_H
#define BORA_BORA_LINE_H

#include <stdbool.h>

#include "print.h"

typedef struct bora_line bora_line;

enum bora_line_read {
    BORA_LINE_OK,
    BORA_LINE_CLEARED, /* Ctrl-C: what was typed is gone */
    BORA_LINE_END,     /* Ctrl-D, the end of the file, or a signal that ends the program */
    BORA_LINE_FAILED   /* errno says why */
};

/* Opens standard input. Signals must be caught already (bora_signals_catch_all). print is borrowed for as long as the
 * result lives. NULL: no memory. */
bora_line *bora_line_open(const bora_print *print);
void bora_line_close(bora_line *line); /* saves the history; NULL is a no-op */

/* A person edits the line, as opposed to text from a file or pipe. */
bool bora_line_is_interactive(const bora_line *line);

/* The next line, without its newline; a line that ends in a backslash goes on in the next one. *ret_text lives until
 * the next call. */
enum bora_line_read bora_line_next(bora_line *line, const char **ret_text);

#endif
