/* libbora against a small daemon: greetings good and bad, results, streams, cancelling, a daemon that vanishes and one
 * that comes back, garbage, and nobody there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <bora/client.h>

#include "support/skip.h"
#include "fake_daemon.h"

typedef struct fixture {
    fake_daemon *daemon;
    bora_client *client;
} fixture;

static bora_client_status open_client(const char *endpoint, uint32_t timeout_ms, bora_client **ret_client,
                                      bora_client_error *err)
{
    bora_client_options options = {.endpoint = endpoint, .name = "test", .timeout_ms = timeout_ms};
    return bora_client_open(&options, ret_client, err);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->daemon = fake_start(FAKE_GOOD, NULL);
    return open_client(f->daemon->endpoint, 0, &f->client, NULL);
}

static int set_up_bare(void **state)
{
    *state = calloc(1, sizeof(fixture));
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    fake_stop(f->daemon, false);
    free(f);
    return 0;
}

static bora_client_status call(bora_client *client, const char *verb, bora_client_result **ret_result,
                               bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_status status = bora_client_call(client, &request, ret_result, err);
    assert_null(request);
    return status;
}

static void assert_value_text(const bora_client_value *value, const char *expected)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(text, expected, size);
}

/* What a handler saw. */
typedef struct record {
    bora_client *client;
    char text[256];
    size_t text_size;
    unsigned n_events, n_tokens, n_last;
    int32_t last_kind;
    char reason[32];
    bora_client_error error;
    unsigned stop_after_tokens; /* 0: never */
    unsigned interrupts;        /* to make at the first token */
    bool submits_again;         /* once, at the last event */
    bool calls_back;            /* makes a blocking call, which must fail */
} record;

static int record_event(void *context, const bora_client_event *event)
{
    record *r = context;
    r->n_events++;
    assert_non_null(event->text);
    if (event->text_size < sizeof r->text - r->text_size) {
        memcpy(r->text + r->text_size, event->text, event->text_size);
        r->text_size += event->text_size;
    }
    if (event->kind == BORA_CLIENT_EVENT_TOKEN) {
        assert_int_equal(event->index, r->n_tokens);
        assert_int_equal(event->token, 100 + r->n_tokens);
        assert_true(event->logprob == -0.5);
        r->n_tokens++;
    }
    if (event->kind == BORA_CLIENT_EVENT_PROGRESS) {
        assert_int_equal(event->n_done, 5);
        assert_int_equal(event->n_total, 5);
    }
    if (event->kind == BORA_CLIENT_EVENT_DONE) {
        size_t size = 0;
        const char *reason = bora_client_value_text(bora_client_value_get(event->value, "reason"), &size);
        (void)snprintf(r->reason, sizeof r->reason, "%.*s", (int)size, reason);
    }
    if (event->kind == BORA_CLIENT_EVENT_ERROR)
        r->error = *event->error;
    if (event->kind >= BORA_CLIENT_EVENT_DONE) {
        r->n_last++;
        r->last_kind = event->kind;
        if (r->submits_again) {
            r->submits_again = false;
            bora_client_request *request = bora_client_request_new("status");
            assert_int_equal(bora_client_submit(r->client, &request, record_event, r, NULL, NULL), 0);
        }
    }
    if (event->kind == BORA_CLIENT_EVENT_TOKEN)
        for (; r->interrupts > 0; r->interrupts--)
            bora_client_interrupt(r->client);
    if (r->calls_back) {
        bora_client_error err;
        assert_int_equal(call(r->client, "status", NULL, &err), BORA_CLIENT_E_INVALID);
        assert_int_equal(bora_client_dispatch(r->client, &err), BORA_CLIENT_E_INVALID);
    }
    return r->stop_after_tokens > 0 && r->n_tokens >= r->stop_after_tokens;
}

static bora_client_status generate(bora_client *client, const char *text, record *r, bora_client_error *err)
{
    bora_client_generation generation = {.text = text, .text_size = strlen(text)};
    r->client = client;
    return bora_client_generate(client, &generation, record_event, r, err);
}

/* Dispatches as an event loop would, until n requests are left. */
static void dispatch_until(bora_client *client, uint32_t n_open)
{
    while (bora_client_n_open(client) > n_open) {
        struct pollfd fd = {.fd = bora_client_fd(client), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 20000), 1); /* a limit for a broken client, not a time that is waited */
        assert_int_equal(bora_client_dispatch(client, NULL), 0);
    }
}

/* Until the client's descriptor tells of something: here, of the loss of its daemon. */
static void wait_readable(bora_client *client)
{
    struct pollfd fd = {.fd = bora_client_fd(client), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 20000), 1);
}

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

/* ---- loss ----------------------------------------------------------------------------------------------------------
 */

static void test_daemon_vanishes_during_a_call(void **state)
{
    fixture *f = *state;
    bora_client_error err = {0};
    assert_int_equal(call(f->client, "vanish", NULL, &err), BORA_CLIENT_E_LOST);
    assert_string_equal(err.message, "the daemon went away");
    fake_stop(f->daemon, false);
    f->daemon = NULL;
    assert_int_equal(call(f->client, "status", NULL, &err), BORA_CLIENT_E_NO_DAEMON);
}

static void test_daemon_vanishes_during_a_stream(void **state)
{
    fixture *f = *state;
    record r = {0};
    bora_client_error err = {0};
    assert_int_equal(generate(f->client, "vanish", &r, &err), BORA_CLIENT_E_LOST);
    assert_int_equal(r.n_last, 1);
    assert_int_equal(r.error.status, BORA_CLIENT_E_LOST);
}

/* What had arrived before the loss is handed over: again and again, for it depends on who is faster. */
static void test_nothing_is_lost_with_the_daemon(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 30; i++) {
        record r = {0};
        assert_int_equal(generate(f->client, "vanish", &r, NULL), BORA_CLIENT_E_LOST);
        assert_int_equal(r.n_tokens, 1);
        fake_daemon *gone = f->daemon;
        char directory[sizeof gone->directory];
        (void)snprintf(directory, sizeof directory, "%s", gone->directory);
        fake_stop(gone, true);
        f->daemon = fake_start(FAKE_GOOD, directory);
        assert_non_null(f->daemon);
    }
}

static void test_loss_ends_every_open_request(void **state)
{
    fixture *f = *state;
    record silent[3] = {0}, vanishing = {0};
    for (unsigned i = 0; i < 3; i++) {
        bora_client_request *request = bora_client_request_new("silence");
        assert_int_equal(bora_client_submit(f->client, &request, record_event, &silent[i], NULL, NULL), 0);
    }
    bora_client_request *request = bora_client_request_new("vanish");
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &vanishing, NULL, NULL), 0);
    dispatch_until(f->client, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(silent[i].error.status, BORA_CLIENT_E_LOST);
    assert_int_equal(vanishing.n_last, 1);
}

static void restart_daemon(fixture *f, enum fake_mode mode)
{
    char directory[sizeof f->daemon->directory];
    (void)snprintf(directory, sizeof directory, "%s", f->daemon->directory);
    fake_stop(f->daemon, true);
    f->daemon = fake_start(mode, directory);
}

static void test_daemon_restarts(void **state)
{
    fixture *f = *state;
    bora_client_error err = {0};
    assert_int_equal(call(f->client, "status", NULL, NULL), 0);
    restart_daemon(f, FAKE_GOOD);
    wait_readable(f->client);
    assert_int_equal(call(f->client, "status", NULL, &err), 0); /* greeted again, in silence */
    assert_int_equal(atomic_load(&f->daemon->n_hellos), 1);
    restart_daemon(f, FAKE_VERSION);
    wait_readable(f->client);
    assert_int_equal(call(f->client, "status", NULL, &err), BORA_CLIENT_E_REFUSED);
    assert_string_equal(err.code, "version");
}

static void test_reconnecting_has_a_timeout_too(void **state)
{
    fixture *f = *state;
    bora_client *client = NULL;
    assert_int_equal(open_client(f->daemon->endpoint, 300, &client, NULL), 0);
    restart_daemon(f, FAKE_MUTE);
    wait_readable(client);
    bora_client_status status = call(client, "status", NULL, NULL);
    bora_client_close(client);
    assert_int_equal(status, BORA_CLIENT_E_TIMEOUT);
}

static void test_cancel_before_the_greeting(void **state)
{
    fixture *f = *state;
    restart_daemon(f, FAKE_GOOD);
    wait_readable(f->client);
    record r = {0};
    bora_client_generation generation = {.text = "hang", .text_size = 4};
    bora_client_request *request = bora_client_generation_request(&generation);
    uint64_t id = 0;
    assert_int_equal(bora_client_submit(f->client, &request, record_event, &r, &id, NULL), 0);
    assert_int_equal(bora_client_cancel(f->client, id, NULL), 0);
    dispatch_until(f->client, 0);
    assert_int_equal(r.error.status, BORA_CLIENT_E_INTERRUPTED);
    assert_int_equal(atomic_load(&f->daemon->n_generates), 0);
}

static void test_hello_required(void **state)
{
    fixture *f = *state;
    f->daemon = fake_start(FAKE_GOOD, NULL);
    f->daemon->forgets_once = true; /* before anyone is connected */
    assert_int_equal(open_client(f->daemon->endpoint, 0, &f->client, NULL), 0);
    record r = {0};
    assert_int_equal(generate(f->client, "hello", &r, NULL), 0);
    assert_int_equal(r.n_tokens, 3);
    assert_int_equal(atomic_load(&f->daemon->n_hellos), 2);
    assert_int_equal(atomic_load(&f->daemon->n_generates), 1);
}

static void test_hello_required_for_ever(void **state)
{
    fixture *f = *state;
    f->daemon = fake_start(FAKE_FORGETFUL, NULL);
    bora_client_error err = {0};
    assert_int_equal(open_client(f->daemon->endpoint, 0, &f->client, NULL), 0);
    assert_int_equal(call(f->client, "status", NULL, &err), BORA_CLIENT_E_REFUSED);
    assert_string_equal(err.code, "hello_required");
    assert_int_equal(atomic_load(&f->daemon->n_hellos), 2);
}

/* ---- garbage ---- */

static void test_garbage_from_the_daemon(void **state)
{
    fixture *f = *state;
    for (unsigned i = 0; i < 7; i++) {
        record other = {0};
        bora_client_request *request = bora_client_request_new("silence");
        assert_int_equal(bora_client_submit(f->client, &request, record_event, &other, NULL, NULL), 0);
        bora_client_error err = {0};
        request = bora_client_request_new("garbage");
        bora_client_request_uint(request, "n", i);
        assert_int_equal(bora_client_call(f->client, &request, NULL, &err), BORA_CLIENT_E_PROTOCOL);
        assert_non_null(strstr(err.message, "no bora daemon"));
        assert_int_equal(other.error.status, BORA_CLIENT_E_PROTOCOL);
        assert_int_equal(call(f->client, "status", NULL, NULL), 0); /* on a new connection */
    }
    bora_client_error err = {0};
    assert_int_equal(call(f->client, "two frames", NULL, &err), BORA_CLIENT_E_PROTOCOL);
    assert_int_equal(call(f->client, "bad frame", NULL, &err), BORA_CLIENT_E_REFUSED);
    assert_string_equal(err.code, "bad_frame");
}

static void test_something_else_listens(void **state)
{
    (void)state;
    char directory[] = "/tmp/bora-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0); /* connections stand, and nobody says a word */
    bora_client *client = NULL;
    bora_client_status status = open_client(address.sun_path, 50, &client, NULL);
    (void)close(fd);
    (void)unlink(address.sun_path);
    (void)rmdir(directory);
    assert_int_equal(status, BORA_CLIENT_E_TIMEOUT);
}

static void test_status_names(void **state)
{
    (void)state;
    for (bora_client_status status = BORA_CLIENT_OK; status >= BORA_CLIENT_E_PROTOCOL; status--)
        assert_string_not_equal(bora_client_status_name(status), "unknown");
    assert_string_equal(bora_client_status_name(1), "unknown");
    assert_string_equal(bora_client_status_name(-10), "unknown");
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define BARE(test)        cmocka_unit_test_setup_teardown(test, set_up_bare, tear_down)

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
        WITH_DAEMON(test_daemon_vanishes_during_a_call),
        WITH_DAEMON(test_daemon_vanishes_during_a_stream),
        WITH_DAEMON(test_nothing_is_lost_with_the_daemon),
        WITH_DAEMON(test_loss_ends_every_open_request),
        WITH_DAEMON(test_daemon_restarts),
        WITH_DAEMON(test_reconnecting_has_a_timeout_too),
        WITH_DAEMON(test_cancel_before_the_greeting),
        BARE(test_hello_required),
        BARE(test_hello_required_for_ever),
        WITH_DAEMON(test_garbage_from_the_daemon),
        BARE(test_something_else_listens),
        BARE(test_status_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
