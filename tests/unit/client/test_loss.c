/* What libbora does when the daemon goes away, comes back, or speaks another language. */
#include "client_fixture.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
