/* Mixtral's router (arXiv 2401.04088, section 2.1): top-k of the raw logits, then softmax over those k only. */
#include "kernels/kernels.h"

static bool is_taken(int32_t expert, uint32_t n_taken, const int32_t *taken)
{
    for (uint32_t i = 0; i < n_taken; i++)
        if (taken[i] == expert)
            return true;
    return false;
}

void bora_route(size_t n, uint32_t n_experts, uint32_t k, const float *logits, int32_t *experts, float *weights)
{
    for (size_t row = 0; row < n; row++, logits += n_experts, experts += k, weights += k) {
        for (uint32_t chosen = 0; chosen < k; chosen++) {
            int32_t best = -1;
            /* Strictly greater: the lower index wins a tie, and NaN (which is never greater) still leaves k
             * different experts. */
            for (int32_t expert = 0; expert < (int32_t)n_experts; expert++)
                if (!is_taken(expert, chosen, experts) && (best < 0 || logits[expert] > logits[best]))
                    best = expert;
            experts[chosen] = best;
            weights[chosen] = logits[best];
        }
        bora_softmax(k, weights);
    }
}
