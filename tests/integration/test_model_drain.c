/* model.load in its phases: what happens to answers that run, to those who ask meanwhile, to a model that turns out not
 * to load, and to a daemon that ends in the middle. */
#include "integration/exchange.h"
#include "integration/gate.h"

#include <stdlib.h>

#define PATIENCE_MS 600000 /* no test waits for it */

typedef struct fixture {
    bora_test_daemon daemon;
    char b[BORA_TEMP_PATH_SIZE]; /* the other model */
    witness witness;
    gate gate;
    wire admin, client, watching;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bora_test_daemon_init(&f->daemon))
        return -1;
    (void)exchange_convert(&f->daemon.folder, "q4_k", f->b);
    return gate_build(&f->gate, &f->daemon.folder);
}

static void close_wires(fixture *f)
{
    wire_close(&f->admin);
    wire_close(&f->client);
    wire_close(&f->watching);
    wire_close(&f->witness.wire);
}

static int tear_down(void **state)
{
    fixture *f = *state;
    gate_release(&f->gate);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

static void connect_all(fixture *f)
{
    wire_greet(&f->admin, f->daemon.socket);
    wire_greet(&f->client, f->daemon.socket);
    wire_greet(&f->watching, f->daemon.socket);
}

static void start_with(fixture *f, const char *const *arguments)
{
    assert_true(bora_test_daemon_start(&f->daemon, arguments, NULL));
    connect_all(f);
    if (strcmp(arguments[0], "--plugin") == 0) {
        gate_await(&f->gate);
        gate_say(&f->gate, 'g');
    }
    exchange_wait_status(&f->watching, "state", "ready");
}

/* batch_tokens: one answer that runs leaves room for others. */
static void start(fixture *f)
{
    const char *arguments[] = {"--threads", "2", NULL};
    start_with(f, arguments);
}

/* With the gate: each load waits for a word. */
static void start_gated(fixture *f)
{
    const char *arguments[] = {"--plugin", f->gate.plugin, "--threads", "2", NULL};
    start_with(f, arguments);
}

static void end(fixture *f, int code)
{
    close_wires(f);
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), code);
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
}

static void cancel(wire *w, uint64_t id)
{
    bora_pack pack = wire_request(w, "cancel");
    bora_pack_uint(&pack, "request", id);
    wire_submit(w, &pack);
}

/* ---- answers that run ---------------------------------------------------------------------------------------------
 */

/* They may end by themselves, whole; what is asked meanwhile is told to come again, or answered by the old model. */
static void test_draining(void **state)
{
    fixture *f = *state;
    wire_event e = {0};
    char reason[32];
    uint64_t n, n_interrupted, n_tokens;
    size_t n_draining = 0;
    static wire_answer answer;
    start(f);
    uint64_t running = exchange_begin_long(&f->client, "long");
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    exchange_wait_status(&f->watching, "state", "draining");
    exchange_assert_status(&f->watching, "model_path", MODEL_A);

    bora_pack pack = wire_turn(&f->watching, "new", "Hello?", 4);
    wire_submit_refused(&f->watching, &pack, "busy", "being exchanged");
    pack = wire_request(&f->watching, "plugin.use");
    bora_pack_string(&pack, "kind", "attention");
    bora_pack_string(&pack, "name", "reference");
    wire_submit_refused(&f->watching, &pack, "busy", "being exchanged");
    pack = wire_request(&f->watching, "model.load");
    bora_pack_string(&pack, "model", MODEL_A);
    wire_submit_refused(&f->watching, &pack, "busy", "already");
    static const char *const quick[] = {"model", "session.list", "plugin.list"};
    for (size_t i = 0; i < 3; i++) {
        pack = wire_request(&f->watching, quick[i]);
        wire_submit(&f->watching, &pack);
        wire_expect_result(&f->watching, &e);
    }
    pack = wire_request(&f->watching, "tokenize");
    bora_pack_string(&pack, "text", "a text");
    wire_submit(&f->watching, &pack);
    wire_expect_result(&f->watching, &e);
    pack = wire_request(&f->watching, "session.create");
    bora_pack_string(&pack, "name", "early");
    wire_submit(&f->watching, &pack);
    wire_expect_result(&f->watching, &e);

    wire_receive(&f->admin, &e); /* it is told that it waits, before anything has ended */
    assert_string_equal(e.event, "draining");
    assert_int_equal(wire_uint_of(&e, "n_open"), 1);
    cancel(&f->client, running);
    exchange_end_long(&f->client, running, reason, &n);
    assert_string_equal(reason, "cancelled"); /* as its owner asked */
    exchange_receive(&f->admin, exchange, &e, &n_draining);
    assert_string_equal(e.event, "result");
    exchange_assert_status(&f->watching, "model_path", f->b);
    assert_int_equal(exchange_say(&f->watching, "new", "Hello?", 4, &answer), 0);
    exchange_load(&f->admin, MODEL_A);
    assert_int_equal(exchange_say(&f->watching, "early", "Hello?", 4, &answer), 0); /* it was the old model's */
    exchange_show(&f->watching, "long", &n_interrupted, &n_tokens);
    assert_int_equal(n_interrupted, 1);
    assert_true(n_tokens > n);
    assert_int_equal(exchange_say(&f->watching, "long", "Go on.", 4, &answer), 0);
    assert_int_equal(answer.n_history, n_tokens);
    wire_event_release(&e);
    end(f, 0);
}

/* An answer that ends in time is as it would have been. */
static void test_finishing(void **state)
{
    fixture *f = *state;
    static wire_answer alone, answer;
    wire_event e = {0};
    start(f);
    (void)exchange_say(&f->client, "alone", "Tell me about the sea.", 600, &alone);
    bora_pack pack = wire_turn(&f->client, "beside", "Tell me about the sea.", 600);
    wire_submit(&f->client, &pack);
    wire_receive(&f->client, &e);
    assert_string_equal(e.event, "accepted");
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    assert_true(wire_follow(&f->client, f->client.last_id, &answer, &e));
    assert_int_equal(answer.n, alone.n);
    assert_memory_equal(answer.tokens, alone.tokens, alone.n * sizeof *alone.tokens);
    exchange_expect_loaded(&f->admin, exchange, f->b);
    wire_event_release(&e);
    end(f, 0);
}

/* When their time is over they are cut; what there is of them is stored, and goes on later. Those that have not begun
 * are told to come again. */
static void test_cut(void **state)
{
    fixture *f = *state;
    char reason[32];
    uint64_t n, n_interrupted, n_tokens;
    static wire_answer answer;
    const char *arguments[] = {"--threads", "2", "--set", "engine.running_max=1", NULL};
    start_with(f, arguments);
    uint64_t running = exchange_begin_long(&f->client, "long");
    exchange_expect_loaded(&f->admin, exchange_submit(&f->admin, f->b, 0), f->b);
    exchange_end_long(&f->client, running, reason, &n);
    assert_string_equal(reason, "shutdown");
    assert_true(n > 0);

    exchange_load(&f->admin, MODEL_A);
    exchange_show(&f->watching, "long", &n_interrupted, &n_tokens);
    assert_int_equal(n_interrupted, 1);
    assert_true(n_tokens > n);
    assert_int_equal(exchange_say(&f->watching, "long", "Go on.", 4, &answer), 0);
    assert_int_equal(answer.n_history, n_tokens);
    assert_int_equal(answer.n_cached + 1, n_tokens);

    running = exchange_begin_long(&f->client, "long");
    uint64_t exchange = exchange_submit(&f->admin, f->b, 300);
    exchange_expect_loaded(&f->admin, exchange, f->b);
    exchange_end_long(&f->client, running, reason, &n);
    assert_string_equal(reason, "shutdown");
    end(f, 0);
}

/* ---- while it loads ------------------------------------------------------------------------------------------------
 */

/* Who asks waits for the new model, and is told. */
static void test_loading(void **state)
{
    fixture *f = *state;
    wire_event e = {0};
    static wire_answer answer;
    start_gated(f);
    (void)exchange_say(&f->client, "old", "Hello.", 4, &answer);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    gate_await(&f->gate);
    exchange_assert_status(&f->watching, "state", "loading");
    exchange_assert_status(&f->watching, "model_path", f->b);
    bora_pack pack = wire_turn(&f->client, "new", "Hello.", 4);
    wire_submit(&f->client, &pack);
    const uint64_t asked = f->client.last_id;
    wire_wait_status(&f->watching, "n_waiting", 1);
    pack = wire_turn(&f->watching, "old", "And now?", 4);
    wire_submit_refused(&f->watching, &pack, "unsupported", "another model");
    wire_receive(&f->admin, &e);
    assert_string_equal(e.event, "loading");
    assert_int_equal(e.id, exchange);
    assert_true(wire_uint_of(&e, "n_done") < wire_uint_of(&e, "n_total"));
    gate_say(&f->gate, 'g');
    assert_true(wire_follow(&f->client, asked, &answer, &e));
    assert_int_equal(answer.n, 4);
    exchange_expect_loaded(&f->admin, exchange, f->b);
    wire_event_release(&e);
    end(f, 0);
}

/* It comes out late that a model cannot be used: the former comes back, with its sessions. */
static void test_going_back(void **state)
{
    fixture *f = *state;
    wire_event e = {0};
    start_gated(f);
    witness_begin(&f->witness, &f->daemon, 3);
    witness_check(&f->witness);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    gate_await(&f->gate);
    bora_pack pack = wire_turn(&f->client, "new", "Hello.", 4);
    wire_submit(&f->client, &pack);
    wire_wait_status(&f->watching, "n_waiting", 1);
    gate_say(&f->gate, 'x');
    do
        wire_receive(&f->client, &e);
    while (strcmp(e.event, "loading") == 0);
    assert_string_equal(e.event, "error"); /* it waited for the other model */
    assert_non_null(strstr(e.message, "the gate stays shut"));
    gate_await(&f->gate);
    exchange_assert_status(&f->watching, "state", "loading");
    exchange_assert_status(&f->watching, "model_path", MODEL_A);
    gate_say(&f->gate, 'g');
    exchange_expect_refused(&f->admin, exchange, "invalid", "the gate stays shut");
    exchange_assert_status(&f->watching, "state", "ready");
    witness_check(&f->witness);
    exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS); /* it can be tried again */
    gate_await(&f->gate);
    gate_say(&f->gate, 'g');
    exchange_expect_loaded(&f->admin, exchange, f->b);
    exchange = exchange_submit(&f->admin, MODEL_A, PATIENCE_MS);
    gate_await(&f->gate);
    gate_say(&f->gate, 'g');
    exchange_expect_loaded(&f->admin, exchange, MODEL_A);
    witness_check(&f->witness);
    wire_event_release(&e);
    end(f, 0);
}

static void test_nothing_is_left(void **state)
{
    fixture *f = *state;
    start_gated(f);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    for (int i = 0; i < 2; i++) {
        gate_await(&f->gate);
        gate_say(&f->gate, 'x');
    }
    exchange_expect_refused(&f->admin, exchange, "invalid", "cannot be loaded again");
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 1);
    assert_true(bora_test_daemon_logged(&f->daemon, "error: "));
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
    close_wires(f);
}

/* The former model's file is gone meanwhile: there is nothing to go back to. */
static void test_former_is_gone(void **state)
{
    fixture *f = *state;
    char copy[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    unsigned char *bytes = bora_temp_read(MODEL_A, &size);
    assert_non_null(bytes);
    (void)bora_temp_folder_write(&f->daemon.folder, "copy.gguf", bytes, size, copy);
    free(bytes);
    const char *arguments[] = {"--plugin", f->gate.plugin, "--model", copy, NULL};
    start_with(f, arguments);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    gate_await(&f->gate);
    assert_int_equal(unlink(copy), 0);
    gate_say(&f->gate, 'x');
    exchange_expect_refused(&f->admin, exchange, "not_found", "copy.gguf");
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 1);
    close_wires(f);
}

/* ---- who asked is gone ----------------------------------------------------------------------------------------------
 */

static void test_asker_leaves(void **state)
{
    fixture *f = *state;
    char reason[32];
    uint64_t n;
    start_gated(f);
    uint64_t running = exchange_begin_long(&f->client, "long");
    (void)exchange_submit(&f->admin, f->b, PATIENCE_MS);
    exchange_wait_status(&f->watching, "state", "draining");
    wire_close(&f->admin);
    wire_wait_status(&f->watching, "n_connections", 2);
    cancel(&f->client, running);
    exchange_end_long(&f->client, running, reason, &n);
    gate_await(&f->gate);
    gate_say(&f->gate, 'g');
    exchange_wait_status(&f->watching, "state", "ready");
    exchange_assert_status(&f->watching, "model_path", f->b);
    end(f, 0);
}

/* ---- the daemon ends
 * ------------------------------------------------------------------------------------------------- */

static void test_ended_while_draining(void **state)
{
    fixture *f = *state;
    char reason[32];
    uint64_t n, n_interrupted, n_tokens;
    static wire_answer answer;
    start(f);
    uint64_t running = exchange_begin_long(&f->client, "long");
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    exchange_wait_status(&f->watching, "state", "draining");
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    exchange_expect_refused(&f->admin, exchange, "shutdown", "ending");
    exchange_end_long(&f->client, running, reason, &n);
    assert_string_equal(reason, "shutdown");
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "error:"));
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
    close_wires(f);

    start(f); /* with the first model, of which it is */
    exchange_show(&f->watching, "long", &n_interrupted, &n_tokens);
    assert_int_equal(n_interrupted, 1);
    assert_int_equal(exchange_say(&f->watching, "long", "Go on.", 4, &answer), 0);
    assert_int_equal(answer.n_history, n_tokens);
    end(f, 0);
}

static void test_ended_while_loading(void **state)
{
    fixture *f = *state;
    start_gated(f);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    gate_await(&f->gate);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    exchange_expect_refused(&f->admin, exchange, "shutdown", "ending");
    gate_say(&f->gate, 'g');
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "error:"));
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
    close_wires(f);
}

/* While it goes back. */
static void test_ended_while_going_back(void **state)
{
    fixture *f = *state;
    start_gated(f);
    uint64_t exchange = exchange_submit(&f->admin, f->b, PATIENCE_MS);
    gate_await(&f->gate);
    gate_say(&f->gate, 'x');
    gate_await(&f->gate);
    assert_int_equal(kill(f->daemon.pid, SIGTERM), 0);
    exchange_expect_refused(&f->admin, exchange, "shutdown", "ending");
    gate_say(&f->gate, 'g');
    assert_int_equal(bora_test_daemon_end(&f->daemon, 0), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "error:"));
    close_wires(f);
}

/* Without a word, in both phases: what was stored is there. */
static void test_killed(void **state)
{
    fixture *f = *state;
    static const char *const phases[] = {"draining", "loading"};
    static wire_answer answer;
    start_gated(f);
    witness_begin(&f->witness, &f->daemon, 4);
    witness_check(&f->witness);
    for (size_t i = 0; i < 2; i++) {
        witness_check(&f->witness);
        if (i == 0)
            (void)exchange_begin_long(&f->client, "long");
        (void)exchange_submit(&f->admin, f->b, PATIENCE_MS);
        exchange_wait_status(&f->watching, "state", phases[i]);
        if (i == 1)
            gate_await(&f->gate);
        assert_int_equal(bora_test_daemon_end(&f->daemon, SIGKILL), -SIGKILL);
        close_wires(f);
        start_gated(f);
        witness_connect(&f->witness, &f->daemon);
    }
    witness_check(&f->witness);
    assert_int_equal(exchange_say(&f->client, "witness", "Once more.", 4, &answer), 0);
    end(f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_draining, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_finishing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_going_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_former_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_asker_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ended_while_draining, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ended_while_loading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ended_while_going_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("model.load, its phases", tests, NULL, NULL);
}
