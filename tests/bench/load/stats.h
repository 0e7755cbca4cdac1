/* What was counted: per client thread, added up per owner and over all. Plain data without pointers, so that a process
 * can leave it in shared memory. */
#ifndef BORA_LOAD_STATS_H
#define BORA_LOAD_STATS_H

#include "histogram.h"
#include "options.h"

#define BORA_LOAD_ERRORS_MAX   16u
#define BORA_LOAD_FAILURES_MAX 12u
#define BORA_LOAD_FAILURE_SIZE 240u
#define BORA_LOAD_SLOTS        4096u /* of time, see bora_load_slot_us */

typedef struct bora_load_error_count {
    char code[32];
    uint64_t n;
} bora_load_error_count;

typedef struct bora_load_stats {
    uint64_t n_requests;    /* generations begun */
    uint64_t n_done;        /* of them, those answered whole */
    uint64_t n_tokens;      /* received */
    uint64_t n_turns;       /* of the done, those in sessions */
    uint64_t n_cancelled;   /* asked-for ends, from here to n_late */
    uint64_t n_vanished;    /* */
    uint64_t n_unread;      /* cancelled by the daemon because a slow client did not read */
    uint64_t n_late;        /* past their deadline */
    uint64_t n_slow;        /* slow clients, unread or read on in time */
    uint64_t n_reconnects;  /* */
    uint64_t n_looks;       /* lists and numbers that were asked for */
    uint64_t n_compared;    /* answers compared with what they were alone */
    uint64_t n_different;   /* */
    uint64_t n_searched;    /* replies searched for others' secrets */
    uint64_t n_own_secrets; /* answers that spoke the owner's own secret */
    uint64_t n_leaks;       /* replies with another's secret, first requests with others' tokens */
    uint64_t n_reused;      /* prompt tokens that were not run again, as done says */
    uint64_t n_errors;      /* that were not asked for: by code below */
    bora_load_error_count errors[BORA_LOAD_ERRORS_MAX];
    bora_load_histogram first, background_first, gap, total, connect; /* microseconds */
    uint32_t tokens_at[BORA_LOAD_SLOTS];                              /* received in each slot of time */
    uint64_t open_us_at[BORA_LOAD_SLOTS]; /* time with a request open, summed over clients */
    uint32_t n_failures;                  /* told: errors, differences, leaks; the first few */
    char failures[BORA_LOAD_FAILURES_MAX][BORA_LOAD_FAILURE_SIZE];
} bora_load_stats;

/* What one watcher saw of the daemon while the others were busy. */
typedef struct bora_load_watch {
    uint64_t n_asked, n_errors, n_leaks;
    bora_load_histogram latency; /* of status, microseconds */
    bora_load_histogram late;    /* how late the machine woke the watcher itself: what of latency is not the daemon's */
    uint64_t pid;                /* of the daemon; 0: it never answered */
    bool has_memory;             /* what follows could be read, of a process of this machine */
    uint64_t n_samples;
    uint64_t rss_first, rss_last, rss_max;         /* bytes */
    uint64_t rss_second_quarter, rss_last_quarter; /* the highest in each part of the time */
    uint64_t n_threads_max, n_fds_max;
    char failure[BORA_LOAD_FAILURE_SIZE]; /* the first; "" if none */
} bora_load_watch;

/* Width of a slot: a second, or more if the run is longer than there are slots. */
uint64_t bora_load_slot_us(const bora_load_options *options);
/* Counts an open request from start to end, microseconds since the load began. */
void bora_load_stats_open(bora_load_stats *stats, uint64_t slot_us, uint64_t start_us, uint64_t end_us);
void bora_load_stats_token(bora_load_stats *stats, uint64_t slot_us, uint64_t at_us);
/* An error that was not asked for. */
void bora_load_stats_error(bora_load_stats *stats, const char *code);
__attribute__((format(printf, 2, 3))) void bora_load_stats_tell(bora_load_stats *stats, const char *format, ...);
void bora_load_stats_merge(bora_load_stats *stats, const bora_load_stats *other);

/* Jain's index of n shares: 1 if all are equal, 1/n if one has everything; 1 of nothing. (Jain, Chiu, Hawe: A
 * quantitative measure of fairness and discrimination, 1984.) */
double bora_load_jain(const double *shares, uint32_t n);
/* Tokens of each owner in the slots in which all owners had, on average, at least one request open. The number of such
 * slots. */
uint32_t bora_load_tokens_together(const bora_load_stats *owners, uint32_t n_owners, uint64_t slot_us,
                                   double ret_tokens[BORA_LOAD_OWNERS_MAX]);

#endif
