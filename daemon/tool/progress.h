/* A progress line on standard error, when that is a terminal: share done, rate, time left. */
#ifndef BORA_TOOL_PROGRESS_H
#define BORA_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Caller-owned. */
typedef struct bora_progress {
    bool shown;       /* standard error is a terminal */
    double start, at; /* seconds: of the work; of the last line */
    uint64_t total;   /* units of work in all */
    double scale;     /* units that make one of what is shown */
    const char *unit; /* of what is shown: "MiB", "tokens" */
} bora_progress;

void bora_progress_begin(bora_progress *progress, uint64_t total, double scale, const char *unit);
/* done: units so far. note: a few words more, may be NULL. At most ten lines a second are drawn. */
void bora_progress_show(bora_progress *progress, uint64_t done, const char *note);
/* Takes the line away. */
void bora_progress_end(bora_progress *progress);
/* Seconds since begin. */
double bora_progress_seconds(const bora_progress *progress);

#endif
