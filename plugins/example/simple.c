/* attention-simple: the smallest working plugin. One pass per head ("online softmax"): the sums so far are scaled down
 * whenever a larger score turns up, so that the scores need no memory. Keys and values in f32 only. */
#include <bora/plugin.h>
#include <math.h>

struct bora_attention {
    const bora_host *host;
    bora_attention_shape shape;
};

static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **to,
                          bora_error *err)
{
    bora_attention *self = host->alloc(host, sizeof *self);
    if (!self)
        return bora_fail(err, BORA_E_NOMEM, "simple");
    *self = (bora_attention){.host = host, .shape = *shape};
    *to = self;
    return BORA_OK;
}

static void destroy(bora_attention *self)
{
    if (self)
        self->host->free(self->host, self);
}

static bora_status attend(bora_attention *self, uint32_t n_seqs, const bora_attention_seq *seqs, bora_error *err)
{
    (void)err; /* nothing here can fail */
    const uint32_t n_heads = self->shape.n_heads, dim = self->shape.head_dim, group = n_heads / self->shape.n_kv_heads;
    for (const bora_attention_seq *seq = seqs; seq < seqs + n_seqs; seq++)
        for (uint64_t head = 0; head < (uint64_t)seq->n * n_heads; head++) { /* of all rows */
            const float *q = seq->q + head * dim;
            float *out = seq->out + head * dim, largest = -INFINITY, total = 0;
            uint64_t end = seq->first + head / n_heads + 1,
                     begin = seq->window && end > seq->window ? end - seq->window : 0;
            for (const bora_kv_span *span = seq->spans; span < seq->spans + seq->n_spans; span++)
                for (uint64_t p = span->first; p < span->first + span->n; p++) {
                    if (p < begin || p >= end)
                        continue; /* it has left the window, or is yet to come */
                    uint64_t at =
                        (p - span->first) * span->position_stride + head % n_heads / group * span->head_stride;
                    const float *k = (const float *)span->k + at, *v = (const float *)span->v + at;
                    float score = 0, before = largest;
                    for (uint32_t d = 0; d < dim; d++)
                        score += q[d] * k[d] / sqrtf((float)dim);
                    largest = fmaxf(before, score);
                    float scale = expf(before - largest), weight = expf(score - largest);
                    for (uint32_t d = 0; d < dim; d++)
                        out[d] = (p == begin ? 0 : out[d] * scale) + weight * v[d];
                    total = total * scale + weight;
                }
            for (uint32_t d = 0; d < dim; d++)
                out[d] /= total;
        }
    return BORA_OK;
}

static const bora_attention_ops ops = {sizeof ops, BORA_DTYPE_BIT(BORA_DTYPE_F32), create, NULL, NULL, destroy, attend};
static const bora_plugin plugin = {sizeof plugin, 1, 0, BORA_PLUGIN_ATTENTION, 1, "simple", "1.0", &ops};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    return (void)host, (void)err, &plugin;
}
