/* A daemon whose model is not ready yet: an attention plugin waits at a gate. */
#include "integration/gate.h"
#include "integration/spawn.h"
#include "integration/wire.h"
#include "support/daemon.h"

#include <stdlib.h>
#include <sys/stat.h>

typedef struct fixture {
    bora_test_daemon daemon;
    gate gate;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    return f && bora_test_daemon_init(&f->daemon) ? gate_build(&f->gate, &f->daemon.folder) : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    gate_release(&f->gate);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

/* ---- the daemon -------------------------------------------------------------------------------------------------- */

/* It says that it is ready to be asked, and is loading. */
static void start(fixture *f)
{
    const char *arguments[] = {"--plugin", f->gate.plugin, NULL};
    assert_true(bora_test_daemon_start(&f->daemon, arguments, NULL));
    gate_await(&f->gate);
}

static void say(fixture *f, char word)
{
    gate_say(&f->gate, word);
}

static void assert_state(wire *w, const char *expected)
{
    wire_event e = {0};
    char state[16];
    bora_pack pack = wire_request(w, "status");
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    wire_copy(state, sizeof state, bora_value_get(e.root, "state"));
    assert_string_equal(state, expected);
    const bool is_loading = strcmp(expected, "loading") == 0;
    assert_int_equal(bora_value_get(e.root, "n_load_bytes") != NULL, is_loading);
    if (is_loading) {
        assert_int_equal(wire_uint_of(&e, "n_load_bytes"), wire_uint_of(&e, "weight_bytes"));
        assert_true(wire_uint_of(&e, "n_loaded_bytes") < wire_uint_of(&e, "n_load_bytes"));
    }
    wire_event_release(&e);
}

static uint64_t ask(wire *w, const char *session)
{
    bora_pack pack = wire_turn(w, session, "Tell me about the sea.", 6);
    wire_submit(w, &pack);
    return w->last_id;
}

static void expect_answered(wire *w, const char *verb)
{
    wire_event e = {0};
    bora_pack pack = wire_request(w, verb);
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    wire_event_release(&e);
}

/* The error of a request, behind any number of loading events. */
static void expect_end(wire *w, uint64_t id, const char *code, const char *message)
{
    wire_event e = {0};
    do
        wire_receive(w, &e);
    while (strcmp(e.event, "loading") == 0);
    assert_string_equal(e.event, "error");
    assert_int_equal(e.id, id);
    assert_string_equal(e.code, code);
    if (!strstr(e.message, message))
        fail_msg("'%s' does not say '%s'", e.message, message);
    wire_event_release(&e);
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

static void test_answers_wait(void **state)
{
    fixture *f = *state;
    wire asking, watching;
    wire_answer answer;
    wire_event e = {0};
    start(f);
    wire_greet(&asking, f->daemon.socket);
    wire_greet(&watching, f->daemon.socket);
    assert_state(&watching, "loading");
    expect_answered(&watching, "model");
    expect_answered(&watching, "session.create");
    expect_answered(&watching, "session.list");
    expect_answered(&watching, "plugin.list");

    uint64_t id = ask(&asking, "early");
    wire_wait_status(&watching, "n_waiting", 1);
    wire_receive(&asking, &e); /* it is told, while nothing else can come */
    assert_string_equal(e.event, "loading");
    assert_int_equal(e.id, id);
    assert_true(wire_uint_of(&e, "n_done") < wire_uint_of(&e, "n_total"));
    wire_event_release(&e);
    assert_int_equal(wire_status(&watching, "n_running"), 0);

    say(f, 'g');
    assert_true(wire_follow(&asking, id, &answer, &e));
    assert_int_equal(answer.n, 6);
    assert_state(&watching, "ready");
    assert_true(bora_test_daemon_logged(&f->daemon, "loading model"));
    wire_event_release(&e);
    wire_say(&asking, "early", "And what else?", 6, &answer);
    assert_true(answer.n_history > 6);
    wire_close(&asking);
    wire_close(&watching);
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
}

static void test_those_who_wait_may_leave(void **state)
{
    fixture *f = *state;
    wire staying, leaving, watching;
    wire_answer answer;
    wire_event e = {0};
    start(f);
    wire_greet(&staying, f->daemon.socket);
    wire_greet(&leaving, f->daemon.socket);
    wire_greet(&watching, f->daemon.socket);
    (void)ask(&leaving, "left");
    uint64_t first = ask(&staying, "cancelled");
    uint64_t second = ask(&staying, "answered");
    wire_wait_status(&watching, "n_waiting", 3);

    wire_close(&leaving);
    wire_wait_status(&watching, "n_waiting", 2);
    wire_wait_status(&watching, "n_connections", 2);

    bora_pack pack = wire_request(&staying, "cancel");
    bora_pack_uint(&pack, "request", first);
    wire_submit(&staying, &pack);
    uint64_t cancel = staying.last_id;
    bool is_found = false, has_ended = false;
    while (!is_found || !has_ended) {
        wire_receive(&staying, &e);
        if (strcmp(e.event, "loading") == 0)
            continue;
        assert_true(e.id == cancel || e.id == first);
        is_found = is_found || e.id == cancel;
        if (e.id == first)
            assert_string_equal(e.code, "cancelled");
        has_ended = has_ended || e.id == first;
    }
    wire_wait_status(&watching, "n_waiting", 1);
    assert_state(&watching, "loading");

    say(f, 'g');
    assert_true(wire_follow(&staying, second, &answer, &e));
    assert_int_equal(answer.n, 6);
    wire_event_release(&e);
    wire_say(&staying, "cancelled", "Once more.", 3, &answer); /* it is as before the turn that was cancelled */
    assert_int_equal(answer.n_history, 0);
    wire_close(&staying);
    wire_close(&watching);
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
}

static void test_a_load_that_fails_ends_the_daemon(void **state)
{
    fixture *f = *state;
    wire w;
    struct stat info;
    start(f);
    wire_greet(&w, f->daemon.socket);
    uint64_t id = ask(&w, "early");
    wire_wait_status(&w, "n_waiting", 1);
    say(f, 'x');
    expect_end(&w, id, "invalid", "the gate stays shut");
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 1);
    assert_true(bora_test_daemon_logged(&f->daemon, "error: plugin '"));
    assert_true(bora_test_daemon_logged(&f->daemon, "the gate stays shut"));
    assert_int_not_equal(stat(f->daemon.socket, &info), 0);
    wire_close(&w);
}

/* A create that waits cannot be torn out of it; everybody else is told at once, and then nothing more is built. */
static void test_ended_while_it_loads(void **state)
{
    fixture *f = *state;
    wire w;
    start(f);
    wire_greet(&w, f->daemon.socket);
    uint64_t id = ask(&w, "early");
    wire_wait_status(&w, "n_waiting", 1);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    expect_end(&w, id, "shutdown", "ending");
    say(f, 'g');
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "model ready"));
    assert_false(bora_test_daemon_logged(&f->daemon, "error:"));
    wire_close(&w);
}

/* --check waits for it all. */
static void test_check_loads(void **state)
{
    fixture *f = *state;
    const char *argv[] = {BORAD, "--config", "none", "--check", "--plugin", f->gate.plugin, NULL};
    say(f, 'g'); /* it waits in the FIFO */
    spawn_expect(argv, NULL, 0, "are in order");
    say(f, 'x');
    spawn_expect(argv, NULL, 1, "the gate stays shut");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_those_who_wait_may_leave, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_load_that_fails_ends_the_daemon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ended_while_it_loads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_loads, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("loading", tests, NULL, NULL);
}
