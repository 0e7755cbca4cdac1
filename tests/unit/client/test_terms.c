/* What a person may ask of the command bora beside text and sampling: several answers, priority and time, and what they
 * are shown of it; and the daemon's plugins and numbers. */
#include "bora_fixture.h"

static void test_terms_are_sent(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "complete", "x", "--background", "--timeout", "2.5"), 0);
    assert_string_equal(f->out, "prompt=x priority=background timeout_ms=2500 ");
    assert_int_equal(RUN(f, NULL, "complete", "x", "--timeout", "0.001", "--choices", "1"), 0);
    assert_string_equal(f->out, "prompt=x timeout_ms=1 n=1 ");
    assert_int_equal(RUN(f, "slow\n", "chat", "--background", "--timeout", "9"), 0);
}

static void test_choices_come_in_order(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "choices", "--choices", "3"), 0);
    assert_string_equal(f->out, "[answer 1 of 3]\none two\n"
                                "\n[answer 2 of 3]\nun deux!\n"
                                "\n[answer 3 of 3]\neins\nzwei\n");
    assert_string_equal(f->err, "");
    assert_int_equal(RUN(f, NULL, "ask", "choices", "--choices", "3", "--json"), 0);
    assert_has(f->out, "{\"event\": \"choice\", \"choice\": 2, \"text\": \"zwei\"}\n");
    assert_has_not(f->out, "[answer");
    /* The daemon fails in the middle: what is there is shown, and that it is not whole. */
    assert_int_equal(RUN(f, NULL, "ask", "choices cut", "--choices", "2"), 1);
    assert_string_equal(f->out, "[answer 1 of 2]\n\n\n[answer 2 of 2]\nsecond\n[interrupted]\n");
    assert_has(f->err, "the model's file is damaged (io)");
}

static void test_choices_stream(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"ask", "choices", "--choices", "3", NULL});
    assert_int_equal(wait_for_end(f), 0);
    assert_string_equal(f->out, "[answer 1 of 3]\r\none two\r\n\r\n[answer 2 of 3]\r\nun deux!\r\n\r\n"
                                "[answer 3 of 3]\r\neins\r\nzwei\r\n");
}

static void test_place_in_the_queue(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"ask", "wait", NULL});
    expect(f, "\r\033[K[waiting: place 3 of 7]");
    expect(f, "\r\033[K[waiting: place 1 of 2]");
    expect(f, "\r\033[KAt last.\r\n"); /* written over */
    assert_int_equal(wait_for_end(f), 0);
    assert_int_equal(RUN(f, NULL, "ask", "wait"), 0); /* not into files */
    assert_string_equal(f->out, "At last.\n");
    assert_string_equal(f->err, "");
    assert_int_equal(RUN(f, NULL, "ask", "wait", "--json"), 0);
    assert_has(f->out, "{\"event\": \"queued\", \"place\": 3, \"n_waiting\": 7}\n");
}

static void test_deadlines(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "slow", "--timeout", "2"), 0);
    assert_string_equal(f->out, "half an ans\n[interrupted]\n");
    assert_string_equal(f->err, "[the time is over: the answer ends here]\n");
    assert_int_equal(RUN(f, NULL, "ask", "late", "--timeout", "2"), 1);
    assert_string_equal(f->out, "");
    assert_string_equal(f->err, "bora: its time was over before the answer began\n");
    assert_int_equal(RUN(f, NULL, "ask", "late", "--timeout", "2", "--json"), 1);
    assert_has(f->out, "\"code\": \"cancelled\"");
    assert_int_equal(RUN(f, NULL, "ask", "late"), 130); /* cancelled by somebody else */
}

static void test_reuse_is_told(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "-v", "-s", "work", "hello"), 0);
    assert_has(f->err, "; 7 prompt tokens in 0 ms, 64 more reused; seed ");
    assert_int_equal(RUN(f, NULL, "ask", "-v", "hello"), 0);
    assert_has(f->err, "; 7 prompt tokens in 0 ms; seed ");
}

static void test_plugin_and_metrics(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "plugin", "info", "expert", "quant"), 0);
    assert_string_equal(f->out, "kind           expert\nname           quant\nversion        1.0\n"
                                "file           /lib/x.so\ninterface      1.3\ntypes          f32, q8_0\n"
                                "invariant      yes\npacks weights  no\nin use         no\n");
    assert_int_equal(RUN(f, NULL, "plugin", "info", "expert", "quant", "--json"), 0);
    assert_has(f->out, "\"types\": [");
    assert_int_equal(RUN(f, NULL, "plugin", "use", "attention", "flash"), 0);
    assert_string_equal(f->out, "");
    assert_string_equal(f->err, "[attention flash 1.0 is in use now]\n");
    assert_int_equal(RUN(f, NULL, "plugin", "use", "attention", "secret"), 1);
    assert_string_equal(f->err, "bora: only the daemon's own user and root may do this (permission)\n");
    assert_int_equal(RUN(f, NULL, "metrics"), 0);
    assert_string_equal(f->out, "# HELP bora_x X.\n# TYPE bora_x gauge\nbora_x 1\n");
    assert_int_equal(RUN(f, NULL, "metrics", "--json"), 0);
    assert_has(f->out, "{\n  \"text\": \"# HELP");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_terms_are_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_choices_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_choices_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_place_in_the_queue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deadlines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reuse_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plugin_and_metrics, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("terms", tests, NULL, NULL);
}
