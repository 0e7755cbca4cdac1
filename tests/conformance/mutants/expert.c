/* Feed-forward blocks token by token, in f32 on weights of any type, that break the rule named by MUTANT. */
#include "mutant.h"

enum {
    sound,
    another_name,
    ignores_size,       /* of the shape, and reads all of it */
    keeps_shape,        /* the caller's, beyond create */
    newer_service,      /* calls it without a look at the host's size */
    leaks_when_refused, /* what prepare had, when there is no more to be had */
    wrong_status,       /* for want of memory */
    one_try,            /* a prepare that failed cannot be repeated */
    keeps_arrays,       /* of prepare, not what is in them */
    unprepared,         /* computes without weights: zeros */
    trusts_routing,     /* takes the first expert instead of one that does not exist */
    trusts_weights,     /* of any shape */
    writes_past_y,
    writes_to_x,
    adds_to_y,    /* what was there counts */
    one_layer,    /* the weights of the last one prepared are everybody's */
    company,      /* a token's experts are added in an order that depends on the number of tokens */
    odd_ends,     /* columns beyond whole lanes are left out */
    first_expert, /* counts for every choice when there are more than six */
    other_worker, /* names another than its own to matrix_multiply */
    no_stop,      /* for a thread of its own */
    left_thread,  /* stop leaves it */
};

struct bora_expert {
    const bora_host *host;
    const bora_expert_shape *shape;
    bora_expert_shape copy;
    bora_tensor *weights; /* [n_layers][3][n_experts] */
    const bora_tensor **arrays;
    bool *prepared; /* [n_layers] */
    void **extra;   /* [n_layers], something of each layer's own */
    float *scratch; /* [n_threads][max(dim, hidden) + hidden] */
    uint64_t scratch_size;
    uint32_t last_layer;
    bora_matrix *matrix; /* of the first weights; other_worker */
    bool threaded, tried;
    own_thread *thread; /* by calloc: left_thread leaves it */
};

typedef struct job {
    const bora_expert *expert;
    const bora_tensor *w1, *w2, *w3;
    const float *x;
    float *y;
    const bora_routing *routing;
    uint32_t n;
} job;

static bool is(int variant)
{
    return variant == MUTANT;
}

static float dot(const bora_expert *self, const bora_tensor *w, uint32_t row, const float *x, float *into)
{
    self->host->dequantize(self->host, w, row, 1, into);
    float sum = 0;
    const uint64_t n = is(odd_ends) ? w->n_cols / 16 * 16 : w->n_cols;
    for (uint64_t i = 0; i < n; i++)
        sum += into[i] * x[i];
    return sum;
}

static void tokens(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const job *jb = arg;
    const bora_expert *self = jb->expert;
    const bora_expert_shape *shape = self->shape;
    float *row = self->scratch + worker * self->scratch_size, *hidden = row + self->scratch_size - shape->hidden_dim;
    const uint32_t k = shape->n_experts_per_tok;
    if (is(other_worker) && self->matrix) {
        const bora_input input = {.x = jb->x, .n_rows = 1, .n_cols = shape->dim};
        self->host->matrix_multiply(self->host, self->matrix, &input, 0, 0, worker + 1, NULL, shape->hidden_dim);
    }
    for (uint32_t t = begin; t < end; t++) {
        const float *x = jb->x + (uint64_t)t * shape->dim;
        float *y = jb->y + (uint64_t)t * shape->dim;
        if (!is(adds_to_y))
            memset(y, 0, shape->dim * sizeof *y);
        for (uint32_t i = 0; i < k; i++) {
            const uint32_t c = is(company) && jb->n % 2 ? k - 1 - i : i;
            int32_t e = jb->routing->experts[t * k + c];
            if (is(trusts_routing) && (e < 0 || (uint32_t)e >= shape->n_experts))
                e = 0;
            if (is(first_expert) && shape->n_experts > 6)
                e = jb->routing->experts[t * k];
            for (uint32_t h = 0; h < shape->hidden_dim; h++) {
                const float gate = dot(self, &jb->w1[e], h, x, row);
                hidden[h] = gate / (1 + expf(-gate)) * dot(self, &jb->w3[e], h, x, row);
            }
            for (uint32_t d = 0; d < shape->dim; d++)
                y[d] += jb->routing->weights[t * k + c] * dot(self, &jb->w2[e], d, hidden, row);
        }
    }
}

static bora_status forward(bora_expert *self, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                           const bora_routing *routing, bora_error *err)
{
    const bora_expert_shape *shape = self->shape;
    if (is(unprepared) && layer < shape->n_layers && !self->prepared[layer]) {
        memset(y, 0, (uint64_t)n_tokens * (y ? shape->dim : 0) * sizeof *y);
        return BORA_OK;
    }
    if (layer >= shape->n_layers || !self->prepared[layer] || n_tokens > shape->max_tokens)
        return bora_fail(err, BORA_E_INVAL, "layer %u is not prepared, or %u tokens are too many", layer, n_tokens);
    for (uint32_t i = 0; i < n_tokens * shape->n_experts_per_tok && !is(trusts_routing); i++)
        if (routing->experts[i] < 0 || (uint32_t)routing->experts[i] >= shape->n_experts)
            return bora_fail(err, BORA_E_INVAL, "there is no expert %d", routing->experts[i]);
    if (is(one_layer))
        layer = self->last_layer;
    const bora_tensor *w = self->weights + (uint64_t)layer * 3 * shape->n_experts;
    job jb = {.expert = self,
              .w1 = is(keeps_arrays) ? self->arrays[0] : w,
              .w2 = is(keeps_arrays) ? self->arrays[1] : w + shape->n_experts,
              .w3 = is(keeps_arrays) ? self->arrays[2] : w + 2 * shape->n_experts,
              .x = x,
              .y = y,
              .routing = routing,
              .n = n_tokens};
    self->host->parallel_for(self->host, n_tokens, tokens, &jb);
    if (is(writes_past_y))
        y[(uint64_t)n_tokens * shape->dim] = 0;
    if (is(writes_to_x))
        *(float *)(uintptr_t)x = 0;
    return BORA_OK;
}

static bora_status prepare(bora_expert *self, uint32_t layer, const bora_expert_weights *weights, bora_error *err)
{
    const bora_expert_shape *shape = self->shape;
    if (layer >= shape->n_layers)
        return bora_fail(err, BORA_E_INVAL, "there is no layer %u", layer);
    if (is(one_try) && self->tried)
        return bora_fail(err, BORA_E_INVAL, "once is enough");
    self->tried = true;
    const bora_tensor *all[3] = {weights->w1, weights->w2, weights->w3};
    for (uint32_t m = 0; m < 3; m++)
        for (uint32_t e = 0; e < shape->n_experts; e++) {
            const bora_tensor *w = &all[m][e];
            const uint64_t n_rows = m == 1 ? shape->dim : shape->hidden_dim;
            const uint64_t n_cols = m == 1 ? shape->hidden_dim : shape->dim;
            if (!is(trusts_weights) &&
                (!w->data || w->dtype >= BORA_DTYPE_COUNT || w->n_rows != n_rows || w->n_cols != n_cols))
                return bora_fail(err, BORA_E_INVAL, "weights %u of expert %u are not what the shape says", m, e);
            self->weights[((uint64_t)layer * 3 + m) * shape->n_experts + e] = *w;
        }
    if (is(keeps_arrays))
        memcpy(self->arrays, all, sizeof all);
    self->extra[layer] = self->host->alloc(self->host, 16);
    void *second = self->host->alloc(self->host, 16);
    if (!self->extra[layer] || !second) {
        if (!is(leaks_when_refused))
            self->host->free(self->host, self->extra[layer]);
        self->extra[layer] = NULL;
        self->host->free(self->host, second);
        return bora_fail(err, is(wrong_status) ? BORA_E_INTERNAL : BORA_E_NOMEM, "no memory");
    }
    self->host->free(self->host, second);
    if (is(other_worker) && self->host->abi_minor >= 2 && self->host->struct_size >= sizeof(bora_host)) {
        bora_status status = self->host->matrix_new(self->host, &weights->w1[0], &self->matrix, err);
        if (status != BORA_OK)
            return status;
    }
    self->prepared[layer] = true;
    self->last_layer = layer;
    return BORA_OK;
}

static void stop(bora_expert *self)
{
    if (self->threaded && !is(left_thread)) {
        own_thread_end(self->thread);
        free(self->thread);
        self->threaded = false;
    }
}

static void destroy(bora_expert *self)
{
    if (!self)
        return;
    if (self->threaded && is(no_stop)) {
        own_thread_end(self->thread);
        free(self->thread);
    }
    for (uint32_t i = 0; self->extra && i < self->shape->n_layers; i++)
        self->host->free(self->host, self->extra[i]);
    self->host->free(self->host, self->extra);
    self->host->free(self->host, self->weights);
    self->host->free(self->host, self->arrays);
    self->host->free(self->host, self->prepared);
    self->host->free(self->host, self->scratch);
    self->host->free(self->host, self);
}

static bora_status create(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret, bora_error *err)
{
    bora_expert_shape copy = {.struct_size = shape->struct_size};
    if (is(ignores_size))
        read_all(shape, sizeof *shape);
    if (copy.struct_size < sizeof copy)
        return bora_fail(err, BORA_E_INVAL, "a shape of %u bytes", copy.struct_size);
    copy = *shape;
    if (!copy.n_layers || !copy.n_experts || copy.n_experts > 1000 || copy.max_tokens > 100000)
        return bora_fail(err, BORA_E_LIMIT, "too many of something");
    if (is(newer_service) && !host->input_n_panels(host, 1))
        return bora_fail(err, BORA_E_UNAVAILABLE, "no panels");
    bora_expert *self = host->alloc(host, sizeof *self);
    if (!self)
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    *self = (bora_expert){.host = host, .copy = copy};
    self->shape = is(keeps_shape) ? shape : &self->copy;
    self->scratch_size = (copy.dim > copy.hidden_dim ? copy.dim : copy.hidden_dim) + (uint64_t)copy.hidden_dim;
    self->weights = host->alloc(host, (uint64_t)copy.n_layers * 3 * copy.n_experts * sizeof *self->weights);
    self->arrays = host->alloc(host, 3 * sizeof *self->arrays);
    self->prepared = host->alloc(host, copy.n_layers * sizeof *self->prepared);
    self->extra = host->alloc(host, copy.n_layers * sizeof *self->extra);
    self->scratch = host->alloc(host, host->n_threads(host) * self->scratch_size * sizeof *self->scratch);
    if (self->extra)
        memset(self->extra, 0, copy.n_layers * sizeof *self->extra);
    if (!self->weights || !self->arrays || !self->prepared || !self->extra || !self->scratch) {
        destroy(self);
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    }
    memset(self->prepared, 0, copy.n_layers * sizeof *self->prepared);
    if (is(no_stop) || is(left_thread)) {
        self->thread = calloc(1, sizeof *self->thread);
        self->threaded = self->thread && own_thread_start(self->thread);
    }
    *ret = self;
    return BORA_OK;
}

static const bora_expert_ops ops = {
    .struct_size = sizeof ops,
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_BF16) | BORA_DTYPE_BIT(BORA_DTYPE_Q4_K),
    .create = create,
    .stop = MUTANT == no_stop ? NULL : stop,
    .destroy = destroy,
    .prepare = prepare,
    .forward = forward,
};

MUTANT_PLUGIN(BORA_PLUGIN_EXPERT, &ops)
