/* Pipeline parallelism: one thread a stage, joined by a link plugin.
 *
 * The engine's thread cuts the packed batch by sequences into micro-batches and sends each into hop 0; stage s takes it
 * from hop s, runs its layers, and sends it on over hop s+1; the engine's thread collects logits from the last hop. The
 * link holds as many messages as there are micro-batches, so that sending all before receiving any cannot block for
 * ever. A micro-batch that failed travels on with its status, unworked, so that every one comes back. */
#include "base/counted.h"
#include "base/memory.h"
#include "engine/pipeline_private.h"

#include <string.h>

/* What travels in a message's head. */
typedef struct micro_head {
    uint32_t index; /* of the micro-batch */
    bora_status status;
    bora_error error;
} micro_head;

typedef struct micro_batch {
    uint32_t first_part, n_parts;
    const int32_t *tokens;
    size_t n_tokens, n_logits, first_logit; /* rows */
} micro_batch;

typedef struct stage_thread {
    bora_stages *owner;
    pthread_t thread;
    uint32_t index;
    float *body; /* [body_capacity] */
} stage_thread;

struct bora_stages {
    bora_pipeline *pipeline;
    bora_plugin_host *host;
    const bora_link_ops *ops;
    bora_link *link;
    size_t body_capacity;      /* floats */
    float *body;               /* [body_capacity] of the engine's thread */
    micro_batch *micros;       /* [n_stages]; written by the engine's thread before it sends, read by the stages */
    const atomic_bool *cancel; /* likewise */
    bora_trace trace;          /* likewise */
    uint32_t n_started;
    stage_thread threads[]; /* [n_stages] */
};

static void trace_one_at_a_time(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols)
{
    bora_pipeline *pipeline = arg;
    (void)pthread_mutex_lock(&pipeline->trace_lock);
    if (pipeline->trace.fn)
        pipeline->trace.fn(pipeline->trace.arg, name, data, n_rows, n_cols);
    (void)pthread_mutex_unlock(&pipeline->trace_lock);
}

static void run_micro(stage_thread *thread, micro_head *head, uint64_t *ret_body_size)
{
    bora_stages *stages = thread->owner;
    bora_pipeline *pipeline = stages->pipeline;
    const micro_batch *micro = &stages->micros[head->index];
    bool last = thread->index + 1 == pipeline->options.n_stages;
    bora_stage_part *parts = pipeline->parts + (size_t)thread->index * pipeline->options.max_tokens + micro->first_part;
    size_t hidden_size = micro->n_tokens * pipeline->hparams->dim;
    float *logits = thread->body + hidden_size; /* behind the hidden states: see bora_stages_new */
    head->status = bora_stage_forward(pipeline->stages[thread->index], micro->tokens, parts, micro->n_parts,
                                      stages->cancel, NULL, NULL, &stages->trace, thread->body, logits, &head->error);
    *ret_body_size = hidden_size;
    if (last && head->status == BORA_OK) {
        *ret_body_size = micro->n_logits * pipeline->hparams->vocab_size;
        memmove(thread->body, logits, *ret_body_size * sizeof *logits);
    }
}

static void *stage_main(void *arg)
{
    stage_thread *thread = arg;
    bora_stages *stages = thread->owner;
    for (;;) {
        micro_head head;
        bora_link_message message = {.head = &head, .body = thread->body};
        if (stages->ops->recv(stages->link, thread->index, &message, NULL) != BORA_OK)
            break; /* closed: the pipeline ends */
        uint64_t body_size = 0;
        if (head.status == BORA_OK)
            run_micro(thread, &head, &body_size);
        bora_link_message out = {.head = &head,
                                 .head_size = sizeof head,
                                 .body = thread->body,
                                 .body_size = head.status ? 0 : body_size};
        if (stages->ops->send(stages->link, thread->index + 1, &out, NULL) != BORA_OK)
            break;
    }
    return NULL;
}

static void stages_freep(bora_stages **stages)
{
    bora_stages_free(*stages);
}

bora_status bora_stages_new(bora_pipeline *pipeline, const bora_plugin_library *library,
                            const bora_plugin_options *options, bora_stages **ret_stages, bora_error *err)
{
    uint32_t n_stages = pipeline->options.n_stages;
    BORA_CLEANUP(stages_freep)
    bora_stages *stages = bora_calloc(1, sizeof *stages + n_stages * sizeof stages->threads[0]);
    if (!stages)
        return bora_fail(err, BORA_E_NOMEM, "%u stages", n_stages);
    stages->pipeline = pipeline;
    /* Hidden states, and behind them the last stage's logits. */
    stages->body_capacity = (size_t)pipeline->options.max_tokens * pipeline->hparams->dim +
                            (size_t)pipeline->options.max_logits * pipeline->hparams->vocab_size;
    bora_ledger *ledger = pipeline->options.ledger;
    stages->body = bora_counted_calloc(ledger, BORA_LEDGER_ACTIVATIONS, stages->body_capacity, sizeof(float));
    stages->micros = bora_calloc(n_stages, sizeof *stages->micros);
    if (!stages->micros)
        return bora_fail(err, BORA_E_NOMEM, "%u stages", n_stages);
    if (!stages->body)
        return bora_counted_fail(ledger, "what travels between stages", stages->body_capacity * sizeof(float), err);
    bora_status st = bora_plugin_host_new(pipeline->log, NULL, NULL, &pipeline->cpu, options, ledger,
                                          BORA_LEDGER_PLUGINS, &stages->host, err);
    if (st != BORA_OK)
        return st;
    bora_link_shape shape = {
        .struct_size = sizeof shape,
        .n_hops = n_stages + 1,
        .depth = n_stages,
        .max_head_size = sizeof(micro_head),
        .max_body_size = stages->body_capacity,
    };
    stages->ops = bora_plugin_link_ops(library);
    st = stages->ops->create(bora_plugin_host_table(stages->host), &shape, &stages->link, err);
    st = bora_plugin_created(library, stages->host, st, err);
    if (st != BORA_OK)
        return st;
    for (uint32_t s = 0; s < n_stages; s++) {
        stage_thread *thread = &stages->threads[s];
        *thread = (stage_thread){.owner = stages, .index = s};
        thread->body = bora_counted_calloc(ledger, BORA_LEDGER_ACTIVATIONS, stages->body_capacity, sizeof(float));
        if (!thread->body)
            return bora_counted_fail(ledger, "what travels between stages", stages->body_capacity * sizeof(float), err);
        int code = pthread_create(&thread->thread, NULL, stage_main, thread);
        if (code) {
            bora_counted_free(thread->body);
            return bora_fail(err, BORA_E_IO, "starting stage %u: %s", s, strerror(code));
        }
        stages->n_started++;
    }
    *ret_stages = bora_steal(&stages);
    return BORA_OK;
}

void bora_stages_free(bora_stages *stages)
{
    if (!stages)
        return;
    if (stages->link)
        stages->ops->close(stages->link);
    for (uint32_t s = 0; s < stages->n_started; s++) {
        (void)pthread_join(stages->threads[s].thread, NULL);
        bora_counted_free(stages->threads[s].body);
    }
    if (stages->link) {
        if (stages->ops->stop)
            stages->ops->stop(stages->link);
        stages->ops->destroy(stages->link);
    }
    bora_plugin_host_free(stages->host);
    bora_free(stages->micros);
    bora_counted_free(stages->body);
    bora_free(stages);
}

/* Cuts the parts into at most n_stages runs of about equal numbers of rows; a sequence is never cut. */
static uint32_t cut_batch(bora_stages *stages, const bora_batch *batch)
{
    uint32_t n_stages = stages->pipeline->options.n_stages;
    size_t total = 0, token = 0, logit = 0;
    for (uint32_t i = 0; i < batch->n_parts; i++)
        total += batch->parts[i].n;
    size_t target = (total + n_stages - 1) / n_stages;
    uint32_t n = 0, part = 0;
    while (part < batch->n_parts) {
        micro_batch micro = {.first_part = part, .tokens = batch->tokens + token, .first_logit = logit};
        while (part < batch->n_parts && (n + 1 == n_stages || micro.n_tokens < target)) {
            micro.n_tokens += batch->parts[part].n;
            micro.n_logits += batch->parts[part].n_logits;
            part++;
        }
        micro.n_parts = part - micro.first_part;
        token += micro.n_tokens;
        logit += micro.n_logits;
        stages->micros[n++] = micro;
    }
    return n;
}

bora_status bora_stages_forward(bora_stages *stages, const bora_batch *batch, const atomic_bool *cancel, float *logits,
                                bora_error *err)
{
    bora_pipeline *pipeline = stages->pipeline;
    size_t vocab_size = pipeline->hparams->vocab_size;
    stages->cancel = cancel;
    stages->trace = (bora_trace){pipeline->trace.fn ? trace_one_at_a_time : NULL, pipeline};
    uint32_t n = cut_batch(stages, batch);
    for (uint32_t i = 0; i < n; i++) {
        micro_head head = {.index = i};
        bora_link_message message = {.head = &head, .head_size = sizeof head, .body = stages->body};
        bora_status st = stages->ops->send(stages->link, 0, &message, err);
        if (st != BORA_OK)
            return st;
    }
    bora_status result = BORA_OK;
    for (uint32_t i = 0; i < n; i++) {
        micro_head head;
        bora_link_message message = {.head = &head, .body = stages->body};
        bora_status st = stages->ops->recv(stages->link, pipeline->options.n_stages, &message, err);
        if (st != BORA_OK)
            return st;
        if (head.status == BORA_OK && message.body_size) /* logits may be NULL when no row wants any */
            memcpy(logits + stages->micros[head.index].first_logit * vocab_size, stages->body,
                   message.body_size * sizeof *logits);
        else if (result == BORA_OK)
            result = bora_fail(err, head.status, "%s", head.error.message);
    }
    return result;
}
