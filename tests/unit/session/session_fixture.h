/* The session manager on a real engine and a real store, a loop that serves both mailboxes, and clients that write down
 * what they get. */
#ifndef BORA_TESTS_SESSION_FIXTURE_H
#define BORA_TESTS_SESSION_FIXTURE_H

#include "../engine/engine_fixture.h"
#include "session/session.h"
#include "support/temp_folder.h"

#include <sqlite3.h>
#include <stdlib.h>

#pragma GCC diagnostic ignored "-Wunused-function" /* no test file uses all of it */

#define ALICE "uid:1000"
#define BOB   "uid:1001"

typedef struct world {
    engine_options engine_options;
    bora_sessions_options options;
    engine engine;
    bora_mailbox *replies;
    bora_store *store;
    bora_sessions *sessions;
    bora_temp_folder folder;
    char path[BORA_TEMP_PATH_SIZE];
    struct client *clients; /* all of them, freed at the end */
} world;

/* What one request got. */
typedef struct client {
    world *w;
    struct client *next;
    uint64_t id;
    int n_accepted, n_queued, n_progress, n_ends; /* n_ends: DONE, ERROR and the like */
    int end;                                      /* type of the last reply */
    bora_status status;
    char message[256];
    char name[BORA_SESSION_NAME_SIZE], session_id[BORA_SESSION_ID_SIZE];
    uint64_t turn, n_history, n_cached, n_prompt;
    bool system_ignored, stored;
    int32_t tokens[4096];
    size_t n_tokens;
    char text[16384];
    size_t text_size;
    int reason;
    uint64_t kv_bytes;
    /* A verb's: */
    char names[16][BORA_SESSION_NAME_SIZE];
    size_t n_records;
    int32_t shown[8192];
    size_t n_shown;
    size_t n_messages;
    bool interrupted; /* the last message */
    char last_message[16384];
    char system[256];
    uint64_t stored_cached;
    size_t cancel_at_token, cancel_at_progress, abandon_at_token; /* from within the handler */
    int order;                                                    /* of the last replies of all */
} client;

static int clock_of_ends; /* numbers the last replies of a test */

static void note_text(client *c, const bora_event *event)
{
    if (!event->text)
        return;
    assert_true(c->text_size + event->text_size < sizeof c->text);
    memcpy(c->text + c->text_size, event->text, event->text_size + 1);
    c->text_size += event->text_size;
}

static void note_contents(client *c, const bora_session_contents *contents)
{
    assert_true(contents->n_tokens <= BORA_ARRAY_SIZE(c->shown));
    if (contents->n_tokens)
        memcpy(c->shown, contents->tokens, contents->n_tokens * sizeof *contents->tokens);
    c->n_shown = contents->n_tokens;
    c->n_messages = contents->n_messages;
    c->stored_cached = contents->record.n_cached;
    if (contents->n_messages > 0) {
        const bora_session_message *last = &contents->messages[contents->n_messages - 1];
        c->interrupted = last->interrupted;
        (void)snprintf(c->last_message, sizeof c->last_message, "%s", last->text);
    }
    (void)snprintf(c->system, sizeof c->system, "%s", contents->record.system ? contents->record.system : "");
}

static void on_reply(void *user, const bora_reply *reply)
{
    client *c = user;
    assert_int_equal(c->n_ends, 0);
    switch (reply->type) {
    case BORA_REPLY_ACCEPTED:
        c->n_accepted++;
        if (reply->session_name)
            (void)snprintf(c->name, sizeof c->name, "%s", reply->session_name);
        if (reply->session_id)
            (void)snprintf(c->session_id, sizeof c->session_id, "%s", reply->session_id);
        c->turn = reply->turn;
        c->n_history = reply->n_history;
        c->n_cached = reply->n_cached;
        c->n_prompt = reply->n_prompt;
        c->system_ignored = reply->system_ignored;
        break;
    case BORA_REPLY_QUEUED:
        assert_int_equal(c->n_accepted, 0);
        c->n_queued++;
        break;
    case BORA_REPLY_PROGRESS:
        assert_int_equal(c->n_accepted, 1);
        c->n_progress++;
        if (c->cancel_at_progress && (size_t)c->n_progress == c->cancel_at_progress)
            assert_true(bora_sessions_cancel(c->w->sessions, c->id));
        break;
    case BORA_REPLY_TOKEN:
        assert_int_equal(c->n_accepted, 1);
        assert_true(c->n_tokens < BORA_ARRAY_SIZE(c->tokens));
        assert_int_equal(reply->event->index, c->n_tokens);
        c->tokens[c->n_tokens++] = reply->event->token;
        note_text(c, reply->event);
        if (c->n_tokens == c->cancel_at_token)
            assert_true(bora_sessions_cancel(c->w->sessions, c->id));
        if (c->n_tokens == c->abandon_at_token)
            bora_sessions_abandon(c->w->sessions, c->id);
        break;
    default:
        c->n_ends++;
        c->end = reply->type;
        c->order = ++clock_of_ends;
        c->status = reply->status;
        if (reply->message)
            (void)snprintf(c->message, sizeof c->message, "%s", reply->message);
        if (reply->type == BORA_REPLY_DONE) {
            note_text(c, reply->event);
            assert_int_equal(reply->event->n_generated, c->n_tokens);
            assert_int_equal(reply->n_cached, c->n_cached);
            assert_int_equal(reply->n_prompt, c->n_prompt);
            assert_string_equal(reply->event->answer, c->text);
            c->reason = reply->event->reason;
            c->kv_bytes = reply->event->kv_bytes;
            c->stored = reply->stored;
        }
        c->n_records = reply->n_records;
        for (size_t i = 0; i < reply->n_records && i < BORA_ARRAY_SIZE(c->names); i++)
            (void)snprintf(c->names[i], sizeof c->names[i], "%s", reply->records[i].name);
        if (reply->n_records == 1)
            (void)snprintf(c->session_id, sizeof c->session_id, "%s", reply->records[0].id);
        if (reply->type == BORA_REPLY_CONTENTS)
            note_contents(c, reply->contents);
    }
}

/* Takes what is there; waits for the first if there is nothing. */
static void serve(world *w)
{
    struct pollfd fds[] = {{.fd = bora_mailbox_fd(w->engine.events), .events = POLLIN},
                           {.fd = bora_mailbox_fd(w->replies), .events = POLLIN}};
    assert_true(poll(fds, 2, DEADLINE_MS) > 0);
    for (bora_event *event; (event = (bora_event *)bora_mailbox_take(w->engine.events));)
        bora_sessions_on_event(w->sessions, event);
    for (bora_store_job *job; (job = (bora_store_job *)bora_mailbox_take(w->replies));)
        job->done(job, w->sessions);
}

static void serve_all(world *w)
{
    while (bora_sessions_n_open(w->sessions) > 0)
        serve(w);
}

static void world_open(world *w)
{
    engine_open(&w->engine, &w->engine_options);
    assert_ok(bora_mailbox_new(&w->replies, err));
    assert_ok(bora_store_open(w->path, &w->engine.log, w->replies, &w->store, err));
    w->options.layout = bora_model_layout(w->engine.model);
    w->options.replies = w->replies;
    assert_ok(bora_sessions_new(w->engine.model, w->engine.pipeline, w->engine.scheduler, w->store, &w->options,
                                &w->engine.log, &w->sessions, err));
}

/* As a daemon that is killed: nothing that is under way is finished or told, only the store's file stays. */
static void world_kill(world *w)
{
    bora_scheduler_free(w->engine.scheduler);
    w->engine.scheduler = NULL;
    bora_store_close(w->store);
    for (bora_event *event; (event = (bora_event *)bora_mailbox_take(w->engine.events));)
        bora_event_free(event);
    while (bora_mailbox_take(w->replies))
        ; /* jobs of open generations are theirs; no verb is under way in these tests */
    bora_sessions_free(w->sessions);
    bora_mailbox_free(w->replies);
    engine_close(&w->engine);
}

/* As a daemon that ends. */
static void world_close(world *w)
{
    bora_sessions_stop(w->sessions);
    serve_all(w);
    world_kill(w);
}

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    w->engine_options = ENGINE_DEFAULT;
    w->options = (bora_sessions_options){.n_live_max = 8, .n_open_max = 16, .context = 4096};
    bora_temp_folder_make(&w->folder);
    (void)bora_temp_folder_path(&w->folder, "bora.db", w->path);
    world_open(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    world_close(w);
    bora_temp_folder_remove(&w->folder);
    while (w->clients) {
        client *c = w->clients;
        w->clients = c->next;
        free(c);
    }
    free(w);
    return 0;
}

static void reopen(world *w)
{
    world_close(w);
    world_open(w);
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

static bora_generate_request chat(const char *session, const char *text)
{
    bora_generate_request request = {
        .owner = ALICE, .session = session, .create = true, .text = text, .max_tokens = 24};
    request.sampling = BORA_SAMPLING_DEFAULT;
    request.sampling.temperature = 0;
    return request;
}

static client *client_new(world *w)
{
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->w = w;
    c->next = w->clients;
    w->clients = c;
    return c;
}

static client *begin(world *w, const bora_generate_request *request)
{
    client *c = client_new(w);
    assert_ok(bora_sessions_generate(w->sessions, request, on_reply, c, &c->id, err));
    return c;
}

static void await(client *c)
{
    while (c->n_ends == 0)
        serve(c->w);
}

static client *ask(world *w, const bora_generate_request *request)
{
    client *c = begin(w, request);
    await(c);
    return c;
}

static bora_status refused(world *w, const bora_generate_request *request)
{
    client *c = client_new(w);
    bora_error err = {{0}};
    bora_status st = bora_sessions_generate(w->sessions, request, on_reply, c, &c->id, &err);
    assert_int_not_equal(st, BORA_OK);
    assert_true(strlen(err.message) > 0);
    assert_int_equal(c->n_accepted + c->n_ends, 0);
    return st;
}

static client *show(world *w, const char *owner, const char *session)
{
    client *c = client_new(w);
    assert_ok(bora_sessions_show(w->sessions, owner, session, on_reply, c, err));
    await(c);
    return c;
}

static client *list(world *w, const char *owner)
{
    client *c = client_new(w);
    assert_ok(bora_sessions_list(w->sessions, owner, on_reply, c, err));
    await(c);
    return c;
}

static void done_ok(client *c, int reason)
{
    if (c->end != BORA_REPLY_DONE)
        fail_msg("ended with %s: %s", bora_status_name(c->status), c->message);
    if (reason)
        assert_int_equal(c->reason, reason);
}

static void error_is(client *c, bora_status status)
{
    assert_int_equal(c->end, BORA_REPLY_ERROR);
    if (c->status != status)
        fail_msg("%s, not %s: %s", bora_status_name(c->status), bora_status_name(status), c->message);
    assert_true(strlen(c->message) > 0);
}

/* Waits for so many tokens. */
static void await_tokens(client *c, size_t n)
{
    while (c->n_tokens < n && c->n_ends == 0)
        serve(c->w);
    if (c->n_ends > 0)
        fail_msg("ended after %zu tokens: %s %s", c->n_tokens, bora_status_name(c->status), c->message);
}

/* The answer of the session's last turn (c) is what the model says after the same tokens from an empty cache. */
static void exact(client *c, const bora_generate_request *request)
{
    client *s = show(c->w, request->owner, c->session_id);
    assert_int_equal(s->end, BORA_REPLY_CONTENTS);
    size_t n_prompt = s->n_shown - c->n_tokens;
    assert_true(n_prompt > 0 && n_prompt == c->n_cached + c->n_prompt);
    assert_memory_equal(s->shown + n_prompt, c->tokens, c->n_tokens * sizeof *c->tokens);
    if (c->n_tokens == 0)
        return;
    bora_generate_request raw = *request;
    raw.session = raw.text = raw.system = NULL;
    raw.tokens = s->shown;
    raw.n_tokens = n_prompt;
    raw.max_tokens = (uint32_t)c->n_tokens;
    client *again = ask(c->w, &raw);
    done_ok(again, 0);
    assert_false(again->stored);
    assert_int_equal(again->n_tokens, c->n_tokens);
    assert_memory_equal(again->tokens, c->tokens, c->n_tokens * sizeof *c->tokens);
}

/* Statements on the store's file from outside, while nothing is under way. */
static void tamper(world *w, const char *sql)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

#endif
