/* create, list, show, rename, delete: each one job in the store's queue, so that they happen in the order they were
 * asked for; what is in memory follows when the job comes back. */
#include "session/session_private.h"

#include "base/memory.h"
#include "session/db_private.h"

#include <string.h>

static void verb_free(bora_verb *verb)
{
    for (size_t i = 0; i < verb->n_records; i++)
        bora_session_record_release(&verb->records[i]);
    bora_free(verb->records);
    bora_session_contents_release(&verb->contents);
    bora_free(verb->model);
    bora_free(verb->model_name);
    bora_free(verb->owner);
    bora_free(verb->session);
    bora_free(verb->name);
    bora_free(verb->system);
    bora_free(verb);
}

void bora_verbs_free(bora_verb *verb)
{
    while (verb) {
        bora_verb *next = verb->next;
        verb_free(verb);
        verb = next;
    }
}

void bora_verb_finish(bora_sessions *sessions, bora_verb *verb)
{
    bora_reply reply = {.type = verb->reply, .status = verb->job.status, .message = verb->job.error.message};
    if (verb->job.status != BORA_OK) {
        reply.type = BORA_REPLY_ERROR;
    } else if (verb->reply == BORA_REPLY_CONTENTS) {
        reply.contents = &verb->contents;
        reply.records = &verb->contents.record;
        reply.n_records = 1;
    } else if (verb->reply == BORA_REPLY_LIST) {
        reply.records = verb->records;
        reply.n_records = verb->n_records;
    } else {
        reply.records = &verb->contents.record;
        reply.n_records = 1;
    }
    sessions->n_verbs--;
    verb->handler(verb->user, &reply);
    verb_free(verb);
}

static void verb_done(bora_store_job *job, void *context)
{
    bora_verb_finish(context, (bora_verb *)job);
}

/* One job. Texts are copied; NULL stays NULL. */
static bora_status submit(bora_sessions *sessions, bora_verb order, const char *owner, const char *session,
                          const char *name, const char *system, bora_error *err)
{
    if (sessions->stopping)
        return bora_fail(err, BORA_E_CLOSED, "the daemon is ending");
    if (!owner || !*owner)
        return bora_fail(err, BORA_E_INVAL, "a request needs an owner");
    if (bora_store_pending(sessions->store) >= BORA_STORE_QUEUE_MAX + sessions->n_open)
        return bora_fail(err, BORA_E_BUSY, "too many requests wait for the session store");
    bora_verb *verb = bora_calloc(1, sizeof *verb);
    if (!verb)
        return bora_fail(err, BORA_E_NOMEM, "request");
    *verb = order;
    verb->model = bora_strdup(bora_model_fingerprint(sessions->model));
    verb->model_name = bora_strdup(bora_model_name(sessions->model));
    verb->owner = bora_strdup(owner);
    verb->session = bora_strdup(session);
    verb->name = bora_strdup(name);
    verb->system = bora_strdup(system);
    if (!verb->model || !verb->model_name || !verb->owner || (session && !verb->session) || (name && !verb->name) ||
        (system && !verb->system)) {
        verb_free(verb);
        return bora_fail(err, BORA_E_NOMEM, "request");
    }
    sessions->n_verbs++;
    bora_store_submit(sessions->store, &verb->job);
    return BORA_OK;
}

static bora_status check_key(const char *session, bora_error *err)
{
    if (!session)
        return bora_fail(err, BORA_E_INVAL, "which session?");
    return bora_session_id_like(session) ? BORA_OK : bora_session_name_check(session, err);
}

/* ---- create, list, show ---------------------------------------------------------------------------------------- */

static void create_run(bora_store_job *job, bora_db *db)
{
    bora_verb *verb = (bora_verb *)job;
    job->status = bora_db_create(db, verb->owner, verb->name, verb->system, verb->model, verb->model_name,
                                 &verb->contents.record, &job->error);
}

bora_status bora_sessions_create(bora_sessions *sessions, const char *owner, const char *name, const char *system,
                                 bora_reply_fn handler, void *user, bora_error *err)
{
    bora_status st = name && *name ? bora_session_name_check(name, err) : BORA_OK;
    if (st != BORA_OK)
        return st;
    bora_verb order = {.job = {.run = create_run, .done = verb_done},
                       .handler = handler,
                       .user = user,
                       .reply = BORA_REPLY_RECORD};
    return submit(sessions, order, owner, NULL, name, system, err);
}

static void list_run(bora_store_job *job, bora_db *db)
{
    bora_verb *verb = (bora_verb *)job;
    job->status = bora_db_list(db, verb->owner, &verb->records, &verb->n_records, &job->error);
}

bora_status bora_sessions_list(bora_sessions *sessions, const char *owner, bora_reply_fn handler, void *user,
                               bora_error *err)
{
    bora_verb order = {.job = {.run = list_run, .done = verb_done},
                       .handler = handler,
                       .user = user,
                       .reply = BORA_REPLY_LIST};
    return submit(sessions, order, owner, NULL, NULL, NULL, err);
}

static void show_run(bora_store_job *job, bora_db *db)
{
    bora_verb *verb = (bora_verb *)job;
    job->status =
        bora_db_load(db, verb->owner, verb->session, BORA_DB_MESSAGES | BORA_DB_TOKENS, &verb->contents, &job->error);
}

bora_status bora_sessions_show(bora_sessions *sessions, const char *owner, const char *session, bora_reply_fn handler,
                               void *user, bora_error *err)
{
    bora_status st = check_key(session, err);
    if (st != BORA_OK)
        return st;
    bora_verb order = {.job = {.run = show_run, .done = verb_done},
                       .handler = handler,
                       .user = user,
                       .reply = BORA_REPLY_CONTENTS};
    return submit(sessions, order, owner, session, NULL, NULL, err);
}

/* ---- rename ------------------------------------------------------------------------------------------------------ */

static void rename_run(bora_store_job *job, bora_db *db)
{
    bora_verb *verb = (bora_verb *)job;
    job->status = bora_db_rename(db, verb->owner, verb->session, verb->name, &verb->contents.record, &job->error);
}

static void rename_done(bora_store_job *job, void *context)
{
    bora_sessions *sessions = context;
    bora_verb *verb = (bora_verb *)job;
    const bora_session_record *record = &verb->contents.record;
    bora_live *live = job->status == BORA_OK ? bora_live_find_id(sessions, verb->owner, record->id) : NULL;
    sessions->n_name_changes--;
    if (live)
        memcpy(live->record.name, record->name, sizeof live->record.name);
    bora_verb_finish(sessions, verb);
}

bora_status bora_sessions_rename(bora_sessions *sessions, const char *owner, const char *session, const char *new_name,
                                 bora_reply_fn handler, void *user, bora_error *err)
{
    bora_status st = check_key(session, err);
    if (st == BORA_OK)
        st = bora_session_name_check(new_name ? new_name : "", err);
    bora_verb order = {.job = {.run = rename_run, .done = rename_done},
                       .handler = handler,
                       .user = user,
                       .reply = BORA_REPLY_RECORD};
    if (st == BORA_OK)
        st = submit(sessions, order, owner, session, new_name, NULL, err);
    if (st == BORA_OK)
        sessions->n_name_changes++;
    return st;
}

/* ---- delete ------------------------------------------------------------------------------------------------------ */

static void delete_run(bora_store_job *job, bora_db *db)
{
    bora_verb *verb = (bora_verb *)job;
    job->status = bora_db_delete(db, verb->owner, verb->session, verb->contents.record.id, &job->error);
}

/* The session leaves memory; while an answer runs in it, after that answer's end, and only then is the delete answered.
 */
static void delete_done(bora_store_job *job, void *context)
{
    bora_sessions *sessions = context;
    bora_verb *verb = (bora_verb *)job;
    bora_live *live =
        job->status == BORA_OK ? bora_live_find_id(sessions, verb->owner, verb->contents.record.id) : NULL;
    sessions->n_name_changes--;
    if (live && live->open) {
        live->deleted = true;
        bora_open_cancel(live->open); /* began after the delete was asked for, or under its other name */
        verb->next = live->open->held;
        live->open->held = verb;
        return;
    }
    if (live)
        bora_live_drop(sessions, live);
    bora_verb_finish(sessions, verb);
}

/* Cancels what runs, or is about to run, in the session under this name. */
static void cancel_in(bora_sessions *sessions, const char *owner, const char *session)
{
    const bora_live *live = bora_live_find(sessions, owner, session);
    if (live && live->open)
        bora_open_cancel(live->open);
    for (bora_open *open = sessions->open; open; open = open->next)
        if (open->state == BORA_OPEN_LOADING && strcmp(open->owner, owner) == 0 && strcmp(open->key, session) == 0)
            bora_open_cancel(open);
}

bora_status bora_sessions_delete(bora_sessions *sessions, const char *owner, const char *session, bora_reply_fn handler,
                                 void *user, bora_error *err)
{
    bora_status st = check_key(session, err);
    bora_verb order = {.job = {.run = delete_run, .done = delete_done},
                       .handler = handler,
                       .user = user,
                       .reply = BORA_REPLY_RECORD};
    if (st == BORA_OK)
        st = submit(sessions, order, owner, session, NULL, NULL, err);
    if (st != BORA_OK)
        return st;
    cancel_in(sessions, owner, session);
    sessions->n_name_changes++;
    return BORA_OK;
}
