/* Order of the steps: bias and repetition penalty change logits; what the mask leaves out is -infinity; temperature
 * turns them into probabilities; top-k, min-p and top-p cut from the sorted list; one uniform number, a function of
 * (seed, position), picks from what is left. Greedy takes the best after bias and penalty, lowest id first among
 * equals. */
#include "engine/sampler.h"

#include "base/memory.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    int32_t token;
    float logit; /* after bias and penalty; probability once temperature was applied */
} candidate;

struct bora_sampler {
    size_t vocab_size;
    float *adjusted;       /* [vocab_size] logits after bias and penalty */
    candidate *candidates; /* [vocab_size] */
};

bora_status bora_sampling_check(const bora_sampling *sampling, size_t vocab_size, bora_error *err)
{
    /* Written so that NaN fails. */
    if (!(sampling->temperature >= 0.0f && sampling->temperature <= 100.0f))
        return bora_fail(err, BORA_E_INVAL, "temperature must be in 0 .. 100");
    if (!(sampling->top_p >= 0.0f && sampling->top_p <= 1.0f))
        return bora_fail(err, BORA_E_INVAL, "top_p must be in 0 .. 1");
    if (!(sampling->min_p >= 0.0f && sampling->min_p <= 1.0f))
        return bora_fail(err, BORA_E_INVAL, "min_p must be in 0 .. 1");
    if (!(sampling->repetition_penalty > 0.0f && sampling->repetition_penalty <= 10.0f))
        return bora_fail(err, BORA_E_INVAL, "repetition_penalty must be above 0 and at most 10");
    if (sampling->repetition_window > 4096)
        return bora_fail(err, BORA_E_INVAL, "repetition_window must be at most 4096");
    for (size_t i = 0; i < sampling->n_biases; i++) {
        const bora_logit_bias *bias = &sampling->biases[i];
        if (bias->token < 0 || (size_t)bias->token >= vocab_size)
            return bora_fail(err, BORA_E_INVAL, "logit_bias: token %d is not in the vocabulary", (int)bias->token);
        if (!(bias->bias >= -100.0f && bias->bias <= 100.0f))
            return bora_fail(err, BORA_E_INVAL, "logit_bias of token %d must be in -100 .. 100", (int)bias->token);
    }
    return BORA_OK;
}

bora_status bora_sampler_new(size_t vocab_size, bora_sampler **ret_sampler, bora_error *err)
{
    bora_sampler *sampler = bora_calloc(1, sizeof *sampler);
    if (!sampler)
        return bora_fail(err, BORA_E_NOMEM, "sampler");
    sampler->vocab_size = vocab_size;
    sampler->adjusted = bora_calloc(vocab_size, sizeof *sampler->adjusted);
    sampler->candidates = bora_calloc(vocab_size, sizeof *sampler->candidates);
    if (!sampler->adjusted || !sampler->candidates) {
        bora_sampler_free(sampler);
        return bora_fail(err, BORA_E_NOMEM, "sampler for %zu tokens", vocab_size);
    }
    *ret_sampler = sampler;
    return BORA_OK;
}

void bora_sampler_free(bora_sampler *sampler)
{
    if (!sampler)
        return;
    bora_free(sampler->adjusted);
    bora_free(sampler->candidates);
    bora_free(sampler);
}

/* splitmix64's finaliser (Steele, Lea, Flood 2014), applied to a counter that mixes both arguments. */
float bora_random_uniform(uint64_t seed, uint64_t position)
{
    uint64_t z = seed * UINT64_C(0xd1342543de82ef95) + (position + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int round = 0; round < 2; round++) {
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
    }
    return (float)(z >> 40) * 0x1p-24f;
}

/* Keskar et al. 2019 (CTRL): logits of tokens seen are divided by the penalty if positive, else multiplied. Each token
 * once, however often it was seen. */
static void apply_penalty(bora_sampler *sampler, const bora_sampling *sampling, const float *logits,
                          const int32_t *history, size_t n_history)
{
    if (sampling->repetition_penalty == 1.0f)
        return;
    size_t n = n_history < sampling->repetition_window ? n_history : sampling->repetition_window;
    for (size_t i = n_history - n; i < n_history; i++) {
        int32_t token = history[i];
        if (token < 0 || (size_t)token >= sampler->vocab_size)
            continue;
        /* From the original logit: applying it twice gives the same. */
        float logit = logits[token];
        sampler->adjusted[token] =
            logit > 0.0f ? logit / sampling->repetition_penalty : logit * sampling->repetition_penalty;
    }
}

/* Each step looks at one token alone: that the mask comes last makes no difference to its coming first. */
static void apply_mask(bora_sampler *sampler, const uint64_t *mask)
{
    for (size_t i = 0; i < sampler->vocab_size; i++)
        if (!(mask[i / 64] >> (i % 64) & 1))
            sampler->adjusted[i] = -INFINITY;
}

static void adjust(bora_sampler *sampler, const bora_sampling *sampling, const float *logits, const uint64_t *mask,
                   const int32_t *history, size_t n_history)
{
    memcpy(sampler->adjusted, logits, sampler->vocab_size * sizeof *logits);
    apply_penalty(sampler, sampling, logits, history, n_history);
    for (size_t i = 0; i < sampling->n_biases; i++)
        sampler->adjusted[sampling->biases[i].token] += sampling->biases[i].bias;
    for (size_t i = 0; i < sampler->vocab_size; i++)
        if (isnan(sampler->adjusted[i]))
            sampler->adjusted[i] = -INFINITY;
    if (mask)
        apply_mask(sampler, mask);
}

static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

/* Sorted candidates with probabilities in place of logits, cut; returns how many, and their sum. */
static size_t cut(bora_sampler *sampler, const bora_sampling *sampling, double *ret_sum)
{
    size_t n = 0;
    for (size_t i = 0; i < sampler->vocab_size; i++)
        if (sampler->adjusted[i] > -INFINITY)
            sampler->candidates[n++] = (candidate){(int32_t)i, sampler->adjusted[i]};
    if (n == 0)
        return 0;
    qsort(sampler->candidates, n, sizeof *sampler->candidates, by_logit);
    if (sampling->top_k > 0 && n > sampling->top_k)
        n = sampling->top_k;
    float best = sampler->candidates[0].logit;
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        float logit = sampler->candidates[i].logit;
        /* An infinite best logit is certain. */
        double p = isinf(best) ? (double)(logit == best) : exp(((double)logit - best) / sampling->temperature);
        sampler->candidates[i].logit = (float)p;
        total += p;
    }
    double before = 0.0;
    size_t kept = 0;
    while (kept < n) {
        double p = sampler->candidates[kept].logit;
        /* The one that crosses top_p stays; p = 0 leaves the best one (the reference's rule). */
        if (kept > 0 && ((sampling->top_p < 1.0f && before / total > sampling->top_p) || p < sampling->min_p))
            break;
        before += p;
        kept++;
    }
    *ret_sum = before;
    return kept;
}

static int32_t best_token(const bora_sampler *sampler)
{
    int32_t best = -1;
    for (size_t i = 0; i < sampler->vocab_size; i++)
        if (sampler->adjusted[i] > -INFINITY && (best < 0 || sampler->adjusted[i] > sampler->adjusted[best]))
            best = (int32_t)i;
    return best;
}

static float logprob_of(float logit, double log_sum)
{
    if (isinf(log_sum)) /* what is infinite is certain */
        return (double)logit == log_sum ? 0.0f : -INFINITY;
    return (float)((double)logit - log_sum);
}

bora_status bora_sampler_choose(bora_sampler *sampler, const bora_sampling *sampling, const float *logits,
                                const uint64_t *mask, const int32_t *history, size_t n_history, uint64_t position,
                                int32_t *ret_token, float *ret_logprob, bora_error *err)
{
    adjust(sampler, sampling, logits, mask, history, n_history);
    int32_t token = -1;
    if (sampling->temperature == 0.0f) {
        token = best_token(sampler);
    } else {
        double sum = 0.0;
        size_t n = cut(sampler, sampling, &sum);
        double target = bora_random_uniform(sampling->seed, position) * sum;
        for (size_t i = 0; i < n; i++) {
            token = sampler->candidates[i].token;
            target -= sampler->candidates[i].logit;
            if (target < 0.0)
                break;
        }
    }
    if (token < 0)
        return bora_fail(err, BORA_E_INTERNAL, "no finite logit at position %llu", (unsigned long long)position);
    *ret_token = token;
    *ret_logprob = logprob_of(logits[token], bora_log_sum_exp(sampler->vocab_size, logits));
    return BORA_OK;
}

void bora_sampler_distribution(bora_sampler *sampler, const bora_sampling *sampling, const float *logits,
                               const uint64_t *mask, const int32_t *history, size_t n_history, float *probs)
{
    memset(probs, 0, sampler->vocab_size * sizeof *probs);
    adjust(sampler, sampling, logits, mask, history, n_history);
    if (sampling->temperature == 0.0f) {
        int32_t token = best_token(sampler);
        if (token >= 0)
            probs[token] = 1.0f;
        return;
    }
    double sum = 0.0;
    size_t n = cut(sampler, sampling, &sum);
    for (size_t i = 0; i < n; i++)
        probs[sampler->candidates[i].token] = (float)(sampler->candidates[i].logit / sum);
}

/* Most logits are below the last of the list and cost one comparison. */
size_t bora_sampler_top(const bora_sampler *sampler, const float *logits, size_t n, bora_token_logprob *top)
{
    size_t n_top = 0;
    n = n < BORA_TOP_LOGPROBS_MAX ? n : BORA_TOP_LOGPROBS_MAX;
    for (size_t i = 0; n > 0 && i < sampler->vocab_size; i++) {
        float logit = logits[i];
        if (!(logit > (n_top == n ? top[n - 1].logprob : -INFINITY))) /* NaN is not */
            continue;
        size_t at = n_top < n ? n_top++ : n - 1;
        for (; at > 0 && logit > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (bora_token_logprob){(int32_t)i, logit};
    }
    double log_sum = n_top > 0 ? bora_log_sum_exp(sampler->vocab_size, logits) : 0.0;
    for (size_t i = 0; i < n_top; i++)
        top[i].logprob = logprob_of(top[i].logprob, log_sum);
    return n_top;
}
