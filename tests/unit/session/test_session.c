/* The session manager, end to end below the server: turns, resuming, damage, limits. Real engine, real store. */
#include "session_fixture.h"

/* ---- turns ------------------------------------------------------------------------------------------------------- */

static void test_turns(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("one", "My name is Anna.");
    client *c = ask(w, &request);
    done_ok(c, 0);
    assert_true(c->stored);
    assert_string_equal(c->name, "one");
    assert_int_equal(c->turn, 0);
    assert_int_equal(c->n_history, 0);
    client *s = show(w, ALICE, "one");
    assert_int_equal(s->n_messages, 2);
    assert_string_equal(s->last_message, c->text);
    assert_false(s->interrupted);
    assert_int_equal(s->n_shown, c->n_prompt + c->n_tokens);
    assert_memory_equal(s->shown + c->n_prompt, c->tokens, c->n_tokens * sizeof *c->tokens);
    assert_int_equal(s->stored_cached, s->n_shown - 1); /* the last token is run with the next turn */
    exact(c, &request);
    request = chat(s->session_id, "What is my name?"); /* by its id */
    client *d = ask(w, &request);
    done_ok(d, 0);
    assert_int_equal(d->turn, 1);
    assert_int_equal(d->n_history, s->n_shown);
    assert_int_equal(d->n_cached, s->n_shown - 1);
    assert_non_null(strstr(d->text, "Anna"));
    exact(d, &request);
    assert_int_equal(show(w, ALICE, "one")->n_messages, 4);
}

static void test_max_tokens_zero_and_stop_text(void **state)
{
    world *w = *state;
    int32_t eos = bora_tokenizer_eos(bora_model_tokenizer(w->engine.model));
    bora_generate_request request = chat("s", "My name is Anna.");
    request.max_tokens = 0;
    client *c = ask(w, &request);
    done_ok(c, BORA_REASON_LENGTH);
    assert_int_equal(c->n_tokens, 0);
    client *s = show(w, ALICE, "s");
    assert_int_equal(s->stored_cached, s->n_shown);
    assert_int_equal(s->n_messages, 2);
    for (int resumed = 0; resumed < 2; resumed++) {
        if (resumed)
            reopen(w);
        const char *stops[] = {"a", "e", "o"};
        request = chat("s", "What is my name?");
        request.stops = stops;
        request.n_stops = 3;
        c = ask(w, &request);
        done_ok(c, BORA_REASON_STOP_TEXT);
        assert_null(strpbrk(c->text, "aeo"));
        request.n_stops = 0; /* the oracle has no stops */
        exact(c, &request);
        client *t = show(w, ALICE, "s");
        assert_string_equal(t->last_message, c->text);
        assert_int_equal(t->shown[s->n_shown], eos); /* what was open is closed by the next turn */
        s = t;
    }
}

static void test_system(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("s", "Hello!");
    request.system = "You are a pirate.";
    client *c = ask(w, &request);
    done_ok(c, 0);
    assert_false(c->system_ignored);
    assert_string_equal(show(w, ALICE, "s")->system, "You are a pirate.");
    client *again = ask(w, &request);
    done_ok(again, 0);
    assert_true(again->system_ignored);
    /* The same prompt given when the session is made. */
    client *made = client_new(w);
    assert_ok(bora_sessions_create(w->sessions, ALICE, "made", "You are a pirate.", on_reply, made, err));
    await(made);
    assert_int_equal(made->end, BORA_REPLY_RECORD);
    assert_string_equal(made->names[0], "made");
    request = chat("made", "Hello!");
    client *d = ask(w, &request);
    done_ok(d, 0);
    assert_int_equal(d->n_prompt, c->n_prompt);
    assert_string_equal(d->text, c->text);
    request = chat("without", "Hello!");
    assert_true(ask(w, &request)->n_prompt < c->n_prompt);
    /* An id for an answer: it is made up. */
    client *unnamed = client_new(w);
    assert_ok(bora_sessions_create(w->sessions, ALICE, NULL, NULL, on_reply, unnamed, err));
    await(unnamed);
    assert_int_equal(unnamed->end, BORA_REPLY_RECORD);
    assert_true(strlen(unnamed->names[0]) > 0);
    client *twice = client_new(w);
    assert_ok(bora_sessions_create(w->sessions, ALICE, "made", NULL, on_reply, twice, err));
    await(twice);
    error_is(twice, BORA_E_EXISTS);
}

static void test_outside_sessions(void **state)
{
    world *w = *state;
    const bora_tokenizer *tokenizer = bora_model_tokenizer(w->engine.model);
    bora_generate_request request = chat(NULL, "My name is Anna.");
    client *alone = ask(w, &request);
    done_ok(alone, 0);
    assert_false(alone->stored);
    assert_string_equal(alone->session_id, "");
    request = chat("s", "My name is Anna.");
    assert_string_equal(ask(w, &request)->text, alone->text);
    assert_int_equal(list(w, ALICE)->n_records, 1);

    request = chat(NULL, NULL);
    request.prompt = "Once upon a time";
    client *without = ask(w, &request);
    request.bos = true;
    client *with = ask(w, &request);
    done_ok(with, 0);
    assert_int_equal(with->n_prompt, without->n_prompt + 1);
    BORA_CLEANUP(bora_tokens_release) bora_tokens ids = {0};
    assert_ok(bora_tokens_push(&ids, bora_tokenizer_bos(tokenizer), err));
    assert_ok(bora_tokenizer_encode(tokenizer, request.prompt, strlen(request.prompt), &ids, err));
    request = chat(NULL, NULL);
    request.tokens = ids.ids;
    request.n_tokens = ids.n;
    client *raw = ask(w, &request);
    done_ok(raw, 0);
    assert_int_equal(raw->n_tokens, with->n_tokens);
    assert_memory_equal(raw->tokens, with->tokens, raw->n_tokens * sizeof *raw->tokens);
    assert_string_equal(raw->text, with->text);
    assert_int_equal(bora_sessions_n_open(w->sessions), 0);
}

static void test_bad_requests(void **state)
{
    world *w = *state;
    int32_t tokens[] = {1, 5};
    int32_t vocab_size = (int32_t)bora_model_hparams(w->engine.model)->vocab_size;
    bora_generate_request good = chat(NULL, "Hello!"), bad;
#define REFUSED(status, ...)                                                                                           \
    do {                                                                                                               \
        bad = good;                                                                                                    \
        __VA_ARGS__;                                                                                                   \
        assert_int_equal(refused(w, &bad), status);                                                                    \
    } while (0)
    REFUSED(BORA_E_INVAL, bad.text = NULL);
    REFUSED(BORA_E_INVAL, bad.prompt = "x");
    REFUSED(BORA_E_INVAL, (bad.tokens = tokens, bad.n_tokens = 2));
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.tokens = tokens, bad.n_tokens = 0));
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.prompt = ""));
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.prompt = "x", bad.session = "s"));
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.prompt = "x", bad.system = "s"));
    tokens[1] = vocab_size;
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.tokens = tokens, bad.n_tokens = 2));
    tokens[1] = -1;
    REFUSED(BORA_E_INVAL, (bad.text = NULL, bad.tokens = tokens, bad.n_tokens = 2));
    REFUSED(BORA_E_INVAL, bad.session = "");
    REFUSED(BORA_E_INVAL, bad.session = "a/b");
    REFUSED(BORA_E_INVAL, bad.session = "-a");
    REFUSED(BORA_E_INVAL, bad.sampling.temperature = -1);
    REFUSED(BORA_E_INVAL, bad.sampling.top_p = 2);
    REFUSED(BORA_E_INVAL, bad.owner = "");
    const char *empty[] = {""};
    REFUSED(BORA_E_INVAL, (bad.stops = empty, bad.n_stops = 1));
    char text[BORA_STOP_TEXT_MAX + 2];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    const char *much[17] = {text};
    REFUSED(BORA_E_INVAL, (bad.stops = much, bad.n_stops = 1));
    for (int i = 0; i < 17; i++)
        much[i] = "x";
    REFUSED(BORA_E_INVAL, (bad.stops = much, bad.n_stops = 17));
    client *c = client_new(w);
    assert_int_equal(bora_sessions_create(w->sessions, ALICE, "a/b", NULL, on_reply, c, NULL), BORA_E_INVAL);
    assert_int_equal(bora_sessions_rename(w->sessions, ALICE, "a", "-b", on_reply, c, NULL), BORA_E_INVAL);
    assert_int_equal(bora_sessions_show(w->sessions, ALICE, "", on_reply, c, NULL), BORA_E_INVAL);
    assert_int_equal(bora_sessions_delete(w->sessions, ALICE, "a/b", on_reply, c, NULL), BORA_E_INVAL);

    /* Not there, and not to be made. */
    bad = chat("nowhere", "Hello!");
    bad.create = false;
    error_is(ask(w, &bad), BORA_E_NOT_FOUND);
    bad = chat("0123456789abcdef0123456789abcdef", "Hello!");
    error_is(ask(w, &bad), BORA_E_NOT_FOUND);
    error_is(show(w, ALICE, "nowhere"), BORA_E_NOT_FOUND);
    assert_int_equal(list(w, ALICE)->n_records, 0);
    assert_false(bora_sessions_cancel(w->sessions, 999));
    bora_sessions_abandon(w->sessions, 999);
    assert_int_equal(bora_sessions_n_open(w->sessions), 0);
}

/* ---- resuming ---- */

static const char *const conversation[12] = {
    "My name is Anna.",       "I live in Prague.",        "What is my name?",     "Tell me a story.",
    "What is the capital?",   "Count to ten, please.",    "Where do I live?",     "I have a dog called Rex.",
    "What is my dog's name?", "Say something nice to me", "Do you remember Rex?", "What is my name, again?",
};

static bora_generate_request turn_of(size_t i, float temperature)
{
    bora_generate_request request = chat("talk", conversation[i]);
    request.max_tokens = 40;
    request.ignore_eos = i % 2 == 0; /* some are cut: the next turn closes them */
    request.sampling.temperature = temperature;
    request.sampling.seed = 77 + i;
    request.sampling.repetition_penalty = temperature > 0 ? 1.1f : 1.0f;
    return request;
}

/* A conversation that never leaves memory, against one whose daemon ends or is killed between turns and in them. */
static void resume(void **state, float temperature)
{
    world *w = *state;
    for (size_t i = 0; i < 12; i++) {
        bora_generate_request request = turn_of(i, temperature);
        client *c = ask(w, &request);
        done_ok(c, 0);
        if (i > 0)
            assert_int_equal(c->n_cached, c->n_history - 1);
    }
    client *live = show(w, ALICE, "talk");
    assert_int_equal(live->n_messages, 24);
    assert_true(live->n_shown > TINY_WINDOW + 40);

    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    world *v = other;
    unsigned n_struck = 0;
    for (size_t i = 0; i < 12; i++) {
        bora_generate_request request = turn_of(i, temperature);
        if (i % 3 != 2) { /* killed in the middle: of the answer, or of the prompt */
            client *lost = begin(v, &request);
            if (i % 3 == 0)
                await_tokens(lost, 3);
            else
                while (lost->n_progress == 0)
                    serve(v);
            world_kill(v);
            assert_int_equal(lost->n_ends, 0);
            world_open(v);
            /* A short answer may have been whole, and its turn on the way to the disk, before the kill. */
            if (show(v, ALICE, "talk")->n_messages > 2 * i)
                continue;
            n_struck++;
        }
        client *c = ask(v, &request);
        done_ok(c, 0);
        assert_int_equal(c->turn, i);
        if (i > 0)
            assert_int_equal(c->n_cached, c->n_history - 1); /* nothing of the old turns is run again */
        if (i % 2)
            reopen(v);
    }
    assert_true(n_struck >= 4);
    client *resumed = show(v, ALICE, "talk");
    assert_int_equal(resumed->n_messages, 24);
    assert_int_equal(resumed->n_shown, live->n_shown);
    assert_memory_equal(resumed->shown, live->shown, live->n_shown * sizeof *live->shown);
    assert_int_equal(teardown(&other), 0);
}

static void test_resume_greedy(void **state)
{
    resume(state, 0);
}

static void test_resume_seeded(void **state)
{
    resume(state, 0.9f);
}

static void count_live(void *arg, const bora_live_session *live)
{
    uint32_t *n = arg;
    (*n)++;
    assert_true(live->n_tokens > 0 && live->kv_bytes > 0 && strlen(live->id) == 32 && strlen(live->name) > 0);
}

/* Sessions that push each other out of memory. */
static void test_least_recently_used(void **state)
{
    world *w = *state;
    uint64_t one = 0;
    w->options.n_live_max = 2;
    reopen(w);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 4; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "s%d", i);
            bora_generate_request request = chat(name, conversation[round]);
            client *c = ask(w, &request);
            done_ok(c, 0);
            assert_int_equal(c->n_cached, c->n_history ? c->n_history - 1 : 0);
            exact(c, &request);
            one = c->kv_bytes;
            uint32_t n = 0;
            bora_sessions_each_live(w->sessions, ALICE, count_live, &n);
            assert_int_equal(n, round || i ? 2 : 1);
            n = 0;
            bora_sessions_each_live(w->sessions, BOB, count_live, &n);
            assert_int_equal(n, 0);
        }
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(w->engine.scheduler, &stats);
    assert_true(stats.kv_bytes <= 3 * one); /* two, and one whose closing may be on its way */
    /* None at all stays. */
    w->options.n_live_max = 0;
    reopen(w);
    bora_generate_request request = chat("s0", "Hello!");
    done_ok(ask(w, &request), 0);
    uint32_t n = 0;
    bora_sessions_each_live(w->sessions, ALICE, count_live, &n);
    assert_int_equal(n, 0);
}

/* ---- damage ---- */

/* After the tokens were run again, the pages in the store are good. */
static void runs_again(world *w, bool check)
{
    bora_generate_request request = chat("talk", "What is my name?");
    client *c = ask(w, &request);
    done_ok(c, 0);
    assert_true(c->n_history > 0);
    assert_int_equal(c->n_cached, 0);
    reopen(w);
    client *d = ask(w, &request);
    done_ok(d, 0);
    assert_int_equal(d->n_cached, d->n_history - 1);
    if (check)
        exact(d, &request);
}

static void test_damaged_pages(void **state)
{
    world *w = *state;
    for (size_t i = 0; i < 9; i++) {
        bora_generate_request request = turn_of(i, 0);
        done_ok(ask(w, &request), 0);
    }
    assert_true(show(w, ALICE, "talk")->n_shown > TINY_WINDOW + 40);
    static const char *const damage[] = {
        "UPDATE kv_page SET data = zeroblob(length(data)) WHERE page = (SELECT max(page) FROM kv_page)",
        "UPDATE kv_page SET n = 3 WHERE page = (SELECT min(page) FROM kv_page)",
        "DELETE FROM kv_page WHERE page = (SELECT max(page) - 1 FROM kv_page)",
        "DELETE FROM kv_page",
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(damage); i++) {
        world_close(w);
        tamper(w, damage[i]);
        world_open(w);
        runs_again(w, i == 0);
    }
    /* Cancelled while the tokens are run again: the next time it is the same. */
    world_close(w);
    tamper(w, "DELETE FROM kv_page");
    world_open(w);
    bora_generate_request request = chat("talk", "What is my name?");
    client *c = begin(w, &request);
    c->cancel_at_progress = 1;
    await(c);
    if (c->end == BORA_REPLY_ERROR) /* else the prompt was through first */
        error_is(c, BORA_E_CANCELLED);
    runs_again(w, false);
    /* Pages of another element type are refused by the engine. */
    w->engine_options.kv_dtype = BORA_DTYPE_F16;
    reopen(w);
    runs_again(w, false);
}

static void test_damaged_tokens(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna.");
    done_ok(ask(w, &request), 0);
    world_close(w);
    tamper(w, "UPDATE token_run SET ids = zeroblob(length(ids))");
    world_open(w);
    error_is(ask(w, &request), BORA_E_FORMAT);
    request = chat("other", "Hello!");
    done_ok(ask(w, &request), 0);
}

static void test_other_model(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna.");
    done_ok(ask(w, &request), 0);
    world_close(w);
    tamper(w, "INSERT INTO model SELECT '00000000000000000000000000000001', 'other', 0;"
              "UPDATE session SET model = '00000000000000000000000000000001'");
    world_open(w);
    client *c = ask(w, &request);
    error_is(c, BORA_E_UNSUPPORTED);
    assert_non_null(strstr(c->message, "other"));
    assert_int_equal(list(w, ALICE)->n_records, 1);
    assert_int_equal(show(w, ALICE, "talk")->n_messages, 2);
    client *renamed = client_new(w);
    assert_ok(bora_sessions_rename(w->sessions, ALICE, "talk", "speech", on_reply, renamed, err));
    await(renamed);
    assert_string_equal(renamed->names[0], "speech");
    client *deleted = client_new(w);
    assert_ok(bora_sessions_delete(w->sessions, ALICE, "speech", on_reply, deleted, err));
    await(deleted);
    assert_int_equal(deleted->end, BORA_REPLY_RECORD);
    assert_int_equal(list(w, ALICE)->n_records, 0);
}

/* The store refuses a turn: the handler hears it, the session is as before, and goes on from there. */
static void test_not_stored(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna.");
    done_ok(ask(w, &request), 0);
    client *before = show(w, ALICE, "talk");
    tamper(w, "CREATE TRIGGER refuse BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'no room here'); END");
    request = chat("talk", "What is my name?");
    client *c = ask(w, &request);
    assert_int_equal(c->end, BORA_REPLY_ERROR);
    assert_true(c->n_tokens > 0);
    assert_non_null(strstr(c->message, "no room here"));
    client *after = show(w, ALICE, "talk");
    assert_int_equal(after->n_messages, 2);
    assert_int_equal(after->n_shown, before->n_shown);
    uint32_t n = 0;
    bora_sessions_each_live(w->sessions, ALICE, count_live, &n);
    assert_int_equal(n, 0);
    tamper(w, "DROP TRIGGER refuse");
    client *d = ask(w, &request);
    done_ok(d, 0);
    assert_int_equal(d->turn, 1);
    assert_int_equal(d->n_cached, d->n_history - 1);
    assert_string_equal(d->text, c->text);
    exact(d, &request);
}

/* ---- limits ---- */

static void test_context(void **state)
{
    world *w = *state;
    w->options.context = 60;
    reopen(w);
    char text[2048] = "";
    for (int i = 0; i < 60; i++)
        (void)strncat(text, "dog ", sizeof text - strlen(text) - 1);
    bora_generate_request request = chat(NULL, text);
    assert_int_equal(refused(w, &request), BORA_E_LIMIT);
    request.session = "long";
    error_is(ask(w, &request), BORA_E_LIMIT);
    request = chat("s", "Hello!");
    request.ignore_eos = true;
    request.max_tokens = 1000;
    client *c = ask(w, &request);
    done_ok(c, BORA_REASON_CONTEXT);
    assert_true(c->stored);
    assert_int_equal(show(w, ALICE, "s")->n_shown, 60);
    assert_int_equal(refused(w, &request), BORA_E_LIMIT); /* in memory: at once */
    reopen(w);
    error_is(ask(w, &request), BORA_E_LIMIT);
    assert_int_equal(show(w, ALICE, "s")->n_messages, 2);
}

static void test_cache_stops_growing(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("s", "Hello!");
    request.ignore_eos = true;
    request.max_tokens = TINY_WINDOW + 110; /* more than window, chunk and a page */
    client *c = ask(w, &request);
    done_ok(c, BORA_REASON_LENGTH);
    request.max_tokens = 60;
    client *d = ask(w, &request);
    done_ok(d, BORA_REASON_LENGTH);
    assert_int_equal(d->n_history, c->n_prompt + c->n_tokens);
    assert_int_equal(c->kv_bytes, d->kv_bytes);
    assert_true(c->kv_bytes <= bora_pipeline_kv_sequence_max(w->engine.pipeline) + 1024); /* and its bookkeeping */
    reopen(w);
    request.max_tokens = 40;
    client *e = ask(w, &request);
    done_ok(e, BORA_REASON_LENGTH);
    assert_int_equal(e->n_cached, e->n_history - 1);
    exact(e, &request);
    assert_true(e->kv_bytes <= d->kv_bytes);
}

/* ---- together ---- */

static void test_eight_at_once(void **state)
{
    world *w = *state;
    client *together[8], *next[8];
    char name[32];
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "together%d", i);
        bora_generate_request request = chat(name, conversation[i]);
        together[i] = begin(w, &request);
    }
    serve_all(w);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "together%d", i);
        bora_generate_request request = chat(name, conversation[11 - i]);
        next[i] = begin(w, &request);
    }
    serve_all(w);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "alone%d", i);
        bora_generate_request request = chat(name, conversation[i]);
        client *c = ask(w, &request);
        done_ok(c, together[i]->reason);
        assert_int_equal(c->n_tokens, together[i]->n_tokens);
        assert_memory_equal(c->tokens, together[i]->tokens, c->n_tokens * sizeof *c->tokens);
        request = chat(name, conversation[11 - i]);
        client *d = ask(w, &request);
        done_ok(d, next[i]->reason);
        assert_int_equal(d->n_tokens, next[i]->n_tokens);
        assert_memory_equal(d->tokens, next[i]->tokens, d->n_tokens * sizeof *d->tokens);
    }
}

static void test_owners(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna.");
    client *a = ask(w, &request);
    done_ok(a, 0);
    client *bob = list(w, BOB);
    assert_int_equal(bob->end, BORA_REPLY_LIST);
    assert_int_equal(bob->n_records, 0);
    error_is(show(w, BOB, "talk"), BORA_E_NOT_FOUND);
    error_is(show(w, BOB, a->session_id), BORA_E_NOT_FOUND);
    request = chat(a->session_id, "What is my name?");
    request.owner = BOB;
    error_is(ask(w, &request), BORA_E_NOT_FOUND); /* though it is in memory */
    client *deleted = client_new(w), *renamed = client_new(w);
    assert_ok(bora_sessions_delete(w->sessions, BOB, a->session_id, on_reply, deleted, err));
    await(deleted);
    error_is(deleted, BORA_E_NOT_FOUND);
    assert_ok(bora_sessions_rename(w->sessions, BOB, "talk", "mine", on_reply, renamed, err));
    await(renamed);
    error_is(renamed, BORA_E_NOT_FOUND);
    request = chat("talk", "What is my name?"); /* Bob's own of that name */
    request.owner = BOB;
    client *b = ask(w, &request);
    done_ok(b, 0);
    assert_int_equal(b->n_history, 0);
    assert_string_not_equal(b->session_id, a->session_id);
    assert_int_equal(show(w, ALICE, "talk")->n_messages, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_max_tokens_zero_and_stop_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_system, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outside_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume_greedy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume_seeded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_least_recently_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_context, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cache_stops_growing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eight_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
