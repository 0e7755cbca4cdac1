/* One batch step: planned, run, and what it has come to handed to its tasks. */
#include "engine/scheduler_private.h"

#include "base/memory.h"

#include <string.h>

/* ---- planning ---------------------------------------------------------------------------------------------- */

/* scheduler->items: one of each task, in the order of the list. False: no memory. */
static bool list_items(bora_scheduler *scheduler, uint32_t *ret_n_decoding)
{
    if (scheduler->items_capacity < scheduler->n_running) {
        size_t capacity = scheduler->n_running * 2;
        bora_plan_item *items = bora_realloc(scheduler->items, capacity, sizeof *items);
        if (!items)
            return false;
        scheduler->items = items;
        scheduler->items_capacity = capacity;
    }
    uint32_t n_decoding = 0;
    bora_plan_item *item = scheduler->items;
    for (const bora_task *task = scheduler->running; task; task = task->next) {
        *item++ = (bora_plan_item){
            .owner = (uint32_t)bora_queue_owner(scheduler, task->generation->owner), /* made by enqueue */
            .is_background = task->generation->is_background,
            .is_decoding = bora_task_is_decoding(task),
            .n_left = bora_task_n_left(task),
            .last_turn = task->last_turn,
        };
        n_decoding += bora_task_is_decoding(task);
    }
    *ret_n_decoding = n_decoding;
    return true;
}

static void add_part(bora_scheduler *scheduler, bora_task *task, uint32_t n, uint32_t *n_rows)
{
    size_t begin = (size_t)bora_sequence_n_cached(task->sequence);
    memcpy(scheduler->rows + *n_rows, task->tokens.ids + begin, n * sizeof *scheduler->rows);
    bool whole = n == bora_task_n_left(task);
    scheduler->parts[scheduler->n_in_step] =
        (bora_batch_part){.sequence = task->sequence,
                          .n = n,
                          .n_logits = whole && task->generation->max_generated > 0 ? 1 : 0};
    scheduler->in_step[scheduler->n_in_step++] = task;
    *n_rows += n;
}

typedef struct step_size {
    uint32_t n_decoding, n_prompt; /* rows */
} step_size;

/* Fills in rows, parts and in_step. */
static step_size build(bora_scheduler *scheduler)
{
    uint32_t n_decoding = 0, n_rows = 0;
    step_size size = {0};
    const bora_scheduler_options *options = &scheduler->options;
    scheduler->n_in_step = 0;
    scheduler->has_dropped = false;
    scheduler->step_number++;
    if (!list_items(scheduler, &n_decoding))
        return size;
    uint32_t n_parts = options->max_running;
    n_decoding = n_decoding < n_parts ? n_decoding : n_parts;
    uint64_t max_ns = (uint64_t)options->max_step_ms * 1000000;
    const bool is_due = bora_pace_is_due(&scheduler->pace, n_decoding, max_ns);
    const bora_plan_limits limits = {
        .n_items = n_parts,
        .n_rows = options->batch_tokens,
        .n_prompt = is_due ? 0 : bora_pace_rows(&scheduler->pace, n_decoding, max_ns, options->batch_tokens),
        .chunk = options->chunk,
    };
    for (size_t i = 0; i < scheduler->n_owners; i++)
        scheduler->served[i] = scheduler->owners[i].served;
    bora_plan_step(&limits, scheduler->step_number, scheduler->served, scheduler->n_owners, scheduler->items,
                   scheduler->n_running);
    for (size_t i = 0; i < scheduler->n_owners; i++)
        scheduler->owners[i].served = scheduler->served[i];
    const bora_plan_item *item = scheduler->items;
    for (bora_task *task = scheduler->running; task; task = task->next, item++) {
        if (item->n_rows == 0)
            continue;
        task->last_turn = item->last_turn;
        add_part(scheduler, task, item->n_rows, &n_rows);
        *(item->is_decoding ? &size.n_decoding : &size.n_prompt) += item->n_rows;
    }
    return size;
}

/* ---- running ------------------------------------------------------------------------------------------------- */

static bora_status run_parts(bora_scheduler *scheduler, uint32_t first, uint32_t n, const int32_t *rows,
                             bora_error *err)
{
    bora_batch batch = {.tokens = rows,
                        .parts = scheduler->parts + first,
                        .n_parts = n,
                        .between = bora_scheduler_between,
                        .between_arg = scheduler};
    return bora_pipeline_forward(scheduler->pipeline, &batch, scheduler->was_given_up ? NULL : &scheduler->give_up,
                                 scheduler->logits, err);
}

/* The other answers to a prompt that was just read: each in a sequence of its own, from the same logits. Room for them
 * in the list of sequences and in memory was made before. */
static bora_status split_choices(bora_scheduler *scheduler, bora_task *task, bora_error *err)
{
    uint32_t n = task->generation->n_choices;
    task->promise /= n; /* what it set aside for the others is theirs now */
    size_t owner = bora_queue_owner(scheduler, task->generation->owner);
    for (uint32_t choice = 1; choice < n; choice++) {
        bora_task *other = NULL;
        bora_status st = bora_task_fork(task, choice, &other, err);
        if (st != BORA_OK)
            return st;
        other->next = task->next;
        task->next = other;
        scheduler->n_running++;
        scheduler->owners[owner].n_tasks++;
    }
    return BORA_OK;
}

static void take_logits(bora_scheduler *scheduler, bora_task *task, const float *logits)
{
    int reason = 0;
    bora_error why = {{0}};
    bora_status st = bora_task_take(task, scheduler->sampler, logits, &reason, &why);
    scheduler->counts.n_generated_tokens += st == BORA_OK;
    if (st != BORA_OK)
        bora_scheduler_finish(scheduler, task, BORA_REASON_ERROR, st, &why);
    else if (reason)
        bora_scheduler_finish(scheduler, task, reason, BORA_OK, NULL);
}

/* All tasks of a generation, or a single one. */
static void fail_task(bora_scheduler *scheduler, bora_task *task, bora_status status, const bora_error *why)
{
    uint64_t id = task->generation->id;
    for (bora_task *each = scheduler->running; each;) {
        bool is_one = each->generation->id == id;
        bora_task *next = each->next;
        if (is_one)
            bora_scheduler_finish(scheduler, each, BORA_REASON_ERROR, status, why);
        each = next;
    }
}

/* What a part has come to: the next token of its task, or its end. */
static void take_part(bora_scheduler *scheduler, bora_task *task, const bora_batch_part *part, const float *logits)
{
    bora_error why = {{0}};
    bora_status st = BORA_OK;
    bool was_prompt = !bora_task_is_decoding(task);
    if (was_prompt) {
        scheduler->counts.n_prompt_tokens += part->n;
        st = bora_task_progress(task, &why);
    }
    if (st == BORA_OK && was_prompt && part->n_logits > 0 && task->generation->n_choices > 1)
        st = split_choices(scheduler, task, &why);
    if (st != BORA_OK) {
        fail_task(scheduler, task, st, &why);
    } else if (part->n_logits == 0) {
        if (bora_task_n_left(task) == 0)
            bora_scheduler_finish(scheduler, task, BORA_REASON_LENGTH, BORA_OK, NULL); /* nothing was to be made */
    } else if (was_prompt && task->generation->n_choices > 1) {
        uint64_t id = task->generation->id;
        for (bora_task *each = scheduler->running; each;) {
            bora_task *next = each->next;
            if (each->generation->id == id)
                take_logits(scheduler, each, logits);
            each = next;
        }
    } else {
        take_logits(scheduler, task, logits);
    }
}

static void take_parts(bora_scheduler *scheduler, uint32_t first, uint32_t n, bora_status st, const bora_error *error)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(scheduler->pipeline))->vocab_size;
    const float *logits = scheduler->logits;
    for (uint32_t i = first; i < first + n; i++) {
        bora_task *task = scheduler->in_step[i];
        if (!task)
            continue; /* it has ended meanwhile; its logits were not made */
        const bora_batch_part part = scheduler->parts[i];
        scheduler->in_step[i] = NULL;
        if (st != BORA_OK)
            fail_task(scheduler, task, st, error);
        else
            take_part(scheduler, task, &part, logits);
        logits += part.n_logits * vocab_size;
    }
}

/* ---- afterwards ------------------------------------------------------------------------------------------------ */

static void add_to_rate(bora_scheduler *scheduler, uint64_t from_ns, uint64_t to_ns, const bora_scheduler_stats *before)
{
    const bora_scheduler_stats *now = &scheduler->counts;
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    bora_rate_add(&scheduler->rate, from_ns, to_ns, now->n_prompt_tokens - before->n_prompt_tokens,
                  now->n_generated_tokens - before->n_generated_tokens);
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
}

/* "3, 7, 12": whose rows were in the step; with "..." at the end if there are too many. Those that were cancelled
 * meanwhile are not there; several answers to one prompt are one request. */
static void name_requests(const bora_scheduler *scheduler, char *ret, size_t size)
{
    size_t used = 0;
    const bora_generation *last = NULL;
    ret[0] = '\0';
    for (uint32_t i = 0; i < scheduler->n_in_step && used < size; i++) {
        const bora_task *task = scheduler->in_step[i];
        if (!task || task->generation == last)
            continue;
        last = task->generation;
        used += (size_t)snprintf(ret + used, size - used, "%s%llu", used ? ", " : "", (unsigned long long)last->id);
    }
    if (used >= size)
        memcpy(ret + size - 4, "...", 4);
}

static void tell_slow(bora_scheduler *scheduler, const step_size *size, uint64_t ns, const bora_profile *before)
{
    if (!scheduler->options.slow_step_ms || ns < (uint64_t)scheduler->options.slow_step_ms * 1000000)
        return;
    scheduler->counts.n_slow_steps++;
    bora_profile after;
    bora_pipeline_profile(scheduler->pipeline, &after);
    char phases[256], requests[256];
    size_t used = 0;
    phases[0] = '\0';
    for (uint32_t kind = 0; kind < BORA_PROFILE_COUNT && used < sizeof phases; kind++) {
        uint64_t ms = (after.ns[kind] - before->ns[kind]) / 1000000;
        if (ms > 0)
            used += (size_t)snprintf(phases + used, sizeof phases - used, " %s %llu", bora_profile_name(kind),
                                     (unsigned long long)ms); /* cut if too long */
    }
    name_requests(scheduler, requests, sizeof requests);
    bora_logf(scheduler->log, BORA_LOG_WARN, "slow step: %llu ms for %u decoding and %u prompt rows of requests %s;%s",
              (unsigned long long)(ns / 1000000), size->n_decoding, size->n_prompt, requests, phases);
}

void bora_scheduler_step(bora_scheduler *scheduler)
{
    const uint64_t begun_ns = bora_task_now_ns();
    const bora_scheduler_stats before = scheduler->counts;
    bora_profile profile;
    bora_pipeline_profile(scheduler->pipeline, &profile);
    step_size size = build(scheduler);
    uint32_t n_parts = scheduler->n_in_step;
    bora_error err = {{0}};
    bora_status st = n_parts ? run_parts(scheduler, 0, n_parts, scheduler->rows, &err)
                             : bora_fail(&err, BORA_E_NOMEM, "a step's plan");
    if (st == BORA_E_CANCELLED) {
        scheduler->n_in_step = 0; /* the mail says for whom */
        scheduler->was_given_up = true;
        return;
    }
    const uint64_t run_ns = bora_task_now_ns() - begun_ns;
    scheduler->was_given_up = false;
    scheduler->counts.n_steps++;
    tell_slow(scheduler, &size, run_ns, &profile); /* while all that were in it are there */
    if (n_parts == 0) {
        fail_task(scheduler, scheduler->running, st, &err);
    } else if (st == BORA_OK || n_parts == 1) {
        take_parts(scheduler, 0, n_parts, st, &err);
    } else {
        /* One of them cannot go on (its cache cannot grow, say): each for itself, so that it costs that one alone. */
        const int32_t *rows = scheduler->rows;
        for (uint32_t i = 0; i < n_parts; i++) {
            uint32_t n = scheduler->parts[i].n;
            st = scheduler->in_step[i] ? run_parts(scheduler, i, 1, rows, &err) : BORA_OK;
            if (st == BORA_E_CANCELLED)
                break; /* those that are left have not moved */
            rows += n;
            take_parts(scheduler, i, 1, st, &err);
        }
    }
    if (!scheduler->has_dropped && st == BORA_OK)
        bora_pace_learn(&scheduler->pace, size.n_decoding, size.n_prompt, run_ns);
    scheduler->n_in_step = 0;
    scheduler->counts.step_ns = run_ns;
    scheduler->counts.step_rows = size.n_decoding + size.n_prompt;
    scheduler->counts.busy_ns += run_ns;
    add_to_rate(scheduler, begun_ns, bora_task_now_ns(), &before);
    bora_scheduler_update_stats(scheduler);
}
