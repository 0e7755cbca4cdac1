/* Answers that are cut because something goes on in the daemon: neither its end nor their owner's wish. */
#include "session_fixture.h"

static const char why[] = "something goes on: try again";

static void test_cut_before_answer(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "Hello.");
    client *c = begin(w, &request); /* its session is on its way from the store */
    bora_sessions_cut(w->sessions, why);
    await(c);
    error_is(c, BORA_E_BUSY);
    assert_string_equal(c->message, why);
    done_ok(ask(w, &request), 0); /* it is over */
}

static void test_cut_while_running(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "Hello.");
    request.max_tokens = 3000;
    request.ignore_eos = true;
    client *c = begin(w, &request);
    await_tokens(c, 3);
    assert_int_equal(bora_sessions_n_generations(w->sessions), 1);
    bora_sessions_cut(w->sessions, why);
    await(c);
    done_ok(c, BORA_REASON_SHUTDOWN);
    assert_true(c->stored);
    assert_int_equal(bora_sessions_n_generations(w->sessions), 0);
    assert_true(show(w, ALICE, "talk")->interrupted);
    request.max_tokens = 4;
    done_ok(ask(w, &request), 0);
}

/* Who has cancelled is told that, and nothing else. */
static void test_cancelled_and_cut(void **state)
{
    world *w = *state;
    bora_generate_request request = chat("talk", "Hello.");
    client *c = begin(w, &request);
    assert_true(bora_sessions_cancel(w->sessions, c->id));
    bora_sessions_cut(w->sessions, why);
    await(c);
    error_is(c, BORA_E_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut_before_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_while_running, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled_and_cut, setup, teardown),
    };
    return cmocka_run_group_tests_name("cut", tests, NULL, NULL);
}
