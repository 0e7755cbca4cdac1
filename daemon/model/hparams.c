/* Hyper-parameters are checked here once, whatever file they came from; what follows may rely on it. */
#include "model/hparams.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static bora_status range_check(const char *name, uint32_t value, uint32_t min, uint32_t max, bora_error *err)
{
    if (value < min || value > max)
        return bora_fail(err, BORA_E_FORMAT, "%s is %u, expected %u to %u", name, value, min, max);
    return BORA_OK;
}

static bora_status positive_check(const char *name, float value, bora_error *err)
{
    if (!isfinite(value) || value <= 0)
        return bora_fail(err, BORA_E_FORMAT, "%s is %g, expected a positive number", name, (double)value);
    return BORA_OK;
}

static bora_status counts_check(const bora_hparams *h, bora_error *err)
{
    const struct {
        const char *name;
        uint32_t value, min, max;
    } ranges[] = {
        {"n_layers", h->n_layers, 1, BORA_LAYERS_MAX},
        {"dim", h->dim, 1, BORA_DIM_MAX},
        {"hidden_dim", h->hidden_dim, 1, BORA_HIDDEN_DIM_MAX},
        {"n_heads", h->n_heads, 1, BORA_HEADS_MAX},
        {"n_kv_heads", h->n_kv_heads, 1, BORA_HEADS_MAX},
        {"head_dim", h->head_dim, 2, BORA_HEAD_DIM_MAX},
        {"vocab_size", h->vocab_size, 1, BORA_VOCAB_MAX},
        {"n_experts", h->n_experts, 1, BORA_EXPERTS_MAX},
        {"n_experts_per_tok", h->n_experts_per_tok, 1, h->n_experts},
        {"context_length", h->context_length, 0, BORA_POSITIONS_MAX},
        {"n_windows", h->n_windows, 1, h->n_layers},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(ranges); i++) {
        bora_status st = range_check(ranges[i].name, ranges[i].value, ranges[i].min, ranges[i].max, err);
        if (st != BORA_OK)
            return st;
    }
    return BORA_OK;
}

bora_status bora_hparams_check(const bora_hparams *h, bora_error *err)
{
    bora_status st = counts_check(h, err);
    if (st != BORA_OK)
        return st;
    if (h->n_heads % h->n_kv_heads)
        return bora_fail(err, BORA_E_FORMAT, "n_heads is %u, not a multiple of n_kv_heads (%u)", h->n_heads,
                         h->n_kv_heads);
    if (h->head_dim % 2)
        return bora_fail(err, BORA_E_FORMAT, "head_dim is %u, expected an even number", h->head_dim);
    if ((st = positive_check("norm_eps", h->norm_eps, err)) != BORA_OK ||
        (st = positive_check("rope_theta", h->rope_theta, err)) != BORA_OK)
        return st;
    if (h->n_layers % h->n_windows)
        return bora_fail(err, BORA_E_FORMAT, "sliding_window is a pattern of %u layers, n_layers (%u) is no multiple",
                         h->n_windows, h->n_layers);
    for (uint32_t i = 0; i < h->n_windows; i++)
        if ((st = range_check("sliding_window", h->windows[i], 0, BORA_POSITIONS_MAX, err)) != BORA_OK)
            return st;
    return BORA_OK;
}

static bool repeats(const bora_hparams *h, uint32_t period)
{
    for (uint32_t i = period; i < h->n_windows; i++)
        if (h->windows[i] != h->windows[i - period])
            return false;
    return h->n_windows % period == 0;
}

void bora_hparams_windows_shorten(bora_hparams *h)
{
    uint32_t period = 1;
    while (period < h->n_windows && !repeats(h, period))
        period++;
    h->n_windows = period;
}

void bora_hparams_windows_text(const bora_hparams *h, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < h->n_windows && n < size; i++) {
        const char *separator = i ? ", " : "";
        int got = h->windows[i] ? snprintf(text + n, size - n, "%s%" PRIu32, separator, h->windows[i])
                                : snprintf(text + n, size - n, "%snone", separator);
        n += got > 0 ? (size_t)got : size;
    }
    if (h->n_windows > 1 && n < size)
        (void)snprintf(text + n, size - n, " (repeated over the layers)"); /* cut is fine */
}
