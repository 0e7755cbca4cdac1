/* Which generations may begin, and when: the promises of memory, and beginnings taken over from others.
 *
 * A generation begins when the ledger has room for all it may come to need: its whole cache at its greatest length, and
 * its pages on their way from and to the store. So nothing that runs ever lacks memory, and nothing has to be thrown
 * out half-way. What is promised and not yet used is kept in mind here; what is used the ledger knows.
 *
 * If there is no room, what finished requests left on the shelf goes first, then the caches of sessions that wait,
 * whose pages the store has; then the caller is asked to close idle sessions (PRESSURE); then the queue waits for
 * something to end. Whose turn it is, the queue knows (queue.c). */
#include "engine/scheduler_private.h"

#include "base/memory.h"

#include <string.h>

/* ---- promises ---------------------------------------------------------------------------------------------- */

static uint64_t n_choices_of(const bora_generation *generation)
{
    return generation->n_choices > 1 ? generation->n_choices : 1;
}

/* All that a generation may come to have: caches at their greatest length, and pages that come or, later, go. sequence:
 * what it brings; NULL: nothing. */
static uint64_t need_with(const bora_scheduler *scheduler, const bora_generation *generation,
                          const bora_sequence *sequence, uint64_t n_stored)
{
    const bora_pipeline *pipeline = scheduler->pipeline;
    uint64_t max = bora_pipeline_options_of(pipeline)->max_positions;
    uint64_t n = generation->n_tokens + generation->max_generated;
    n = n < max ? n : max;
    const uint64_t too_much = UINT64_MAX / 4; /* so that sums with it do not overflow */
    uint64_t kv = bora_pipeline_kv_size(pipeline, n), need;
    if (kv > too_much)
        return too_much;
    /* The ledger counts a few bytes in front of each piece that the cache asks for: up to 8 pieces a layer, or many,
     * which are large. */
    const uint64_t each_layer = 8 * 64;
    kv += kv / 64 + (bora_model_hparams(bora_pipeline_model(pipeline))->n_layers + 1) * each_layer;
    if (__builtin_mul_overflow(kv, n_choices_of(generation), &need) || need > too_much)
        return too_much;
    uint64_t at_rest = sequence ? bora_sequence_n_cached(sequence) : 0;
    uint64_t whole = bora_pipeline_kv_sequence_max(pipeline), each = bora_pipeline_kv_position_size(pipeline);
    uint64_t out = generation->export_pages ? (n - (at_rest < n ? at_rest : n)) * each : 0;
    uint64_t in = n_stored * each, pages = in > out ? in : out;
    return need + (pages < whole ? pages : whole);
}

static uint64_t need_of(const bora_scheduler *scheduler, const bora_generation *generation)
{
    return need_with(scheduler, generation, generation->sequence, generation->n_stored);
}

uint64_t bora_task_unused(const bora_task *task)
{
    uint64_t bytes = bora_sequence_bytes(task->sequence);
    return task->promise > bytes ? task->promise - bytes : 0;
}

uint64_t bora_scheduler_promised(const bora_scheduler *scheduler)
{
    uint64_t sum = 0;
    for (const bora_task *task = scheduler->running; task; task = task->next)
        sum += bora_task_unused(task);
    for (const bora_mail *mail = scheduler->restoring; mail; mail = mail->next)
        sum += ((const bora_generation *)mail)->promise;
    return sum;
}

/* What all sequences hold, as if they shared nothing: what is shared now need not stay so while they go on. */
static uint64_t unshared(const bora_scheduler *scheduler)
{
    uint64_t sum = 0;
    for (const bora_task *task = scheduler->running; task; task = task->next)
        sum += bora_sequence_bytes(task->sequence);
    for (size_t i = 0; i < scheduler->shelf.n; i++)
        sum += bora_sequence_bytes(scheduler->shelf.entries[i].sequence);
    return sum;
}

/* Bytes that are missing for a generation to begin; 0: it may. */
static uint64_t missing_for(const bora_scheduler *scheduler, const bora_generation *generation)
{
    if (!scheduler->ledger)
        return 0;
    bora_ledger_state state;
    bora_ledger_get(scheduler->ledger, &state);
    uint64_t has = generation->sequence ? bora_sequence_bytes(generation->sequence) : 0;
    uint64_t need = generation->promise > has ? generation->promise - has : 0;
    uint64_t kv = state.accounts[BORA_LEDGER_KV], whole = unshared(scheduler);
    uint64_t taken = state.used - kv + (kv > whole ? kv : whole) + bora_scheduler_promised(scheduler);
    return taken + need > state.limit ? taken + need - state.limit : 0;
}

/* Bytes for generations if nobody else were here. */
static uint64_t most_room(const bora_scheduler *scheduler)
{
    bora_ledger_state state;
    bora_ledger_get(scheduler->ledger, &state);
    uint64_t fixed = state.used - state.accounts[BORA_LEDGER_KV] - state.accounts[BORA_LEDGER_STORE];
    return state.limit - fixed; /* used is at most limit */
}

static bool is_too_large(const bora_scheduler *scheduler, const bora_generation *generation, bora_error *err)
{
    uint64_t most = scheduler->ledger ? most_room(scheduler) : UINT64_MAX;
    if (generation->promise <= most)
        return false;
    (void)bora_fail(err, BORA_E_LIMIT,
                    "too large: up to %llu tokens may need %llu MiB of memory, and beside the model there are %llu MiB "
                    "(memory.limit)",
                    (unsigned long long)(generation->n_tokens + generation->max_generated),
                    (unsigned long long)(generation->promise >> 20), (unsigned long long)(most >> 20));
    return true;
}

/* It need not wait to be told so. While the model is loaded nobody knows: then its turn shows it. */
static bool can_never_begin(const bora_scheduler *scheduler, bora_generation *generation, bora_error *err)
{
    if (scheduler->is_loading)
        return false;
    generation->promise = need_of(scheduler, generation);
    return is_too_large(scheduler, generation, err);
}

void bora_scheduler_enqueue(bora_scheduler *scheduler, bora_generation *generation)
{
    bora_error err = {{0}};
    generation->mail.next = NULL;
    size_t owner;
    if (scheduler->stopping) {
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    } else if (!scheduler->is_loading && scheduler->load_status != BORA_OK) {
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_ERROR, scheduler->load_status, &scheduler->load_error);
    } else if (can_never_begin(scheduler, generation, &err)) {
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_ERROR, BORA_E_LIMIT, &err);
    } else if ((owner = bora_queue_owner(scheduler, generation->owner)) == SIZE_MAX) {
        (void)bora_fail(&err, BORA_E_NOMEM, "owner");
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_ERROR, BORA_E_NOMEM, &err);
    } else {
        bora_queue_add(scheduler, generation, owner);
    }
}

/* The generation that came last gives up its sequence: its pages are in the store, and are asked for again when it is
 * its turn. Not the next one, nor one that could not get them back. False: there is none. */
static bool close_waiting(bora_scheduler *scheduler, const bora_generation *next)
{
    bora_generation *last = NULL;
    for (bora_mail *mail = scheduler->waiting; mail; mail = mail->next) {
        bora_generation *generation = (bora_generation *)mail;
        const bora_sequence *sequence = generation->sequence;
        if (generation != next && sequence && generation->export_pages &&
            need_with(scheduler, generation, NULL, bora_sequence_n_cached(sequence)) <= most_room(scheduler))
            last = generation;
    }
    if (!last)
        return false;
    last->n_stored = bora_sequence_n_cached(last->sequence);
    (void)bora_shelf_take(&scheduler->shelf, last->sequence);
    bora_sequence_close(last->sequence);
    last->sequence = NULL;
    return true;
}

static bool is_waited_with(const bora_scheduler *scheduler, const bora_sequence *sequence)
{
    const bora_mail *mail = scheduler->waiting;
    while (mail && ((const bora_generation *)mail)->sequence != sequence)
        mail = mail->next;
    return mail != NULL;
}

/* Asks for idle sessions to be closed. False: there are none, or nobody could be asked. */
static bool ask_for_room(bora_scheduler *scheduler, uint64_t n_bytes)
{
    if (scheduler->has_pressure)
        return true;
    if (scheduler->is_pressure_vain)
        return false;
    bool has_sessions = false;
    for (size_t i = 0; i < scheduler->shelf.n && !has_sessions; i++)
        has_sessions = scheduler->shelf.entries[i].is_handed_out &&
                       !is_waited_with(scheduler, scheduler->shelf.entries[i].sequence);
    bora_event *event = has_sessions ? bora_calloc(1, sizeof *event) : NULL;
    if (!event)
        return false;
    event->type = BORA_EVENT_PRESSURE;
    event->n_bytes = n_bytes;
    scheduler->has_pressure = true;
    scheduler->has_closed = false;
    scheduler->counts.n_pressures++;
    bora_mailbox_send(scheduler->events, &event->mail);
    return true;
}

/* ---- beginning --------------------------------------------------------------------------------------------- */

/* The longest beginning that a sequence of the same owner has in common with the generation's tokens, as a new
 * sequence. Whole pages of it; at least one token is left to run. *ret_n: how many tokens; 0: there is none of use. */
static bora_sequence *fork_beginning(bora_scheduler *scheduler, const bora_generation *generation, uint64_t *ret_n)
{
    size_t common = 0;
    bora_shelf_entry *entry =
        bora_shelf_find(&scheduler->shelf, generation->owner, generation->tokens, generation->n_tokens - 1, &common);
    const bora_sequence *source = entry ? entry->sequence : NULL;
    for (const bora_task *task = scheduler->running; task; task = task->next) {
        if (strcmp(task->generation->owner, generation->owner) != 0)
            continue;
        size_t n = bora_tokens_common(task->tokens.ids, (size_t)bora_sequence_n_cached(task->sequence),
                                      generation->tokens, generation->n_tokens - 1);
        if (n > common) {
            common = n;
            source = task->sequence;
            entry = NULL;
        }
    }
    uint64_t n = source ? bora_sequence_forkable(source, common) : 0;
    bora_sequence *sequence = NULL;
    if (n == 0 || bora_sequence_fork(source, n, &sequence, NULL) != BORA_OK)
        return NULL; /* then it is run */
    if (entry)
        entry->last_used = ++scheduler->shelf.clock;
    *ret_n = n;
    return sequence;
}

/* It becomes a task, or fails. Room is promised; it is in no list. */
static void begin(bora_scheduler *scheduler, bora_generation *generation)
{
    bora_error err = {{0}};
    bora_task *task = NULL;
    bora_sequence *brought = generation->sequence, *forked = NULL;
    uint64_t n_reused = 0;
    size_t owner = bora_queue_owner(scheduler, generation->owner); /* made by enqueue */
    bora_status st = bora_shelf_reserve(&scheduler->shelf, scheduler->n_running + n_choices_of(generation), &err);
    if (st == BORA_OK && !brought && generation->restore_n_cached == 0)
        forked = fork_beginning(scheduler, generation, &n_reused);
    if (st == BORA_OK)
        st = bora_task_new(generation, scheduler->pipeline, forked, scheduler->events, scheduler->log, &task, &err);
    if (st != BORA_OK) {
        bora_sequence_close(forked);
        scheduler->owners[owner].n_tasks--;
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_ERROR, st, &err);
        return;
    }
    if (brought)
        (void)bora_shelf_take(&scheduler->shelf, brought); /* the task owns it now */
    task->promise = generation->promise; /* of all its answers, until there are others: split_choices */
    scheduler->counts.n_reused_tokens += n_reused;
    bora_task **link = &scheduler->running;
    while (*link)
        link = &(*link)->next;
    *link = task;
    scheduler->n_running++;
    bora_logf(scheduler->log, BORA_LOG_DEBUG, "request %llu (%s) begins: %zu tokens, %llu of them taken over",
              (unsigned long long)generation->id, generation->owner, generation->n_tokens,
              (unsigned long long)n_reused);
}

/* Room for it is there: it begins, or its pages are asked for first. */
static void let_in(bora_scheduler *scheduler, bora_generation *generation)
{
    (void)bora_queue_withdraw(scheduler, generation->id);
    bora_engine_owner *owner = &scheduler->owners[bora_queue_owner(scheduler, generation->owner)]; /* as before */
    owner->n_tasks++;
    owner->last_begun = ++scheduler->n_begun;
    bora_event *event = generation->n_stored ? bora_calloc(1, sizeof *event) : NULL;
    bora_command *reply = event ? bora_calloc(1, sizeof *reply) : NULL;
    if (!reply) { /* nothing to fetch; or no memory to ask for it: then all is run again */
        bora_free(event);
        generation->restore_failed = generation->n_stored > 0;
        begin(scheduler, generation);
        return;
    }
    event->type = BORA_EVENT_WANT_PAGES;
    event->id = reply->id = generation->id;
    event->reply = reply;
    reply->command = BORA_COMMAND_PAGES;
    generation->mail.next = scheduler->restoring;
    scheduler->restoring = &generation->mail;
    bora_mailbox_send(scheduler->events, &event->mail);
}

void bora_scheduler_restore(bora_scheduler *scheduler, bora_command *order)
{
    bora_generation *generation = bora_queue_take(&scheduler->restoring, order->id);
    if (!generation) { /* cancelled meanwhile */
        bora_ledger_give(scheduler->ledger, BORA_LEDGER_STORE, order->store_size);
        return;
    }
    generation->restore = bora_steal(&order->pages);
    generation->n_restore = order->n_pages;
    generation->store_size = order->store_size;
    order->n_pages = 0;
    generation->restore_n_cached = generation->restore ? generation->n_stored : 0;
    generation->restore_failed = !generation->restore;
    begin(scheduler, generation);
}

/* Pages of those that have ended, which others will free; those of generations that wait here do not count. True: the
 * engine is told when that happens. */
static bool watch_store(bora_scheduler *scheduler)
{
    if (!scheduler->ledger)
        return false;
    if (!scheduler->is_watching)
        bora_ledger_wake(scheduler->ledger, scheduler->inbox, &scheduler->freed.mail);
    scheduler->is_watching = true;
    bora_ledger_state state;
    bora_ledger_get(scheduler->ledger, &state);
    uint64_t own = 0;
    for (const bora_mail *mail = scheduler->waiting; mail; mail = mail->next)
        own += ((const bora_generation *)mail)->store_size;
    return state.accounts[BORA_LEDGER_STORE] > own;
}

/* One that can begin as things are. */
static bora_generation *find_fitting(bora_scheduler *scheduler)
{
    for (bora_mail *mail = scheduler->waiting; mail; mail = mail->next) {
        bora_generation *generation = (bora_generation *)mail;
        generation->promise = need_of(scheduler, generation);
        if (missing_for(scheduler, generation) == 0)
            return generation;
    }
    return NULL;
}

/* Nothing runs, and there is no room for the next one. True: there will be; false: what can be done was done. */
static bool wait_for_room(bora_scheduler *scheduler, bora_generation *next, uint64_t missing)
{
    bool is_watched = watch_store(scheduler); /* before it is looked at again: what is freed later wakes the engine */
    if (missing_for(scheduler, next) == 0)
        return false;
    if (ask_for_room(scheduler, missing) || is_watched)
        return true;
    /* Nothing will ever be closed or freed, unless another's own cache is in the way. */
    bora_generation *other = find_fitting(scheduler);
    if (other) {
        let_in(scheduler, other);
        return false;
    }
    bora_error err = {{0}};
    (void)bora_fail(&err, BORA_E_BUSY, "%llu MiB of memory are missing (memory.limit)",
                    (unsigned long long)(missing >> 20) + 1);
    (void)bora_queue_withdraw(scheduler, next->id);
    bora_scheduler_refuse(scheduler, next, BORA_REASON_ERROR, BORA_E_BUSY, &err);
    return false;
}

void bora_scheduler_admit(bora_scheduler *scheduler)
{
    while (!scheduler->is_loading && scheduler->waiting) {
        bora_generation *generation = bora_queue_next(scheduler);
        bora_error err = {{0}};
        generation->promise = need_of(scheduler, generation);
        if (is_too_large(scheduler, generation, &err)) {
            (void)bora_queue_withdraw(scheduler, generation->id);
            bora_scheduler_refuse(scheduler, generation, BORA_REASON_ERROR, BORA_E_LIMIT, &err);
            continue;
        }
        uint64_t missing = missing_for(scheduler, generation);
        while (missing > 0 && (bora_shelf_drop_oldest(&scheduler->shelf) || close_waiting(scheduler, generation)))
            missing = missing_for(scheduler, generation);
        if (missing == 0) {
            let_in(scheduler, generation);
            continue;
        }
        if (scheduler->running || scheduler->restoring) {
            (void)ask_for_room(scheduler, missing); /* or something ends */
            break;
        }
        if (wait_for_room(scheduler, generation, missing))
            break;
    }
    bora_queue_tell(scheduler);
}

/* ---- deadlines --------------------------------------------------------------------------------------------- */

/* The first in the list that is past its deadline; the next deadline otherwise. */
static bora_generation *past_deadline(bora_mail *list, uint64_t now, uint64_t *next)
{
    for (bora_mail *mail = list; mail; mail = mail->next) {
        bora_generation *generation = (bora_generation *)mail;
        if (generation->deadline_ns && generation->deadline_ns <= now)
            return generation;
        if (generation->deadline_ns && generation->deadline_ns < *next)
            *next = generation->deadline_ns;
    }
    return NULL;
}

static void expire_list(bora_scheduler *scheduler, bora_mail *const *list, uint64_t now, uint64_t *next)
{
    for (bora_generation *late; (late = past_deadline(*list, now, next));)
        bora_scheduler_refuse(scheduler, bora_queue_withdraw(scheduler, late->id), BORA_REASON_DEADLINE, BORA_OK, NULL);
}

int bora_scheduler_expire(bora_scheduler *scheduler)
{
    uint64_t now = bora_task_now_ns(), next = UINT64_MAX;
    expire_list(scheduler, &scheduler->waiting, now, &next);
    expire_list(scheduler, &scheduler->restoring, now, &next);
    for (bora_task *task = scheduler->running, *following; task; task = following) {
        following = task->next;
        if (task->generation->deadline_ns && task->generation->deadline_ns <= now)
            bora_scheduler_finish(scheduler, task, BORA_REASON_DEADLINE, BORA_OK, NULL);
    }
    if (next == UINT64_MAX)
        return -1;
    uint64_t ms = (next - now) / 1000000 + 1;
    return ms < 60000 ? (int)ms : 60000;
}
