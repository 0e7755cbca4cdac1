#include "engine/task.h"

#include "base/memory.h"

#include <string.h>
#include <time.h>

uint64_t bora_task_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

const char *bora_reason_name(int reason)
{
    static const char *const names[] = {"error",   "stop",      "stop_text", "length",
                                        "context", "cancelled", "shutdown",  "error"};
    return reason > 0 && reason < (int)BORA_ARRAY_SIZE(names) ? names[reason] : "error";
}

void bora_event_free(bora_event *event)
{
    if (!event)
        return;
    bora_free(event->text);
    bora_free(event->generated);
    bora_free(event->answer);
    bora_pages_free(event->pages, event->n_pages);
    bora_free(event);
}

void bora_generation_free(bora_generation *generation)
{
    if (!generation)
        return;
    bora_event_free(generation->done);
    bora_pages_free(generation->restore, generation->n_restore);
    bora_free(generation->tokens);
    bora_free((void *)(uintptr_t)generation->sampling.biases); /* owned: const only for the sampler */
    for (uint32_t i = 0; i < generation->n_stops; i++)
        bora_free(generation->stops[i]);
    bora_free(generation);
}

static bora_event *event_new(const bora_task *task, int type)
{
    bora_event *event = bora_calloc(1, sizeof *event);
    if (event) {
        event->type = type;
        event->id = task->generation->id;
        event->n_cached = task->n_start;
        event->n_prompt = task->n_prompt_end - task->n_start;
    }
    return event;
}

static void task_free(bora_task *task)
{
    bora_generation_free(task->generation);
    bora_tokens_release(&task->tokens);
    bora_text_release(&task->answer);
    bora_free(task);
}

/* A sequence for a generation that brings none: restored from its pages, or empty if that fails. */
static bora_status open_sequence(bora_task *task, bora_pipeline *pipeline, const bora_log *log, bora_error *ret_why,
                                 bool *ret_restore_failed, bora_error *err)
{
    bora_generation *generation = task->generation;
    bora_status st = bora_sequence_open(pipeline, &task->sequence, err);
    if (st != BORA_OK)
        return st;
    if (generation->restore_n_cached == 0)
        return BORA_OK;
    st = bora_sequence_import(task->sequence, generation->restore_n_cached, generation->restore, generation->n_restore,
                              ret_why);
    if (st != BORA_OK) {
        bora_logf(log, BORA_LOG_WARN, "generation %llu: cannot restore its cache, running all tokens again: %s",
                  (unsigned long long)generation->id, ret_why->message);
        *ret_restore_failed = true;
        task->replaced_pages = true;
    }
    bora_pages_free(generation->restore, generation->n_restore);
    generation->restore = NULL;
    generation->n_restore = 0;
    return BORA_OK;
}

bora_status bora_task_new(bora_generation *generation, bora_pipeline *pipeline, bora_mailbox *events,
                          const bora_log *log, bora_task **ret_task, bora_error *err)
{
    bora_task *task = bora_calloc(1, sizeof *task);
    if (!task)
        return bora_fail(err, BORA_E_NOMEM, "generation");
    task->generation = generation;
    task->events = events;
    task->max_positions = bora_pipeline_options_of(pipeline)->max_positions;
    task->n_classes = bora_pipeline_n_classes(pipeline);
    task->submitted_ns = generation->done->queue_ns; /* submit left its time there */
    task->started_ns = task->prefilled_ns = bora_task_now_ns();
    bora_decoder_init(&task->decoder, bora_model_tokenizer(bora_pipeline_model(pipeline)), generation->continues_text);

    bora_error why = {{0}};
    bool restore_failed = false;
    bora_status st = bora_tokens_append(&task->tokens, generation->tokens, generation->n_tokens, err);
    if (st == BORA_OK) {
        task->sequence = generation->sequence;
        if (!task->sequence)
            st = open_sequence(task, pipeline, log, &why, &restore_failed, err);
    }
    if (st == BORA_OK) {
        task->n_start = (size_t)bora_sequence_n_cached(task->sequence);
        task->n_prompt_end = task->tokens.n;
        if (task->n_start >= task->tokens.n || task->tokens.n > task->max_positions)
            st = bora_fail(err, BORA_E_LIMIT, "%zu tokens do not fit the context of %llu", task->tokens.n,
                           (unsigned long long)task->max_positions);
    }
    bora_event *event = st == BORA_OK ? event_new(task, BORA_EVENT_STARTED) : NULL;
    if (!event) {
        if (task->sequence != generation->sequence)
            bora_sequence_close(task->sequence);
        task->generation = NULL; /* stays the caller's */
        task_free(task);
        return st == BORA_OK ? bora_fail(err, BORA_E_NOMEM, "generation") : st;
    }
    event->restore_failed = restore_failed;
    event->error = why;
    bora_mailbox_send(events, &event->mail);
    *ret_task = task;
    return BORA_OK;
}

size_t bora_task_n_left(const bora_task *task)
{
    return task->tokens.n - (size_t)bora_sequence_n_cached(task->sequence);
}

bool bora_task_is_decoding(const bora_task *task)
{
    return task->tokens.n > task->n_prompt_end;
}

bora_status bora_task_progress(bora_task *task, bora_error *err)
{
    bora_event *event = event_new(task, BORA_EVENT_PROGRESS);
    if (!event)
        return bora_fail(err, BORA_E_NOMEM, "progress of a generation");
    event->n_done = bora_sequence_n_cached(task->sequence) - task->n_start;
    if (bora_task_n_left(task) == 0)
        task->prefilled_ns = bora_task_now_ns();
    bora_mailbox_send(task->events, &event->mail);
    return BORA_OK;
}

/* Earliest place from which a stop text stands in the answer; SIZE_MAX if none does. */
static size_t find_stop(const bora_task *task, size_t from)
{
    size_t best = SIZE_MAX;
    for (uint32_t i = 0; i < task->generation->n_stops; i++) {
        const char *stop = task->generation->stops[i];
        const char *found = task->answer.size > from
                                ? memmem(task->answer.bytes + from, task->answer.size - from, stop, strlen(stop))
                                : NULL;
        if (found && (size_t)(found - task->answer.bytes) < best)
            best = (size_t)(found - task->answer.bytes);
    }
    return best;
}

/* How many bytes at the answer's end could be the beginning of a stop text, and so must wait. */
static size_t held_back(const bora_task *task)
{
    size_t held = 0, unsent = task->answer.size - task->n_sent;
    for (uint32_t i = 0; i < task->generation->n_stops; i++) {
        const char *stop = task->generation->stops[i];
        size_t n = strlen(stop) - 1;
        for (n = n < unsent ? n : unsent; n > held; n--)
            if (memcmp(task->answer.bytes + task->answer.size - n, stop, n) == 0)
                held = n;
    }
    return held;
}

static bora_status send_token(bora_task *task, int32_t token, float logprob, size_t end, bora_error *err)
{
    bora_event *event = event_new(task, BORA_EVENT_TOKEN);
    char *text =
        event ? bora_strndup(task->answer.bytes ? task->answer.bytes + task->n_sent : "", end - task->n_sent) : NULL;
    if (!text) {
        bora_event_free(event);
        return bora_fail(err, BORA_E_NOMEM, "token of a generation");
    }
    event->index = (uint32_t)(task->tokens.n - task->n_prompt_end - 1);
    event->token = token;
    event->logprob = logprob;
    event->text = text;
    event->text_size = end - task->n_sent;
    event->kv_bytes = bora_sequence_bytes(task->sequence);
    task->n_sent = end;
    bora_mailbox_send(task->events, &event->mail);
    return BORA_OK;
}

bora_status bora_task_take(bora_task *task, bora_sampler *sampler, const float *logits, int *ret_reason,
                           bora_error *err)
{
    const bora_generation *generation = task->generation;
    int32_t token;
    float logprob;
    bora_status st = bora_sampler_choose(sampler, &generation->sampling, logits, NULL, task->tokens.ids, task->tokens.n,
                                         task->tokens.n, &token, &logprob, err);
    if (st == BORA_OK)
        st = bora_tokens_push(&task->tokens, token, err);
    size_t before = task->answer.size;
    if (st == BORA_OK)
        st = bora_decoder_push(&task->decoder, token, &task->answer, err);
    if (st != BORA_OK)
        return st;

    int reason = 0;
    size_t from = before > BORA_STOP_TEXT_MAX ? before - BORA_STOP_TEXT_MAX : 0;
    size_t stop = find_stop(task, from > task->n_sent ? from : task->n_sent);
    size_t end = task->answer.size;
    if (stop != SIZE_MAX) {
        reason = BORA_REASON_STOP_TEXT;
        end = task->answer.size = stop;
        task->answer.bytes[stop] = '\0';
    } else {
        end -= held_back(task);
        if (token == bora_tokenizer_eos(task->decoder.tokenizer) && !generation->ignore_eos)
            reason = BORA_REASON_STOP;
        else if (task->tokens.n - task->n_prompt_end >= generation->max_generated)
            reason = BORA_REASON_LENGTH;
        else if (task->tokens.n >= task->max_positions)
            reason = BORA_REASON_CONTEXT;
    }
    st = send_token(task, token, logprob, end, err);
    if (st == BORA_OK)
        *ret_reason = reason;
    return st;
}

/* Fills in what DONE carries; what cannot be had for lack of memory turns the answer into an error. */
static bora_status fill_done(bora_task *task, int reason, bora_event *done, bora_error *err)
{
    bora_status st = BORA_OK;
    if (reason != BORA_REASON_STOP_TEXT)
        st = bora_decoder_flush(&task->decoder, &task->answer, err);
    if (st != BORA_OK)
        return st;
    size_t n = task->tokens.n - task->n_prompt_end;
    done->text_size = task->answer.size - task->n_sent;
    done->text = bora_strndup(task->answer.bytes ? task->answer.bytes + task->n_sent : "", done->text_size);
    done->answer_size = task->answer.size;
    done->answer = bora_strndup(task->answer.bytes ? task->answer.bytes : "", task->answer.size);
    done->generated = bora_calloc(n, sizeof *done->generated);
    if (!done->text || !done->answer || !done->generated)
        return bora_fail(err, BORA_E_NOMEM, "the end of an answer");
    if (n > 0)
        memcpy(done->generated, task->tokens.ids + task->n_prompt_end, n * sizeof *done->generated);
    done->n_generated = n;
    if (task->generation->export_pages) {
        uint64_t since = task->replaced_pages ? 0 : task->n_start;
        st = bora_sequence_export(task->sequence, since, &done->pages, &done->n_pages, done->keep_from, err);
        done->n_classes = task->n_classes;
        done->replaced_pages = task->replaced_pages;
    }
    return st;
}

bora_event *bora_task_finish(bora_task *task, int reason, bora_status status, const bora_error *error)
{
    bora_event *done = task->generation->done;
    task->generation->done = NULL;
    uint64_t now = bora_task_now_ns();
    *done = (bora_event){.type = BORA_EVENT_DONE, .id = task->generation->id};
    done->n_prompt = task->n_prompt_end - task->n_start;
    done->n_cached = bora_sequence_n_cached(task->sequence);
    done->queue_ns = task->started_ns - task->submitted_ns;
    done->prefill_ns = task->prefilled_ns - task->started_ns;
    done->decode_ns = now - task->prefilled_ns;
    done->kv_bytes = bora_sequence_bytes(task->sequence);
    if (error)
        done->error = *error;
    if (reason != BORA_REASON_ERROR)
        status = fill_done(task, reason, done, &done->error);
    done->reason = status == BORA_OK ? reason : BORA_REASON_ERROR;
    done->status = status;
    if (task->generation->keep && status == BORA_OK)
        done->sequence = task->sequence;
    else
        bora_sequence_close(task->sequence);
    task_free(task);
    return done;
}
