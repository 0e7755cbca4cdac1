/* The engine thread's loop: take commands, build a step, run it, sample, send events; sleep when there is nothing to
 * do.
 *
 * Commands from other threads are mail. Two of them must also reach a step that is running: cancel and stop raise a
 * flag that the stages poll once per layer; the step is then given up, the caches are as before it, and the next step
 * is built from what is left. */
#include "engine/scheduler.h"

#include "base/counted.h"
#include "base/memory.h"
#include "base/size.h"
#include "engine/rate.h"
#include "engine/task.h"

#include <pthread.h>
#include <string.h>

#define COMMAND_GENERATE 1
#define COMMAND_CANCEL   2
#define COMMAND_CLOSE    3
#define COMMAND_STOP     4
#define COMMAND_QUIT     5
#define COMMAND_LOADED   6 /* from the loading thread */

/* The head that every command shares with bora_generation. */
typedef struct command {
    bora_mail mail;
    int command;
    uint64_t id;
    bora_sequence *sequence;
} command;

_Static_assert(offsetof(command, command) == offsetof(bora_generation, command), "commands share their head");

struct bora_scheduler {
    bora_pipeline *pipeline;
    bora_scheduler_options options;
    bora_mailbox *inbox, *events;
    const bora_log *log;
    pthread_t thread;
    bool started;
    atomic_bool give_up; /* raised by cancel and stop, lowered by the engine when it has read its mail */
    atomic_bool stopped; /* stop was sent: once is enough */
    command stop, quit;  /* need no memory when they are sent */

    /* While the pipeline is built: */
    pthread_t loading_thread;
    bool loading_started;
    command loaded; /* sent when it has ended: load_status and load_error are the engine's then */
    bora_status load_status;
    bora_error load_error;
    bora_event *loaded_event; /* until it is sent */

    /* The engine thread's own: */
    bora_sampler *sampler;
    float *logits;                     /* [max_running, vocab_size] */
    int32_t *rows;                     /* [batch_tokens] tokens of the step */
    bora_batch_part *parts;            /* [max_running] */
    bora_task **in_step;               /* [max_running] */
    bora_task *running;                /* in order of arrival */
    bora_mail *waiting, **waiting_end; /* generations that wait for a place, in order */
    bora_sequence **kept;              /* [n_kept] handed out and not closed */
    size_t n_kept, kept_capacity;
    bool stopping, quitting;
    bool is_loading;
    bora_scheduler_stats counts; /* n_steps and n_*_tokens, up to now */

    pthread_mutex_t stats_lock;
    bora_scheduler_stats stats; /* protected by stats_lock */
    bora_rate rate;             /* protected by stats_lock */
};

/* ---- bookkeeping -------------------------------------------------------------------------------------- */

static void forget_kept(bora_scheduler *scheduler, const bora_sequence *sequence)
{
    for (size_t i = 0; i < scheduler->n_kept; i++)
        if (scheduler->kept[i] == sequence) {
            scheduler->kept[i] = scheduler->kept[--scheduler->n_kept];
            return;
        }
}

/* Room for one more, made before it is needed. */
static bora_status reserve_kept(bora_scheduler *scheduler, uint32_t n_more, bora_error *err)
{
    size_t need = scheduler->n_kept + n_more;
    if (need <= scheduler->kept_capacity)
        return BORA_OK;
    bora_sequence **kept = bora_realloc(scheduler->kept, need * 2, sizeof(bora_sequence *));
    if (!kept)
        return bora_fail(err, BORA_E_NOMEM, "list of sequences");
    scheduler->kept = kept;
    scheduler->kept_capacity = need * 2;
    return BORA_OK;
}

static uint32_t count_running(const bora_scheduler *scheduler)
{
    uint32_t n = 0;
    for (const bora_task *task = scheduler->running; task; task = task->next)
        n++;
    return n;
}

/* Publishes what changed. Before a generation's last event goes out, so that whoever has it finds it counted. */
static void update_stats(bora_scheduler *scheduler)
{
    uint64_t kv_bytes = 0;
    uint32_t n_waiting = 0;
    for (const bora_task *task = scheduler->running; task; task = task->next)
        kv_bytes += bora_sequence_bytes(task->sequence);
    for (size_t i = 0; i < scheduler->n_kept; i++)
        kv_bytes += bora_sequence_bytes(scheduler->kept[i]);
    for (const bora_mail *mail = scheduler->waiting; mail; mail = mail->next)
        n_waiting++;
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    scheduler->stats = scheduler->counts;
    scheduler->stats.is_loading = scheduler->is_loading;
    scheduler->stats.n_running = count_running(scheduler);
    scheduler->stats.n_waiting = n_waiting;
    scheduler->stats.kv_bytes = kv_bytes;
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
}

/* ---- beginning and ending generations ------------------------------------------------------------------ */

/* Ends a generation that never became a task. Its sequence, if it brought one, is closed: the caller was told. */
static void refuse(bora_scheduler *scheduler, bora_generation *generation, int reason, bora_status status,
                   const bora_error *error)
{
    bora_event *done = generation->done;
    generation->done = NULL;
    uint64_t submitted = done->queue_ns;
    *done = (bora_event){.type = BORA_EVENT_DONE, .id = generation->id, .reason = reason, .status = status};
    done->queue_ns = bora_task_now_ns() - submitted;
    if (error)
        done->error = *error;
    if (generation->sequence) {
        done->n_cached = bora_sequence_n_cached(generation->sequence);
        if (generation->keep && reason != BORA_REASON_ERROR) {
            done->sequence = generation->sequence; /* untouched */
        } else {
            forget_kept(scheduler, generation->sequence);
            bora_sequence_close(generation->sequence);
        }
    }
    bora_generation_free(generation);
    update_stats(scheduler);
    bora_mailbox_send(scheduler->events, &done->mail);
}

static void finish(bora_scheduler *scheduler, bora_task *task, int reason, bora_status status, const bora_error *error)
{
    bora_task **link = &scheduler->running;
    while (*link != task)
        link = &(*link)->next;
    *link = task->next;
    bora_event *done = bora_task_finish(task, reason, status, error);
    if (done->sequence)
        scheduler->kept[scheduler->n_kept++] = done->sequence; /* room was reserved when the task began */
    update_stats(scheduler);
    bora_mailbox_send(scheduler->events, &done->mail);
}

static void start(bora_scheduler *scheduler, bora_generation *generation)
{
    bora_error err = {{0}};
    bora_task *task = NULL;
    bora_sequence *sequence = generation->sequence;
    bora_status st = reserve_kept(scheduler, count_running(scheduler) + 1, &err);
    if (st == BORA_OK)
        st = bora_task_new(generation, scheduler->pipeline, scheduler->events, scheduler->log, &task, &err);
    if (st != BORA_OK) {
        refuse(scheduler, generation, BORA_REASON_ERROR, st, &err);
        return;
    }
    if (sequence)
        forget_kept(scheduler, sequence); /* the task owns it now */
    bora_task **link = &scheduler->running;
    while (*link)
        link = &(*link)->next;
    *link = task;
}

static void cancel(bora_scheduler *scheduler, uint64_t id)
{
    for (bora_task *task = scheduler->running; task; task = task->next)
        if (task->generation->id == id) {
            finish(scheduler, task, BORA_REASON_CANCELLED, BORA_OK, NULL);
            return;
        }
    for (bora_mail **link = &scheduler->waiting; *link; link = &(*link)->next)
        if (((bora_generation *)*link)->id == id) {
            bora_generation *generation = (bora_generation *)*link;
            *link = generation->mail.next;
            if (!*link)
                scheduler->waiting_end = link;
            refuse(scheduler, generation, BORA_REASON_CANCELLED, BORA_OK, NULL);
            return;
        }
}

static void end_all(bora_scheduler *scheduler)
{
    while (scheduler->running)
        finish(scheduler, scheduler->running, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    while (scheduler->waiting) {
        bora_generation *generation = (bora_generation *)scheduler->waiting;
        scheduler->waiting = generation->mail.next;
        refuse(scheduler, generation, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    }
    scheduler->waiting_end = &scheduler->waiting;
}

static void wait_in_line(bora_scheduler *scheduler, bora_generation *generation)
{
    generation->mail.next = NULL;
    if (scheduler->stopping) {
        refuse(scheduler, generation, BORA_REASON_SHUTDOWN, BORA_OK, NULL);
    } else if (!scheduler->is_loading && scheduler->load_status != BORA_OK) {
        refuse(scheduler, generation, BORA_REASON_ERROR, scheduler->load_status, &scheduler->load_error);
    } else {
        *scheduler->waiting_end = &generation->mail;
        scheduler->waiting_end = &generation->mail.next;
    }
}

/* The pipeline is there, or never will be. Published before anything can be seen of it. */
static void end_loading(bora_scheduler *scheduler)
{
    scheduler->is_loading = false;
    update_stats(scheduler);
    bora_mail *waiting = scheduler->load_status == BORA_OK ? NULL : scheduler->waiting;
    if (waiting) {
        scheduler->waiting = NULL;
        scheduler->waiting_end = &scheduler->waiting;
    }
    while (waiting) {
        bora_generation *generation = (bora_generation *)waiting;
        waiting = waiting->next;
        wait_in_line(scheduler, generation);
    }
    bora_event *event = scheduler->loaded_event;
    scheduler->loaded_event = NULL;
    event->status = scheduler->load_status;
    event->error = scheduler->load_error;
    bora_mailbox_send(scheduler->events, &event->mail);
}

static void obey(bora_scheduler *scheduler, command *order)
{
    switch (order->command) {
    case COMMAND_GENERATE:
        wait_in_line(scheduler, (bora_generation *)order);
        break;
    case COMMAND_CANCEL:
        cancel(scheduler, order->id);
        bora_free(order);
        break;
    case COMMAND_CLOSE:
        forget_kept(scheduler, order->sequence);
        bora_sequence_close(order->sequence);
        bora_free(order);
        break;
    case COMMAND_STOP:
        scheduler->stopping = true;
        end_all(scheduler);
        break;
    case COMMAND_QUIT:
        scheduler->quitting = true;
        break;
    case COMMAND_LOADED:
        end_loading(scheduler);
        break;
    }
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

static void add_part(bora_scheduler *scheduler, bora_task *task, uint32_t n, uint32_t *n_parts, uint32_t *n_rows)
{
    size_t begin = (size_t)bora_sequence_n_cached(task->sequence);
    memcpy(scheduler->rows + *n_rows, task->tokens.ids + begin, n * sizeof *scheduler->rows);
    bool whole = n == bora_task_n_left(task);
    scheduler->parts[*n_parts] = (bora_batch_part){.sequence = task->sequence,
                                                   .n = n,
                                                   .n_logits = whole && task->generation->max_generated > 0 ? 1 : 0};
    scheduler->in_step[(*n_parts)++] = task;
    *n_rows += n;
}

/* One row of everything that decodes, then prefill chunks as far as the budget goes. */
static uint32_t build_step(bora_scheduler *scheduler)
{
    uint32_t n_parts = 0, n_rows = 0, budget = scheduler->options.batch_tokens;
    for (bora_task *task = scheduler->running; task; task = task->next)
        if (bora_task_is_decoding(task) && n_rows < budget)
            add_part(scheduler, task, 1, &n_parts, &n_rows);
    for (bora_task *task = scheduler->running; task; task = task->next) {
        if (bora_task_is_decoding(task) || n_rows == budget)
            continue;
        size_t n = bora_task_n_left(task);
        if (n > scheduler->options.chunk)
            n = scheduler->options.chunk;
        if (n > budget - n_rows)
            n = budget - n_rows;
        add_part(scheduler, task, (uint32_t)n, &n_parts, &n_rows);
    }
    return n_parts;
}

/* Behind the others, so that prompts share the budget in turn. */
static void rotate(bora_scheduler *scheduler)
{
    bora_task *first = scheduler->running;
    if (!first || !first->next)
        return;
    scheduler->running = first->next;
    first->next = NULL;
    bora_task **link = &scheduler->running;
    while (*link)
        link = &(*link)->next;
    *link = first;
}

static bora_status run_parts(bora_scheduler *scheduler, uint32_t first, uint32_t n, const int32_t *rows,
                             bora_error *err)
{
    bora_batch batch = {.tokens = rows, .parts = scheduler->parts + first, .n_parts = n};
    return bora_pipeline_forward(scheduler->pipeline, &batch, &scheduler->give_up, scheduler->logits, err);
}

/* Takes what n parts have come to: the next token of each, or its end. */
static void take_parts(bora_scheduler *scheduler, uint32_t first, uint32_t n, bora_status st, const bora_error *error)
{
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(scheduler->pipeline))->vocab_size;
    const float *logits = scheduler->logits;
    for (uint32_t i = first; i < first + n; i++) {
        bora_task *task = scheduler->in_step[i];
        const bora_batch_part *part = &scheduler->parts[i];
        int reason = 0;
        bora_status own = st;
        bora_error why = *error;
        if (own == BORA_OK && !bora_task_is_decoding(task)) {
            scheduler->counts.n_prompt_tokens += part->n;
            own = bora_task_progress(task, &why);
        }
        if (own == BORA_OK && part->n_logits > 0) {
            own = bora_task_take(task, scheduler->sampler, logits, &reason, &why);
            scheduler->counts.n_generated_tokens += own == BORA_OK;
        } else if (own == BORA_OK && bora_task_n_left(task) == 0) {
            reason = BORA_REASON_LENGTH; /* nothing was to be generated */
        }
        logits += part->n_logits * vocab_size;
        if (own != BORA_OK)
            finish(scheduler, task, BORA_REASON_ERROR, own, &why);
        else if (reason)
            finish(scheduler, task, reason, BORA_OK, NULL);
    }
}

static void add_to_rate(bora_scheduler *scheduler, uint64_t from_ns, const bora_scheduler_stats *before)
{
    const bora_scheduler_stats *now = &scheduler->counts;
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    bora_rate_add(&scheduler->rate, from_ns, bora_task_now_ns(), now->n_prompt_tokens - before->n_prompt_tokens,
                  now->n_generated_tokens - before->n_generated_tokens);
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
}

static void step(bora_scheduler *scheduler)
{
    const uint64_t begun_ns = bora_task_now_ns();
    const bora_scheduler_stats before = scheduler->counts;
    uint32_t n_parts = build_step(scheduler);
    bora_error err = {{0}};
    bora_status st = run_parts(scheduler, 0, n_parts, scheduler->rows, &err);
    if (st == BORA_E_CANCELLED)
        return; /* the mail says for whom */
    scheduler->counts.n_steps++;
    if (st == BORA_OK || n_parts == 1) {
        take_parts(scheduler, 0, n_parts, st, &err);
    } else {
        /* One of them cannot go on (its cache cannot grow, say): each for itself, so that it costs that one alone. */
        const int32_t *rows = scheduler->rows;
        for (uint32_t i = 0; i < n_parts; i++) {
            st = run_parts(scheduler, i, 1, rows, &err);
            if (st == BORA_E_CANCELLED)
                break; /* those that are left have not moved */
            rows += scheduler->parts[i].n;
            take_parts(scheduler, i, 1, st, &err);
        }
    }
    rotate(scheduler);
    add_to_rate(scheduler, begun_ns, &before);
    update_stats(scheduler);
}

static void admit(bora_scheduler *scheduler)
{
    while (!scheduler->is_loading && scheduler->waiting && count_running(scheduler) < scheduler->options.max_running) {
        bora_generation *generation = (bora_generation *)scheduler->waiting;
        scheduler->waiting = generation->mail.next;
        if (!scheduler->waiting)
            scheduler->waiting_end = &scheduler->waiting;
        start(scheduler, generation);
    }
}

static void *engine_main(void *arg)
{
    bora_scheduler *scheduler = arg;
    while (!scheduler->quitting) {
        /* Lowered before the mail is read: whoever raises it sends the mail first. */
        atomic_store(&scheduler->give_up, false);
        command *order = (command *)bora_mailbox_wait(scheduler->inbox, scheduler->running ? 0 : -1);
        for (; order; order = (command *)bora_mailbox_take(scheduler->inbox))
            obey(scheduler, order);
        admit(scheduler);
        update_stats(scheduler);
        if (scheduler->running)
            step(scheduler);
    }
    end_all(scheduler);
    for (size_t i = 0; i < scheduler->n_kept; i++)
        bora_sequence_close(scheduler->kept[i]);
    scheduler->n_kept = 0;
    return NULL;
}

static void *loading_main(void *arg)
{
    bora_scheduler *scheduler = arg;
    bora_error why = {{0}};
    bora_status st = bora_loader_run(scheduler->options.loader, scheduler->pipeline, &why);
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
    scheduler->waiting_end = &scheduler->waiting;
    scheduler->stop.command = COMMAND_STOP;
    scheduler->quit.command = COMMAND_QUIT;
    scheduler->loaded.command = COMMAND_LOADED;
    scheduler->loaded_event = bora_calloc(1, sizeof *scheduler->loaded_event);
    if (!scheduler->loaded_event)
        return bora_fail(err, BORA_E_NOMEM, "scheduler");
    scheduler->loaded_event->type = BORA_EVENT_LOADED;
    (void)pthread_mutex_init(&scheduler->stats_lock, NULL); /* default attributes: cannot fail on Linux */
    size_t vocab_size = bora_model_hparams(bora_pipeline_model(pipeline))->vocab_size;
    size_t n_logits = SIZE_MAX / sizeof(float);
    bora_status st = bora_mailbox_new(&scheduler->inbox, err);
    if (st == BORA_OK)
        st = bora_sampler_new(vocab_size, &scheduler->sampler, err);
    if (st != BORA_OK)
        return st;
    if (bora_size_mul(options->max_running, vocab_size, &n_logits))
        scheduler->logits = bora_counted_calloc(limits->ledger, BORA_LEDGER_ACTIVATIONS, n_logits, sizeof(float));
    if (!scheduler->logits)
        return bora_counted_fail(limits->ledger, "logits of a step", n_logits * sizeof(float), err);
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
    generation->command = COMMAND_GENERATE;
    bora_mailbox_send(scheduler->inbox, &generation->mail);
    return BORA_OK;
}

static bora_status send_command(bora_scheduler *scheduler, command order, bora_error *err)
{
    command *copy = bora_calloc(1, sizeof *copy);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "command to the engine");
    *copy = order;
    bora_mailbox_send(scheduler->inbox, &copy->mail);
    return BORA_OK;
}

bora_status bora_scheduler_cancel(bora_scheduler *scheduler, uint64_t id, bora_error *err)
{
    bora_status st = send_command(scheduler, (command){.command = COMMAND_CANCEL, .id = id}, err);
    if (st == BORA_OK)
        atomic_store(&scheduler->give_up, true);
    return st;
}

bora_status bora_scheduler_close_sequence(bora_scheduler *scheduler, bora_sequence *sequence, bora_error *err)
{
    return send_command(scheduler, (command){.command = COMMAND_CLOSE, .sequence = sequence}, err);
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
    bora_free(scheduler->kept);
    (void)pthread_mutex_destroy(&scheduler->stats_lock);
    bora_free(scheduler);
}

void bora_scheduler_stats_get(bora_scheduler *scheduler, bora_scheduler_stats *ret_stats)
{
    (void)pthread_mutex_lock(&scheduler->stats_lock);
    *ret_stats = scheduler->stats;
    bora_rate_get(&scheduler->rate, bora_task_now_ns(), &ret_stats->prompt_rate, &ret_stats->generated_rate);
    (void)pthread_mutex_unlock(&scheduler->stats_lock);
    if (ret_stats->is_loading)
        bora_loader_progress(scheduler->options.loader, &ret_stats->n_loaded, &ret_stats->n_to_load);
}
