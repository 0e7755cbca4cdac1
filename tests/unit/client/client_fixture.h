/* A client of the library and the small daemon that it talks to. */
#ifndef BORA_TESTS_CLIENT_FIXTURE_H
#define BORA_TESTS_CLIENT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>

#include <bora/client.h>

#include "fake_daemon.h"

typedef struct fixture {
    fake_daemon *daemon;
    bora_client *client;
} fixture;

static inline bora_client_status open_client(const char *endpoint, uint32_t timeout_ms, bora_client **ret_client,
                                             bora_client_error *err)
{
    bora_client_options options = {.endpoint = endpoint, .name = "test", .timeout_ms = timeout_ms};
    return bora_client_open(&options, ret_client, err);
}

static inline int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->daemon = fake_start(FAKE_GOOD, NULL);
    return open_client(f->daemon->endpoint, 0, &f->client, NULL);
}

static inline int set_up_bare(void **state)
{
    *state = calloc(1, sizeof(fixture));
    return *state ? 0 : -1;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    fake_stop(f->daemon, false);
    free(f);
    return 0;
}

static inline bora_client_status call(bora_client *client, const char *verb, bora_client_result **ret_result,
                                      bora_client_error *err)
{
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_status status = bora_client_call(client, &request, ret_result, err);
    assert_null(request);
    return status;
}

static inline void assert_value_text(const bora_client_value *value, const char *expected)
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

static inline int record_event(void *context, const bora_client_event *event)
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

static inline bora_client_status generate(bora_client *client, const char *text, record *r, bora_client_error *err)
{
    bora_client_generation generation = {.text = text, .text_size = strlen(text)};
    r->client = client;
    return bora_client_generate(client, &generation, record_event, r, err);
}

/* Dispatches as an event loop would, until n requests are left. */
static inline void dispatch_until(bora_client *client, uint32_t n_open)
{
    while (bora_client_n_open(client) > n_open) {
        struct pollfd fd = {.fd = bora_client_fd(client), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 20000), 1); /* a limit for a broken client, not a time that is waited */
        assert_int_equal(bora_client_dispatch(client, NULL), 0);
    }
}

/* Until the client's descriptor tells of something: here, of the loss of its daemon. */
static inline void wait_readable(bora_client *client)
{
    struct pollfd fd = {.fd = bora_client_fd(client), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 20000), 1);
}

#define WITH_DAEMON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define BARE(test)        cmocka_unit_test_setup_teardown(test, set_up_bare, tear_down)

#endif
