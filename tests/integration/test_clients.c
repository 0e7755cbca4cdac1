/* Clients that vanish, do not read, or are too many; daemons that meet each other; sockets that are none. */
#include "integration/spawn.h"
#define FIXTURE_TURNS 20
#include "integration/witness_fixture.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- clients that vanish ---------------------------------------------------------------------------------------- */

/* Messages of a session, and the state of the last one. */
static uint64_t show(wire *w, const char *session, char last_state[16])
{
    wire_event e = {0};
    bora_pack pack = wire_request(w, "session.show");
    bora_pack_string(&pack, "session", session);
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    const bora_value *messages = bora_value_get(e.root, "messages");
    uint32_t n = bora_value_count(messages);
    assert_int_equal(wire_uint_of(&e, "n_messages"), n);
    wire_copy(last_state, 16, n ? bora_value_get(bora_value_at(messages, n - 1), "state") : NULL);
    wire_event_release(&e);
    return n;
}

static void receive_until(wire *w, wire_event *e, const char *event)
{
    do
        wire_receive(w, e);
    while (strcmp(e->event, event) != 0);
}

#define STORE_PATIENCE_S 60 /* a busy disk */

static void test_vanishes_while_decoding(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    wire_answer answer;
    char last_state[16];
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_turn(&w, "leaver", "Tell me a long story.", 20000);
    bora_pack_bool(&pack, "ignore_eos", true);
    wire_submit(&w, &pack);
    for (int i = 0; i < 5; i++)
        receive_until(&w, &e, "token");
    assert_int_equal(wire_status(&witness_.wire, "n_running"), 1);
    wire_event_release(&e);
    wire_close(&w);
    wire_wait_status(&witness_.wire, "n_running", 0);
    wire_wait_status(&witness_.wire, "n_connections", 1);

    /* The store may be a moment behind the engine: the session is busy until then. */
    wire_greet(&w, daemon_.socket);
    bool done = false;
    for (time_t end = time(NULL) + STORE_PATIENCE_S; !done && time(NULL) < end;) {
        pack = wire_turn(&w, "leaver", "And then?", 4);
        wire_submit(&w, &pack);
        done = wire_follow(&w, w.last_id, &answer, &e);
        if (!done)
            assert_string_equal(e.code, "busy");
    }
    assert_true(done);
    assert_true(answer.n_history > 5);
    assert_true(answer.n_cached + 1 >= answer.n_history); /* nothing is run again but the last token */
    assert_int_equal(show(&w, "leaver", last_state), 4);
    assert_string_equal(last_state, "whole");
    wire_event_release(&e);
    bora_pack list = wire_request(&w, "session.show");
    bora_pack_string(&list, "session", "leaver");
    wire_submit(&w, &list);
    wire_expect_result(&w, &e);
    wire_copy(last_state, sizeof last_state,
              bora_value_get(bora_value_at(bora_value_get(e.root, "messages"), 1), "state"));
    assert_string_equal(last_state, "interrupted");
    wire_event_release(&e);
    wire_close(&w);
    witness_check(&witness_);
}

static char *long_text(size_t n_words)
{
    char *text = malloc(n_words * 6 + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n_words; i++)
        memcpy(text + i * 6, "green ", 6);
    text[n_words * 6] = '\0';
    return text;
}

static void test_vanishes_while_prefilling(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    char last_state[16];
    uint64_t n_before = wire_status(&witness_.wire, "n_prompt_tokens");
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_request(&w, "model");
    wire_submit(&w, &pack);
    wire_expect_result(&w, &e);
    uint64_t context = wire_uint_of(&e, "context");
    char *text = long_text((size_t)context / 2);
    pack = wire_turn(&w, "hasty", text, 4);
    free(text);
    wire_submit(&w, &pack);
    receive_until(&w, &e, "accepted");
    uint64_t n_prompt = wire_uint_of(&e, "n_prompt");
    wire_event_release(&e);
    wire_close(&w);
    wire_wait_status(&witness_.wire, "n_running", 0);
    assert_true(wire_status(&witness_.wire, "n_prompt_tokens") - n_before < n_prompt);
    assert_int_equal(show(&witness_.wire, "hasty", last_state), 0); /* no answer had begun: no turn */
    witness_check(&witness_);
}

/* ---- one that does not read ---- */

static uint64_t resident_bytes(pid_t pid)
{
    char path[64];
    unsigned long long size = 0, resident = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %llu", &size, &resident), 2);
    (void)fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define DEAF_GENERATIONS 4
#define DEAF_REQUESTS    4000

static void test_does_not_read(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    uint64_t ids[DEAF_GENERATIONS];
    uint64_t before = resident_bytes(daemon_.pid);
    wire_open_with(&w, daemon_.socket, 1);
    wire_hello(&w);
    for (int i = 0; i < DEAF_GENERATIONS; i++) {
        bora_pack pack = wire_request(&w, "generate");
        ids[i] = w.last_id;
        bora_pack_string(&pack, "prompt", "Once upon a time");
        bora_pack_uint(&pack, "max_tokens", 30000);
        bora_pack_bool(&pack, "ignore_eos", true);
        wire_submit(&w, &pack);
    }
    for (int i = 0; i < DEAF_REQUESTS; i++) { /* their answers fill what there is between the two */
        bora_pack pack = wire_request(&w, "model");
        wire_submit(&w, &pack);
    }
    wire_wait_status(&witness_.wire, "n_running", 0);
    wire_wait_status(&witness_.wire, "n_waiting", 0);
    assert_true(bora_test_daemon_logged(&daemon_, "does not read"));
    assert_int_equal(wire_status(&witness_.wire, "n_connections"), 2); /* it is still there */
    witness_check(&witness_);
    assert_true(resident_bytes(daemon_.pid) < before + ((uint64_t)64 << 20));

    /* Now it reads, and learns how each generation ended. */
    for (int n_ended = 0; n_ended < DEAF_GENERATIONS;) {
        wire_receive(&w, &e);
        assert_string_not_equal(e.event, "done");
        for (int i = 0; i < DEAF_GENERATIONS; i++)
            if (e.id == ids[i] && strcmp(e.event, "error") == 0) {
                assert_string_equal(e.code, "cancelled");
                assert_non_null(strstr(e.message, "did not read"));
                n_ended++;
            }
    }
    while (wire_receive_within(&w, &e, 500)) /* the other answers that were kept for it */
        assert_string_not_equal(e.event, "token");
    wire_event_release(&e);
    assert_int_equal(wire_status(&w, "pid"), daemon_.pid); /* and is a client like others */
    wire_close(&w);
    witness_check(&witness_);
}

/* ---- many ---- */

static size_t count_descriptors(pid_t pid)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    (void)closedir(folder);
    return n;
}

/* Descriptors are closed by ZeroMQ's own thread, soon. */
static void expect_descriptors(pid_t pid, size_t n)
{
    for (int ms = 0; ms < WIRE_MS && count_descriptors(pid) > n; ms += 10) {
        struct timespec pause = {.tv_nsec = 10000000};
        (void)nanosleep(&pause, NULL); /* polling, bounded above */
    }
    assert_int_equal(count_descriptors(pid), n);
}

static void test_come_and_go(void **state)
{
    (void)state;
    static wire wires[50];
    (void)wire_status(&witness_.wire, "pid");
    size_t n_before = count_descriptors(daemon_.pid);
    for (int wave = 0; wave < 4; wave++) {
        for (size_t i = 0; i < 50; i++)
            wire_greet(&wires[i], daemon_.socket);
        assert_int_equal(wire_status(&witness_.wire, "n_connections"), 51);
        for (size_t i = 0; i < 50; i++)
            wire_close(&wires[i]);
        wire_wait_status(&witness_.wire, "n_connections", 1);
    }
    expect_descriptors(daemon_.pid, n_before);
    witness_check(&witness_);
}

/* More than the daemon takes: it hangs up on what is too much and lives. (ZeroMQ alone would end the process at the
 * first connection for which there is no descriptor.) */
static void test_too_many(void **state)
{
    (void)state;
    enum { N = 1200 };
    static int fds[N];
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < N + 100)
        BORA_SKIP("the hard limit of descriptors is too low");
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    size_t n_before = count_descriptors(daemon_.pid);
    for (int i = 0; i < N; i++)
        fds[i] = wire_plain(daemon_.socket);
    for (int i = 1100; i < N; i++)
        wire_plain_expect_end(fds[i]);
    assert_true(bora_test_daemon_logged(&daemon_, "hanging up on new ones"));
    witness_check(&witness_);
    for (int i = 0; i < N; i++)
        (void)close(fds[i]);
    expect_descriptors(daemon_.pid, n_before);
    wire w;
    wire_greet(&w, daemon_.socket); /* there is room again */
    wire_close(&w);
    witness_check(&witness_);
}

/* ---- daemons and their sockets ---- */

static void test_two_daemons(void **state)
{
    (void)state;
    bora_test_daemon other;
    int code = 0;
    assert_true(bora_test_daemon_init(&other));
    const char *const same_socket[] = {"--socket", daemon_.socket, NULL};
    assert_false(bora_test_daemon_start(&other, same_socket, &code));
    assert_int_equal(code, 1);
    assert_true(bora_test_daemon_logged(&other, "another daemon listens on ipc://"));
    witness_check(&witness_);
    const char *const same_database[] = {"--database", daemon_.database, NULL};
    assert_false(bora_test_daemon_start(&other, same_database, &code));
    assert_int_equal(code, 1);
    assert_true(bora_test_daemon_logged(&other, "in use by another daemon"));
    bora_test_daemon_release(&other);
    witness_check(&witness_);
}

static void test_socket_left_behind(void **state)
{
    (void)state;
    struct stat info;
    witness_end(&witness_);
    assert_int_equal(bora_test_daemon_end(&daemon_, SIGKILL), -SIGKILL);
    assert_int_equal(stat(daemon_.socket, &info), 0);
    assert_true(bora_test_daemon_start(&daemon_, NULL, NULL));
    witness_connect(&witness_, &daemon_);
    witness_check(&witness_);
    witness_end(&witness_);
    assert_int_equal(bora_test_daemon_end(&daemon_, SIGTERM), 0);
    assert_int_not_equal(stat(daemon_.socket, &info), 0); /* nothing is left of a proper end */
    assert_true(bora_test_daemon_start(&daemon_, NULL, NULL));
    witness_connect(&witness_, &daemon_);
    witness_check(&witness_);
}

static void test_signalled_twice(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_turn(&w, "cut short", "Tell me a long story.", 20000);
    bora_pack_bool(&pack, "ignore_eos", true);
    wire_submit(&w, &pack);
    receive_until(&w, &e, "token");
    pack = wire_request(&w, "session.list"); /* something for the store as well */
    wire_submit(&w, &pack);
    witness_end(&witness_);
    assert_int_equal(kill(daemon_.pid, SIGTERM), 0);
    assert_int_equal(kill(daemon_.pid, SIGINT), 0);
    assert_int_equal(bora_test_daemon_end(&daemon_, SIGTERM), 0);
    wire_event_release(&e);
    wire_close(&w);
    assert_true(bora_test_daemon_start(&daemon_, NULL, NULL));
    witness_connect(&witness_, &daemon_);
    witness_check(&witness_);
}

/* borad alone, with a socket that it must refuse. */
static void refuse_socket(const char *socket_path, const char *const *environment, const char *why)
{
    char database[300];
    (void)snprintf(database, sizeof database, "%.200s/other.db", daemon_.folder.path);
    const char *argv[] = {BORAD,       "--config", "none", "--database", database, socket_path ? "--socket" : NULL,
                          socket_path, NULL};
    spawn_expect(argv, environment, 1, why);
}

static void test_socket_paths(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], far[200], deep[300], text[5] = "";
    (void)bora_temp_folder_write(&daemon_.folder, "file", "mine\n", 5, path);
    refuse_socket(path, NULL, "is no socket");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text, file), sizeof text);
    assert_memory_equal(text, "mine\n", 5);
    (void)fclose(file);
    memset(far, 'x', sizeof far);
    far[0] = '/';
    far[150] = '\0';
    refuse_socket(far, NULL, "at most 107 bytes");
    refuse_socket("bora.sock", NULL, "absolute");
    refuse_socket("tcp://127.0.0.1:5555", NULL, "only ipc://");
    (void)snprintf(deep, sizeof deep, "%.60s/below.sock", path);
    refuse_socket(deep, NULL, "below.sock");
    const char *const environment[] = {"BORA_SOCKET=relative", NULL};
    refuse_socket(NULL, environment, "absolute");
    witness_check(&witness_);
}

/* The folder of the default socket must be ours alone. */
static void test_default_folder(void **state)
{
    (void)state;
    char runtime[BORA_TEMP_PATH_SIZE], variable[BORA_TEMP_PATH_SIZE + 32], folder[BORA_TEMP_PATH_SIZE + 32];
    struct stat info;
    (void)bora_temp_folder_path(&daemon_.folder, "runtime", runtime);
    (void)snprintf(variable, sizeof variable, "XDG_RUNTIME_DIR=%s", runtime);
    (void)snprintf(folder, sizeof folder, "%s/bora", runtime);
    const char *const environment[] = {variable, "BORA_SOCKET", NULL};
    assert_int_equal(mkdir(runtime, 0700), 0);
    assert_int_equal(symlink(daemon_.folder.path, folder), 0);
    refuse_socket(NULL, environment, "not a folder of ours");
    assert_int_equal(unlink(folder), 0);
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    char file[BORA_TEMP_PATH_SIZE + 64]; /* lets it fail after it has looked at the folder */
    (void)snprintf(file, sizeof file, "%s/bora.sock", folder);
    FILE *made = fopen(file, "w");
    assert_non_null(made);
    (void)fclose(made);
    refuse_socket(NULL, environment, "is no socket");
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    if (geteuid() != 0)
        BORA_SKIP("only root can make a folder of another user");
    assert_int_equal(chown(folder, 65534, 65534), 0);
    refuse_socket(NULL, environment, "somebody else made it");
    witness_check(&witness_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vanishes_while_decoding),
        cmocka_unit_test(test_vanishes_while_prefilling),
        cmocka_unit_test(test_does_not_read),
        cmocka_unit_test(test_come_and_go),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_two_daemons),
        cmocka_unit_test(test_socket_left_behind),
        cmocka_unit_test(test_signalled_twice),
        cmocka_unit_test(test_socket_paths),
        cmocka_unit_test(test_default_folder),
    };
    return cmocka_run_group_tests_name("clients", tests, set_up, tear_down);
}
