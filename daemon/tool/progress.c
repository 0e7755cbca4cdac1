#include "tool/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 0.1 /* seconds between two lines */

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* the clock exists on Linux */
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void bora_progress_begin(bora_progress *progress, uint64_t total, double scale, const char *unit)
{
    *progress =
        (bora_progress){.shown = isatty(STDERR_FILENO), .start = now(), .total = total, .scale = scale, .unit = unit};
}

void bora_progress_show(bora_progress *progress, uint64_t done, const char *note)
{
    double time = now();
    if (!progress->shown || time - progress->at < INTERVAL)
        return;
    progress->at = time;
    double seconds = time - progress->start, rate = seconds > 0 ? (double)done / seconds : 0;
    char left[32] = "";
    if (rate > 0 && done <= progress->total) {
        unsigned long rest = (unsigned long)((double)(progress->total - done) / rate + 0.5);
        if (rest >= 3600)
            (void)snprintf(left, sizeof left, ", %lu:%02lu:%02lu left", rest / 3600, rest / 60 % 60, rest % 60);
        else
            (void)snprintf(left, sizeof left, ", %lu:%02lu left", rest / 60, rest % 60);
    }
    double share = progress->total ? 100.0 * (double)done / (double)progress->total : 100.0;
    fprintf(stderr, "\r%3.0f%%  %.0f of %.0f %s, %.0f %s/s%s%s%s\033[K", share, (double)done / progress->scale,
            (double)progress->total / progress->scale, progress->unit, rate / progress->scale, progress->unit, left,
            note ? "  " : "", note ? note : "");
    (void)fflush(stderr); /* a line that is not seen is no loss */
}

void bora_progress_end(bora_progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r\033[K");
    progress->shown = false;
}

double bora_progress_seconds(const bora_progress *progress)
{
    return now() - progress->start;
}
