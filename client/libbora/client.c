/* A client's life, and its blocking use: submit, then poll and dispatch until the request has ended. */
#include "client.h"

#include "endpoint.h"
#include "error.h"
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define TIMEOUT_DEFAULT_MS 5000

/* ---- life ------------------------------------------------------------------------------------------------------- */

static bool watch_fd(bora_client *client, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return fd >= 0 && epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_descriptors(bora_client *client)
{
    client->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return client->poll_fd >= 0 && client->interrupt_fd >= 0 && watch_fd(client, client->wake_fd) &&
           watch_fd(client, client->timer_fd);
}

/* Sleeps until there is something to dispatch; true if it was an interrupt, whose number is then taken. */
static bool wait_for_news(bora_client *client, uint64_t *ret_n_interrupts)
{
    struct pollfd fds[] = {{.fd = client->poll_fd, .events = POLLIN}, {.fd = client->interrupt_fd, .events = POLLIN}};
    (void)poll(fds, 2, -1); /* a signal (EINTR) only makes the caller look again */
    return read(client->interrupt_fd, ret_n_interrupts, sizeof *ret_n_interrupts) == (ssize_t)sizeof *ret_n_interrupts;
}

bora_client_status bora_client_open(const bora_client_options *options, bora_client **ret_client,
                                    bora_client_error *err)
{
    static const bora_client_options defaults;
    const bora_client_options *o = options ? options : &defaults;
    bora_client *client = calloc(1, sizeof *client);
    if (!client)
        return bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for a client");
    client->poll_fd = client->wake_fd = client->timer_fd = client->interrupt_fd = -1;
    client->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_DEFAULT_MS;
    client->frame_size_max = BORA_FRAME_SIZE_MAX;
    client->endpoint = bora_endpoint_resolve(o->endpoint);
    client->name = strdup(o->name ? o->name : "libbora " BORA_VERSION);
    client->zmq = zmq_ctx_new();
    bora_client_status status = BORA_CLIENT_OK;
    if (!client->endpoint || !client->name || !client->zmq)
        status = bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for a client");
    else if (!open_descriptors(client))
        status = bora_client_fail(err, BORA_CLIENT_E_IO, "cannot make descriptors: %s", strerror(errno));
    else
        status = bora_client_connection_begin(client, err);
    while (status == BORA_CLIENT_OK && client->state != BORA_CLIENT_READY) {
        uint64_t unused = 0;
        (void)wait_for_news(client, &unused); /* nobody has the client yet, so nobody interrupts it */
        status = bora_client_dispatch(client, err);
        if (status == BORA_CLIENT_OK && client->state == BORA_CLIENT_CLOSED)
            status = bora_client_fail_as(err, &client->failure);
    }
    if (status != BORA_CLIENT_OK) {
        bora_client_close(client);
        return status;
    }
    *ret_client = client;
    return BORA_CLIENT_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

void bora_client_close(bora_client *client)
{
    if (!client)
        return;
    bora_client_connection_end(client);
    for (size_t i = 0; i < BORA_REQUESTS_MAX; i++)
        bora_pack_release(&client->open[i].pack);
    if (client->zmq)
        (void)zmq_ctx_term(client->zmq); /* does not wait: no socket lingers */
    close_fd(client->poll_fd);
    close_fd(client->wake_fd);
    close_fd(client->timer_fd);
    close_fd(client->interrupt_fd);
    free(client->endpoint);
    free(client->name);
    free(client);
}

const char *bora_client_endpoint(const bora_client *client)
{
    return client->endpoint;
}

const char *bora_client_daemon_version(const bora_client *client)
{
    return client->daemon_version;
}

int bora_client_fd(const bora_client *client)
{
    return client->poll_fd;
}

void bora_client_interrupt(bora_client *client)
{
    int saved = errno; /* a signal handler must leave it alone */
    const uint64_t one = 1;
    ssize_t written = write(client->interrupt_fd, &one, sizeof one);
    (void)written; /* it can only be full, and then the client is interrupted already */
    errno = saved;
}

void bora_client_interrupt_clear(bora_client *client)
{
    uint64_t count = 0;
    (void)!read(client->interrupt_fd, &count, sizeof count); /* not readable: nothing to clear */
}

/* ---- blocking use ---- */

/* One blocking call. */
typedef struct waiter {
    bora_client *client;
    bora_client_handler handler; /* the caller's, or NULL */
    void *context;
    bool has_ended;
    bora_frame *frame; /* of the result or done; owned */
    bora_client_error error;
} waiter;

static int waiter_handle(void *context, const bora_client_event *event)
{
    waiter *w = context;
    int stop = w->handler ? w->handler(w->context, event) : 0;
    if (event->kind == BORA_CLIENT_EVENT_ERROR) {
        w->error = *event->error;
        w->has_ended = true;
    } else if (event->kind == BORA_CLIENT_EVENT_RESULT || event->kind == BORA_CLIENT_EVENT_DONE) {
        w->frame = w->client->frame; /* dispatch leaves it to us */
        w->client->frame = NULL;
        w->has_ended = true;
    }
    return stop;
}

static bora_client_status run(waiter *w, bora_client_request **request, bool wait_for_done, bora_client_error *err)
{
    bora_client *client = w->client;
    if (client->is_in_handler) {
        bora_client_request_free(*request);
        *request = NULL;
        return bora_client_fail(err, BORA_CLIENT_E_INVALID, "a blocking call was made from a handler");
    }
    uint64_t id = 0;
    bora_client_status status = bora_client_submit(client, request, waiter_handle, w, &id, err);
    bool was_interrupted = false;
    while (status == BORA_CLIENT_OK && !w->has_ended) {
        uint64_t n_interrupts = 0;
        if (wait_for_news(client, &n_interrupts)) {
            bool give_up = !wait_for_done || was_interrupted || n_interrupts > 1 ||
                           bora_client_cancel(client, id, NULL) != BORA_CLIENT_OK;
            was_interrupted = true;
            if (give_up) {
                bora_client_abandon(client, id);
                return bora_client_fail(err, BORA_CLIENT_E_INTERRUPTED, "interrupted");
            }
        }
        status = bora_client_dispatch(client, err);
    }
    if (status == BORA_CLIENT_OK && w->error.status != BORA_CLIENT_OK)
        return bora_client_fail_as(err, &w->error);
    if (status == BORA_CLIENT_OK && was_interrupted)
        return bora_client_fail(err, BORA_CLIENT_E_INTERRUPTED, "interrupted");
    return status;
}

bora_client_status bora_client_call_watched(bora_client *client, bora_client_request **request,
                                            bora_client_handler handler, void *context, bora_client_result **ret_result,
                                            bora_client_error *err)
{
    waiter w = {.client = client, .handler = handler, .context = context};
    bora_client_status status = run(&w, request, false, err);
    if (status == BORA_CLIENT_OK && ret_result) {
        bora_client_result *result = bora_client_result_new(&w.frame);
        if (result)
            *ret_result = result;
        else
            status = bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for the result");
    }
    bora_frame_free(w.frame);
    return status;
}

bora_client_status bora_client_call(bora_client *client, bora_client_request **request, bora_client_result **ret_result,
                                    bora_client_error *err)
{
    return bora_client_call_watched(client, request, NULL, NULL, ret_result, err);
}

bora_client_status bora_client_generate(bora_client *client, const bora_client_generation *generation,
                                        bora_client_handler handler, void *context, bora_client_error *err)
{
    bora_client_request *request = bora_client_generation_request(generation);
    waiter w = {.client = client, .handler = handler, .context = context};
    bora_client_status status = run(&w, &request, true, err);
    bora_frame_free(w.frame);
    return status;
}
