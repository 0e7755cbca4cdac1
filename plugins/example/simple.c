/* attention-simple: the smallest working plugin. A running mean of the values ("online softmax") keeps no scores. */
#include <bora/plugin.h>
#include <math.h>

struct bora_attention {
    const bora_host *host;
    bora_attention_shape shape;
};

static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret, bora_error *e)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(e, BORA_E_INVAL, "simple: a shape of %u bytes", shape->struct_size);
    bora_attention *self = host->alloc(host, sizeof *self);
    if (!self)
        return bora_fail(e, BORA_E_NOMEM, "simple: no memory");
    *self = (bora_attention){.host = host, .shape = *shape};
    *ret = self;
    return BORA_OK;
}

static void destroy(bora_attention *self)
{
    if (self)
        self->host->free(self->host, self);
}

static bora_status attend(bora_attention *self, uint32_t n_seqs, const bora_attention_seq *seqs, bora_error *e)
{
    const uint32_t n_heads = self->shape.n_heads, dim = self->shape.head_dim, group = n_heads / self->shape.n_kv_heads;
    for (const bora_attention_seq *seq = seqs; seq < seqs + n_seqs; seq++)
        for (uint64_t head = 0; head < (uint64_t)seq->n * n_heads; head++) { /* the heads of all rows */
            const uint64_t pos = seq->first + head / n_heads, kv_head = head % n_heads / group;
            float *out = seq->out + head * dim, largest = -INFINITY, total = 0;
            for (const bora_kv_span *span = seq->spans; span < seq->spans + seq->n_spans; span++)
                for (uint64_t i = 0; i < span->n && span->first + i <= pos; i++) {
                    if (seq->window && span->first + i + seq->window <= pos)
                        continue; /* it has left the window */
                    uint64_t at = i * span->position_stride + kv_head * span->head_stride;
                    const float *k = (const float *)span->k + at, *v = (const float *)span->v + at;
                    float score = 0, before = largest;
                    for (uint32_t d = 0; d < dim; d++)
                        score += seq->q[head * dim + d] * k[d] / sqrtf((float)dim);
                    largest = fmaxf(before, score);
                    total = total * expf(before - largest) + expf(score - largest);
                    float share = expf(score - largest) / total; /* of this key in the mean so far; the first's is 1 */
                    for (uint32_t d = 0; d < dim; d++)
                        out[d] = share < 1 ? out[d] + share * (v[d] - out[d]) : v[d];
                }
        }
    return (void)e, BORA_OK; /* nothing here can fail */
}

static const bora_attention_ops ops = {sizeof ops, BORA_DTYPE_BIT(BORA_DTYPE_F32), create, NULL, NULL, destroy, attend};
static const bora_plugin plugin = {sizeof plugin, 1, 0, BORA_PLUGIN_ATTENTION, 1, "simple", "1.0", &ops};
const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    return (void)host, (void)err, &plugin;
}
