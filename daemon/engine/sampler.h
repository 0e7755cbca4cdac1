/* From logits to a token: mask, temperature, top-k, top-p, min-p, repetition penalty, bias. A pure function of logits,
 * mask, history, parameters and (seed, position): there is no generator state to save. */
#ifndef BORA_ENGINE_SAMPLER_H
#define BORA_ENGINE_SAMPLER_H

#include "base/status.h"

typedef struct bora_logit_bias {
    int32_t token;
    float bias;
} bora_logit_bias;

typedef struct bora_sampling {
    float temperature;          /* 0: greedy; at most 100 */
    uint32_t top_k;             /* 0: off */
    float top_p;                /* [0, 1]; a token stays if the sum before it is <= top_p; 1: off */
    float min_p;                /* [0, 1]: drop what is below min_p times the best; 0: off */
    float repetition_penalty;   /* (0, 10]; 1: off */
    uint32_t repetition_window; /* last tokens it looks at, at most 4096 */
    uint64_t seed;
    const bora_logit_bias *biases; /* [n_biases], borrowed */
    size_t n_biases;
} bora_sampling;

#define BORA_SAMPLING_DEFAULT                                                                                          \
    ((bora_sampling){.temperature = 0.7f, .top_p = 1.0f, .repetition_penalty = 1.0f, .repetition_window = 64})

/* Errors: INVAL naming the parameter (NaN, negative, over its bound; bias token out of vocab_size). */
bora_status bora_sampling_check(const bora_sampling *sampling, size_t vocab_size, bora_error *err);

typedef struct bora_sampler bora_sampler; /* scratch for one vocabulary; no state between calls */

bora_status bora_sampler_new(size_t vocab_size, bora_sampler **ret_sampler, bora_error *err);
void bora_sampler_free(bora_sampler *sampler); /* NULL is a no-op */

/* Chooses the token that stands at the given position of its session. logits [vocab_size] stay as they are. mask
 * [(vocab_size + 63) / 64]: bit t % 64 of word t / 64 says whether token t may be chosen, whatever the sampling; NULL:
 * each may. history: the tokens before (newest last). ret_logprob: log-probability of the choice under softmax(logits),
 * without mask and sampling. NaN logits count as -INFINITY; if nothing finite is left the answer is INTERNAL. */
bora_status bora_sampler_choose(bora_sampler *sampler, const bora_sampling *sampling, const float *logits,
                                const uint64_t *mask, const int32_t *history, size_t n_history, uint64_t position,
                                int32_t *ret_token, float *ret_logprob, bora_error *err);
/* The distribution choose draws from: probs [vocab_size], 0 for what is cut or masked out. */
void bora_sampler_distribution(bora_sampler *sampler, const bora_sampling *sampling, const float *logits,
                               const uint64_t *mask, const int32_t *history, size_t n_history, float *probs);

#define BORA_TOP_LOGPROBS_MAX 20u

typedef struct bora_token_logprob {
    int32_t token;
    float logprob;
} bora_token_logprob;

/* The n likeliest tokens (at most BORA_TOP_LOGPROBS_MAX) under softmax(logits), the model's own distribution: best
 * first, the lower id first among equals. Returns how many were written to top [n]: fewer if so few have a chance. One
 * pass over logits [vocab_size] for the tokens and one for the sum. */
size_t bora_sampler_top(const bora_sampler *sampler, const float *logits, size_t n, bora_token_logprob *top);

/* Uniform in [0, 1), 24 bits, a function of its arguments alone. */
float bora_random_uniform(uint64_t seed, uint64_t position);

#endif
