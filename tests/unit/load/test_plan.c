/* Plans are functions of their key, and come in the shares that were asked for. */
#include "bench/load/plan.h"

#include "bench/load/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_CLIENTS  64u
#define N_REQUESTS 500u
#define N          (N_CLIENTS * N_REQUESTS)

static bora_load_options options = {
    .n_owners = 4,
    .n_clients = N_CLIENTS,
    .think_min = 10,
    .think_max = 20,
    .n_lengths = 3,
    .lengths = {{12, 70}, {60, 0}, {300, 30}},
    .max_tokens_min = 8,
    .max_tokens_max = 32,
    .sessions = 0.5,
    .churn = {0.05, 0.1, 0.2, 0.01},
    .background = 0.25,
    .seed = 5,
};

static void expect_share(const char *what, size_t n, double share)
{
    double got = (double)n / N,
           tolerance = 5 * sqrt(share * (1 - share) / N) + 1e-12; /* five sigmas, of a fixed seed */
    if (fabs(got - share) > tolerance)
        fail_msg("%s: %.4f instead of %.4f", what, got, share);
}

static void test_shares(void **state)
{
    (void)state;
    size_t churn[BORA_LOAD_CHURN_NONE + 1] = {0}, n_sessions = 0, n_background = 0, n_lengths[4] = {0}, n_looks = 0;
    uint32_t tokens[2] = {UINT32_MAX, 0}, think[2] = {UINT32_MAX, 0};
    double sum = 0;
    for (uint32_t client = 0; client < N_CLIENTS; client++)
        for (uint32_t request = 0; request < N_REQUESTS; request++) {
            bora_load_plan plan;
            bora_load_plan_make(&options, client, request, &plan);
            churn[plan.churn]++;
            n_sessions += plan.in_session;
            n_background += plan.is_background;
            n_looks += plan.looks_around;
            n_lengths[plan.prompt / BORA_LOAD_VARIANTS]++; /* the common one is past the last length */
            assert_true(plan.prompt < bora_load_n_prompts(&options));
            assert_true(plan.script < BORA_LOAD_SCRIPTS);
            assert_true(plan.n_before < plan.max_tokens);
            tokens[0] = plan.max_tokens < tokens[0] ? plan.max_tokens : tokens[0];
            tokens[1] = plan.max_tokens > tokens[1] ? plan.max_tokens : tokens[1];
            think[0] = plan.think_ms < think[0] ? plan.think_ms : think[0];
            think[1] = plan.think_ms > think[1] ? plan.think_ms : think[1];
            sum += plan.max_tokens;
        }
    for (int kind = 0; kind < BORA_LOAD_CHURN_NONE; kind++)
        expect_share("churn", churn[kind], options.churn[kind]);
    expect_share("sessions", n_sessions, 0.5);
    expect_share("background", n_background, 0.25);
    expect_share("looks", n_looks, 0.1);
    expect_share("short", n_lengths[0], 0.7 * 15 / 16);
    assert_int_equal(n_lengths[1], 0);
    expect_share("long", n_lengths[2], 0.3 * 15 / 16);
    expect_share("common", n_lengths[3], 1.0 / 16);
    assert_int_equal(tokens[0], 8);
    assert_int_equal(tokens[1], 32);
    assert_true(fabs(sum / N - 20) < 0.3);
    assert_int_equal(think[0], 10);
    assert_int_equal(think[1], 20);
}

static void test_repeatable(void **state)
{
    (void)state;
    bora_load_plan a, b;
    bora_load_options other = options;
    other.seed = 6;
    size_t n_same = 0;
    for (uint32_t i = 0; i < 200; i++) {
        memset(&a, 1, sizeof a); /* nothing of what was there before may be left */
        memset(&b, 2, sizeof b);
        bora_load_plan_make(&options, 3, i, &a);
        bora_load_plan_make(&options, 3, i, &b);
        assert_int_equal(a.think_ms, b.think_ms);
        assert_int_equal(a.churn, b.churn);
        assert_int_equal(a.prompt, b.prompt);
        assert_int_equal(a.max_tokens, b.max_tokens);
        assert_int_equal(a.pause_ms, b.pause_ms);
        bora_load_plan_make(&other, 3, i, &b);
        n_same += a.think_ms == b.think_ms && a.max_tokens == b.max_tokens && a.prompt == b.prompt;
    }
    assert_true(n_same < 20);
}

static size_t count_words(const char *text)
{
    size_t n = 1;
    for (; *text; text++)
        n += *text == ' ';
    return n;
}

/* The words are all that was asked for, the secret is in, and the common prompt begins alike for all. */
static void test_texts(void **state)
{
    (void)state;
    bora_load_canary canary;
    bora_load_canary_init(&canary, options.seed, 4, BORA_LOAD_NOBODY);
    for (uint32_t prompt = 0; prompt < bora_load_n_prompts(&options); prompt++) {
        char *texts[2];
        for (uint32_t owner = 0; owner < 2; owner++) {
            texts[owner] = bora_load_prompt_text(&options, &canary.secrets[owner], owner, prompt);
            assert_non_null(texts[owner]);
            assert_non_null(strstr(texts[owner], canary.secrets[owner].groups[0]));
            assert_non_null(strstr(texts[owner], canary.secrets[owner].groups[1]));
            assert_int_equal(bora_load_canary_in_text(&canary, texts[owner], strlen(texts[owner])), owner);
        }
        size_t n_alike = 0;
        while (texts[0][n_alike] == texts[1][n_alike])
            n_alike++;
        if (prompt == bora_load_common_prompt(&options)) {
            assert_true(n_alike > 800); /* characters: far more than 64 tokens */
        } else {
            assert_true(n_alike < 100);
            assert_true(count_words(texts[0]) >= options.lengths[prompt / BORA_LOAD_VARIANTS].n_words);
        }
        free(texts[0]);
        free(texts[1]);
    }
    for (uint32_t script = 0; script < BORA_LOAD_SCRIPTS; script++)
        for (uint32_t turn = 0; turn < BORA_LOAD_TURNS; turn++) {
            char *text = bora_load_turn_text(&options, &canary.secrets[1], 1, script, turn);
            assert_non_null(text);
            assert_int_equal(strstr(text, canary.secrets[1].groups[0]) != NULL, turn == 0);
            free(text);
            uint32_t n = bora_load_turn_tokens(&options, script, turn);
            assert_true(n >= 8 && n <= 32);
        }
}

/* Numbers for different purposes, and of neighbouring keys, have nothing to do with each other. */
static void test_random(void **state)
{
    (void)state;
    const bora_load_key key = {1, 2, 3}, next = {1, 2, 4}, swapped = {2, 1, 3};
    uint64_t numbers[] = {bora_load_random(&key, 1), bora_load_random(&key, 2), bora_load_random(&next, 1),
                          bora_load_random(&swapped, 1)};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < i; k++) {
            int n_bits = __builtin_popcountll(numbers[i] ^ numbers[k]);
            assert_true(n_bits > 12 && n_bits < 52);
        }
    size_t counts[10] = {0};
    for (uint64_t i = 0; i < 10000; i++) {
        const bora_load_key at = {7, i, 0};
        uint32_t below = bora_load_random_below(&at, 1, 10), between = bora_load_random_between(&at, 2, 5, 5);
        double share = bora_load_random_share(&at, 3);
        assert_true(below < 10 && between == 5 && share >= 0 && share < 1);
        counts[below]++;
    }
    for (size_t i = 0; i < 10; i++)
        assert_true(counts[i] > 850 && counts[i] < 1150);
    (void)bora_load_random_between(&key, 1, 0, UINT32_MAX); /* the whole range does not overflow */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_repeatable),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
