/* The life of one generation: load its session if need be, run, commit, and the replies on the way.
 *
 *   LOADING ──▶ RUNNING ──▶ COMMITTING ──▶ ended        (a session that is in memory begins at RUNNING, one without a
 *               ▲    │                                   session ends after it)
 *               └────┘ pages are fetched when the engine has room for them
 *
 * Every end goes through finish: whatever the handler does in its last call, the manager is consistent before it. */
#include "session/session_private.h"

#include "base/memory.h"
#include "engine/task.h"
#include "session/db_private.h"

#include <string.h>

/* ---- the end ------------------------------------------------------------------------------------------------- */

/* Not by the answer's own end. */
static bool is_cut(const bora_event *done)
{
    return done->reason == BORA_REASON_CANCELLED || done->reason == BORA_REASON_SHUTDOWN ||
           done->reason == BORA_REASON_DEADLINE;
}

/* What becomes of the session in memory. sequence: what the engine handed back. */
static void settle_live(bora_open *open, bora_sequence *sequence, bool good)
{
    bora_sessions *sessions = open->sessions;
    bora_live *live = open->live;
    open->live = NULL;
    if (!live) {
        bora_live_close_sequence(sessions, sequence);
        return;
    }
    live->open = NULL;
    live->n_tokens = live->tokens.n;
    live->last_used = ++sessions->clock;
    if (sequence)
        live->sequence = sequence;
    if (!good || !live->sequence || live->deleted)
        bora_live_drop(sessions, live);
}

/* Counts it, and says in the log what became of it: numbers only, never what was said. */
static void tell_end(const bora_open *open, const bora_reply *reply)
{
    bora_sessions_stats *ended = &open->sessions->ended;
    const bora_event *done = open->done;
    const unsigned long long id = open->id;
    bool was_born = reply->type == BORA_REPLY_DONE;
    int reason = done && (was_born || is_cut(done)) ? done->reason : BORA_REASON_ERROR;
    ended->n_ended[reason]++;
    if (done) {
        ended->queue_ns += done->queue_ns;
        ended->prefill_ns += done->prefill_ns;
        ended->decode_ns += done->decode_ns;
    }
    if (!was_born) {
        bora_logf(open->sessions->log, BORA_LOG_INFO, "request %llu (%s): %s, %s", id, open->owner,
                  bora_reason_name(reason), bora_status_name(reply->status));
        bora_logf(open->sessions->log, BORA_LOG_DEBUG, "request %llu (%s): %s", id, open->owner, reply->message);
        return;
    }
    bora_logf(open->sessions->log, BORA_LOG_INFO,
              "request %llu (%s): %s, %llu tokens after %llu of prompt, %llu reused; queue %llu ms, prefill %llu ms, "
              "decode %llu ms",
              id, open->owner, bora_reason_name(reason), (unsigned long long)reply->n_generated,
              (unsigned long long)done->n_prompt, (unsigned long long)done->n_reused,
              (unsigned long long)(done->queue_ns / 1000000), (unsigned long long)(done->prefill_ns / 1000000),
              (unsigned long long)(done->decode_ns / 1000000));
}

/* The last reply. good: the session in memory, with the sequence, is what the store has. */
static void finish(bora_open *open, const bora_reply *reply, bora_sequence *sequence, bool good)
{
    bora_sessions *sessions = open->sessions;
    bora_open **link = &sessions->open;
    while (*link != open)
        link = &(*link)->next;
    *link = open->next;
    sessions->n_open--;
    tell_end(open, reply);
    settle_live(open, sequence, good);
    bora_live_shrink(sessions);
    bora_live_relieve(sessions);
    if (open->handler)
        open->handler(open->user, reply);
    while (open->held) {
        bora_verb *verb = open->held;
        open->held = verb->next;
        bora_verb_finish(sessions, verb);
    }
    bora_open_free(open);
}

static void finish_error(bora_open *open, bora_status status, const char *message, bora_sequence *sequence, bool good)
{
    bora_reply reply = {.type = BORA_REPLY_ERROR, .status = status, .message = message};
    finish(open, &reply, sequence, good);
}

static void finish_done(bora_open *open, bool stored, uint64_t store_ns, bora_sequence *sequence, bool good)
{
    bora_reply reply = {.type = BORA_REPLY_DONE,
                        .event = open->done,
                        .n_history = open->n_history,
                        .n_cached = open->n_cached,
                        .n_prompt = open->done->n_prompt,
                        .n_reused = open->done->n_reused,
                        .n_generated = open->done->n_generated + open->n_choice_tokens,
                        .seed = open->seed,
                        .stored = stored,
                        .store_ns = store_ns};
    finish(open, &reply, sequence, good);
}

/* ---- the commit ---------------------------------------------------------------------------------------------- */

static void commit_run(bora_store_job *job, bora_db *db)
{
    bora_open *open = ((bora_open_job *)job)->open;
    job->status = bora_db_commit(db, open->owner, &open->turn, &job->error);
}

/* The record follows what was stored. */
static void advance(bora_live *live, const bora_open *open, char **system)
{
    const bora_turn *turn = &open->turn;
    live->record.n_tokens = live->tokens.n;
    live->record.n_cached = turn->n_cached;
    live->record.n_messages += 2;
    live->record.n_turns++;
    live->record.updated = turn->answer_created;
    live->kv_bytes = open->done->kv_bytes;
    if (turn->system) {
        bora_free(live->record.system);
        live->record.system = bora_steal(system);
    }
}

static void commit_done(bora_store_job *job, void *context)
{
    bora_open *open = ((bora_open_job *)job)->open;
    (void)context;
    uint64_t store_ns = bora_task_now_ns() - open->committed_ns;
    bora_sequence *sequence = open->done->sequence;
    if (job->status == BORA_OK) {
        advance(open->live, open, &open->system);
        finish_done(open, true, store_ns, sequence, true);
    } else if (job->status == BORA_E_NOT_FOUND && open->live->deleted) {
        finish_done(open, false, store_ns, sequence, false); /* there is nothing left to store it in */
    } else {
        bora_logf(open->sessions->log, BORA_LOG_ERROR, "request %llu (%s): turn %llu of session %s is not stored: %s",
                  (unsigned long long)open->id, open->owner, (unsigned long long)open->turn.turn, open->live->record.id,
                  job->error.message);
        finish_error(open, job->status, job->error.message, sequence, false);
    }
}

static bora_status begin_commit(bora_open *open, bora_error *err)
{
    bora_live *live = open->live;
    bora_event *done = open->done;
    bora_status st = bora_tokens_append(&live->tokens, open->added.ids, open->added.n, err);
    if (st == BORA_OK)
        st = bora_tokens_append(&live->tokens, done->generated, done->n_generated, err);
    if (st != BORA_OK)
        return st; /* live is dropped: half a history does not matter */
    open->turn = (bora_turn){
        .session_id = live->record.id,
        .model = live->record.model,
        .turn = live->record.n_turns,
        .user_text = open->text,
        .answer_text = done->answer,
        .answer_size = done->answer_size,
        .system = open->system_is_new ? open->system : NULL,
        .interrupted = is_cut(done),
        .user_created = open->created,
        .answer_created = bora_db_now(),
        .first_token = open->n_history,
        .tokens = live->tokens.ids + open->n_history,
        .n_tokens = live->tokens.n - (size_t)open->n_history,
        .n_cached = done->n_cached,
        .pages = done->pages,
        .n_pages = done->n_pages,
        .keep_from = done->keep_from,
        .n_classes = done->n_classes,
        .replace_pages = open->replace_pages || done->replaced_pages,
    };
    open->state = BORA_OPEN_COMMITTING;
    open->committed_ns = bora_task_now_ns();
    open->store.job = (bora_store_job){.run = commit_run, .done = commit_done};
    bora_store_submit(open->sessions->store, &open->store.job);
    return BORA_OK;
}

/* ---- the engine's events --------------------------------------------------------------------------------------- */

/* A generation that gave no token before it was cut leaves no turn. */
static void end_unborn(bora_open *open)
{
    const bora_event *done = open->done;
    /* A cache that has moved already holds some of the prompt: it must be as before the turn, so it comes again from
     * the store. */
    bool untouched = open->live && done->sequence && done->n_cached == open->live->record.n_cached &&
                     !open->replace_pages && !done->replaced_pages;
    if (open->cut_why)
        finish_error(open, BORA_E_BUSY, open->cut_why, done->sequence, untouched);
    else if (done->reason == BORA_REASON_SHUTDOWN)
        finish_error(open, BORA_E_CLOSED, "the daemon is ending", done->sequence, untouched);
    else if (done->reason == BORA_REASON_DEADLINE)
        finish_error(open, BORA_E_CANCELLED, "its time was over before the answer began", done->sequence, untouched);
    else
        finish_error(open, BORA_E_CANCELLED, "cancelled before the answer began", done->sequence, untouched);
}

static void on_done(bora_open *open, bora_event *event)
{
    bool has_choices = open->n_choices_ended > 0; /* what they gave was told */
    open->done = event;
    if (event->reason == BORA_REASON_LENGTH && open->cut_by_context)
        event->reason = BORA_REASON_CONTEXT;
    bora_error err = {{0}};
    if (event->reason == BORA_REASON_ERROR) {
        finish_error(open, event->status, event->error.message, event->sequence, false);
    } else if (is_cut(event) && event->n_generated == 0 && !has_choices) {
        end_unborn(open);
    } else if (!open->live) {
        finish_done(open, false, 0, event->sequence, true);
    } else {
        bora_status st = begin_commit(open, &err);
        if (st != BORA_OK)
            finish_error(open, st, err.message, event->sequence, false);
    }
}

static void on_started(bora_open *open, const bora_event *event)
{
    const bora_live *live = open->live;
    open->n_cached = event->n_cached;
    open->n_prompt = event->n_prompt;
    bora_reply reply = {.type = BORA_REPLY_ACCEPTED,
                        .id = open->id,
                        .session_name = live ? live->record.name : NULL,
                        .session_id = live ? live->record.id : NULL,
                        .turn = live ? live->record.n_turns : 0,
                        .n_history = open->n_history,
                        .n_cached = event->n_cached,
                        .n_rerun = live && live->record.n_cached > event->n_cached
                                       ? live->record.n_cached - event->n_cached
                                       : 0,
                        .n_prompt = event->n_prompt,
                        .n_reused = event->n_reused,
                        .seed = open->seed,
                        .system_ignored = open->system_ignored};
    if (open->handler)
        open->handler(open->user, &reply);
}

static void on_token(bora_open *open, const bora_event *event)
{
    if (open->live) {
        open->live->n_tokens = open->n_history + open->added.n + event->index + 1;
        open->live->kv_bytes = event->kv_bytes;
    }
    bora_reply reply = {.type = BORA_REPLY_TOKEN, .event = event};
    if (open->handler)
        open->handler(open->user, &reply);
}

/* ---- the pages ------------------------------------------------------------------------------------------------- */

static void tell_damage(const bora_open *open, const char *session_id, const char *damage)
{
    bora_logf(open->sessions->log, BORA_LOG_WARN, "request %llu (%s): session %s: %s; running all its tokens again",
              (unsigned long long)open->id, open->owner, session_id, damage);
}

/* Counted before they are there: at most what the session's caches hold. */
static void fetch_run(bora_store_job *job, bora_db *db)
{
    bora_open *open = ((bora_open_job *)job)->open;
    if (!bora_ledger_take(open->sessions->ledger, BORA_LEDGER_STORE, open->store_size)) {
        open->store_size = 0;
        job->status = bora_fail(&job->error, BORA_E_NOMEM, "no room for its pages");
        return;
    }
    job->status = bora_db_load(db, open->owner, open->turn.session_id, BORA_DB_PAGES, &open->contents, &job->error);
}

static void fetch_done(bora_store_job *job, void *context)
{
    bora_open *open = ((bora_open_job *)job)->open;
    bora_sessions *sessions = context;
    bora_session_contents *contents = &open->contents;
    const char *damage = job->status != BORA_OK ? job->error.message : contents->damage;
    open->is_fetching = false;
    if (!damage && contents->record.n_cached != open->live->record.n_cached)
        damage = "what is stored is not what was in memory";
    if (damage) {
        tell_damage(open, open->turn.session_id, damage);
        open->replace_pages = true;
    }
    bora_page *pages = damage ? NULL : bora_steal(&contents->pages);
    size_t n = damage ? 0 : contents->n_pages;
    contents->n_pages = damage ? contents->n_pages : 0;
    bora_event *early = open->early;
    bora_session_contents_release(contents);
    *contents = (bora_session_contents){.n_tokens = 0};
    if (!early) {
        bora_scheduler_give_pages(sessions->scheduler, bora_steal(&open->reply), pages, n, open->store_size);
        open->store_size = 0; /* the engine gives it back */
        return;
    }
    bora_pages_free(pages, n);
    bora_ledger_give(sessions->ledger, BORA_LEDGER_STORE, open->store_size);
    open->store_size = 0;
    open->early = NULL;
    on_done(open, early);
}

static void fetch_pages(bora_open *open, bora_event *event)
{
    const bora_live *live = open->live; /* a generation outside a session has no pages */
    uint64_t max = open->sessions->kv_sequence_max, size = live->record.n_cached * open->sessions->kv_position_size;
    open->store_size = size < max ? size : max;
    bora_session_contents_release(&open->contents); /* left from the load */
    open->contents = (bora_session_contents){.n_tokens = 0};
    open->turn.session_id = live->record.id;
    open->is_fetching = true;
    open->reply = bora_steal(&event->reply);
    open->store.job = (bora_store_job){.run = fetch_run, .done = fetch_done};
    bora_store_submit(open->sessions->store, &open->store.job);
}

/* ---- the engine's other events ------------------------------------------------------------------------------------
 */

/* Replies that only pass on what the engine says. */
static void pass_on(bora_open *open, const bora_event *event)
{
    bora_reply reply = {.n_done = event->n_done,
                        .n_prompt = event->n_prompt,
                        .place = event->place,
                        .n_waiting = event->n_waiting,
                        .event = event};
    reply.type = event->type == BORA_EVENT_QUEUED   ? BORA_REPLY_QUEUED
                 : event->type == BORA_EVENT_CHOICE ? BORA_REPLY_CHOICE
                                                    : BORA_REPLY_PROGRESS;
    if (event->type == BORA_EVENT_CHOICE) {
        open->n_choices_ended += event->n_generated > 0;
        open->n_choice_tokens += event->n_generated;
    }
    if (open->handler)
        open->handler(open->user, &reply);
}

void bora_open_on_event(bora_open *open, bora_event *event)
{
    if (event->reason == BORA_REASON_CANCELLED && open->cut_why)
        event->reason = BORA_REASON_SHUTDOWN;
    if (event->type == BORA_EVENT_DONE && open->is_fetching) {
        open->early = event; /* the store has the open yet */
        return;
    }
    if (event->type == BORA_EVENT_DONE) {
        on_done(open, event);
        return;
    }
    if (open->cancelled && !open->cancel_sent)
        bora_open_cancel(open); /* there was no memory for it before */
    if (event->type == BORA_EVENT_STARTED)
        on_started(open, event);
    else if (event->type == BORA_EVENT_TOKEN)
        on_token(open, event);
    else if (event->type == BORA_EVENT_WANT_PAGES)
        fetch_pages(open, event);
    else
        pass_on(open, event);
    bora_event_free(event);
}

/* ---- the beginning --------------------------------------------------------------------------------------------- */

void bora_open_cancel(bora_open *open)
{
    open->cancelled = true; /* seen when the load is done */
    if (open->state != BORA_OPEN_RUNNING || open->cancel_sent)
        return;
    open->cancel_sent = bora_scheduler_cancel(open->sessions->scheduler, open->id, NULL) == BORA_OK;
}

/* Gives it to the engine; with open->live, as a turn of that session. On an error the session stands as before. */
static bora_status run(bora_open *open, bora_error *err)
{
    bora_live *live = open->live;
    bora_generation *generation = open->generation;
    bora_status st = live ? bora_open_lay_out(open, err) : BORA_OK;
    if (st != BORA_OK)
        return st;
    generation->id = open->id;
    (void)snprintf(generation->owner, sizeof generation->owner, "%s", open->owner); /* as long as the server's */
    generation->sequence = live ? live->sequence : NULL;
    st = bora_scheduler_submit(open->sessions->scheduler, generation, err);
    if (st != BORA_OK)
        return st;
    open->generation = NULL;
    open->state = BORA_OPEN_RUNNING;
    if (live)
        live->sequence = NULL;
    return BORA_OK;
}

/* The session as the store has it, made if it may be. */
static void load_run(bora_store_job *job, bora_db *db)
{
    bora_open *open = ((bora_open_job *)job)->open;
    const bora_model *model = open->sessions->model;
    bora_session_contents *contents = &open->contents;
    job->status = bora_db_load(db, open->owner, open->key, 0, contents, &job->error);
    if (job->status == BORA_E_NOT_FOUND && open->create && !bora_session_id_like(open->key))
        job->status = bora_db_create(db, open->owner, open->key, NULL, bora_model_fingerprint(model),
                                     bora_model_name(model), &contents->record, &job->error);
    const bora_session_record *record = &contents->record;
    if (job->status == BORA_OK && strcmp(record->model, bora_model_fingerprint(model)) != 0)
        job->status = bora_fail(&job->error, BORA_E_UNSUPPORTED,
                                "session '%s' belongs to another model (%s, fingerprint %.8s...)", record->name,
                                record->model_name ? record->model_name : "unnamed", record->model);
    if (job->status != BORA_OK || record->n_tokens == 0)
        return;
    bora_session_contents_release(contents);
    *contents = (bora_session_contents){.n_tokens = 0};
    job->status = bora_db_load(db, open->owner, open->key, BORA_DB_TOKENS, contents, &job->error);
}

/* The loaded session enters memory; its pages follow when the engine asks for them. */
static bora_status adopt(bora_open *open, bora_error *err)
{
    bora_session_contents *contents = &open->contents;
    const char *damage = contents->damage;
    if (!damage && (contents->record.n_cached > contents->n_tokens || contents->record.n_tokens != contents->n_tokens))
        damage = "its counts contradict each other";
    bora_status st = bora_live_add(open->sessions, open->owner, contents, &open->live, err);
    if (st != BORA_OK)
        return st;
    open->live->open = open;
    if (damage) {
        tell_damage(open, open->live->record.id, damage);
        open->replace_pages = open->generation->restore_failed = true;
        return BORA_OK;
    }
    open->generation->n_stored = open->live->record.n_cached;
    return BORA_OK;
}

static void load_done(bora_store_job *job, void *context)
{
    bora_open *open = ((bora_open_job *)job)->open;
    bora_sessions *sessions = context;
    bora_error err = job->error;
    bora_status st = job->status;
    /* Under its other name it may have come into memory meanwhile; then that is newer or the same. */
    bora_live *live = st == BORA_OK ? bora_live_find_id(sessions, open->owner, open->contents.record.id) : NULL;
    if (sessions->stopping)
        st = bora_fail(&err, BORA_E_CLOSED, "the daemon is ending");
    else if (open->cut_why)
        st = bora_fail(&err, BORA_E_BUSY, "%s", open->cut_why);
    else if (open->cancelled)
        st = bora_fail(&err, BORA_E_CANCELLED, "cancelled before the answer began");
    else if (live && live->open)
        st = bora_fail(&err, BORA_E_BUSY, "session '%s' is answering", live->record.name);
    else if (live)
        open->live = live;
    else if (st == BORA_OK)
        st = adopt(open, &err);
    if (open->live)
        open->live->open = open;
    if (st == BORA_OK)
        st = run(open, &err);
    if (st != BORA_OK) /* a session that was idle stays so; one without a sequence leaves */
        finish_error(open, st, err.message, NULL, true);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/* A load of the session under the same name is under way. */
static bora_open *find_loading(const bora_sessions *sessions, const char *owner, const char *key)
{
    for (bora_open *open = sessions->open; open; open = open->next)
        if (open->state == BORA_OPEN_LOADING && strcmp(open->key, key) == 0 && strcmp(open->owner, owner) == 0)
            return open;
    return NULL;
}

/* On to the engine, by way of the store if the session is not in memory. On an error the session stands as before. */
static bora_status proceed(bora_open *open, bora_error *err)
{
    bora_sessions *sessions = open->sessions;
    bora_live *live = open->key ? bora_live_find(sessions, open->owner, open->key) : NULL;
    if ((live && live->open) || (open->key && find_loading(sessions, open->owner, open->key)))
        return bora_fail(err, BORA_E_BUSY, "session '%s' is answering", open->key);
    if (!live && open->key) {
        open->state = BORA_OPEN_LOADING;
        open->store.job = (bora_store_job){.run = load_run, .done = load_done};
        bora_store_submit(sessions->store, &open->store.job);
        return BORA_OK;
    }
    open->live = live;
    bora_status st = run(open, err);
    if (st != BORA_OK)
        open->live = NULL;
    else if (live)
        live->open = open;
    return st;
}

static void compile_run(bora_store_job *job, bora_db *db)
{
    (void)db;
    job->status = bora_open_compile(((bora_open_job *)job)->open, &job->error);
}

static void compile_done(bora_store_job *job, void *context)
{
    bora_open *open = ((bora_open_job *)job)->open;
    const bora_sessions *sessions = context;
    bora_error err = job->error;
    bora_status st = job->status;
    if (sessions->stopping)
        st = bora_fail(&err, BORA_E_CLOSED, "the daemon is ending");
    else if (open->cut_why)
        st = bora_fail(&err, BORA_E_BUSY, "%s", open->cut_why);
    else if (open->cancelled)
        st = bora_fail(&err, BORA_E_CANCELLED, "cancelled before the answer began");
    else if (st == BORA_OK)
        st = proceed(open, &err);
    if (st != BORA_OK)
        finish_error(open, st, err.message, NULL, true);
}

static uint32_t count_of_owner(const bora_sessions *sessions, const char *owner)
{
    uint32_t n = 0;
    for (const bora_open *open = sessions->open; open; open = open->next)
        n += owner && strcmp(open->owner, owner) == 0;
    return n;
}

bora_status bora_sessions_generate(bora_sessions *sessions, const bora_generate_request *request, bora_reply_fn handler,
                                   void *user, uint64_t *ret_id, bora_error *err)
{
    if (sessions->stopping)
        return bora_fail(err, BORA_E_CLOSED, "the daemon is ending");
    if (sessions->n_open >= sessions->options.n_open_max)
        return bora_fail(err, BORA_E_BUSY, "%u generations are open already", sessions->n_open);
    if (sessions->options.n_owner_max && count_of_owner(sessions, request->owner) >= sessions->options.n_owner_max)
        return bora_fail(err, BORA_E_BUSY, "%u of your generations are open already", sessions->options.n_owner_max);
    bora_open *open = NULL;
    bora_status st = bora_open_new(sessions, request, handler, user, &open, err);
    if (st != BORA_OK)
        return st;
    open->id = ++sessions->last_id;
    if (open->form) {
        open->state = BORA_OPEN_COMPILING;
        open->store.job = (bora_store_job){.run = compile_run, .done = compile_done};
        bora_compiler_submit(sessions->compiler, &open->store.job);
    } else {
        st = proceed(open, err);
    }
    if (st != BORA_OK) {
        bora_open_free(open);
        return st;
    }
    open->next = sessions->open;
    sessions->open = open;
    sessions->n_open++;
    *ret_id = open->id;
    return BORA_OK;
}

static bora_open *find_open(const bora_sessions *sessions, uint64_t id)
{
    bora_open *open = sessions->open;
    while (open && open->id != id)
        open = open->next;
    return open;
}

bool bora_sessions_cancel(bora_sessions *sessions, uint64_t id)
{
    bora_open *open = find_open(sessions, id);
    if (open)
        bora_open_cancel(open);
    return open != NULL;
}

void bora_sessions_abandon(bora_sessions *sessions, uint64_t id)
{
    bora_open *open = find_open(sessions, id);
    if (!open)
        return;
    open->handler = NULL;
    bora_open_cancel(open);
}

void bora_sessions_on_event(bora_sessions *sessions, bora_event *event)
{
    bora_open *open = find_open(sessions, event->id);
    if (event->type == BORA_EVENT_PRESSURE) {
        sessions->pressure = event->n_bytes;
        bora_event_free(event);
        bora_live_relieve(sessions);
    } else if (open)
        bora_open_on_event(open, event);
    else
        bora_event_free(event); /* cannot be: every generation stays open until its DONE */
}
