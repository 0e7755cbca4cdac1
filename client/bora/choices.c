/* The first answer streams; the others are held until their turn. Each has a heading and ends with a newline. */
#include "choices.h"

#include <inttypes.h>
#include <stdlib.h>

void bora_choices_release(bora_choices *choices)
{
    for (uint32_t i = 0; i < choices->n; i++)
        bora_text_release(&choices->choices[i].text);
    free(choices->choices);
    *choices = (bora_choices){0};
}

/* NULL: none that was asked for, or no memory. */
static bora_choice *find(bora_choices *choices, uint32_t choice)
{
    if (choice >= choices->n_asked)
        return NULL;
    if (choice >= choices->n) {
        bora_choice *grown = reallocarray(choices->choices, (size_t)choice + 1, sizeof *grown);
        if (!grown) {
            choices->failed = true;
            return NULL;
        }
        choices->choices = grown;
        while (choices->n <= choice)
            choices->choices[choices->n++] = (bora_choice){.n_shown = 0};
    }
    return &choices->choices[choice];
}

void bora_choices_add(bora_choices *choices, uint32_t choice, const char *text, size_t size)
{
    bora_choice *found = find(choices, choice);
    if (!found)
        return;
    bora_text_append(&found->text, text, size);
    choices->failed = choices->failed || found->text.failed;
}

void bora_choices_end(bora_choices *choices, uint32_t choice)
{
    bora_choice *found = find(choices, choice);
    if (found)
        found->has_ended = true;
}

static bool show(const bora_choices *choices, bora_choice *choice, const bora_print *print)
{
    bool is_first = choice == choices->choices, has_news = choice->text.size > choice->n_shown;
    if (!has_news && !choice->has_ended)
        return false;
    if (!choice->has_heading)
        (void)printf("%s[answer %" PRIu32 " of %" PRIu32 "]\n", is_first ? "" : "\n",
                     (uint32_t)(choice - choices->choices) + 1, choices->n_asked);
    choice->has_heading = true;
    if (has_news)
        bora_print_text(print, choice->text.data + choice->n_shown, choice->text.size - choice->n_shown);
    choice->n_shown = choice->text.size;
    size_t size = choice->text.size;
    if (choice->has_ended && (size == 0 || choice->text.data[size - 1] != '\n'))
        (void)fputc('\n', stdout);
    return true;
}

bool bora_choices_show(bora_choices *choices, const bora_print *print)
{
    bool has_shown = false;
    while (choices->current < choices->n) {
        bora_choice *choice = &choices->choices[choices->current];
        has_shown = show(choices, choice, print) || has_shown;
        if (!choice->has_ended)
            break;
        choices->current++;
    }
    return has_shown;
}

bool bora_choices_show_rest(bora_choices *choices, const bora_print *print)
{
    for (uint32_t i = choices->current; i < choices->n; i++)
        choices->choices[i].has_ended = true;
    return bora_choices_show(choices, print);
}
