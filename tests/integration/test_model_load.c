/* model.load: there and back with sessions open, and what is refused changes nothing. */
#include "integration/exchange.h"
#include "support/model_writer.h"

#include <dirent.h>
#include <stdlib.h>

#define MIB       (UINT64_C(1) << 20)
#define N_THREADS "2"

typedef struct fixture {
    bora_test_daemon daemon;
    char b[BORA_TEMP_PATH_SIZE]; /* the other model */
    witness witness;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bora_test_daemon_init(&f->daemon))
        return -1;
    (void)exchange_convert(&f->daemon.folder, "q4_k", f->b);
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

static void start_with(fixture *f, const char *const arguments[])
{
    wire w;
    assert_true(bora_test_daemon_start(&f->daemon, arguments, NULL));
    wire_greet(&w, f->daemon.socket);
    exchange_wait_status(&w, "state", "ready");
    wire_close(&w);
}

static void start(fixture *f, const char *option, const char *value)
{
    const char *arguments[] = {"--threads", N_THREADS, option, value, NULL};
    start_with(f, arguments);
}

/* It goes without a word about memory that nobody gave back. */
static void end(fixture *f)
{
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
    assert_false(bora_test_daemon_logged(&f->daemon, "error:"));
}

/* ---- there and back ---- */

static void assert_is_current(wire *w, const char *session, bool expected)
{
    wire_event e = {0};
    char name[64];
    bool is_current = !expected, is_found = false;
    bora_pack pack = wire_request(w, "session.list");
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    const bora_value *sessions = bora_value_get(e.root, "sessions");
    for (uint32_t i = 0; i < bora_value_count(sessions); i++) {
        wire_copy(name, sizeof name, bora_value_get(bora_value_at(sessions, i), "name"));
        if (strcmp(name, session) != 0)
            continue;
        is_found = true;
        assert_true(bora_value_bool(bora_value_get(bora_value_at(sessions, i), "current_model"), &is_current));
    }
    assert_true(is_found);
    assert_int_equal(is_current, expected);
    wire_event_release(&e);
}

/* Sessions of both models stand beside each other; each goes on when its model is there, with nothing run again, and
 * says what it says in a daemon that never had another model. */
static void test_there_and_back(void **state)
{
    fixture *f = *state;
    wire w;
    static wire_answer answer, alone, first;
    start(f, NULL, NULL);
    witness_begin(&f->witness, &f->daemon, 5);
    wire_greet(&w, f->daemon.socket);
    witness_check(&f->witness);
    witness_check(&f->witness);
    assert_int_equal(exchange_say(&w, "mine", "My name is Anna.", 8, &answer), 0);

    exchange_load(&w, f->b);
    exchange_assert_status(&w, "model_path", f->b);
    exchange_assert_status(&w, "state", "ready");
    assert_is_current(&w, "mine", false);
    assert_is_current(&w, "witness", false);
    bora_pack pack = wire_turn(&w, "mine", "What is my name?", 8);
    wire_submit_refused(&w, &pack, "unsupported", "belongs to another model");
    assert_int_equal(exchange_say(&w, "other", "Tell me about birds.", 8, &first), 0);
    assert_is_current(&w, "other", true);

    exchange_load(&w, MODEL_A);
    assert_is_current(&w, "mine", true);
    assert_is_current(&w, "other", false);
    assert_int_equal(exchange_say(&w, "mine", "What is my name?", 8, &answer), 0);
    assert_true(answer.n_cached > 0 && answer.n_cached + 1 >= answer.n_history);
    witness_check(&f->witness);
    witness_check(&f->witness);

    exchange_load(&w, f->b);
    assert_int_equal(exchange_say(&w, "other", "And about cats?", 8, &answer), 0);
    assert_true(answer.n_cached > 0 && answer.n_cached + 1 >= answer.n_history);
    exchange_load(&w, MODEL_A);
    witness_check(&f->witness);
    wire_close(&w);
    witness_end(&f->witness);
    end(f);

    start(f, "--model", f->b); /* it has them, too */
    wire_greet(&w, f->daemon.socket);
    assert_int_equal(exchange_say(&w, "fresh", "Tell me about birds.", 8, &alone), 0);
    assert_int_equal(alone.n, first.n);
    assert_memory_equal(alone.tokens, first.tokens, first.n * sizeof *first.tokens);
    assert_int_equal(exchange_say(&w, "fresh", "And about cats?", 8, &alone), 0);
    assert_int_equal(alone.n, answer.n);
    assert_memory_equal(alone.tokens, answer.tokens, answer.n * sizeof *answer.tokens);
    wire_close(&w);
    end(f);
}

/* What plugin.use has exchanged stays so. */
static void test_plugins_stay(void **state)
{
    fixture *f = *state;
    wire w;
    wire_event e = {0};
    static wire_answer answer;
    char kind[32], name[32];
    bool in_use = false;
    uint32_t n_found = 0;
    start(f, NULL, NULL);
    wire_greet(&w, f->daemon.socket);
    const char *const exchanged[][2] = {{"attention", "reference"}, {"expert", "reference"}};
    for (size_t i = 0; i < 2; i++) {
        bora_pack pack = wire_request(&w, "plugin.use");
        bora_pack_string(&pack, "kind", exchanged[i][0]);
        bora_pack_string(&pack, "name", exchanged[i][1]);
        wire_submit(&w, &pack);
        wire_expect_result(&w, &e);
    }
    exchange_load(&w, f->b);
    exchange_load(&w, MODEL_A);
    bora_pack pack = wire_request(&w, "plugin.list");
    wire_submit(&w, &pack);
    wire_expect_result(&w, &e);
    const bora_value *plugins = bora_value_get(e.root, "plugins");
    for (uint32_t i = 0; i < bora_value_count(plugins); i++) {
        const bora_value *plugin = bora_value_at(plugins, i);
        wire_copy(kind, sizeof kind, bora_value_get(plugin, "kind"));
        wire_copy(name, sizeof name, bora_value_get(plugin, "name"));
        assert_true(bora_value_bool(bora_value_get(plugin, "in_use"), &in_use));
        if (!in_use || (strcmp(kind, "attention") != 0 && strcmp(kind, "expert") != 0))
            continue;
        assert_string_equal(name, "reference");
        n_found++;
    }
    assert_int_equal(n_found, 2);
    wire_event_release(&e);
    assert_int_equal(exchange_say(&w, "s", "Hello.", 4, &answer), 0);
    wire_close(&w);
    end(f);
}

/* By name, as in the configuration. */
static void test_by_name(void **state)
{
    fixture *f = *state;
    wire w;
    char setting[2 * BORA_TEMP_PATH_SIZE];
    (void)snprintf(setting, sizeof setting, "model.search=/nowhere:%s", f->daemon.folder.path);
    start(f, "--set", setting);
    wire_greet(&w, f->daemon.socket);
    exchange_expect_loaded(&w, exchange_submit(&w, "q4_k", 30000), f->b);
    exchange_assert_status(&w, "model_path", f->b);
    exchange_expect_refused(&w, exchange_submit(&w, "q5_k", 30000), "not_found", "q5_k");
    wire_close(&w);
    end(f);
}

/* From the command line, by a path from where it stands. */
static void test_command(void **state)
{
    fixture *f = *state;
    wire w;
    start(f, NULL, NULL);
    const char *argv[] = {BORA_BUILD_DIR "/bin/bora", "model", "load", f->b, "--timeout", "1.5", "--socket",
                          f->daemon.socket,           NULL};
    spawn_expect(argv, NULL, 0, "is loaded");
    wire_greet(&w, f->daemon.socket);
    exchange_assert_status(&w, "model_path", f->b);
    assert_int_equal(chdir(f->daemon.folder.path), 0);
    argv[3] = "./gone.gguf";
    spawn_expect(argv, NULL, 1, "gone.gguf");
    argv[3] = "q4_k.gguf"; /* not a name: it is here */
    spawn_expect(argv, NULL, 0, "is loaded");
    assert_int_equal(chdir("/"), 0);
    exchange_assert_status(&w, "model_path", f->b);
    wire_close(&w);
    end(f);
}

/* ---- what is refused ---- */

static uint32_t count_in(const fixture *f, const char *what)
{
    char path[64];
    uint32_t n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)f->daemon.pid, what);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    (void)closedir(folder);
    return n;
}

/* A thread that has been joined, or has said its last word, is still listed for a moment. */
static void expect_at_most(const fixture *f, const char *what, uint32_t n)
{
    uint32_t got = count_in(f, what);
    for (int ms = 0; ms < WIRE_MS && got > n; ms += 5) {
        struct timespec pause = {.tv_nsec = 5000000};
        (void)nanosleep(&pause, NULL); /* polling, bounded above */
        got = count_in(f, what);
    }
    assert_true(got <= n);
}

/* An expert plugin that speaks no type but that of the first model. */
static void build_picky(const fixture *f, char argument[BORA_TEMP_PATH_SIZE])
{
    static const char source[] =
        "#define bora_plugin_entry reference_entry\n"
        "#include \"" BORA_SOURCE_DIR "/plugins/expert/reference/reference.c\"\n"
        "#undef bora_plugin_entry\n"
        "BORA_PLUGIN_EXPORT const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err);\n"
        "const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)\n"
        "{\n"
        "    static bora_expert_ops ops;\n"
        "    static bora_plugin plugin;\n"
        "    const bora_plugin *reference = reference_entry(host, err);\n"
        "    ops = *(const bora_expert_ops *)reference->ops;\n"
        "    ops.dtypes = BORA_DTYPE_BIT(BORA_DTYPE_Q8_0);\n"
        "    plugin = *reference;\n"
        "    plugin.name = \"picky\";\n"
        "    plugin.ops = &ops;\n"
        "    return &plugin;\n"
        "}\n";
    char from[BORA_TEMP_PATH_SIZE], to[BORA_TEMP_PATH_SIZE], command[4 * BORA_TEMP_PATH_SIZE];
    (void)bora_temp_folder_write(&f->daemon.folder, "plugin.c", source, sizeof source - 1, from);
    (void)bora_temp_folder_path(&f->daemon.folder, "expert-picky.so", to);
    (void)
        snprintf(command, sizeof command,
                 "cc -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared -I'%s/plugins/include' -o '%s' '%s' -lm",
                 BORA_SOURCE_DIR, to, from);
    assert_int_equal(system(command), 0);
    (void)snprintf(argument, BORA_TEMP_PATH_SIZE, "expert=%.400s", to);
}

/* Each leaves model, sessions in memory, threads and descriptors as they were. */
static void test_refused(void **state)
{
    fixture *f = *state;
    wire w;
    char picky[BORA_TEMP_PATH_SIZE], junk[BORA_TEMP_PATH_SIZE], bare[BORA_TEMP_PATH_SIZE], cut[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    unsigned char *bytes = bora_temp_read(MODEL_A, &size);
    assert_non_null(bytes);
    (void)bora_temp_folder_write(&f->daemon.folder, "junk.gguf", "no model at all", 15, junk);
    (void)bora_temp_folder_write(&f->daemon.folder, "cut.gguf", bytes, size / 2, cut);
    free(bytes);
    bora_model_writing writing = {.shape = BORA_TINY_MODEL, .seed = 7};
    bora_model_write(&f->daemon.folder, &writing, BORA_MODEL_NATIVE, bare);
    build_picky(f, picky);
    const struct {
        const char *model, *code, *message;
    } cases[] = {{"/nowhere/x.gguf", "not_found", "/nowhere/x.gguf"},
                 {"no-such-model", "not_found", "no-such-model"},
                 {"models/x.gguf", "invalid", "from the root on"},
                 {"", "invalid", "name"},
                 {junk, "format", "junk.gguf"},
                 {cut, "format", "cut.gguf"},
                 {bare, "not_found", "tokenizer"},
                 {f->b, "unsupported", "plugin expert/picky cannot use q4_k weights"}};
    start(f, "--plugin", picky);
    witness_begin(&f->witness, &f->daemon, 2 + sizeof cases / sizeof cases[0]);
    wire_greet(&w, f->daemon.socket);
    witness_check(&f->witness);
    const uint32_t n_threads = count_in(f, "task"), n_fds = count_in(f, "fd");
    const uint64_t kv = wire_status(&w, "kv_bytes");
    assert_true(kv > 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        exchange_expect_refused(&w, exchange_submit(&w, cases[i].model, 30000), cases[i].code, cases[i].message);
        expect_at_most(f, "task", n_threads);
        expect_at_most(f, "fd", n_fds);
        assert_true(wire_status(&w, "kv_bytes") >= kv);
        exchange_assert_status(&w, "model_path", MODEL_A);
        exchange_assert_status(&w, "state", "ready");
        witness_check(&f->witness);
    }
    bora_pack pack = wire_request(&w, "model.load");
    wire_submit_refused(&w, &pack, "invalid", "model is missing");
    pack = wire_request(&w, "model.load");
    bora_pack_string(&pack, "model", f->b);
    bora_pack_string(&pack, "timeout_ms", "soon");
    wire_submit_refused(&w, &pack, "invalid", "timeout_ms");
    witness_check(&f->witness);
    wire_close(&w);
    witness_end(&f->witness);
    end(f);
}

static uint64_t memory_of(wire *w, const char *key)
{
    wire_event e = {0};
    uint64_t value = 0;
    bora_pack pack = wire_request(w, "status");
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    assert_true(bora_value_uint(bora_value_get(bora_value_get(e.root, "memory"), key), &value));
    wire_event_release(&e);
    return value;
}

/* With small buffers, so that it is weights that matter. */
static void start_limited(fixture *f, uint64_t limit)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)limit);
    const char *arguments[] = {
        "--threads", N_THREADS, "--set",          "engine.batch_tokens=64", "--set", "engine.chunk=64",
        "--model",   f->b,      "--memory-limit", limit ? text : "auto",    NULL};
    start_with(f, arguments);
}

/* What goes counts as room: a model that would not fit beside the other is loaded. One that does not fit at all is
 * refused. The limit is kept. */
static void test_memory_limit(void **state)
{
    fixture *f = *state;
    wire w;
    static wire_answer answer;
    start_limited(f, 0);
    wire_greet(&w, f->daemon.socket);
    (void)exchange_say(&w, "s", "Hello.", 4, &answer);
    const uint64_t small = memory_of(&w, "used"), small_weights = memory_of(&w, "weights");
    const uint64_t program = memory_of(&w, "program");
    exchange_load(&w, MODEL_A);
    const uint64_t weights = memory_of(&w, "weights"), more = weights - small_weights;
    assert_true(more + MIB < weights); /* not beside each other */
    wire_close(&w);
    end(f);

    start_limited(f, small + more + MIB);
    wire_greet(&w, f->daemon.socket);
    (void)exchange_say(&w, "s", "Hello again.", 4, &answer);
    exchange_load(&w, MODEL_A);
    assert_int_equal(memory_of(&w, "weights"), weights);
    (void)exchange_say(&w, "t", "Hello.", 4, &answer);
    exchange_load(&w, f->b);
    assert_int_equal(memory_of(&w, "weights"), small_weights);
    assert_true(memory_of(&w, "peak") <= memory_of(&w, "limit"));
    wire_close(&w);
    end(f);

    /* Weights that cannot fit are seen at once: nothing has happened. */
    const uint64_t too_little = program + weights - MIB / 16;
    assert_true(too_little > small);
    start_limited(f, too_little);
    wire_greet(&w, f->daemon.socket);
    (void)exchange_say(&w, "s", "And again.", 4, &answer);
    exchange_expect_refused(&w, exchange_submit(&w, MODEL_A, 30000), "limit", "memory limit: the weights of");
    exchange_assert_status(&w, "model_path", f->b);
    (void)exchange_say(&w, "s", "Once more.", 4, &answer);
    assert_int_equal(answer.n_cached + 1, answer.n_history); /* it is still in memory */
    assert_false(bora_test_daemon_logged(&f->daemon, "going back"));
    wire_close(&w);
    end(f);

    /* Weights that fit, but nothing beside them: it goes back. */
    start_limited(f, program + weights + MIB / 2);
    wire_greet(&w, f->daemon.socket);
    exchange_expect_refused(&w, exchange_submit(&w, MODEL_A, 30000), "limit", "memory limit");
    exchange_assert_status(&w, "model_path", f->b);
    assert_int_equal(exchange_say(&w, "s", "A last time.", 4, &answer), 0);
    assert_true(answer.n_history > 0);
    assert_true(bora_test_daemon_logged(&f->daemon, "going back"));
    assert_true(memory_of(&w, "peak") <= memory_of(&w, "limit"));
    wire_close(&w);
    end(f);
}

/* ---- over and over ---- */

static void test_nothing_is_left_behind(void **state)
{
    fixture *f = *state;
    wire w;
    static wire_answer answer;
    start(f, NULL, NULL);
    witness_begin(&f->witness, &f->daemon, 11);
    wire_greet(&w, f->daemon.socket);
    witness_check(&f->witness);
    exchange_load(&w, f->b);
    exchange_load(&w, MODEL_A);
    const uint32_t n_threads = count_in(f, "task"), n_fds = count_in(f, "fd");
    const uint64_t weights = memory_of(&w, "weights"), program = memory_of(&w, "program"), kv = memory_of(&w, "kv");
    for (int i = 0; i < 10; i++) {
        exchange_load(&w, f->b);
        (void)exchange_say(&w, "other", "Go on.", 4, &answer);
        exchange_load(&w, MODEL_A);
        assert_int_equal(memory_of(&w, "kv"), kv);
        witness_check(&f->witness);
        expect_at_most(f, "task", n_threads);
        expect_at_most(f, "fd", n_fds);
        assert_int_equal(memory_of(&w, "weights"), weights);
        assert_int_equal(memory_of(&w, "program"), program);
    }
    wire_close(&w);
    witness_end(&f->witness);
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plugins_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_left_behind, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("model.load", tests, NULL, NULL);
}
