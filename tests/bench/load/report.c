#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (1024.0 * 1024.0)

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};

#define N_PERCENTILES (sizeof percentiles / sizeof percentiles[0])

typedef struct fairness {
    double by_tokens, by_rate; /* Jain's index over owners; by_rate: while all were active */
    double seconds_together;
    double rates[BORA_LOAD_OWNERS_MAX]; /* tokens/s of each then */
} fairness;

static fairness fairness_of(const bora_load_options *options, const bora_load_results *results)
{
    fairness f = {0};
    double tokens[BORA_LOAD_OWNERS_MAX];
    const uint32_t n = options->n_owners;
    uint64_t slot_us = bora_load_slot_us(options);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (double)results->owners[i].n_tokens;
    f.by_tokens = bora_load_jain(tokens, n);
    f.seconds_together = bora_load_tokens_together(results->owners, n, slot_us, f.rates) * ((double)slot_us / 1e6);
    f.by_rate = bora_load_jain(f.rates, n);
    for (uint32_t i = 0; i < n; i++)
        f.rates[i] = f.seconds_together > 0 ? f.rates[i] / f.seconds_together : 0;
    return f;
}

static double per_second(double n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

/* NULL: no memory. free(). */
static bora_load_stats *sum_of(const bora_load_options *options, const bora_load_results *results)
{
    bora_load_stats *sum = calloc(1, sizeof *sum);
    for (uint32_t i = 0; sum && i < options->n_owners; i++)
        bora_load_stats_merge(sum, &results->owners[i]);
    return sum;
}

uint64_t bora_load_n_failures(const bora_load_options *options, const bora_load_results *results)
{
    uint64_t n = results->watch.n_errors + results->watch.n_leaks;
    for (uint32_t i = 0; i < options->n_owners; i++)
        n += results->owners[i].n_errors + results->owners[i].n_different + results->owners[i].n_leaks;
    return n;
}

/* ---- for people ------------------------------------------------------------------------------------------------- */

static void print_times(const char *name, const bora_load_histogram *h)
{
    printf("  %-22s", name);
    for (size_t i = 0; i < N_PERCENTILES; i++)
        printf(" %10.2f", (double)bora_load_histogram_at(h, percentiles[i].share) / 1000);
    printf("  of %" PRIu64 "\n", h->n);
}

static void print_stats(const char *name, const bora_load_stats *s, double seconds)
{
    printf("\n%s: %" PRIu64 " requests, %" PRIu64 " answered, %" PRIu64 " of them turns; %" PRIu64
           " tokens, %.1f tokens/s\n",
           name, s->n_requests, s->n_done, s->n_turns, s->n_tokens, per_second((double)s->n_tokens, seconds));
    printf("  asked for: %" PRIu64 " cancelled, %" PRIu64 " vanished, %" PRIu64 " late, %" PRIu64
           " slow readers (given up on: %" PRIu64 "), %" PRIu64 " reconnects\n",
           s->n_cancelled, s->n_vanished, s->n_late, s->n_slow, s->n_unread, s->n_reconnects);
    printf("  errors: %" PRIu64, s->n_errors);
    for (uint32_t i = 0; i < BORA_LOAD_ERRORS_MAX && s->errors[i].n > 0; i++)
        printf("%s %s %" PRIu64, i ? "," : ";", s->errors[i].code, s->errors[i].n);
    printf("\n  %-22s", "ms");
    for (size_t i = 0; i < N_PERCENTILES; i++)
        printf(" %10s", percentiles[i].name);
    printf("\n");
    print_times("to the first token", &s->first);
    if (s->background_first.n > 0)
        print_times("  in the background", &s->background_first);
    print_times("between tokens", &s->gap);
    print_times("whole answers", &s->total);
    print_times("connecting", &s->connect);
}

static void print_checks(const bora_load_options *options, const bora_load_stats *s)
{
    if (options->check_solo)
        printf("alone and together: %" PRIu64 " answers compared, %" PRIu64 " different\n", s->n_compared,
               s->n_different);
    if (options->canary)
        printf("secrets: %" PRIu64 " replies searched, %" PRIu64 " with another's; %" PRIu64
               " answers spoke their owner's own\n",
               s->n_searched, s->n_leaks, s->n_own_secrets);
    printf("reused: %" PRIu64 " prompt tokens\n", s->n_reused);
}

static void print_watch(const bora_load_watch *w)
{
    printf("\nstatus, asked %" PRIu64 " times, %" PRIu64 " errors\n", w->n_asked, w->n_errors);
    print_times("answered in, ms", &w->latency);
    print_times("beside: woken late, ms", &w->late);
    if (w->has_memory)
        printf("daemon: resident %.1f MiB at first, %.1f in the second quarter, %.1f in the last, %.1f at most; "
               "%" PRIu64 " threads, %" PRIu64 " descriptors at most\n",
               (double)w->rss_first / MIB, (double)w->rss_second_quarter / MIB, (double)w->rss_last_quarter / MIB,
               (double)w->rss_max / MIB, w->n_threads_max, w->n_fds_max);
}

void bora_load_report_print(const bora_load_options *options, const bora_load_results *results)
{
    bora_load_stats *sum = sum_of(options, results);
    if (!sum)
        return;
    char name[64];
    printf("%u clients of %u owner%s%s, seed %" PRIu64 ", %.1f s (and %.1f s alone before)\n", options->n_clients,
           options->n_owners, options->n_owners == 1 ? "" : "s", results->several_uids ? " with uids of their own" : "",
           options->seed, results->seconds, results->alone_seconds);
    for (uint32_t i = 0; options->n_owners > 1 && i < options->n_owners; i++) {
        (void)snprintf(name, sizeof name, "owner %u (%u clients)", i, options->n_clients_of[i]);
        print_stats(name, &results->owners[i], results->seconds);
    }
    print_stats("all", sum, results->seconds);
    fairness f = fairness_of(options, results);
    printf("\nfairness (Jain's index over owners): %.4f of tokens, %.4f of tokens/s in the %.0f s in which all had "
           "requests "
           "open\n",
           f.by_tokens, f.by_rate, f.seconds_together);
    print_checks(options, sum);
    print_watch(&results->watch);
    for (uint32_t i = 0; i < sum->n_failures; i++)
        printf("FAILURE: %s\n", sum->failures[i]);
    if (*results->watch.failure)
        printf("FAILURE: %s\n", results->watch.failure);
    free(sum);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Milliseconds. A value that cannot be made is missed by json_dumpf's caller as an object that is NULL. */
static json_t *times_of(const bora_load_histogram *h)
{
    json_t *times = json_pack("{s:o, s:f}", "n", integer(h->n), "mean", bora_load_histogram_mean(h) / 1000);
    for (size_t i = 0; times && i < N_PERCENTILES; i++)
        if (json_object_set_new(times, percentiles[i].name,
                                json_real((double)bora_load_histogram_at(h, percentiles[i].share) / 1000)) != 0) {
            json_decref(times);
            return NULL;
        }
    return times;
}

static json_t *errors_of(const bora_load_stats *s)
{
    json_t *errors = json_object();
    for (uint32_t i = 0; errors && i < BORA_LOAD_ERRORS_MAX && s->errors[i].n > 0; i++)
        if (json_object_set_new(errors, s->errors[i].code, integer(s->errors[i].n)) != 0) {
            json_decref(errors);
            return NULL;
        }
    return errors;
}

static json_t *json_of(const bora_load_stats *s, double seconds)
{
    json_t *asked_for = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "cancelled", integer(s->n_cancelled), "vanished",
                                  integer(s->n_vanished), "late", integer(s->n_late), "slow", integer(s->n_slow),
                                  "unread", integer(s->n_unread), "reconnects", integer(s->n_reconnects));
    json_t *checks =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "n_compared", integer(s->n_compared), "n_different",
                  integer(s->n_different), "n_searched", integer(s->n_searched), "n_leaks", integer(s->n_leaks),
                  "n_own_secrets", integer(s->n_own_secrets), "n_reused", integer(s->n_reused));
    json_t *times = json_pack("{s:o, s:o, s:o, s:o, s:o}", "first_token", times_of(&s->first), "background_first_token",
                              times_of(&s->background_first), "between_tokens", times_of(&s->gap), "total",
                              times_of(&s->total), "connect", times_of(&s->connect));
    return json_pack("{s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o}", "n_requests", integer(s->n_requests),
                     "n_done", integer(s->n_done), "n_turns", integer(s->n_turns), "n_tokens", integer(s->n_tokens),
                     "tokens_per_second", per_second((double)s->n_tokens, seconds), "n_errors", integer(s->n_errors),
                     "errors", errors_of(s), "asked_for", asked_for, "checks", checks, "ms", times);
}

static json_t *json_of_watch(const bora_load_watch *w)
{
    json_t *memory = w->has_memory
                         ? json_pack("{s:o, s:o, s:o, s:o, s:o}", "first", integer(w->rss_first), "second_quarter",
                                     integer(w->rss_second_quarter), "last_quarter", integer(w->rss_last_quarter),
                                     "last", integer(w->rss_last), "max", integer(w->rss_max))
                         : json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "late_ms", times_of(&w->late), "n_asked",
                     integer(w->n_asked), "n_errors", integer(w->n_errors), "n_leaks", integer(w->n_leaks), "ms",
                     times_of(&w->latency), "resident_bytes", memory, "n_threads_max", integer(w->n_threads_max),
                     "n_descriptors_max", integer(w->n_fds_max));
}

static json_t *json_of_fairness(const bora_load_options *options, const bora_load_results *results)
{
    fairness f = fairness_of(options, results);
    json_t *rates = json_array();
    for (uint32_t i = 0; rates && i < options->n_owners; i++)
        (void)json_array_append_new(rates, json_real(f.rates[i])); /* a short list is seen as such */
    return json_pack("{s:f, s:f, s:f, s:o}", "tokens", f.by_tokens, "rate", f.by_rate, "seconds_together",
                     f.seconds_together, "tokens_per_second", rates);
}

bool bora_load_report_json(const bora_load_options *options, const bora_load_results *results)
{
    bora_load_stats *sum = sum_of(options, results);
    json_t *owners = json_array(), *failures = json_array();
    for (uint32_t i = 0; owners && i < options->n_owners; i++)
        (void)json_array_append_new(owners, json_of(&results->owners[i], results->seconds));
    for (uint32_t i = 0; sum && failures && i < sum->n_failures; i++)
        (void)json_array_append_new(failures, json_string(sum->failures[i]));
    if (failures && *results->watch.failure)
        (void)json_array_append_new(failures, json_string(results->watch.failure));
    json_t *root =
        json_pack("{s:o, s:o, s:o, s:b, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o}", "seed", integer(options->seed),
                  "n_clients", integer(options->n_clients), "n_owners", integer(options->n_owners), "several_uids",
                  results->several_uids, "alone_seconds", results->alone_seconds, "seconds", results->seconds, "all",
                  sum ? json_of(sum, results->seconds) : NULL, "owners", owners, "fairness",
                  json_of_fairness(options, results), "status", json_of_watch(&results->watch), "n_failures",
                  integer(bora_load_n_failures(options, results)), "failures", failures);
    FILE *out = options->json_path ? fopen(options->json_path, "we") : stdout;
    bool written = root && out && json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    written = written && fputc('\n', out) != EOF;
    if (out && out != stdout)
        written = fclose(out) == 0 && written;
    json_decref(root);
    free(sum);
    return written;
}
