/* How generations end other than by themselves, what else may happen to a session meanwhile, and memory that runs out.
 */
#include "session_fixture.h"

/* An answer that goes on until it is stopped. */
static bora_generate_request endless(const char *session)
{
    bora_generate_request request = chat(session, "Tell me a long story.");
    request.ignore_eos = true;
    request.max_tokens = 3000;
    return request;
}

static bora_generate_request long_prompt(const char *session, char *text, size_t size)
{
    text[0] = '\0';
    while (strlen(text) + 40 < size)
        (void)strncat(text, "the dog and the cat went home and ", size - strlen(text) - 1);
    return chat(session, text);
}

static client *remove_session(world *w, const char *session)
{
    client *c = client_new(w);
    assert_ok(bora_sessions_delete(w->sessions, ALICE, session, on_reply, c, err));
    return c;
}

static client *rename_to(world *w, const char *session, const char *name)
{
    client *c = client_new(w);
    assert_ok(bora_sessions_rename(w->sessions, ALICE, session, name, on_reply, c, err));
    return c;
}

/* The session goes on after an interrupted turn, from memory and from the store alike. */
static void goes_on(world *w, const char *session, uint64_t n_messages)
{
    client *s = show(w, ALICE, session);
    assert_int_equal(s->n_messages, n_messages);
    assert_true(s->interrupted);
    for (int resumed = 0; resumed < 2; resumed++) {
        if (resumed)
            reopen(w);
        bora_generate_request request = chat(session, "What is my name?");
        client *c = ask(w, &request);
        done_ok(c, 0);
        assert_int_equal(c->turn, n_messages / 2 + (uint64_t)resumed);
        assert_int_equal(c->n_cached, c->n_history - 1);
        exact(c, &request);
    }
}

/* ---- cancel ---- */

static void test_cancel_answer(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna.");
    done_ok(ask(w, &request), 0);
    request = endless("talk");
    client *c = begin(w, &request);
    c->cancel_at_token = 7;
    await(c);
    done_ok(c, BORA_REASON_CANCELLED);
    assert_true(c->stored && c->n_tokens >= 7 && c->n_tokens < 3000);
    assert_string_equal(show(w, ALICE, "talk")->last_message, c->text);
    exact(c, &request);
    assert_false(bora_sessions_cancel(w->sessions, c->id));
    goes_on(w, "talk", 4);
}

static void test_cancel_outside_sessions(void **state)
{
    world *w = *state;
    bora_generate_request request = endless(NULL);
    client *c = begin(w, &request);
    c->cancel_at_token = 3;
    await(c);
    done_ok(c, BORA_REASON_CANCELLED);
    assert_false(c->stored);
    assert_int_equal(list(w, ALICE)->n_records, 0);
}

/* Before the first token: at once, while it waits, in the prompt. The session stands as before. */
static void test_cancel_before_answer(void **state)
{
    world *w = *state;
    w->engine_options.max_running = 1;
    w->engine_options.chunk = 8;
    reopen(w);
    bora_generate_request request = chat("talk", "My name is Anna.");
    char text[6000];
    bora_generate_request warm = chat(NULL, "Hello!"); /* what a first step takes for good is taken */
    done_ok(ask(w, &warm), 0);
    for (int known = 0; known < 2; known++) {
        client *loading = begin(w, &request); /* the session is on its way from the store, or idle in memory */
        assert_true(bora_sessions_cancel(w->sessions, loading->id));
        await(loading);
        error_is(loading, BORA_E_CANCELLED);

        /* One endless answer needs room once, one of a session twice: its pages go to the store. So it waits. */
        uint64_t room = bora_pipeline_kv_size(w->engine.pipeline, 3200);
        engine_leave_room(&w->engine, 2 * room + room / 2);
        bora_generate_request other = endless(NULL), more = endless("talk");
        client *before = begin(w, &other);
        await_tokens(before, 1);
        client *waiting = begin(w, &more);
        while (waiting->n_queued + waiting->n_ends == 0)
            serve(w);
        assert_true(bora_sessions_cancel(w->sessions, waiting->id)); /* it is still open */
        await(waiting);
        error_is(waiting, BORA_E_CANCELLED);
        assert_int_equal(waiting->n_accepted, 0);
        assert_int_equal(before->n_ends, 0);
        assert_true(bora_sessions_cancel(w->sessions, before->id));
        await(before);
        engine_leave_all(&w->engine);

        bora_generate_request big = long_prompt("talk", text, sizeof text);
        client *prompt = begin(w, &big);
        prompt->cancel_at_progress = 1;
        await(prompt);
        error_is(prompt, BORA_E_CANCELLED);
        assert_int_equal(prompt->n_accepted, 1);

        client *s = show(w, ALICE, "talk");
        assert_int_equal(s->n_messages, known ? 2 : 0);
        client *c = ask(w, &request);
        done_ok(c, 0);
        assert_int_equal(c->turn, known);
        assert_int_equal(c->n_history, s->n_shown);
        assert_int_equal(c->n_cached, known ? c->n_history - 1 : 0);
        exact(c, &request);
    }
}

/* ---- the client or the daemon goes ---- */

static void test_abandon(void **state)
{
    world *w = *state;
    bora_generate_request request = endless("talk");
    client *c = begin(w, &request);
    c->abandon_at_token = 5;
    serve_all(w);
    assert_int_equal(c->n_ends, 0);
    assert_int_equal(c->n_tokens, 5);
    goes_on(w, "talk", 2);
    /* Before anything was there: nothing is kept. */
    request = endless("other");
    client *d = begin(w, &request);
    bora_sessions_abandon(w->sessions, d->id);
    serve_all(w);
    assert_int_equal(d->n_accepted + d->n_ends, 0);
    assert_int_equal(show(w, ALICE, "other")->n_messages, 0);
}

static void test_shutdown(void **state)
{
    world *w = *state;
    bora_generate_request request = endless("talk"), queued = chat("loading", "Hello!");
    client *c = begin(w, &request);
    await_tokens(c, 4);
    client *loading = begin(w, &queued);
    bora_sessions_stop(w->sessions);
    assert_int_equal(refused(w, &queued), BORA_E_CLOSED);
    client *listing = client_new(w);
    assert_int_equal(bora_sessions_list(w->sessions, ALICE, on_reply, listing, NULL), BORA_E_CLOSED);
    serve_all(w);
    done_ok(c, BORA_REASON_SHUTDOWN);
    assert_true(c->stored);
    error_is(loading, BORA_E_CLOSED);
    world_kill(w);
    world_open(w);
    exact(c, &request);
    goes_on(w, "talk", 2);
}

/* ---- busy ---- */

static void test_busy(void **state)
{
    world *w = *state;
    bora_generate_request request = endless("talk");
    client *c = begin(w, &request);
    assert_int_equal(refused(w, &request), BORA_E_BUSY); /* while it is loaded */
    await_tokens(c, 1);
    assert_int_equal(refused(w, &request), BORA_E_BUSY);
    request.session = c->session_id;
    assert_int_equal(refused(w, &request), BORA_E_BUSY);
    assert_true(bora_sessions_cancel(w->sessions, c->id));
    await(c);
    reopen(w);
    request.session = "talk"; /* by both names at once, neither in memory */
    client *one = begin(w, &request);
    request.session = c->session_id;
    client *two = begin(w, &request);
    await(two);
    error_is(two, BORA_E_BUSY);
    assert_int_equal(one->n_ends, 0);
    one->cancel_at_token = one->n_tokens + 1;
    await(one);
    done_ok(one, BORA_REASON_CANCELLED);
}

static void test_too_many_open(void **state)
{
    world *w = *state;
    w->options.n_open_max = 2;
    reopen(w);
    bora_generate_request request = endless(NULL);
    client *a = begin(w, &request), *b = begin(w, &request);
    assert_int_equal(refused(w, &request), BORA_E_BUSY);
    a->cancel_at_token = b->cancel_at_token = 1;
    await(a);
    await(b);
    request.max_tokens = 2;
    done_ok(ask(w, &request), 0);
}

/* ---- delete and rename ---- */

static void test_delete(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "My name is Anna."), more = endless("talk");
    client *idle = ask(w, &request);
    done_ok(idle, 0);
    client *gone = remove_session(w, "talk");
    client *fresh = begin(w, &request); /* asked for after the delete: a new one of that name */
    await(gone);
    await(fresh);
    assert_int_equal(gone->end, BORA_REPLY_RECORD);
    assert_string_equal(gone->session_id, idle->session_id);
    done_ok(fresh, 0);
    assert_int_equal(fresh->n_history, 0);
    assert_string_not_equal(fresh->session_id, idle->session_id);

    client *running = begin(w, &more);
    await_tokens(running, 3);
    gone = remove_session(w, "talk");
    await(gone);
    done_ok(running, BORA_REASON_CANCELLED);
    assert_false(running->stored);
    assert_true(running->order < gone->order);
    error_is(show(w, ALICE, "talk"), BORA_E_NOT_FOUND);

    client *loading = begin(w, &request); /* deleted while it is loaded, under its name */
    gone = remove_session(w, "talk");
    serve_all(w);
    error_is(loading, BORA_E_CANCELLED);
    assert_int_equal(gone->end, BORA_REPLY_RECORD);

    client *again = ask(w, &request); /* and by its id, from under a name */
    done_ok(again, 0);
    reopen(w);
    loading = begin(w, &more);
    gone = remove_session(w, again->session_id);
    serve_all(w);
    assert_int_equal(gone->end, BORA_REPLY_RECORD);
    assert_int_equal(loading->n_ends, 1);
    if (loading->end == BORA_REPLY_DONE)
        assert_false(loading->stored);
    else
        error_is(loading, BORA_E_CANCELLED);
    assert_int_equal(list(w, ALICE)->n_records, 0);
    uint32_t n = bora_sessions_n_open(w->sessions);
    assert_int_equal(n, 0);
    gone = remove_session(w, "talk");
    await(gone);
    error_is(gone, BORA_E_NOT_FOUND);
}

static void test_rename(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("old", "My name is Anna.");
    client *c = ask(w, &request);
    done_ok(c, 0);
    client *renamed = rename_to(w, "old", "new");
    request = chat("new", "What is my name?"); /* asked for after the rename: the same session */
    client *d = begin(w, &request);
    await(renamed);
    await(d);
    assert_string_equal(renamed->names[0], "new");
    done_ok(d, 0);
    assert_string_equal(d->session_id, c->session_id);
    assert_string_equal(d->name, "new");
    assert_int_equal(d->n_cached, d->n_history - 1);

    request = endless("new"); /* while it answers */
    client *running = begin(w, &request);
    await_tokens(running, 2);
    renamed = rename_to(w, "new", "newer");
    await(renamed);
    assert_int_equal(renamed->end, BORA_REPLY_RECORD);
    request.session = "newer";
    assert_int_equal(refused(w, &request), BORA_E_BUSY);
    running->cancel_at_token = running->n_tokens + 1;
    await(running);
    done_ok(running, BORA_REASON_CANCELLED);
    assert_true(running->stored);
    goes_on(w, "newer", 6);

    request = chat("old", "Hello!"); /* free again */
    client *other = begin(w, &request);
    client *taken = rename_to(w, "newer", "old"); /* asked for after the load made it */
    await(taken);
    await(other);
    error_is(taken, BORA_E_EXISTS);
    done_ok(other, 0);
    assert_int_equal(other->n_history, 0);
    taken = rename_to(w, "nowhere", "x");
    await(taken);
    error_is(taken, BORA_E_NOT_FOUND);
}

/* ---- no memory
 * ---------------------------------------------------------------------------------------------------------------------
 */

/* Makes the n-th allocation and those after it fail in a whole turn. True if it went through. */
static bool turn_without_memory(world *w, const bora_generate_request *request, uint64_t n)
{
    client *c = client_new(w);
    bora_error err = {{0}};
    (void)bora_memory_fail_at(n);
    bora_status st = bora_sessions_generate(w->sessions, request, on_reply, c, &c->id, &err);
    if (st == BORA_OK)
        await(c);
    (void)bora_memory_fail_at(0);
    serve_all(w);
    if (st != BORA_OK) {
        assert_int_equal(st, BORA_E_NOMEM);
        return false;
    }
    if (c->end == BORA_REPLY_ERROR)
        error_is(c, BORA_E_NOMEM);
    return c->end == BORA_REPLY_DONE;
}

static void test_no_memory(void **state)
{
    world *w = *state;
    w->engine.log.level = -1;
    bora_generate_request first = chat("talk", "My name is Anna."), request = chat("talk", "What is my name?");
    request.max_tokens = 3;
    const char *stops[] = {"zzz"};
    bora_logit_bias bias = {.token = 5, .bias = -1};
    request.stops = stops;
    request.n_stops = 1;
    request.sampling.biases = &bias;
    request.sampling.n_biases = 1;
    request.system = "Be brief.";
    done_ok(ask(w, &first), 0);
    client *before = show(w, ALICE, "talk");
    /* From the store: what fails leaves memory. Every third allocation; all of them would take minutes under
     * sanitizers. */
    uint64_t n = 1;
    for (; !turn_without_memory(w, &request, n); n += 3) {
        client *s = show(w, ALICE, "talk");
        assert_int_equal(s->n_messages, 2);
        assert_int_equal(s->n_shown, before->n_shown);
        assert_true(n < 3000);
    }
    assert_true(n > 30);
    assert_int_equal(show(w, ALICE, "talk")->n_messages, 4);
    /* From memory. */
    for (n = 2; n < 3000; n += 7) {
        done_ok(ask(w, &first), 0); /* brings it there */
        if (turn_without_memory(w, &request, n))
            break;
    }
    assert_true(n > 20 && n < 3000);
    client *last = ask(w, &first);
    done_ok(last, 0);
    exact(last, &first);
    /* Outside sessions, and the verbs. */
    bora_generate_request alone = chat(NULL, "Hello!");
    alone.max_tokens = 2;
    for (n = 1; !turn_without_memory(w, &alone, n); n += 3)
        assert_true(n < 3000);
    for (n = 1; n < 40; n++) {
        client *c = client_new(w), *d = client_new(w);
        (void)bora_memory_fail_at(n);
        bora_status one = bora_sessions_show(w->sessions, ALICE, "talk", on_reply, c, NULL);
        bora_status two = bora_sessions_create(w->sessions, ALICE, NULL, "system", on_reply, d, NULL);
        serve_all(w);
        (void)bora_memory_fail_at(0);
        assert_true(one == BORA_E_NOMEM || c->n_ends == 1);
        assert_true(two == BORA_E_NOMEM || d->n_ends == 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cancel_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_outside_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_before_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abandon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rename, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("session_ends", tests, NULL, NULL);
}
