/* Several answers to one prompt, which come side by side and are shown one after another. */
#ifndef BORA_BORA_CHOICES_H
#define BORA_BORA_CHOICES_H

#include "print.h"

/* What has come of one answer. */
typedef struct bora_choice {
    bora_text text;
    size_t n_shown; /* bytes of it */
    bool has_heading, has_ended;
} bora_choice;

/* All zero but n_asked is a good start. */
typedef struct bora_choices {
    uint32_t n_asked;
    bora_choice *choices; /* [n]; owned */
    uint32_t n;           /* up to the last that anything has come of */
    uint32_t current;     /* the one that is being shown */
    bool failed;          /* no memory */
} bora_choices;

void bora_choices_release(bora_choices *choices);
/* More of an answer's text; an answer that was not asked for is passed over. */
void bora_choices_add(bora_choices *choices, uint32_t choice, const char *text, size_t size);
void bora_choices_end(bora_choices *choices, uint32_t choice);
/* Shows what can be shown: the current answer as far as it has come, and those after it when it has ended. True if
 * something was. */
bool bora_choices_show(bora_choices *choices, const bora_print *print);
/* Shows the rest: nothing more will come. */
bool bora_choices_show_rest(bora_choices *choices, const bora_print *print);

#endif
