/* link-thread: pipeline stages in one process. Each hop is a bounded queue of copied messages with one lock.
 *
 * All messages of a hop are allocated with the link, so that send and recv never fail for want of memory. close may
 * come from any thread at any time: it raises a flag under every hop's lock and wakes both sides. */
#include <bora/plugin.h>

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

typedef struct link_slot {
    unsigned char *head; /* [max_head_size] */
    float *body;         /* [max_body_size] */
    uint64_t head_size, body_size;
} link_slot;

typedef struct link_hop {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    bool closed;     /* protected by lock */
    uint32_t oldest; /* protected by lock: slot of the oldest message */
    uint32_t n;      /* protected by lock: messages waiting */
    link_slot
        *slots; /* [depth]; a slot belongs to the sender while it is free, to the receiver while it is the oldest */
} link_hop;

struct bora_link {
    const bora_host *host;
    bora_link_shape shape;
    uint32_t n_hops; /* initialised so far */
    link_hop *hops;  /* [shape.n_hops] */
};

static void thread_close(bora_link *link)
{
    for (uint32_t i = 0; link && i < link->n_hops; i++) {
        link_hop *hop = &link->hops[i];
        (void)pthread_mutex_lock(&hop->lock); /* a default mutex that we hold correctly cannot fail to lock */
        hop->closed = true;
        (void)pthread_cond_broadcast(&hop->not_full);
        (void)pthread_cond_broadcast(&hop->not_empty);
        (void)pthread_mutex_unlock(&hop->lock);
    }
}

/* The host has joined its own threads: nobody is inside send or recv any more. */
static void thread_destroy(bora_link *link)
{
    if (!link)
        return;
    const bora_host *host = link->host;
    for (uint32_t i = 0; i < link->n_hops; i++) {
        link_hop *hop = &link->hops[i];
        for (uint32_t s = 0; hop->slots && s < link->shape.depth; s++) {
            host->free(host, hop->slots[s].head);
            host->free(host, hop->slots[s].body);
        }
        host->free(host, hop->slots);
        (void)pthread_cond_destroy(&hop->not_empty);
        (void)pthread_cond_destroy(&hop->not_full);
        (void)pthread_mutex_destroy(&hop->lock);
    }
    host->free(host, link->hops);
    host->free(host, link);
}

static bool create_hop(const bora_link *link, link_hop *hop)
{
    const bora_host *host = link->host;
    *hop = (link_hop){.n = 0};
    (void)pthread_mutex_init(&hop->lock, NULL); /* default attributes: cannot fail on Linux */
    (void)pthread_cond_init(&hop->not_full, NULL);
    (void)pthread_cond_init(&hop->not_empty, NULL);
    hop->slots = host->alloc(host, link->shape.depth * sizeof *hop->slots);
    if (!hop->slots)
        return false;
    memset(hop->slots, 0, link->shape.depth * sizeof *hop->slots);
    for (uint32_t s = 0; s < link->shape.depth; s++) {
        /* One byte at least, so that NULL always means "no memory". */
        hop->slots[s].head = host->alloc(host, link->shape.max_head_size + 1);
        hop->slots[s].body = host->alloc(host, (link->shape.max_body_size + 1) * sizeof(float));
        if (!hop->slots[s].head || !hop->slots[s].body)
            return false;
    }
    return true;
}

static bora_status thread_create(const bora_host *host, const bora_link_shape *shape, bora_link **ret_link,
                                 bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "thread: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_hops == 0 || shape->depth == 0)
        return bora_fail(err, BORA_E_INVAL, "thread: %u hops of depth %u", shape->n_hops, shape->depth);
    if (shape->max_head_size >= SIZE_MAX || shape->max_body_size >= SIZE_MAX / sizeof(float))
        return bora_fail(err, BORA_E_LIMIT, "thread: messages of %llu bytes and %llu floats",
                         (unsigned long long)shape->max_head_size, (unsigned long long)shape->max_body_size);
    bora_link *link = host->alloc(host, sizeof *link);
    if (!link)
        return bora_fail(err, BORA_E_NOMEM, "thread: the link");
    *link = (bora_link){.host = host, .shape = *shape};
    link->hops = host->alloc(host, shape->n_hops * sizeof *link->hops); /* 2^32 hops fit a size_t */
    bool enough = link->hops != NULL;
    while (enough && link->n_hops < shape->n_hops)
        enough = create_hop(link, &link->hops[link->n_hops++]); /* counted first: destroy frees half a hop too */
    if (!enough) {
        thread_destroy(link);
        return bora_fail(err, BORA_E_NOMEM, "thread: %u hops of %u messages", shape->n_hops, shape->depth);
    }
    *ret_link = link;
    return BORA_OK;
}

static bora_status thread_send(bora_link *link, uint32_t hop_id, const bora_link_message *message, bora_error *err)
{
    if (hop_id >= link->n_hops)
        return bora_fail(err, BORA_E_INVAL, "thread: there is no hop %u", hop_id);
    if (message->head_size > link->shape.max_head_size || message->body_size > link->shape.max_body_size)
        return bora_fail(err, BORA_E_LIMIT, "thread: a message of %llu bytes and %llu floats is larger than announced",
                         (unsigned long long)message->head_size, (unsigned long long)message->body_size);
    link_hop *hop = &link->hops[hop_id];
    (void)pthread_mutex_lock(&hop->lock);
    while (!hop->closed && hop->n == link->shape.depth)
        (void)pthread_cond_wait(&hop->not_full, &hop->lock);
    bool closed = hop->closed;
    link_slot *to = &hop->slots[(hop->oldest + (uint64_t)hop->n) % link->shape.depth];
    (void)pthread_mutex_unlock(&hop->lock);
    if (closed)
        return bora_fail(err, BORA_E_CLOSED, "thread: the link is closed");
    /* Copied without the lock: there is one sender, and the receiver does not look at a slot before it is counted. */
    if (message->head_size)
        memcpy(to->head, message->head, message->head_size);
    if (message->body_size)
        memcpy(to->body, message->body, message->body_size * sizeof *to->body);
    to->head_size = message->head_size;
    to->body_size = message->body_size;
    (void)pthread_mutex_lock(&hop->lock);
    hop->n++;
    (void)pthread_cond_signal(&hop->not_empty);
    (void)pthread_mutex_unlock(&hop->lock);
    return BORA_OK;
}

static bora_status thread_recv(bora_link *link, uint32_t hop_id, bora_link_message *message, bora_error *err)
{
    if (hop_id >= link->n_hops)
        return bora_fail(err, BORA_E_INVAL, "thread: there is no hop %u", hop_id);
    link_hop *hop = &link->hops[hop_id];
    (void)pthread_mutex_lock(&hop->lock);
    while (!hop->closed && hop->n == 0)
        (void)pthread_cond_wait(&hop->not_empty, &hop->lock);
    bool closed = hop->closed;
    const link_slot *from = &hop->slots[hop->oldest];
    (void)pthread_mutex_unlock(&hop->lock);
    if (closed)
        return bora_fail(err, BORA_E_CLOSED, "thread: the link is closed");
    if (from->head_size)
        memcpy(message->head, from->head, from->head_size);
    if (from->body_size)
        memcpy(message->body, from->body, from->body_size * sizeof *from->body);
    message->head_size = from->head_size;
    message->body_size = from->body_size;
    (void)pthread_mutex_lock(&hop->lock);
    hop->oldest = (hop->oldest + 1) % link->shape.depth;
    hop->n--;
    (void)pthread_cond_signal(&hop->not_full);
    (void)pthread_mutex_unlock(&hop->lock);
    return BORA_OK;
}

static const bora_link_ops thread_ops = {
    .struct_size = sizeof(bora_link_ops),
    .create = thread_create,
    .close = thread_close,
    .destroy = thread_destroy,
    .send = thread_send,
    .recv = thread_recv,
};

static const bora_plugin thread_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_LINK,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "thread",
    .version = "1.0",
    .ops = &thread_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &thread_plugin;
}
