/* A terminal as a screen: a page at a time in place of the one before, and everything as it was at the end. */
#ifndef BORA_BORA_SCREEN_H
#define BORA_BORA_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

typedef struct bora_screen bora_screen;

/* True if standard input and output are a terminal that can be steered. */
bool bora_screen_is_possible(void);
/* Takes the terminal: its other page, no cursor, keys one by one and without echo. NULL: no memory, or the terminal
 * would not (errno). Keys that make signals still make them, but for Ctrl-Z. */
bora_screen *bora_screen_open(void);
/* Gives it back as it was. NULL is a no-op. */
void bora_screen_close(bora_screen *screen);
/* The program was stopped and goes on: somebody else had the terminal. */
void bora_screen_take_again(bora_screen *screen);
/* Shows lines [size], cut at the terminal's edges, and foot in the last line. bold: the first line is. False: no
 * memory. */
bool bora_screen_show(const bora_screen *screen, const char *lines, size_t size, const char *foot, bool bold);
/* When there is something to read: the key that was typed; 0: none after all, -1: the terminal is gone. */
int bora_screen_key(const bora_screen *screen);

#endif
