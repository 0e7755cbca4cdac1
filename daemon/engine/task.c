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
    static const char *const names[] = {"error",     "stop",     "stop_text", "length",  "context",
                                        "cancelled", "shutdown", "error",     "deadline"};
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
    bora_ledger_give(event->ledger, BORA_LEDGER_STORE, event->store_size);
    bora_scheduler_reply_free(event->reply);
    bora_free(event);
}

/* Its pages are not needed any more. */
static void drop_restore(bora_generation *generation)
{
    bora_pages_free(generation->restore, generation->n_restore);
    generation->restore = NULL;
    generation->n_restore = 0;
    bora_ledger_give(generation->ledger, BORA_LEDGER_STORE, generation->store_size);
    generation->store_size = 0;
}

void bora_generation_free(bora_generation *generation)
{
    if (!generation)
        return;
    bora_event_free(generation->done);
    drop_restore(generation);
    bora_matcher_free(generation->matcher);
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
        event->n_reused = task->n_reused;
        event->choice = task->choice;
    }
    return event;
}

static void task_free(bora_task *task)
{
    bora_event_free(task->ended);
    if (task->generation && --task->generation->n_tasks == 0)
        bora_generation_free(task->generation);
    bora_tokens_release(&task->tokens);
    bora_text_release(&task->answer);
    bora_matcher_free(task->matcher);
    bora_free(task);
}

/* A sequence for a generation that brings none: restored from its pages, or empty if that fails. */
static bora_status open_sequence(bora_task *task, bora_pipeline *pipeline, const bora_log *log, bora_error *ret_why,
                                 bora_error *err)
{
    bora_generation *generation = task->generation;
    bora_status st = bora_sequence_open(pipeline, &task->sequence, err);
    if (st != BORA_OK || generation->restore_n_cached == 0)
        return st;
    st = bora_sequence_import(task->sequence, generation->restore_n_cached, generation->restore, generation->n_restore,
                              ret_why);
    if (st != BORA_OK) {
        bora_logf(log, BORA_LOG_WARN, "request %llu (%s): cannot restore its cache, running all tokens again: %s",
                  (unsigned long long)generation->id, generation->owner, ret_why->message);
        generation->restore_failed = true;
    }
    drop_restore(generation);
    return BORA_OK;
}

static bora_status find_sequence(bora_task *task, bora_pipeline *pipeline, bora_sequence *forked, const bora_log *log,
                                 bora_error *ret_why, bora_error *err)
{
    bora_status st = BORA_OK;
    task->sequence = forked ? forked : task->generation->sequence;
    if (!task->sequence)
        st = open_sequence(task, pipeline, log, ret_why, err);
    if (st != BORA_OK)
        return st;
    task->replaced_pages = task->generation->restore_failed;
    task->n_start = (size_t)bora_sequence_n_cached(task->sequence);
    task->n_reused = forked ? task->n_start : 0;
    task->n_prompt_end = task->tokens.n;
    if (task->n_start >= task->tokens.n || task->tokens.n > task->max_positions)
        return bora_fail(err, BORA_E_LIMIT, "%zu tokens do not fit the context of %llu", task->tokens.n,
                         (unsigned long long)task->max_positions);
    return BORA_OK;
}

static bora_task *alloc_task(bora_generation *generation, bora_mailbox *events)
{
    bora_task *task = bora_calloc(1, sizeof *task);
    bora_event *ended = generation->n_choices > 1 ? bora_calloc(1, sizeof *ended) : NULL;
    if (!task || (generation->n_choices > 1 && !ended)) {
        bora_free(task);
        bora_free(ended);
        return NULL;
    }
    task->generation = generation;
    task->events = events;
    task->ended = ended;
    task->sampling = generation->sampling;
    return task;
}

bora_status bora_task_new(bora_generation *generation, bora_pipeline *pipeline, bora_sequence *forked,
                          bora_mailbox *events, const bora_log *log, bora_task **ret_task, bora_error *err)
{
    bora_task *task = alloc_task(generation, events);
    if (!task)
        return bora_fail(err, BORA_E_NOMEM, "generation");
    task->max_positions = bora_pipeline_options_of(pipeline)->max_positions;
    task->n_classes = bora_pipeline_n_classes(pipeline);
    task->submitted_ns = generation->done->queue_ns; /* submit left its time there */
    task->started_ns = task->prefilled_ns = bora_task_now_ns();
    bora_decoder_init(&task->decoder, bora_model_tokenizer(bora_pipeline_model(pipeline)), generation->continues_text);

    bora_error why = {{0}};
    bora_status st = bora_tokens_append(&task->tokens, generation->tokens, generation->n_tokens, err);
    if (st == BORA_OK)
        st = find_sequence(task, pipeline, forked, log, &why, err);
    bora_event *event = st == BORA_OK ? event_new(task, BORA_EVENT_STARTED) : NULL;
    if (!event) {
        if (task->sequence != generation->sequence && task->sequence != forked)
            bora_sequence_close(task->sequence);
        task->generation = NULL; /* stays the caller's */
        task_free(task);
        return st == BORA_OK ? bora_fail(err, BORA_E_NOMEM, "generation") : st;
    }
    event->restore_failed = generation->restore_failed;
    event->error = why;
    task->matcher = bora_steal(&generation->matcher);
    generation->n_tasks = 1;
    bora_mailbox_send(events, &event->mail);
    *ret_task = task;
    return BORA_OK;
}

bora_status bora_task_fork(const bora_task *task, uint32_t choice, bora_task **ret_task, bora_error *err)
{
    bora_generation *generation = task->generation;
    bora_task *other = alloc_task(generation, task->events);
    if (!other)
        return bora_fail(err, BORA_E_NOMEM, "choice");
    generation->n_tasks++;
    other->choice = choice;
    other->sampling.seed += choice;
    other->decoder = task->decoder;
    other->n_start = task->n_start;
    other->n_reused = task->n_reused;
    other->n_prompt_end = task->n_prompt_end;
    other->submitted_ns = task->submitted_ns;
    other->started_ns = task->started_ns;
    other->prefilled_ns = task->prefilled_ns;
    other->max_positions = task->max_positions;
    other->n_classes = task->n_classes;
    other->last_turn = task->last_turn;
    other->promise = task->promise;
    bora_status st = bora_tokens_append(&other->tokens, task->tokens.ids, task->tokens.n, err);
    if (st == BORA_OK && task->matcher)
        st = bora_matcher_clone(task->matcher, &other->matcher, err);
    if (st == BORA_OK)
        st = bora_sequence_fork(task->sequence, bora_sequence_n_cached(task->sequence), &other->sequence, err);
    if (st != BORA_OK) {
        task_free(other); /* the generation has others */
        return st;
    }
    *ret_task = other;
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

static bora_status send_token(bora_task *task, int32_t token, float logprob, const bora_token_logprob *top,
                              size_t n_top, size_t end, bora_error *err)
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
    event->n_top = (uint32_t)n_top;
    memcpy(event->top, top, n_top * sizeof *top);
    event->text = text;
    event->text_size = end - task->n_sent;
    event->kv_bytes = bora_sequence_bytes(task->sequence);
    task->n_sent = end;
    bora_mailbox_send(task->events, &event->mail);
    return BORA_OK;
}

/* Tokens that the answer may still have. */
static uint32_t n_tokens_left(const bora_task *task)
{
    uint64_t of_answer = task->generation->max_generated - (task->tokens.n - task->n_prompt_end);
    uint64_t of_context = task->max_positions - task->tokens.n;
    uint64_t left = of_answer < of_context ? of_answer : of_context;
    return left < BORA_TOKENS_ANY ? (uint32_t)left : BORA_TOKENS_ANY;
}

bora_status bora_task_take(bora_task *task, bora_sampler *sampler, const float *logits, int *ret_reason,
                           bora_error *err)
{
    const bora_generation *generation = task->generation;
    const uint64_t *mask = NULL;
    int32_t token = -1;
    float logprob = 0;
    bora_status st = task->matcher ? bora_matcher_mask(task->matcher, n_tokens_left(task), &mask, err) : BORA_OK;
    if (st == BORA_OK)
        st = bora_sampler_choose(sampler, &task->sampling, logits, mask, task->tokens.ids, task->tokens.n,
                                 task->tokens.n, &token, &logprob, err);
    if (st == BORA_OK && task->matcher)
        st = bora_matcher_accept(task->matcher, token, err);
    bora_token_logprob top[BORA_TOP_LOGPROBS_MAX];
    size_t n_top = st == BORA_OK && generation->n_top_logprobs
                       ? bora_sampler_top(sampler, logits, generation->n_top_logprobs, top)
                       : 0;
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
        if (token == bora_tokenizer_eos(task->decoder.tokenizer) && (!generation->ignore_eos || task->matcher))
            reason = BORA_REASON_STOP;
        else if (task->tokens.n - task->n_prompt_end >= generation->max_generated)
            reason = BORA_REASON_LENGTH;
        else if (task->tokens.n >= task->max_positions)
            reason = BORA_REASON_CONTEXT;
    }
    st = send_token(task, token, logprob, top, n_top, end, err);
    if (st == BORA_OK)
        *ret_reason = reason;
    return st;
}

/* New pages, counted as being on their way to the store. */
static bora_status export_pages(const bora_task *task, bora_event *done, bora_error *err)
{
    /* What came from another sequence is not stored with this one yet. */
    uint64_t since = task->replaced_pages || task->n_reused ? 0 : task->n_start;
    done->n_classes = task->n_classes;
    done->replaced_pages = task->replaced_pages;
    bora_status st = bora_sequence_export(task->sequence, since, &done->pages, &done->n_pages, done->keep_from, err);
    uint64_t size = 0;
    for (size_t i = 0; i < done->n_pages; i++)
        size += done->pages[i].size;
    if (st != BORA_OK)
        return st;
    /* The room is part of what was promised, so this is refused only if a promise was broken. */
    if (!bora_ledger_take(task->generation->ledger, BORA_LEDGER_STORE, size))
        return bora_fail(err, BORA_E_NOMEM, "memory limit: no room to store %llu MiB", (unsigned long long)size >> 20);
    done->ledger = task->generation->ledger;
    done->store_size = size;
    return BORA_OK;
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
    return task->generation->export_pages ? export_pages(task, done, err) : BORA_OK;
}

/* The sequence's future. */
static void settle_sequence(bora_task *task, bora_shelf *shelf, bora_event *end)
{
    bool is_good = end->status == BORA_OK;
    bool keep = task->generation->keep && is_good;
    size_t n = (size_t)bora_sequence_n_cached(task->sequence);
    if (keep || (is_good && task->choice == 0 && n >= BORA_PAGE_POSITIONS)) {
        int32_t *tokens = task->tokens.ids;
        task->tokens = (bora_tokens){.n = 0};
        bora_shelf_put(shelf, task->sequence, task->generation->owner, tokens, n, keep);
        if (keep)
            end->sequence = task->sequence;
    } else {
        bora_sequence_close(task->sequence);
    }
}

bora_event *bora_task_finish(bora_task *task, bora_shelf *shelf, int reason, bora_status status,
                             const bora_error *error, bora_event **ret_last)
{
    bora_generation *generation = task->generation;
    bool is_one_of_many = task->ended, is_last = generation->n_tasks == 1;
    /* A generation that ends before its prompt was read has not been split yet. */
    bora_event *end = is_one_of_many ? task->ended : generation->done, *last = NULL;
    task->ended = NULL;
    uint64_t now = bora_task_now_ns();
    *end = (bora_event){.type = is_one_of_many ? BORA_EVENT_CHOICE : BORA_EVENT_DONE,
                        .id = generation->id,
                        .choice = task->choice};
    end->n_prompt = task->n_prompt_end - task->n_start;
    end->n_reused = task->n_reused;
    end->n_cached = bora_sequence_n_cached(task->sequence);
    end->queue_ns = task->started_ns - task->submitted_ns;
    end->prefill_ns = task->prefilled_ns - task->started_ns;
    end->decode_ns = now - task->prefilled_ns;
    end->kv_bytes = bora_sequence_bytes(task->sequence);
    if (error)
        end->error = *error;
    if (reason != BORA_REASON_ERROR)
        status = fill_done(task, reason, end, &end->error);
    end->reason = status == BORA_OK ? reason : BORA_REASON_ERROR;
    end->status = status;
    if (!is_one_of_many || is_last) {
        last = is_one_of_many ? generation->done : NULL;
        generation->done = NULL;
    }
    if (last) {
        *last = (bora_event){.type = BORA_EVENT_DONE, .id = generation->id, .reason = end->reason, .status = status};
        last->error = end->error;
        last->n_prompt = end->n_prompt;
        last->n_reused = end->n_reused;
        last->queue_ns = end->queue_ns;
        last->prefill_ns = end->prefill_ns;
        last->decode_ns = end->decode_ns;
    }
    settle_sequence(task, shelf, end);
    task_free(task);
    *ret_last = last;
    return end;
}
