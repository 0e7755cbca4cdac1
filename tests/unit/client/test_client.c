/* libbora against a small daemon: greetings good and bad, results, streams, cancelling, and nobody there. */
#include "client_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "support/skip.h"

/* ---- greeting ------------------------------------------------------------------------------------------------ */

static void test_hello(void **state)
{
    fixture *f = *state;
    assert_string_equal(bora_client_daemon_version(f->client), "9.8.7");
    assert_string_equal(bora_client_endpoint(f->client), f->daemon->endpoint);
    assert_int_equal(bora_client_n_open(f->client), 0);
}

static void test_plain_path_is_ipc(void **state)
{
    fixture *f = *state;
    bora_client *client = NULL;
    assert_int_equal(open_client(f->daemon->endpoint + strlen("ipc://"), 0, &client, NULL), 0);
    assert_string_equal(bora_client_endpoint(client), f->daemon->endpoint);
    bora_client_close(client);
}

static void test_bad_greetings(void **state)
{
    static const struct {
        enum fake_mode mode;
        bora_client_status status;
        const char *code, *message;
    } cases[] = {
        {FAKE_VERSION, BORA_CLIENT_E_REFUSED, "version", "this daemon speaks version 7"},
        {FAKE_NEXT, BORA_CLIENT_E_PROTOCOL, "", "speaks version 2"},
        {FAKE_NO_GREETING, BORA_CLIENT_E_PROTOCOL, "", "greeting makes no sense"},
        {FAKE_GARBAGE, BORA_CLIENT_E_PROTOCOL, "", "no bora daemon"},
        {FAKE_MUTE, BORA_CLIENT_E_TIMEOUT, "", "does not answer"},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f->daemon = fake_start(cases[i].mode, NULL);
        bora_client *client = NULL;
        bora_client_error err = {0};
        uint32_t timeout_ms = cases[i].mode == FAKE_MUTE ? 50 : 20000;
        assert_int_equal(open_client(f->daemon->endpoint, timeout_ms, &client, &err), cases[i].status);
        assert_null(client);
        assert_int_equal(err.status, cases[i].status);
        assert_string_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].message));
        fake_stop(f->daemon, false);
        f->daemon = NULL;
    }
}

static void test_nobody_there(void **state)
{
    (void)state;
    bora_client *client = NULL;
    bora_client_error err = {0};
    assert_int_equal(open_client("ipc:///nonexistent/bora.sock", 0, &client, &err), BORA_CLIENT_E_NO_DAEMON);
    assert_non_null(strstr(err.message, "no daemon listens on ipc:///nonexistent/bora.sock; start one with: borad"));
    assert_int_equal(open_client("tcp://127.0.0.1:1", 20000, &client, &err), BORA_CLIENT_E_NO_DAEMON);
    assert_int_equal(open_client("gopher://x", 0, &client, &err), BORA_CLIENT_E_INVALID);
    char path[300];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(open_client(path, 0, &client, &err), BORA_CLIENT_E_INVALID);
    assert_null(client);
}

static void test_a_socket_nobody_listens_on(void **state)
{
    (void)state;
    char directory[] = "/tmp/bora-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    bora_client *client = NULL;
    bora_client_status status = open_client(address.sun_path, 0, &client, NULL);
    (void)close(fd);
    (void)unlink(address.sun_path);
    (void)rmdir(directory);
    assert_int_equal(status, BORA_CLIENT_E_NO_DAEMON);
}

#define VICTIM   61234u
#define SQUATTER 61235u

/* Runs as VICTIM: the exit code tells what came of it. */
static int knock_at_squatter(const char *path)
{
    bora_client_error err = {0};
    bora_client *client = NULL;
    if (setuid(VICTIM) != 0)
        return 2;
    return open_client(path, 0, &client, &err) == BORA_CLIENT_E_IO && strstr(err.message, "another user") ? 0 : 1;
}

/* Somebody else may have made /tmp/bora-UID first: nothing is said to who listens there. */
static void test_a_squatter_in_tmp(void **state)
{
    (void)state;
    if (geteuid() != 0)
        BORA_SKIP("only root can be two users");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[64];
    (void)snprintf(folder, sizeof folder, "/tmp/bora-%u", VICTIM);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/bora.sock", folder);
    (void)unlink(address.sun_path);
    (void)rmdir(folder);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(chmod(address.sun_path, 0666), 0);
    assert_int_equal(seteuid(SQUATTER), 0);
    assert_int_equal(listen(fd, 4), 0); /* the kernel notes who listens */
    assert_int_equal(seteuid(0), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(knock_at_squatter(address.sun_path));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)close(fd);
    (void)unlink(address.sun_path);
    (void)rmdir(folder);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned count_descriptors(void)
{
    unsigned n = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        n++;
    (void)closedir(directory);
    return n;
}

static void test_descriptors_are_given_back(void **state)
{
    fixture *f = *state;
    bora_client *client = NULL;
    assert_int_equal(open_client(f->daemon->endpoint, 0, &client, NULL), 0);
    bora_client_close(client);
    unsigned before = count_descriptors();
    for (unsigned i = 0; i < 5; i++) {
        client = NULL;
        assert_int_equal(open_client("/nonexistent/bora.sock", 0, &client, NULL), BORA_CLIENT_E_NO_DAEMON);
        bora_client_close(client); /* NULL */
    }
    assert_int_equal(count_descriptors(), before);
}

static void test_endpoint_default(void **state)
{
    (void)state;
    char expected[128];
    setenv("BORA_SOCKET", "/some/where.sock", 1);
    setenv("XDG_RUNTIME_DIR", "/run/somewhere", 1);
    char *endpoint = bora_client_endpoint_default();
    assert_string_equal(endpoint, "ipc:///some/where.sock");
    free(endpoint);
    setenv("BORA_SOCKET", "tcp://127.0.0.1:5", 1);
    endpoint = bora_client_endpoint_default();
    assert_string_equal(endpoint, "tcp://127.0.0.1:5");
    free(endpoint);
    setenv("BORA_SOCKET", "", 1); /* empty is unset */
    endpoint = bora_client_endpoint_default();
    assert_string_equal(endpoint, "ipc:///run/somewhere/bora/bora.sock");
    free(endpoint);
    unsetenv("BORA_SOCKET");
    unsetenv("XDG_RUNTIME_DIR");
    endpoint = bora_client_endpoint_default();
    (void)snprintf(expected, sizeof expected, "/run/user/%lu", (unsigned long)getuid());
    if (access(expected, F_OK) == 0)
        (void)snprintf(expected, sizeof expected, "ipc:///run/user/%lu/bora/bora.sock", (unsigned long)getuid());
    else
        (void)snprintf(expected, sizeof expected, "ipc:///tmp/bora-%lu/bora.sock", (unsigned long)getuid());
    assert_string_equal(endpoint, expected);
    free(endpoint);
}

/* ---- results --------------------------------------------------------------------------------------------------- */

static void test_result(void **state)
{
    fixture *f = *state;
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_daemon_status(f->client, &result, NULL), 0);
    const bora_client_value *map = bora_client_result_value(result);
    assert_int_equal(bora_client_value_kind(map), BORA_CLIENT_VALUE_MAP);
    assert_value_text(bora_client_value_get(map, "verb"), "status");
    const bora_client_value *list = bora_client_value_get(map, "list");
    assert_int_equal(bora_client_value_kind(list), BORA_CLIENT_VALUE_ARRAY);
    assert_int_equal(bora_client_value_count(list), 3);
    assert_int_equal(bora_client_value_kind(bora_client_value_at(list, 0)), BORA_CLIENT_VALUE_INT);
    assert_int_equal(bora_client_value_int(bora_client_value_at(list, 0), 0), -1);
    assert_int_equal(bora_client_value_uint(bora_client_value_at(list, 0), 77), 77);
    assert_int_equal(bora_client_value_kind(bora_client_value_at(list, 1)), BORA_CLIENT_VALUE_FLOAT);
    assert_true(bora_client_value_float(bora_client_value_at(list, 1), 0) == 0.5);
    assert_int_equal(bora_client_value_kind(bora_client_value_at(list, 2)), BORA_CLIENT_VALUE_BOOL);
    assert_true(bora_client_value_bool(bora_client_value_at(list, 2), false));
    assert_int_equal(bora_client_value_kind(bora_client_value_get(map, "nothing")), BORA_CLIENT_VALUE_NONE);
    assert_value_text(NULL, "");
    assert_value_text(bora_client_value_key(map, 2), "verb");
    bora_client_result_free(result);
    bora_client_result_free(NULL);
}

static void test_verbs_send_their_arguments(void **state)
{
    fixture *f = *state;
    bora_client_result *result = NULL;
    int32_t tokens[] = {1, 2, 3};
    /* id and verb count too */
    static const uint64_t n_keys[] = {2, 2, 4, 3, 4, 2, 2};
    static const char *const verbs[] = {"model",          "plugin.list",    "tokenize",    "detokenize",
                                        "session.create", "session.create", "session.list"};
    for (unsigned i = 0; i < 7; i++) {
        bora_client_status status = BORA_CLIENT_OK;
        switch (i) {
        case 0:
            status = bora_client_model(f->client, &result, NULL);
            break;
        case 1:
            status = bora_client_plugin_list(f->client, &result, NULL);
            break;
        case 2:
            status = bora_client_tokenize(f->client, "abc", 3, true, &result, NULL);
            break;
        case 3:
            status = bora_client_detokenize(f->client, tokens, 3, &result, NULL);
            break;
        case 4:
            status = bora_client_session_create(f->client, "n", "s", &result, NULL);
            break;
        case 5:
            status = bora_client_session_create(f->client, NULL, NULL, &result, NULL);
            break;
        default:
            status = bora_client_session_list(f->client, &result, NULL);
            break;
        }
        assert_int_equal(status, 0);
        const bora_client_value *map = bora_client_result_value(result);
        assert_value_text(bora_client_value_get(map, "verb"), verbs[i]);
        assert_int_equal(bora_client_value_uint(bora_client_value_get(map, "n_keys"), 0), n_keys[i]);
        bora_client_result_free(result);
    }
    assert_int_equal(bora_client_session_rename(f->client, "a", "b", NULL), 0);
    assert_int_equal(bora_client_session_delete(f->client, "a", NULL), 0);
}

static void test_refused(void **state)
{
    fixture *f = *state;
    bora_client_result *result = NULL;
    bora_client_error err = {0};
    assert_int_equal(bora_client_session_show(f->client, "x", &result, &err), BORA_CLIENT_E_REFUSED);
    assert_null(result);
    assert_string_equal(err.code, "not_found");
    assert_string_equal(err.message, "no such session");
    assert_int_equal(call(f->client, "status", NULL, &err), 0); /* it cost one request */
}

static void test_too_large_is_not_sent(void **state)
{
    fixture *f = *state;
    bora_client_error err = {0};
    static char text[FAKE_FRAME_SIZE_MAX];
    memset(text, 'a', sizeof text);
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_tokenize(f->client, text, sizeof text, false, &result, &err), BORA_CLIENT_E_INVALID);
    assert_non_null(strstr(err.message, "at most 4096"));
    assert_int_equal(bora_client_tokenize(f->client, text, 4000, false, &result, &err), 0);
    bora_client_result_free(result);
}

static void test_no_request_is_no_memory(void **state)
{
    fixture *f = *state;
    bora_client_request *request = NULL;
    assert_int_equal(bora_client_call(f->client, &request, NULL, NULL), BORA_CLIENT_E_NO_MEMORY);
    bora_client_request_uint(NULL, "x", 1);
    bora_client_request_free(NULL);
}

/* ---- generation ------------------------------------------------------------------------------------------------- */

static void test_stream(void **state)
{
    fixture *f = *state;
    record r = {.calls_back = true};
    bora_client_error err = {0};
    assert_int_equal(generate(f->client, "hello", &r, &err), 0);
    assert_string_equal(r.text, "t0 t1 t2 end");
    assert_string_equal(r.reason, "stop");
    assert_int_equal(r.n_tokens, 3);
    assert_int_equal(r.n_last, 1);
    assert_int_equal(r.n_events, 6);
}

static void test_generation_refused(void **state)
{
    fixture *f = *state;
    record r = {0};
    bora_client_error err = {0};
    assert_int_equal(generate(f->client, "refuse", &r, &err), BORA_CLIENT_E_REFUSED);
    assert_string_equal(err.code, "busy");
    assert_int_equal(r.n_last, 1);
    assert_string_equal(r.error.code, "busy");
    assert_int_equal(generate(f->client, "cancelled at once", &r, &err), BORA_CLIENT_E_INTERRUPTED);
}

static void test_handler_cancels(void **state)
{
    fixture *f = *state;
    record r = {.stop_after_tokens = 1};
    assert_int_equal(generate(f->client, "hang", &r, NULL), 0);
    assert_string_equal(r.reason, "cancelled");
    assert_string_equal(r.text, "t0 end");
}

static void test_interrupt_cancels(void **state)
{
    fixture *f = *state;
    record r = {.interrupts = 1};
    bora_client_error err = {0};
    assert_int_equal(generate(f->client, "hang", &r, &err), BORA_CLIENT_E_INTERRUPTED);
    assert_int_equal(err.status, BORA_CLIENT_E_INTERRUPTED);
    assert_string_equal(r.reason, "cancelled");
    assert_int_equal(bora_client_n_open(f->client), 0);
    record again = {0};
    assert_int_equal(generate(f->client, "hello", &again, &err), 0); /* it was used up */
}

static void test_two_interrupts_give_up(void **state)
{
    fixture *f = *state;
    record r = {.interrupts = 2};
    assert_int_equal(generate(f->client, "hang", &r, NULL), BORA_CLIENT_E_INTERRUPTED);
    assert_int_equal(r.n_last, 0);
    assert_int_equal(bora_client_n_open(f->client), 0);
}

static void test_interrupt_before_a_call_and_clear(void **state)
{
    fixture *f = *state;
    bora_client_interrupt(f->client);
    assert_int_equal(call(f->client, "silence", NULL, NULL), BORA_CLIENT_E_INTERRUPTED);
    bora_client_interrupt(f->client);
    bora_client_interrupt_clear(f->client);
    assert_int_equal(call(f->client, "status", NULL, NULL), 0);
}

static bora_client *signalled_client;

static void handle_signal(int number)
{
    (void)number;
    bora_client_interrupt(signalled_client);
}

static int raise_at_token(void *context, const bora_client_event *event)
{
    if (event->kind == BORA_CLIENT_EVENT_TOKEN)
        (void)raise(SIGUSR1);
    return record_event(context, event);
}

static void test_interrupt_from_a_signal_handler(void **state)
{
    fixture *f = *state;
    struct sigaction action = {.sa_handler = handle_signal}, before;
    signalled_client = f->client;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    record r = {.client = f->client};
    bora_client_generation generation = {.text = "hang", .text_size = 4};
    bora_client_status status = bora_client_generate(f->client, &generation, raise_at_token, &r, NULL);
    (void)sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(status, BORA_CLIENT_E_INTERRUPTED);
    assert_string_equal(r.reason, "cancelled");
}

static void test_generation_request_has_every_field(void **state)
{
    fixture *f = *state;
    int32_t tokens[] = {1, 2};
    const char *stops[] = {"a", "b"};
    bora_client_bias biases[] = {{5, 1.5f}, {6, -2}};
    /* Sent as another verb, so that the daemon tells how many keys came. */
    bora_client_generation g = {.text = "t",
                                .text_size = 1,
                                .prompt = "p",
                                .prompt_size = 1,
                                .tokens = tokens,
                                .n_tokens = 2,
                                .session = "s",
                                .system = "y",
                                .no_create = true,
                                .no_bos = true,
                                .ignore_eos = true,
                                .set = 0xff,
                                .stops = stops,
                                .n_stops = 2,
                                .biases = biases,
                                .n_biases = 2};
    bora_client_request *request = bora_client_generation_request(&g);
    record r = {0};
    uint64_t id = 0;
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &r, &id, NULL), 0);
    dispatch_until(f->client, 0);
    assert_int_equal(r.last_kind, BORA_CLIENT_EVENT_DONE); /* the frame was well-formed */
    assert_string_equal(r.reason, "stop");
}

/* ---- with an event loop ------------------------------------------------------------------------------------------ */

static void test_many_requests_at_once(void **state)
{
    fixture *f = *state;
    record records[BORA_REQUESTS_MAX] = {0};
    for (unsigned i = 0; i < BORA_REQUESTS_MAX; i++) {
        bora_client_generation generation = {.text = "hello", .text_size = 5};
        bora_client_request *request =
            i % 2 ? bora_client_generation_request(&generation) : bora_client_request_new("status");
        assert_int_equal(bora_client_submit(f->client, &request, record_event, &records[i], NULL, NULL), 0);
    }
    bora_client_request *request = bora_client_request_new("status");
    bora_client_error err;
    assert_int_equal(bora_client_submit(f->client, &request, record_event, NULL, NULL, &err), BORA_CLIENT_E_INVALID);
    dispatch_until(f->client, 0);
    for (unsigned i = 0; i < BORA_REQUESTS_MAX; i++) {
        assert_int_equal(records[i].n_last, 1);
        assert_int_equal(records[i].n_tokens, i % 2 ? 3 : 0);
    }
}

static void test_cancel_with_an_event_loop(void **state)
{
    fixture *f = *state;
    record r = {0};
    bora_client_generation generation = {.text = "hang", .text_size = 4};
    bora_client_request *request = bora_client_generation_request(&generation);
    uint64_t id = 0;
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &r, &id, NULL), 0);
    assert_int_equal(bora_client_cancel(f->client, id, NULL), 0);
    dispatch_until(f->client, 0);
    assert_string_equal(r.reason, "cancelled");
    assert_int_equal(bora_client_cancel(f->client, id, NULL), 0); /* it has ended: nothing to do */
    assert_int_equal(bora_client_cancel(f->client, 0, NULL), 0);
    assert_int_equal(call(f->client, "status", NULL, NULL), 0);
    assert_int_equal(atomic_load(&f->daemon->n_cancels), 1);
}

static void test_handler_submits(void **state)
{
    fixture *f = *state;
    record r = {.client = f->client, .submits_again = true};
    bora_client_request *request = bora_client_request_new("status");
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &r, NULL, NULL), 0);
    dispatch_until(f->client, 0);
    assert_int_equal(r.n_last, 2);
}

static void test_blocking_call_beside_open_requests(void **state)
{
    fixture *f = *state;
    record r = {0};
    bora_client_generation generation = {.text = "hang", .text_size = 4};
    bora_client_request *request = bora_client_generation_request(&generation);
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &r, NULL, NULL), 0);
    assert_int_equal(call(f->client, "status", NULL, NULL), 0);
    assert_int_equal(bora_client_n_open(f->client), 1);
    assert_int_equal(r.n_tokens, 1); /* came before the result */
}

static void test_status_names(void **state)
{
    (void)state;
    for (bora_client_status status = BORA_CLIENT_OK; status >= BORA_CLIENT_E_PROTOCOL; status--)
        assert_string_not_equal(bora_client_status_name(status), "unknown");
    assert_string_equal(bora_client_status_name(1), "unknown");
    assert_string_equal(bora_client_status_name(-10), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DAEMON(test_hello),
        WITH_DAEMON(test_plain_path_is_ipc),
        BARE(test_bad_greetings),
        BARE(test_nobody_there),
        BARE(test_a_socket_nobody_listens_on),
        BARE(test_a_squatter_in_tmp),
        WITH_DAEMON(test_descriptors_are_given_back),
        BARE(test_endpoint_default),
        WITH_DAEMON(test_result),
        WITH_DAEMON(test_verbs_send_their_arguments),
        WITH_DAEMON(test_refused),
        WITH_DAEMON(test_too_large_is_not_sent),
        WITH_DAEMON(test_no_request_is_no_memory),
        WITH_DAEMON(test_stream),
        WITH_DAEMON(test_generation_refused),
        WITH_DAEMON(test_handler_cancels),
        WITH_DAEMON(test_interrupt_cancels),
        WITH_DAEMON(test_two_interrupts_give_up),
        WITH_DAEMON(test_interrupt_before_a_call_and_clear),
        WITH_DAEMON(test_interrupt_from_a_signal_handler),
        WITH_DAEMON(test_generation_request_has_every_field),
        WITH_DAEMON(test_many_requests_at_once),
        WITH_DAEMON(test_cancel_with_an_event_loop),
        WITH_DAEMON(test_handler_submits),
        WITH_DAEMON(test_blocking_call_beside_open_requests),
        BARE(test_status_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
