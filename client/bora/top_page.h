/* The page of bora top: the daemon's status as lines. */
#ifndef BORA_BORA_TOP_PAGE_H
#define BORA_BORA_TOP_PAGE_H

#include "print.h"

/* What the page before this one was made of, for what happened since. All zero: there was none. */
typedef struct bora_top_past {
    uint64_t pid, uptime_ms;
    double busy_ms;
} bora_top_past;

/* status: the daemon's answer. Writes plain lines without anything that steers a terminal. false: no memory. */
bool bora_top_page(FILE *file, const bora_client_value *status, bora_top_past *past);

#endif
