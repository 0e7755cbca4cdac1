/* Sums, fairness, and the time in which all owners had something open. */
#include "bench/load/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000)

static bora_load_stats *stats; /* [3] */

static int set_up(void **state)
{
    (void)state;
    stats = calloc(3, sizeof *stats);
    return stats ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(stats);
    return 0;
}

static void test_jain(void **state)
{
    (void)state;
    assert_true(bora_load_jain((const double[]){5, 5, 5, 5}, 4) == 1);
    assert_true(bora_load_jain((const double[]){9, 0, 0, 0}, 4) == 0.25);
    assert_true(fabs(bora_load_jain((const double[]){1, 2, 3}, 3) - 36.0 / 42) < 1e-12);
    assert_true(bora_load_jain((const double[]){0, 0}, 2) == 1);
}

static void test_open_time_is_split_over_slots(void **state)
{
    (void)state;
    bora_load_stats_open(stats, SECOND, SECOND / 2, 3 * SECOND + 7);
    assert_int_equal(stats->open_us_at[0], SECOND / 2);
    assert_int_equal(stats->open_us_at[1], SECOND);
    assert_int_equal(stats->open_us_at[2], SECOND);
    assert_int_equal(stats->open_us_at[3], 7);
    assert_int_equal(stats->open_us_at[4], 0);
    bora_load_stats_open(stats, SECOND, (BORA_LOAD_SLOTS - 1) * SECOND, (BORA_LOAD_SLOTS + 9) * SECOND);
    assert_int_equal(stats->open_us_at[BORA_LOAD_SLOTS - 1], SECOND);
    bora_load_stats_token(stats, SECOND, 2 * SECOND + 1);
    bora_load_stats_token(stats, SECOND, BORA_LOAD_SLOTS * SECOND); /* too late for a slot, but counted */
    assert_int_equal(stats->tokens_at[2], 1);
    assert_int_equal(stats->n_tokens, 2);
}

/* Tokens count only where every owner had something to wait for. */
static void test_together(void **state)
{
    (void)state;
    double tokens[BORA_LOAD_OWNERS_MAX];
    bora_load_stats_open(&stats[0], SECOND, 0, 4 * SECOND);
    bora_load_stats_open(&stats[1], SECOND, SECOND, 3 * SECOND - 1); /* not all of the last */
    for (uint64_t i = 0; i < 4; i++) {
        bora_load_stats_token(&stats[0], SECOND, i * SECOND);
        bora_load_stats_token(&stats[1], SECOND, SECOND);
    }
    assert_int_equal(bora_load_tokens_together(stats, 2, SECOND, tokens), 1);
    assert_true(tokens[0] == 1 && tokens[1] == 4);
}

static void test_slots_cover_the_run(void **state)
{
    (void)state;
    bora_load_options options = {.seconds = 600};
    assert_int_equal(bora_load_slot_us(&options), SECOND);
    options.seconds = BORA_LOAD_SECONDS_MAX;
    assert_true(bora_load_slot_us(&options) * BORA_LOAD_SLOTS > options.seconds * SECOND);
}

static void test_errors_and_failures(void **state)
{
    (void)state;
    char code[32];
    for (int i = 0; i < 40; i++) {
        (void)snprintf(code, sizeof code, "code-%d", i % 20);
        bora_load_stats_error(&stats[0], code);
        bora_load_stats_tell(&stats[0], "failure %d", i);
    }
    bora_load_stats_error(&stats[1], "code-3");
    bora_load_stats_tell(&stats[1], "before");
    stats[1].n_leaks = 2;
    stats[0].n_leaks = 3;
    bora_load_stats_merge(&stats[1], &stats[0]);
    assert_int_equal(stats[1].n_errors, 41);
    assert_int_equal(stats[1].n_leaks, 5);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < BORA_LOAD_ERRORS_MAX; i++) {
        sum += stats[1].errors[i].n;
        if (strcmp(stats[1].errors[i].code, "code-3") == 0)
            assert_int_equal(stats[1].errors[i].n, 3);
    }
    assert_int_equal(sum, 41); /* codes for which there was no room are among the last */
    assert_string_equal(stats[1].errors[BORA_LOAD_ERRORS_MAX - 1].code, "others");
    assert_int_equal(stats[1].n_failures, BORA_LOAD_FAILURES_MAX);
    assert_string_equal(stats[1].failures[0], "before");
    assert_string_equal(stats[1].failures[1], "failure 0");
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(test_jain),
        RUN(test_open_time_is_split_over_slots),
        RUN(test_together),
        RUN(test_slots_cover_the_run),
        RUN(test_errors_and_failures),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
