/* Attention in f32 and f16, head by head, that breaks the rule named by MUTANT. */
#include "mutant.h"

enum {
    sound,
    another_name,
    ignores_size,       /* of the shape, and reads all of it */
    no_reason,          /* for a refusal */
    newer_service,      /* calls it without a look at the host's size */
    late_option,        /* asks for it in attend */
    any_option,         /* asks for what it does not have */
    unnamed_option,     /* refuses its value without saying which */
    leaks_when_refused, /* the first block, when the second is not to be had */
    leaks,              /* its scores, when it ends */
    hands_out_failed,   /* an instance that create refused */
    ignores_no_memory,  /* and computes nothing then */
    stays_broken,       /* after memory was refused once */
    no_null,            /* destroy needs an instance */
    ignores_close,      /* goes on working */
    close_once,         /* a second close frees again */
    last_instance,      /* all instances compute with the last one's shape */
    own_threads,        /* that nobody waits for */
    writes_past_out,
    writes_to_q,
    overruns_scores,    /* by one float */
    keeps_keys,         /* reads those of the last call where it can */
    allocates_inside,   /* parallel_for */
    wrong_even_windows, /* one key too few */
    wrong_head,         /* with groups of three */
    reads_f16_roughly,
    company,         /* a row depends on the number of rows */
    cut_of_items,    /* a row depends on where parallel_for has cut */
    refuses_old,     /* hosts, with a status that stops the daemon */
    refuses_new,     /* hosts, though they have all that it knows */
    stays_in_thread, /* works where it was created only */
    second_sequence, /* of a call is computed a little otherwise */
    sees_ahead,      /* rows see keys behind them, if the spans have some */
    ignores_strides,
    no_maximum, /* exp overflows */
};

struct bora_attention {
    const bora_host *host;
    bora_attention_shape shape;
    float *scores; /* [n_threads, n_scores] */
    uint64_t n_scores, n_threads;
    bool closed, broken;
    own_thread thread;
    bora_kv_span kept; /* the first of the last call */
};

static bora_attention *last;
static _Thread_local const void *mine; /* stays_in_thread */

typedef struct job {
    bora_attention *attention;
    const bora_attention_seq *seq;
    bool is_second;
} job;

static bool is(int variant)
{
    return variant == MUTANT;
}

static float half(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float value = exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
    if (exponent == 31)
        value = mantissa ? NAN : INFINITY;
    return bits & 0x8000 ? -value : value;
}

static float element(const bora_attention_shape *shape, const void *from, uint64_t at)
{
    if (shape->kv_dtype == BORA_DTYPE_F32)
        return ((const float *)from)[at];
    uint16_t bits = ((const uint16_t *)from)[at];
    return half(is(reads_f16_roughly) ? bits & 0xffe0u : bits);
}

/* Where position p of the head lies, and in which span. */
static const bora_kv_span *find(const bora_attention *self, const bora_attention_seq *seq, uint64_t p, uint32_t kv_head,
                                uint64_t *ret_at)
{
    const bora_kv_span *span = seq->spans;
    while (p >= span->first + span->n)
        span++;
    if (is(keeps_keys) && self->kept.n && self->kept.first <= p && p < self->kept.first + self->kept.n)
        span = &self->kept;
    const uint64_t head_stride = is(ignores_strides) ? self->shape.head_dim : span->head_stride;
    *ret_at = (p - span->first) * span->position_stride + kv_head * head_stride;
    return span;
}

static void one_head(const bora_attention *self, const bora_attention_seq *seq, uint32_t row, uint32_t head,
                     float *scores, float factor)
{
    const bora_attention_shape *shape = is(last_instance) ? &last->shape : &self->shape;
    const uint32_t dim = shape->head_dim, group = self->shape.n_heads / self->shape.n_kv_heads;
    const uint32_t kv_head = is(wrong_head) && group == 3 ? 0 : head / group;
    const uint64_t position = seq->first + row, window = seq->window - (is(wrong_even_windows) && seq->window % 2 == 0);
    const uint64_t from = seq->window && position + 1 > window ? position + 1 - window : 0;
    const bora_kv_span *end = &seq->spans[seq->n_spans - 1];
    const uint64_t to = is(sees_ahead) && row + 1 < seq->n ? position + 2 : position + 1, known = end->first + end->n;
    const float *q = seq->q + ((uint64_t)row * self->shape.n_heads + head) * self->shape.head_dim;
    float *out = seq->out + ((uint64_t)row * self->shape.n_heads + head) * self->shape.head_dim;
    float max = -INFINITY, sum = 0;
    for (uint64_t p = from; p < to && p < known; p++) {
        uint64_t at;
        const bora_kv_span *span = find(self, seq, p, kv_head, &at);
        float score = 0;
        for (uint32_t d = 0; d < dim; d++)
            score += q[d] * element(&self->shape, span->k, at + d);
        scores[p - from] = score / sqrtf((float)dim);
        max = fmaxf(max, scores[p - from]);
    }
    if (is(overruns_scores))
        scores[self->n_scores] = 0;
    memset(out, 0, dim * sizeof *out);
    for (uint64_t p = from; p < to && p < known; p++)
        sum += scores[p - from] = expf(scores[p - from] - (is(no_maximum) ? 0 : max));
    for (uint64_t p = from; p < to && p < known; p++) {
        uint64_t at;
        const bora_kv_span *span = find(self, seq, p, kv_head, &at);
        for (uint32_t d = 0; d < dim; d++)
            out[d] += scores[p - from] / sum * element(&self->shape, span->v, at + d);
    }
    for (uint32_t d = 0; d < dim && factor != 1; d++)
        out[d] *= factor;
}

static void items(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const job *jb = arg;
    bora_attention *self = jb->attention;
    float factor = (is(company) && jb->seq->n > 1) || jb->is_second ? 1 + 0x1p-23f : 1;
    if (is(allocates_inside))
        self->host->free(self->host, self->host->alloc(self->host, 1));
    for (uint32_t i = begin; i < end; i++)
        one_head(self, jb->seq, i / self->shape.n_heads, i % self->shape.n_heads,
                 self->scores + worker * self->n_scores, is(cut_of_items) && i == begin && i ? 1 + 0x1p-23f : factor);
}

static bora_status grow(bora_attention *self, uint64_t n, bora_error *err)
{
    if (n <= self->n_scores)
        return BORA_OK;
    float *scores = self->host->alloc(self->host, n * self->n_threads * sizeof *scores);
    if (!scores) {
        self->broken = is(stays_broken);
        return bora_fail(err, BORA_E_NOMEM, "no memory for scores");
    }
    self->host->free(self->host, self->scores);
    self->scores = scores;
    self->n_scores = n;
    return BORA_OK;
}

static bora_status attend(bora_attention *self, uint32_t n_seqs, const bora_attention_seq *seqs, bora_error *err)
{
    if (self->closed && !is(ignores_close))
        return bora_fail(err, BORA_E_CLOSED, "closed");
    if (is(stays_in_thread) && !mine)
        return bora_fail(err, BORA_E_INTERNAL, "this thread has created nothing");
    if (self->broken)
        return bora_fail(err, BORA_E_NOMEM, "no memory for scores, long ago");
    if (is(late_option))
        (void)self->host->option(self->host, "late");
    for (uint32_t i = 0; i < n_seqs; i++) {
        const bora_attention_seq *seq = &seqs[i];
        if (seq->n == 0)
            continue;
        bora_status status = grow(self, seq->first + seq->n + 1, err);
        if (status != BORA_OK)
            return is(ignores_no_memory) ? BORA_OK : status;
        job jb = {.attention = self, .seq = seq, .is_second = is(second_sequence) && i > 0};
        self->host->parallel_for(self->host, seq->n * self->shape.n_heads, items, &jb);
        const uint64_t size = (uint64_t)seq->n * self->shape.n_heads * self->shape.head_dim;
        if (is(writes_past_out))
            seq->out[size] = 0;
        if (is(writes_to_q))
            *(float *)(uintptr_t)seq->q += 1;
        self->kept = seq->spans[0];
    }
    return BORA_OK;
}

static void close_(bora_attention *self)
{
    if (is(close_once)) {
        self->host->free(self->host, self->scores);
        if (self->closed)
            self->scores = NULL;
    }
    self->closed = true;
}

static void destroy(bora_attention *self)
{
    if (!self && !is(no_null))
        return;
    if (is(own_threads))
        own_thread_end(&self->thread);
    if (!is(leaks))
        self->host->free(self->host, self->scores);
    self->host->free(self->host, self);
}

static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,
                          bora_error *err)
{
    bora_attention_shape copy = {.struct_size = shape->struct_size};
    if (is(ignores_size))
        read_all(shape, sizeof *shape);
    if (copy.struct_size < sizeof copy)
        return is(no_reason) ? BORA_E_INVAL : bora_fail(err, BORA_E_INVAL, "a shape of %u bytes", shape->struct_size);
    copy = *shape;
    if (is(refuses_old) && host->abi_minor < BORA_ABI_MINOR)
        return bora_fail(err, BORA_E_INVAL, "too old");
    if (is(refuses_new) && host->abi_minor > BORA_ABI_MINOR)
        return bora_fail(err, BORA_E_UNSUPPORTED, "too new");
    if (is(any_option))
        (void)host->option(host, "no_plugin_has_such_an_option");
    const char *value = is(unnamed_option) ? host->option(host, "number") : NULL;
    if (value && *value != '7')
        return bora_fail(err, BORA_E_INVAL, "that is not seven");
    if (is(newer_service) && host->input_n_panels(host, 1) == 0)
        return bora_fail(err, BORA_E_INVAL, "no panels");
    bora_attention *self = host->alloc(host, sizeof *self);
    if (!self)
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    *self = (bora_attention){.host = host, .shape = copy, .n_threads = host->n_threads(host)};
    if (is(hands_out_failed))
        *ret = self;
    if (grow(self, 8, err) != BORA_OK || (is(own_threads) && !own_thread_start(&self->thread))) {
        if (!is(leaks_when_refused))
            host->free(host, self);
        return BORA_E_NOMEM;
    }
    last = self;
    mine = self;
    *ret = self;
    return BORA_OK;
}

static const bora_attention_ops ops = {
    .struct_size = sizeof ops,
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16),
    .create = create,
    .close = close_,
    .destroy = destroy,
    .attend = attend,
};

MUTANT_PLUGIN(BORA_PLUGIN_ATTENTION, &ops)
