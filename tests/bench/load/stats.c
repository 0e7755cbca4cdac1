#include "stats.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECOND_US UINT64_C(1000000)

uint64_t bora_load_slot_us(const bora_load_options *options)
{
    uint64_t us = options->n_requests > 0 ? 0 : options->seconds * SECOND_US / (BORA_LOAD_SLOTS - 64);
    return us > SECOND_US ? us : SECOND_US;
}

void bora_load_stats_open(bora_load_stats *stats, uint64_t slot_us, uint64_t start_us, uint64_t end_us)
{
    while (start_us < end_us && start_us / slot_us < BORA_LOAD_SLOTS) {
        uint64_t next = (start_us / slot_us + 1) * slot_us, stop = next < end_us ? next : end_us;
        stats->open_us_at[start_us / slot_us] += stop - start_us;
        start_us = stop;
    }
}

void bora_load_stats_token(bora_load_stats *stats, uint64_t slot_us, uint64_t at_us)
{
    stats->n_tokens++;
    if (at_us / slot_us < BORA_LOAD_SLOTS)
        stats->tokens_at[at_us / slot_us]++;
}

static void count_errors(bora_load_stats *stats, const char *code, uint64_t n)
{
    uint32_t i = 0;
    while (i < BORA_LOAD_ERRORS_MAX - 1 && stats->errors[i].n > 0 && strcmp(stats->errors[i].code, code) != 0)
        i++;
    bool is_rest = i == BORA_LOAD_ERRORS_MAX - 1;
    (void)snprintf(stats->errors[i].code, sizeof stats->errors[i].code, "%s", is_rest ? "others" : code);
    stats->errors[i].n += n;
}

void bora_load_stats_error(bora_load_stats *stats, const char *code)
{
    stats->n_errors++;
    count_errors(stats, code, 1);
}

void bora_load_stats_tell(bora_load_stats *stats, const char *format, ...)
{
    if (stats->n_failures == BORA_LOAD_FAILURES_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(stats->failures[stats->n_failures++], BORA_LOAD_FAILURE_SIZE, format, arguments);
    va_end(arguments);
}

void bora_load_stats_merge(bora_load_stats *stats, const bora_load_stats *other)
{
    stats->n_requests += other->n_requests;
    stats->n_done += other->n_done;
    stats->n_tokens += other->n_tokens;
    stats->n_turns += other->n_turns;
    stats->n_cancelled += other->n_cancelled;
    stats->n_vanished += other->n_vanished;
    stats->n_unread += other->n_unread;
    stats->n_late += other->n_late;
    stats->n_slow += other->n_slow;
    stats->n_reconnects += other->n_reconnects;
    stats->n_looks += other->n_looks;
    stats->n_compared += other->n_compared;
    stats->n_different += other->n_different;
    stats->n_searched += other->n_searched;
    stats->n_own_secrets += other->n_own_secrets;
    stats->n_leaks += other->n_leaks;
    stats->n_reused += other->n_reused;
    stats->n_errors += other->n_errors;
    for (uint32_t i = 0; i < BORA_LOAD_ERRORS_MAX && other->errors[i].n > 0; i++)
        count_errors(stats, other->errors[i].code, other->errors[i].n);
    bora_load_histogram_merge(&stats->first, &other->first);
    bora_load_histogram_merge(&stats->background_first, &other->background_first);
    bora_load_histogram_merge(&stats->gap, &other->gap);
    bora_load_histogram_merge(&stats->total, &other->total);
    bora_load_histogram_merge(&stats->connect, &other->connect);
    for (uint32_t i = 0; i < BORA_LOAD_SLOTS; i++) {
        stats->tokens_at[i] += other->tokens_at[i];
        stats->open_us_at[i] += other->open_us_at[i];
    }
    for (uint32_t i = 0; i < other->n_failures; i++)
        bora_load_stats_tell(stats, "%s", other->failures[i]);
}

double bora_load_jain(const double *shares, uint32_t n)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += shares[i];
        squares += shares[i] * shares[i];
    }
    return squares > 0 ? sum * sum / (n * squares) : 1;
}

uint32_t bora_load_tokens_together(const bora_load_stats *owners, uint32_t n_owners, uint64_t slot_us,
                                   double ret_tokens[BORA_LOAD_OWNERS_MAX])
{
    uint32_t n_slots = 0;
    for (uint32_t i = 0; i < n_owners; i++)
        ret_tokens[i] = 0;
    for (uint32_t slot = 0; slot < BORA_LOAD_SLOTS; slot++) {
        bool all = true;
        for (uint32_t i = 0; i < n_owners; i++)
            all = all && owners[i].open_us_at[slot] >= slot_us;
        n_slots += all;
        for (uint32_t i = 0; all && i < n_owners; i++)
            ret_tokens[i] += owners[i].tokens_at[slot];
    }
    return n_slots;
}
