/* Hops as lists of copied messages under one lock that break the rule named by MUTANT. */
#include "mutant.h"

enum {
    sound,
    another_name,
    ignores_size, /* of the shape, and reads all of it */
    leaks_when_refused,
    hands_out_failed,
    forgets_senders, /* close does not wake them */
    forgets_receivers,
    ignores_close,   /* works on for those who do not wait */
    delivers_closed, /* recv gives what was waiting */
    no_copy,         /* hands over the sender's own memory */
    one_more,        /* than depth fits */
    one_fewer,
    newest_first,
    other_hop, /* recv takes from the next one if something is there */
    trusts_sizes,
    no_sizes, /* recv leaves them as they were */
    any_option,
    unavailable,    /* which breaks nothing */
    shared_closing, /* closing one closes all */
};

typedef struct cell {
    void *head;
    float *body;
    const void *given_head, *given_body; /* the sender's, by no_copy */
    uint64_t head_size, body_size;
} cell;

struct bora_link {
    const bora_host *host;
    bora_link_shape shape;
    pthread_mutex_t lock;
    pthread_cond_t changed_for_senders, changed_for_receivers;
    bool closed;
    uint32_t *n; /* [n_hops] */
    cell *cells; /* [n_hops][depth + 1], the oldest first */
};

static bool all_closed;

static bool is(int variant)
{
    return variant == MUTANT;
}

static bool is_closed(const bora_link *self)
{
    return is(shared_closing) ? all_closed : self->closed;
}

static void close_(bora_link *self)
{
    (void)pthread_mutex_lock(&self->lock);
    self->closed = true;
    if (is(shared_closing))
        all_closed = true;
    if (!is(forgets_senders))
        (void)pthread_cond_broadcast(&self->changed_for_senders);
    if (!is(forgets_receivers))
        (void)pthread_cond_broadcast(&self->changed_for_receivers);
    (void)pthread_mutex_unlock(&self->lock);
}

static void destroy(bora_link *self)
{
    if (!self)
        return;
    for (uint64_t i = 0; self->cells && i < (uint64_t)self->shape.n_hops * (self->shape.depth + 1); i++) {
        self->host->free(self->host, self->cells[i].head);
        self->host->free(self->host, self->cells[i].body);
    }
    self->host->free(self->host, self->cells);
    self->host->free(self->host, self->n);
    (void)pthread_mutex_destroy(&self->lock);
    (void)pthread_cond_destroy(&self->changed_for_senders);
    (void)pthread_cond_destroy(&self->changed_for_receivers);
    self->host->free(self->host, self);
}

static bora_status create(const bora_host *host, const bora_link_shape *shape, bora_link **ret, bora_error *err)
{
    bora_link_shape copy = {.struct_size = shape->struct_size};
    if (is(ignores_size))
        read_all(shape, sizeof *shape);
    if (copy.struct_size < sizeof copy)
        return bora_fail(err, BORA_E_INVAL, "a shape of %u bytes", copy.struct_size);
    copy = *shape;
    if (copy.n_hops - 1 > 1000 || copy.depth - 1 > 1000 || copy.max_head_size > 1 << 20 || copy.max_body_size > 1 << 20)
        return bora_fail(err, BORA_E_LIMIT, "too much or nothing of something");
    if (is(unavailable))
        return bora_fail(err, BORA_E_UNAVAILABLE, "there is nobody else here");
    if (is(any_option))
        (void)host->option(host, "no_plugin_has_such_an_option");
    bora_link *self = host->alloc(host, sizeof *self);
    if (!self)
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    *self = (bora_link){.host = host, .shape = copy};
    (void)pthread_mutex_init(&self->lock, NULL);
    (void)pthread_cond_init(&self->changed_for_senders, NULL);
    (void)pthread_cond_init(&self->changed_for_receivers, NULL);
    const uint64_t n_cells = (uint64_t)copy.n_hops * (copy.depth + 1);
    self->n = host->alloc(host, copy.n_hops * sizeof *self->n);
    self->cells = host->alloc(host, n_cells * sizeof *self->cells);
    bool enough = self->n && self->cells;
    if (self->n)
        memset(self->n, 0, copy.n_hops * sizeof *self->n);
    if (self->cells)
        memset(self->cells, 0, n_cells * sizeof *self->cells);
    for (uint64_t i = 0; i < n_cells && enough; i++) {
        self->cells[i].head = host->alloc(host, copy.max_head_size + 1);
        self->cells[i].body = host->alloc(host, (copy.max_body_size + 1) * sizeof(float));
        enough = self->cells[i].head && self->cells[i].body;
    }
    if (!enough && is(hands_out_failed))
        *ret = self;
    if (!enough) {
        if (!is(leaks_when_refused))
            destroy(self);
        return bora_fail(err, BORA_E_NOMEM, "no memory");
    }
    all_closed = false;
    *ret = self;
    return BORA_OK;
}

static bora_status send(bora_link *self, uint32_t hop, const bora_link_message *message, bora_error *err)
{
    if (hop >= self->shape.n_hops || (!is(trusts_sizes) && (message->head_size > self->shape.max_head_size ||
                                                            message->body_size > self->shape.max_body_size)))
        return bora_fail(err, BORA_E_LIMIT, "no such hop, or the message is larger than was said");
    const uint32_t room = self->shape.depth + is(one_more) - is(one_fewer);
    (void)pthread_mutex_lock(&self->lock);
    while (!is_closed(self) && self->n[hop] >= room)
        (void)pthread_cond_wait(&self->changed_for_senders, &self->lock);
    const bool goes = !is_closed(self) || (is(ignores_close) && self->n[hop] < room);
    if (goes) {
        cell *to = &self->cells[hop * (self->shape.depth + 1) + self->n[hop]++];
        to->given_head = message->head;
        to->given_body = message->body;
        to->head_size = message->head_size;
        to->body_size = message->body_size;
        if (message->head_size && message->head_size <= self->shape.max_head_size)
            memcpy(to->head, message->head, message->head_size);
        if (message->body_size && message->body_size <= self->shape.max_body_size)
            memcpy(to->body, message->body, message->body_size * sizeof(float));
        (void)pthread_cond_broadcast(&self->changed_for_receivers);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return goes ? BORA_OK : bora_fail(err, BORA_E_CLOSED, "closed");
}

static bora_status recv(bora_link *self, uint32_t hop, bora_link_message *message, bora_error *err)
{
    if (hop >= self->shape.n_hops)
        return bora_fail(err, BORA_E_INVAL, "no such hop");
    (void)pthread_mutex_lock(&self->lock);
    if (is(other_hop) && self->n[(hop + 1) % self->shape.n_hops])
        hop = (hop + 1) % self->shape.n_hops;
    while (!is_closed(self) && self->n[hop] == 0)
        (void)pthread_cond_wait(&self->changed_for_receivers, &self->lock);
    const bool gets = !is_closed(self) || ((is(ignores_close) || is(delivers_closed)) && self->n[hop]);
    if (gets) {
        cell *cells = &self->cells[hop * (self->shape.depth + 1)];
        const uint32_t n = self->n[hop]--, at = is(newest_first) ? n - 1 : 0;
        const cell from = cells[at];
        if (from.head_size)
            memcpy(message->head, is(no_copy) ? from.given_head : from.head, from.head_size);
        if (from.body_size)
            memcpy(message->body, is(no_copy) ? from.given_body : from.body, from.body_size * sizeof(float));
        if (!is(no_sizes)) {
            message->head_size = from.head_size;
            message->body_size = from.body_size;
        }
        memmove(&cells[at], &cells[at + 1], (n - at - 1) * sizeof *cells);
        cells[n - 1] = from; /* its memory stays */
        (void)pthread_cond_broadcast(&self->changed_for_senders);
    }
    (void)pthread_mutex_unlock(&self->lock);
    return gets ? BORA_OK : bora_fail(err, BORA_E_CLOSED, "closed");
}

static const bora_link_ops ops = {
    .struct_size = sizeof ops,
    .create = create,
    .close = close_,
    .destroy = destroy,
    .send = send,
    .recv = recv,
};

MUTANT_PLUGIN(BORA_PLUGIN_LINK, &ops)
