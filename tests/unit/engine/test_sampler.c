/* The sampler: the reference's top-p vectors, greedy, cuts, penalty, bias, and what must not depend on anything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "engine/sampler.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static float *read_floats(const char *file, size_t *ret_n)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/tests/golden/ops/%s", BORA_SOURCE_DIR, file);
    char *bytes = NULL;
    size_t size = 0;
    bora_error err;
    assert_int_equal(bora_file_read(path, 1 << 20, &bytes, &size, &err), BORA_OK);
    *ret_n = size / sizeof(float);
    return (float *)(void *)bytes;
}

static void test_golden_top_p(void **state)
{
    (void)state;
    json_t *golden = json_load_file(BORA_SOURCE_DIR "/tests/golden/ops/golden.json", 0, NULL);
    assert_non_null(golden);
    size_t i, n_runs = 0;
    json_t *run;
    json_array_foreach(json_object_get(golden, "runs"), i, run)
    {
        if (strcmp(json_string_value(json_object_get(run, "kind")), "top_p") != 0)
            continue;
        json_t *tensors = json_object_get(run, "tensors");
        json_t *logits_of = json_object_get(tensors, "logits"), *probs_of = json_object_get(tensors, "probs");
        size_t n, n_probs;
        float *logits = read_floats(json_string_value(json_object_get(logits_of, "file")), &n);
        float *expected = read_floats(json_string_value(json_object_get(probs_of, "file")), &n_probs);
        assert_int_equal(n, n_probs);
        size_t vocab_size = (size_t)json_integer_value(json_array_get(json_object_get(logits_of, "shape"), 1));
        bora_sampling sampling = BORA_SAMPLING_DEFAULT;
        sampling.temperature = (float)json_number_value(json_object_get(run, "temperature"));
        sampling.top_p = (float)json_number_value(json_object_get(run, "top_p"));
        assert_true(sampling.temperature > 0.0f);
        bora_sampler *sampler = NULL;
        assert_int_equal(bora_sampler_new(vocab_size, &sampler, NULL), BORA_OK);
        float *probs = bora_calloc(vocab_size, sizeof *probs);
        for (size_t row = 0; row < n / vocab_size; row++) {
            bora_sampler_distribution(sampler, &sampling, logits + row * vocab_size, NULL, NULL, 0, probs);
            for (size_t t = 0; t < vocab_size; t++) {
                float want = expected[row * vocab_size + t];
                if (fabsf(probs[t] - want) > 2e-6f + 2e-5f * want)
                    fail_msg("row %zu token %zu: %g, not %g", row, t, (double)probs[t], (double)want);
            }
        }
        bora_free(probs);
        bora_sampler_free(sampler);
        bora_free(logits);
        bora_free(expected);
        n_runs++;
    }
    json_decref(golden);
    assert_int_equal(n_runs, 5);
}

static int32_t choose(const bora_sampling *sampling, const float *logits, size_t n, const int32_t *history,
                      size_t n_history, uint64_t position)
{
    bora_sampler *sampler = NULL;
    assert_int_equal(bora_sampler_new(n, &sampler, NULL), BORA_OK);
    int32_t token = -1;
    float logprob = 0.0f;
    bora_status st =
        bora_sampler_choose(sampler, sampling, logits, NULL, history, n_history, position, &token, &logprob, NULL);
    bora_sampler_free(sampler);
    if (st != BORA_OK)
        return -1;
    assert_true(logprob <= 0.0f);
    return token;
}

static void test_greedy_takes_the_best_and_lowest(void **state)
{
    (void)state;
    bora_sampling sampling = BORA_SAMPLING_DEFAULT;
    sampling.temperature = 0.0f;
    const float logits[] = {1.0f, 3.0f, NAN, 3.0f, -INFINITY};
    assert_int_equal(choose(&sampling, logits, 5, NULL, 0, 0), 1);
    const int32_t history[] = {1};
    sampling.repetition_penalty = 2.0f;
    assert_int_equal(choose(&sampling, logits, 5, history, 1, 0), 3);
    const bora_logit_bias bias = {.token = 0, .bias = 50.0f};
    sampling.biases = &bias;
    sampling.n_biases = 1;
    assert_int_equal(choose(&sampling, logits, 5, history, 1, 0), 0);
    const float nothing[] = {NAN, -INFINITY};
    sampling.n_biases = 0;
    assert_int_equal(choose(&sampling, nothing, 2, NULL, 0, 0), -1);
}

static void test_cuts(void **state)
{
    (void)state;
    const float logits[] = {0.0f, 1.0f, 2.0f, 3.0f};
    bora_sampler *sampler = NULL;
    assert_int_equal(bora_sampler_new(4, &sampler, NULL), BORA_OK);
    bora_sampling sampling = BORA_SAMPLING_DEFAULT;
    sampling.temperature = 1.0f;
    sampling.top_k = 2;
    float probs[4];
    bora_sampler_distribution(sampler, &sampling, logits, NULL, NULL, 0, probs);
    assert_true(probs[0] == 0.0f && probs[1] == 0.0f && probs[2] > 0.0f && probs[3] > probs[2]);
    sampling.top_k = 0;
    sampling.min_p = 0.5f; /* exp(-1) < 0.5: only the best stays */
    bora_sampler_distribution(sampler, &sampling, logits, NULL, NULL, 0, probs);
    assert_true(probs[3] == 1.0f && probs[2] == 0.0f);
    bora_sampler_free(sampler);
}

static void test_draws_depend_on_seed_and_position_alone(void **state)
{
    (void)state;
    const float logits[] = {0.1f, 0.2f, 0.3f, 0.0f};
    bora_sampling sampling = BORA_SAMPLING_DEFAULT;
    sampling.temperature = 1.0f;
    sampling.seed = 42;
    unsigned counts[4] = {0};
    bool other_seed_differs = false;
    for (uint64_t position = 0; position < 4000; position++) {
        int32_t token = choose(&sampling, logits, 4, NULL, 0, position);
        assert_int_equal(choose(&sampling, logits, 4, NULL, 0, position), token);
        counts[token]++;
        bora_sampling other = sampling;
        other.seed = 43;
        other_seed_differs |= choose(&other, logits, 4, NULL, 0, position) != token;
    }
    assert_true(other_seed_differs);
    double sum = exp(0.1) + exp(0.2) + exp(0.3) + 1.0;
    const double expected[] = {exp(0.1) / sum, exp(0.2) / sum, exp(0.3) / sum, 1.0 / sum};
    for (int t = 0; t < 4; t++) /* five standard deviations */
        assert_true(fabs(counts[t] / 4000.0 - expected[t]) < 5.0 * sqrt(expected[t] * (1.0 - expected[t]) / 4000.0));
}

static void test_parameters_are_checked(void **state)
{
    (void)state;
    const struct {
        const char *name;
        float temperature, top_p, min_p, penalty;
    } bad[] = {
        {"temperature", NAN, 1.0f, 0.0f, 1.0f},
        {"temperature", -1.0f, 1.0f, 0.0f, 1.0f},
        {"temperature", 101.0f, 1.0f, 0.0f, 1.0f},
        {"top_p", 1.0f, 1.5f, 0.0f, 1.0f},
        {"top_p", 1.0f, NAN, 0.0f, 1.0f},
        {"min_p", 1.0f, 1.0f, -0.1f, 1.0f},
        {"repetition_penalty", 1.0f, 1.0f, 0.0f, 0.0f},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(bad); i++) {
        bora_sampling sampling = {.temperature = bad[i].temperature,
                                  .top_p = bad[i].top_p,
                                  .min_p = bad[i].min_p,
                                  .repetition_penalty = bad[i].penalty};
        bora_error err;
        assert_int_equal(bora_sampling_check(&sampling, 4, &err), BORA_E_INVAL);
        assert_non_null(strstr(err.message, bad[i].name));
    }
    const bora_logit_bias bias = {.token = 4, .bias = 0.0f};
    bora_sampling sampling = BORA_SAMPLING_DEFAULT;
    assert_int_equal(bora_sampling_check(&sampling, 4, NULL), BORA_OK);
    sampling.biases = &bias;
    sampling.n_biases = 1;
    assert_int_equal(bora_sampling_check(&sampling, 4, NULL), BORA_E_INVAL);
}

/* Nothing lifts what is masked out: no bias, no penalty of a negative logit; and nothing else changes. */
static void test_masks(void **state)
{
    (void)state;
    const float logits[] = {1.0f, 5.0f, -2.0f, 4.0f, NAN, -INFINITY};
    const int32_t history[] = {1, 2};
    const bora_logit_bias biases[] = {{1, 50.0f}, {2, INFINITY}};
    bora_sampling sampling = BORA_SAMPLING_DEFAULT;
    bora_sampler *sampler = NULL;
    bora_error err;
    assert_int_equal(bora_sampler_new(6, &sampler, NULL), BORA_OK);
    sampling.repetition_penalty = 0.5f;
    sampling.biases = biases;
    sampling.n_biases = 2;
    int32_t token = -1;
    float logprob = 0.0f, own = 0.0f;
    const uint64_t two = 0x9, one = 0x8, none = 0x30, all = ~UINT64_C(0);
    for (int greedy = 0; greedy < 2; greedy++) {
        float probs[6], plain[6];
        sampling.temperature = greedy ? 0.0f : 1.5f;
        bora_sampler_distribution(sampler, &sampling, logits, &two, history, 2, probs);
        assert_true(probs[1] == 0.0f && probs[2] == 0.0f && probs[4] == 0.0f && probs[5] == 0.0f &&
                    probs[3] > probs[0]);
        assert_true(fabsf(probs[0] + probs[3] - 1.0f) < 1e-6f);
        for (uint64_t position = 0; position < 50; position++) {
            assert_int_equal(bora_sampler_choose(sampler, &sampling, logits, &one, history, 2, position, &token,
                                                 &logprob, NULL),
                             BORA_OK);
            assert_int_equal(token, 3);
            assert_int_equal(bora_sampler_choose(sampler, &sampling, logits, &two, history, 2, position, &token, &own,
                                                 NULL),
                             BORA_OK);
            assert_true(token == 3 || (token == 0 && !greedy));
        }
        double sum = exp(1.0) + exp(5.0) + exp(-2.0) + exp(4.0);
        assert_true(fabs(logprob - (4.0 - log(sum))) < 1e-5); /* of the model, not of what the mask leaves */
        assert_int_equal(bora_sampler_choose(sampler, &sampling, logits, &none, history, 2, 0, &token, &logprob, &err),
                         BORA_E_INTERNAL);
        bora_sampler_distribution(sampler, &sampling, logits, &all, history, 2, probs);
        bora_sampler_distribution(sampler, &sampling, logits, NULL, history, 2, plain);
        assert_memory_equal(probs, plain, sizeof probs);
    }
    bora_sampler_free(sampler);
}

/* The n best by sorting all of them. */
static void test_top(void **state)
{
    (void)state;
    enum { VOCAB = 1000 };
    static float logits[VOCAB];
    bora_sampler *sampler = NULL;
    bora_token_logprob top[BORA_TOP_LOGPROBS_MAX + 1];
    assert_int_equal(bora_sampler_new(VOCAB, &sampler, NULL), BORA_OK);
    for (uint64_t round = 0; round < 20; round++) {
        double sum = 0.0;
        for (size_t i = 0; i < VOCAB; i++) {
            logits[i] = floorf(bora_random_uniform(round, i) * 40.0f) / 4.0f; /* with equals */
            if (i % 97 == 5)
                logits[i] = round % 2 ? NAN : -INFINITY;
            else
                sum += exp(logits[i]);
        }
        size_t n = bora_sampler_top(sampler, logits, 1 + round, top);
        assert_int_equal(n, 1 + round);
        bool taken[VOCAB] = {false};
        for (size_t k = 0; k < n; k++) {
            size_t best = VOCAB;
            for (size_t i = 0; i < VOCAB; i++)
                if (!taken[i] && logits[i] > -INFINITY && (best == VOCAB || logits[i] > logits[best]))
                    best = i;
            taken[best] = true;
            assert_int_equal(top[k].token, best);
            assert_true(fabs(top[k].logprob - (logits[best] - log(sum))) < 1e-4);
        }
    }
    /* The choice's log-probability is the same number. */
    bora_sampling greedy = BORA_SAMPLING_DEFAULT;
    greedy.temperature = 0.0f;
    int32_t token = -1;
    float logprob = 0.0f;
    assert_int_equal(bora_sampler_choose(sampler, &greedy, logits, NULL, NULL, 0, 0, &token, &logprob, NULL), BORA_OK);
    assert_int_equal(bora_sampler_top(sampler, logits, 1, top), 1);
    assert_true(top[0].token == token && top[0].logprob == logprob);
    assert_int_equal(bora_sampler_top(sampler, logits, 0, top), 0);
    assert_int_equal(bora_sampler_top(sampler, logits, 1000, top), BORA_TOP_LOGPROBS_MAX);
    bora_sampler_free(sampler);
    /* Few tokens, none that has a chance, one that is certain. */
    assert_int_equal(bora_sampler_new(3, &sampler, NULL), BORA_OK);
    const float few[] = {NAN, 2.0f, -INFINITY}, no[] = {NAN, -INFINITY, -INFINITY}, certain[] = {0.0f, INFINITY, 1.0f};
    assert_int_equal(bora_sampler_top(sampler, few, 5, top), 1);
    assert_true(top[0].token == 1 && fabsf(top[0].logprob) < 1e-6f);
    assert_int_equal(bora_sampler_top(sampler, no, 5, top), 0);
    assert_int_equal(bora_sampler_top(sampler, certain, 2, top), 2);
    assert_true(top[0].token == 1 && top[0].logprob == 0.0f && top[1].token == 2 && top[1].logprob == -INFINITY);
    bora_sampler_free(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_top_p),
        cmocka_unit_test(test_greedy_takes_the_best_and_lowest),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_draws_depend_on_seed_and_position_alone),
        cmocka_unit_test(test_parameters_are_checked),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
