/* The engine thread's loop: take commands, build a step, run it, sample, send events; sleep when there is nothing to
 * do.
 *
 * Commands from other threads are mail. It is also read between the layers of a step: a generation that is cancelled
 * leaves the step there, its rows with it, and the others go on; what else has come waits for the step's end. Where
 * stages have threads of their own nobody can look between layers: there cancel raises a flag that they poll, the step
 * is given up, the caches are as before it, and the next step is built from what is left. Stop does so everywhere. */
#include "engine/scheduler_private.h"

#include "base/counted.h"
#include "base/memory.h"
#include "base/size.h"

#include <string.h>

_Static_assert(offsetof(bora_command, command) == offsetof(bora_generation, command), "commands share their head");
_Static_assert(offsetof(bora_command, id) == offsetof(bora_generation, id), "commands share their head");

/* ---- bookkeeping -------------------------------------------------------------------------------------- */

static uint32_t count_mail(const bora_mail *mail)
{
    uint32_t n = 0;
    for (; mail; mail = mail->next)
        n++;
    return n;
}

void bora_scheduler_update_stats(bora_scheduler *scheduler)
{
    bora_scheduler_stats stats = scheduler->counts;
    for (const bora_task *task = scheduler->running; task; task = task->next)
        stats.kv_bytes += bora_sequence_bytes(task->sequence);
    for (size_t i = 0; i < scheduler->shelf.n; i++) {
        const bora_shelf_entry *entry = &scheduler->shelf.entries[i];
        uint64_t bytes = bora_sequence_bytes(entry->sequence);
        stats.kv_bytes += bytes;
        stats.n_on_shelf++;
        if (entry->is_handed_out)
            continue;
        stats.shelf_bytes += bytes;
        stats.n_left_over++;
    }
    stats.promised_bytes = bora_scheduler_promised(scheduler);
    stats.is_loading = scheduler->is_loading;
    stats.n_running = scheduler->n_running;
    stats.n_waiting = count_mail(scheduler->waiting) + count_mail(scheduler->restoring);
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    scheduler->stats = stats;
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
}

/* ---- ending generations ------------------------------------------------------------------------------------ */

void bora_scheduler_refuse(bora_scheduler *scheduler, bora_generation *generation, int reason, bora_status status,
                           const bora_error *error)
{
    bora_event *done = generation->done;
    generation->done = NULL;
    uint64_t submitted = done->queue_ns;
    *done = (bora_event){.type = BORA_EVENT_DONE, .id = generation->id, .reason = reason, .status = status};
    done->queue_ns = bora_task_now_ns() - submitted;
    done->sequence = generation->sequence;
    done->n_cached = done->sequence ? bora_sequence_n_cached(done->sequence) : 0;
    if (error)
        done->error = *error;
    bora_generation_free(generation);
    bora_scheduler_update_stats(scheduler);
    bora_mailbox_send(scheduler->events, &done->mail);
}

/* Out of the running step: its rows are not computed any further. */
static void leave_step(bora_scheduler *scheduler, const bora_task *task)
{
    for (uint32_t i = 0; i < scheduler->n_in_step; i++)
        if (scheduler->in_step[i] == task) {
            scheduler->in_step[i] = NULL;
            scheduler->parts[i].dropped = true;
            scheduler->has_dropped = true;
            uint64_t n_cached = bora_sequence_n_cached(task->sequence);   /* some layers may be further already */
            (void)bora_sequence_truncate(task->sequence, n_cached, NULL); /* within slack: cannot fail */
        }
}

void bora_scheduler_finish(bora_scheduler *scheduler, bora_task *task, int reason, bora_status status,
                           const bora_error *error)
{
    bora_task **link = &scheduler->running;
    while (*link != task)
        link = &(*link)->next;
    *link = task->next;
    scheduler->n_running--;
    leave_step(scheduler, task);
    scheduler->counts.n_cancelled += reason == BORA_REASON_CANCELLED;
    size_t owner = bora_queue_owner(scheduler, task->generation->owner);
    scheduler->owners[owner].n_tasks--; /* it was made when the task began */
    bora_event *last = NULL;
    bora_event *first = bora_task_finish(task, &scheduler->shelf, reason, status, error, &last);
    bora_shelf_trim(&scheduler->shelf, scheduler->options.n_left_max);
    scheduler->is_pressure_vain = false; /* there may be one more that can be closed */
    bora_scheduler_update_stats(scheduler);
    bora_mailbox_send(scheduler->events, &first->mail);
    if (last)
        bora_mailbox_send(scheduler->events, &last->mail);
}

static bora_task *find_task(const bora_scheduler *scheduler, uint64_t id)
{
    bora_task *task = scheduler->running;
    while (task && task->generation->id != id)
        task = task->next;
    return task;
}

/* True if there was something to cancel. */
static bool cancel(bora_scheduler *scheduler, uint64_t id)
{
    bool found = false;
    for (bora_task *task; (task = find_task(scheduler, id)); found = true)
        bora_scheduler_finish(scheduler, task, BORA_REASON_CANCELLED, BORA_OK, NULL);
    bora_generation *generation = found ? NULL : bora_queue_withdraw(scheduler, id);
    if (generation)
        bora_scheduler_refuse(scheduler, generation, BORA_REASON_CANCELLED, BORA_OK, NULL);
    return found || generation;
}

static void refuse_all(bora_scheduler *scheduler, bora_mail **list, int reason, bora_status status,
                       const bora_error *error)
{
    while (*list) {
        uint64_t id = ((bora_generation *)*list)->id;
        bora_scheduler_refuse(scheduler, bora_queue_withdraw(scheduler, id), reason, status, error);
    }
}

static void end_all(bora_scheduler *scheduler)
{
    while (scheduler->running)
        bora_scheduler_finish(scheduler, scheduler->running, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    refuse_all(scheduler, &scheduler->waiting, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    refuse_all(scheduler, &scheduler->restoring, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
}

/* ---- commands ---------------------------------------------------------------------------------------------- */

static void command_free(bora_command *order)
{
    bora_pages_free(order->pages, order->n_pages);
    bora_event_free(order->done);
    bora_free(order->name);
    for (size_t i = 0; i < order->n_items; i++) {
        bora_free((void *)(uintptr_t)order->items[i].key);
        bora_free((void *)(uintptr_t)order->items[i].value);
    }
    bora_free(order->items);
    bora_free(order);
}

/* The pipeline is there, or never will be. Published before anything can be seen of it. */
static void end_loading(bora_scheduler *scheduler)
{
    scheduler->is_loading = false;
    bora_scheduler_update_stats(scheduler);
    if (scheduler->load_status != BORA_OK)
        refuse_all(scheduler, &scheduler->waiting, BORA_REASON_ERROR, scheduler->load_status, &scheduler->load_error);
    bora_event *event = scheduler->loaded_event;
    scheduler->loaded_event = NULL;
    event->status = scheduler->load_status;
    event->error = scheduler->load_error;
    bora_mailbox_send(scheduler->events, &event->mail);
}

static void swap(bora_scheduler *scheduler, bora_command *order)
{
    bora_event *event = order->done;
    order->done = NULL;
    bora_plugin_options options = {.items = order->items, .n = order->n_items};
    if (scheduler->is_loading)
        event->status = bora_fail(&event->error, BORA_E_BUSY, "the model is being loaded");
    else if (scheduler->load_status != BORA_OK || scheduler->stopping)
        event->status = bora_fail(&event->error, BORA_E_CLOSED, "the daemon is ending");
    else
        event->status = bora_pipeline_swap(scheduler->pipeline, order->kind, order->name, &options, &event->error);
    if (event->status == BORA_OK) {
        scheduler->counts.n_swaps++;
        scheduler->pace = (bora_pace){.decode_ns = 0}; /* what was learnt was of the other one */
    }
    bora_scheduler_update_stats(scheduler);
    bora_mailbox_send(scheduler->events, &event->mail);
}

static void obey(bora_scheduler *scheduler, bora_command *order)
{
    switch (order->command) {
    case BORA_COMMAND_GENERATE:
        bora_scheduler_enqueue(scheduler, (bora_generation *)order);
        return;
    case BORA_COMMAND_STOP:
        scheduler->stopping = true;
        end_all(scheduler);
        return;
    case BORA_COMMAND_QUIT:
        scheduler->quitting = true;
        return;
    case BORA_COMMAND_LOADED:
        end_loading(scheduler);
        return;
    case BORA_COMMAND_CANCEL:
        (void)cancel(scheduler, order->id); /* it may have ended by itself */
        break;
    case BORA_COMMAND_CLOSE:
        if (bora_shelf_take(&scheduler->shelf, order->sequence))
            bora_sequence_close(order->sequence);
        scheduler->has_closed = true;
        scheduler->is_pressure_vain = false;
        break;
    case BORA_COMMAND_PAGES:
        bora_scheduler_restore(scheduler, order);
        break;
    case BORA_COMMAND_RELIEVED:
        scheduler->has_pressure = false;
        scheduler->is_pressure_vain = !scheduler->has_closed;
        if (scheduler->has_closed) /* memory is short: no heap keeps what another needs */
            bora_memory_trim();
        return; /* a part of the scheduler */
    case BORA_COMMAND_FREED:
        scheduler->is_watching = false;
        return; /* likewise */
    case BORA_COMMAND_SWAP:
        swap(scheduler, order);
        break;
    }
    command_free(order);
}

static void postpone(bora_scheduler *scheduler, bora_command *order)
{
    order->mail.next = NULL;
    *scheduler->postponed_end = &order->mail;
    scheduler->postponed_end = &order->mail.next;
}

void bora_scheduler_between(void *arg)
{
    bora_scheduler *scheduler = arg;
    for (bora_command *order; (order = (bora_command *)bora_mailbox_take(scheduler->inbox));) {
        if (order->command == BORA_COMMAND_STOP)
            obey(scheduler, order);
        else if (order->command == BORA_COMMAND_CANCEL && find_task(scheduler, order->id))
            obey(scheduler, order);
        else
            postpone(scheduler, order);
    }
}

static void obey_postponed(bora_scheduler *scheduler)
{
    bora_mail *mail = scheduler->postponed;
    scheduler->postponed = NULL;
    scheduler->postponed_end = &scheduler->postponed;
    while (mail) {
        bora_command *order = (bora_command *)mail;
        mail = mail->next;
        obey(scheduler, order);
    }
}

static void *engine_main(void *arg)
{
    bora_scheduler *scheduler = arg;
    int wait_ms = -1;
    bool has_run = false; /* a step: what ended in it may have made room */
    while (!scheduler->quitting) {
        /* Lowered before the mail is read: whoever raises it sends the mail first. */
        atomic_store(&scheduler->give_up, false);
        bool has_work = has_run || scheduler->postponed;
        bora_command *order = (bora_command *)bora_mailbox_wait(scheduler->inbox, has_work ? 0 : wait_ms);
        obey_postponed(scheduler);
        for (; order; order = (bora_command *)bora_mailbox_take(scheduler->inbox))
            obey(scheduler, order);
        wait_ms = bora_scheduler_expire(scheduler);
        bora_scheduler_admit(scheduler);
        bora_queue_forget_owners(scheduler);
        bora_scheduler_update_stats(scheduler);
        has_run = scheduler->running != NULL;
        if (has_run)
            bora_scheduler_step(scheduler);
    }
    obey_postponed(scheduler);
    end_all(scheduler);
    bora_shelf_release(&scheduler->shelf);
    if (scheduler->is_watching)
        bora_ledger_wake(scheduler->ledger, NULL, NULL);
    return NULL;
}

static bora_status make_logits(bora_scheduler *scheduler, bora_error *err)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(scheduler->pipeline))->vocab_size;
    size_t n = SIZE_MAX / sizeof(float);
    if (bora_size_mul(scheduler->options.max_running, vocab_size, &n))
        scheduler->logits = bora_counted_calloc(scheduler->ledger, BORA_LEDGER_ACTIVATIONS, n, sizeof(float));
    return scheduler->logits ? BORA_OK
                             : bora_counted_fail(scheduler->ledger, "logits of a step", n * sizeof(float), err);
}

/* The logits belong to what is loaded: until it begins, the memory may be another model's. */
static void *loading_main(void *arg)
{
    bora_scheduler *scheduler = arg;
    bora_error why = {{0}};
    bora_status st = bora_loader_run(scheduler->options.loader, scheduler->pipeline, &why);
    if (st == BORA_OK)
        st = make_logits(scheduler, &why);
    scheduler->load_status = st;
    if (st != BORA_OK)
        scheduler->load_error = why;
    bora_mailbox_send(scheduler->inbox, &scheduler->loaded.mail);
    return NULL;
}

/* ---- from other threads ---------------------------------------------------------------------------------- */

/* The engine first: it is there to be told. Its thread sees is_loading, which was set before. */
static bora_status start_threads(bora_scheduler *scheduler, bora_error *err)
{
    scheduler->is_loading = scheduler->stats.is_loading = scheduler->options.loader != NULL;
    int code = pthread_create(&scheduler->thread, NULL, engine_main, scheduler);
    if (code)
        return bora_fail(err, BORA_E_IO, "starting the engine: %s", strerror(code));
    scheduler->started = true;
    if (!scheduler->options.loader)
        return BORA_OK;
    code = pthread_create(&scheduler->loading_thread, NULL, loading_main, scheduler);
    if (code)
        return bora_fail(err, BORA_E_IO, "starting to load: %s", strerror(code));
    scheduler->loading_started = true;
    return BORA_OK;
}

static void scheduler_freep(bora_scheduler **scheduler)
{
    bora_scheduler_free(*scheduler);
}

bora_status bora_scheduler_new(bora_pipeline *pipeline, const bora_scheduler_options *options, bora_mailbox *events,
                               const bora_log *log, bora_scheduler **ret_scheduler, bora_error *err)
{
    const bora_pipeline_options *limits = bora_pipeline_options_of(pipeline);
    if (options->chunk < 1 || options->chunk > limits->slack)
        return bora_fail(err, BORA_E_INVAL, "chunk must be 1 .. %u (the slack)", limits->slack);
    if (options->batch_tokens < 1 || options->batch_tokens > limits->max_tokens)
        return bora_fail(err, BORA_E_INVAL, "batch_tokens must be 1 .. %u", limits->max_tokens);
    if (options->max_running < 1 || options->max_running > limits->max_logits)
        return bora_fail(err, BORA_E_INVAL, "max_running must be 1 .. %u", limits->max_logits);
    BORA_CLEANUP(scheduler_freep) bora_scheduler *scheduler = bora_calloc(1, sizeof *scheduler);
    if (!scheduler)
        return bora_fail(err, BORA_E_NOMEM, "scheduler");
    scheduler->pipeline = pipeline;
    scheduler->options = *options;
    scheduler->events = events;
    scheduler->log = log;
    scheduler->postponed_end = &scheduler->postponed;
    scheduler->ledger = limits->ledger;
    scheduler->stop.command = BORA_COMMAND_STOP;
    scheduler->quit.command = BORA_COMMAND_QUIT;
    scheduler->relieved.command = BORA_COMMAND_RELIEVED;
    scheduler->freed.command = BORA_COMMAND_FREED;
    scheduler->loaded.command = BORA_COMMAND_LOADED;
    scheduler->loaded_event = bora_calloc(1, sizeof *scheduler->loaded_event);
    if (!scheduler->loaded_event)
        return bora_fail(err, BORA_E_NOMEM, "scheduler");
    scheduler->loaded_event->type = BORA_EVENT_LOADED;
    (void)pthread_mutex_init(&scheduler->stats_lock, NULL); /* default attributes: cannot fail on Linux */
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(pipeline))->vocab_size;
    bora_status st = bora_mailbox_new(&scheduler->inbox, err);
    if (st == BORA_OK)
        st = bora_sampler_new(vocab_size, &scheduler->sampler, err);
    if (st == BORA_OK && !options->loader)
        st = make_logits(scheduler, err);
    if (st != BORA_OK)
        return st;
    scheduler->rows = bora_calloc(options->batch_tokens, sizeof *scheduler->rows);
    scheduler->parts = bora_calloc(options->max_running, sizeof *scheduler->parts);
    scheduler->in_step = bora_calloc(options->max_running, sizeof(bora_task *));
    if (!scheduler->rows || !scheduler->parts || !scheduler->in_step)
        return bora_fail(err, BORA_E_NOMEM, "scheduler for %u generations", options->max_running);
    if ((st = start_threads(scheduler, err)) != BORA_OK)
        return st;
    *ret_scheduler = bora_steal(&scheduler);
    return BORA_OK;
}

bora_status bora_scheduler_submit(bora_scheduler *scheduler, bora_generation *generation, bora_error *err)
{
    generation->done = bora_calloc(1, sizeof *generation->done);
    if (!generation->done)
        return bora_fail(err, BORA_E_NOMEM, "generation");
    generation->done->queue_ns = bora_task_now_ns(); /* when it was submitted, until DONE is filled in */
    generation->ledger = scheduler->ledger;
    generation->command = BORA_COMMAND_GENERATE;
    bora_mailbox_send(scheduler->inbox, &generation->mail);
    return BORA_OK;
}

static bora_status send_command(bora_scheduler *scheduler, bora_command order, bora_error *err)
{
    bora_command *copy = bora_calloc(1, sizeof *copy);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "command to the engine");
    *copy = order;
    bora_mailbox_send(scheduler->inbox, &copy->mail);
    return BORA_OK;
}

bora_status bora_scheduler_cancel(bora_scheduler *scheduler, uint64_t id, bora_error *err)
{
    bora_status st = send_command(scheduler, (bora_command){.command = BORA_COMMAND_CANCEL, .id = id}, err);
    if (st == BORA_OK && bora_pipeline_options_of(scheduler->pipeline)->n_stages > 1)
        atomic_store(&scheduler->give_up, true);
    return st;
}

bora_status bora_scheduler_close_sequence(bora_scheduler *scheduler, bora_sequence *sequence, bora_error *err)
{
    return send_command(scheduler, (bora_command){.command = BORA_COMMAND_CLOSE, .sequence = sequence}, err);
}

void bora_scheduler_give_pages(bora_scheduler *scheduler, bora_command *reply, bora_page *pages, size_t n,
                               uint64_t store_size)
{
    reply->pages = pages;
    reply->n_pages = n;
    reply->store_size = store_size;
    bora_mailbox_send(scheduler->inbox, &reply->mail);
}

void bora_scheduler_reply_free(bora_command *reply)
{
    if (reply)
        command_free(reply);
}

void bora_scheduler_relieved(bora_scheduler *scheduler)
{
    bora_mailbox_send(scheduler->inbox, &scheduler->relieved.mail);
}

static bora_status copy_options(bora_command *order, const bora_plugin_options *options, bora_error *err)
{
    size_t n = options ? options->n : 0;
    order->items = bora_calloc(n, sizeof *order->items);
    if (!order->items)
        return bora_fail(err, BORA_E_NOMEM, "plugin options");
    for (size_t i = 0; i < n; i++) {
        bora_plugin_option *item = &order->items[i];
        *item = (bora_plugin_option){bora_strdup(options->items[i].key), bora_strdup(options->items[i].value)};
        order->n_items++;
        if (!item->key || !item->value)
            return bora_fail(err, BORA_E_NOMEM, "plugin options");
    }
    return BORA_OK;
}

bora_status bora_scheduler_swap(bora_scheduler *scheduler, uint64_t id, uint32_t kind, const char *name,
                                const bora_plugin_options *options, bora_error *err)
{
    bora_command *order = bora_calloc(1, sizeof *order);
    if (!order)
        return bora_fail(err, BORA_E_NOMEM, "command to the engine");
    order->command = BORA_COMMAND_SWAP;
    order->kind = kind;
    order->name = bora_strdup(name);
    order->done = bora_calloc(1, sizeof *order->done);
    bora_status st = copy_options(order, options, err);
    if (st == BORA_OK && (!order->name || !order->done))
        st = bora_fail(err, BORA_E_NOMEM, "command to the engine");
    if (st != BORA_OK) {
        command_free(order);
        return st;
    }
    order->done->type = BORA_EVENT_SWAPPED;
    order->done->id = id;
    bora_mailbox_send(scheduler->inbox, &order->mail);
    return BORA_OK;
}

void bora_scheduler_stop(bora_scheduler *scheduler)
{
    if (atomic_exchange(&scheduler->stopped, true))
        return;
    if (scheduler->options.loader)
        bora_loader_cancel(scheduler->options.loader);
    bora_mailbox_send(scheduler->inbox, &scheduler->stop.mail);
    atomic_store(&scheduler->give_up, true);
}

void bora_scheduler_free(bora_scheduler *scheduler)
{
    if (!scheduler)
        return;
    if (scheduler->started) {
        bora_scheduler_stop(scheduler);
        if (scheduler->loading_started)
            (void)pthread_join(scheduler->loading_thread, NULL); /* its message is in the inbox: before quit */
        bora_mailbox_send(scheduler->inbox, &scheduler->quit.mail);
        (void)pthread_join(scheduler->thread, NULL);
    }
    bora_event_free(scheduler->loaded_event);
    bora_mailbox_free(scheduler->inbox);
    bora_sampler_free(scheduler->sampler);
    bora_counted_free(scheduler->logits);
    bora_free(scheduler->rows);
    bora_free(scheduler->parts);
    bora_free(scheduler->in_step);
    bora_free(scheduler->items);
    bora_free(scheduler->served);
    bora_free(scheduler->owners);
    (void)pthread_mutex_destroy(&scheduler->stats_lock);
    bora_free(scheduler);
}

void bora_scheduler_stats_go_on(bora_scheduler *scheduler, const bora_scheduler_stats *before)
{
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    scheduler->before = *before;
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
}

static void add_stats(bora_scheduler_stats *stats, const bora_scheduler_stats *before)
{
    stats->n_steps += before->n_steps;
    stats->n_prompt_tokens += before->n_prompt_tokens;
    stats->n_generated_tokens += before->n_generated_tokens;
    stats->n_reused_tokens += before->n_reused_tokens;
    stats->n_cancelled += before->n_cancelled;
    stats->n_slow_steps += before->n_slow_steps;
    stats->n_swaps += before->n_swaps;
    stats->n_pressures += before->n_pressures;
    stats->busy_ns += before->busy_ns;
}

void bora_scheduler_stats_get(bora_scheduler *scheduler, bora_scheduler_stats *ret_stats)
{
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    *ret_stats = scheduler->stats;
    add_stats(ret_stats, &scheduler->before);
    bora_rate_get(&scheduler->rate, bora_task_now_ns(), &ret_stats->prompt_rate, &ret_stats->generated_rate);
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
    if (ret_stats->is_loading)
        bora_loader_progress(scheduler->options.loader, &ret_stats->n_loaded, &ret_stats->n_to_load);
}
