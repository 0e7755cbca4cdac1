/* The sockets of one connection: a DEALER that speaks to the daemon, and its monitor that tells when the daemon went
 * away. ZeroMQ must not reconnect by itself: it would deliver to a new daemon what was queued for the old one, after
 * the caller was told that it is lost. So every connection has a socket of its own. */
#include "client.h"

#include "probe.h"
#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zmq.h>

/* Never in the life of a connection, which ends as soon as the loss is seen. -1, which means never to ZeroMQ, will not
 * do: the pipe is then closed with whatever had arrived and was not read yet. */
#define RECONNECT_MS (INT_MAX / 2)

/* Whatever says that there is no connection (any more). CLOSED comes when connecting failed. */
#define EVENTS_OF_LOSS                                                                                                 \
    (ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |                                \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static int socket_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

static bool is_readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    if (!socket)
        return false;
    int rc;
    do /* a signal at this moment must not make a message unseen */
        rc = zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size);
    while (rc != 0 && zmq_errno() == EINTR);
    return rc == 0 && (events & ZMQ_POLLIN);
}

static bool watch(bora_client *client, void *socket)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, socket_fd(socket), &event) == 0;
}

static void close_socket(bora_client *client, void **socket)
{
    if (!*socket)
        return;
    struct epoll_event unused = {0};
    (void)epoll_ctl(client->poll_fd, EPOLL_CTL_DEL, socket_fd(*socket), &unused); /* it may not have got that far */
    (void)zmq_close(*socket);
    *socket = NULL;
}

static void set_timer(bora_client *client, uint32_t ms)
{
    struct itimerspec timer = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}};
    (void)timerfd_settime(client->timer_fd, 0, &timer, NULL); /* cannot fail with a valid time */
}

/* Both sockets, watched and connected. On failure some may be left, to be closed by the caller. */
static bool open_sockets(bora_client *client)
{
    char monitor_name[64];
    (void)snprintf(monitor_name, sizeof monitor_name, "inproc://monitor-%" PRIu32, ++client->n_connections);
    client->dealer = zmq_socket(client->zmq, ZMQ_DEALER);
    client->monitor = zmq_socket(client->zmq, ZMQ_PAIR);
    int64_t size_max = (int64_t)BORA_CLIENT_EVENT_SIZE_MAX;
    return client->dealer && client->monitor && set_int(client->dealer, ZMQ_LINGER, 0) &&
           set_int(client->monitor, ZMQ_LINGER, 0) && set_int(client->dealer, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
           zmq_setsockopt(client->dealer, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) == 0 &&
           zmq_socket_monitor(client->dealer, monitor_name, EVENTS_OF_LOSS) == 0 &&
           zmq_connect(client->monitor, monitor_name) == 0 && watch(client, client->monitor) &&
           watch(client, client->dealer) && zmq_connect(client->dealer, client->endpoint) == 0;
}

bora_client_status bora_client_connection_begin(bora_client *client, bora_client_error *err)
{
    bora_client_status status = bora_client_probe(client->endpoint, err);
    if (status != BORA_CLIENT_OK)
        return status;
    client->loss = BORA_CLIENT_LOSS_NONE;
    if (!open_sockets(client)) {
        int failure = zmq_errno();
        bora_client_connection_end(client);
        bool is_wrong = failure == EINVAL || failure == EPROTONOSUPPORT || failure == ENOCOMPATPROTO;
        return bora_client_fail(err, is_wrong ? BORA_CLIENT_E_INVALID : BORA_CLIENT_E_IO, "cannot connect to '%s': %s",
                                client->endpoint, zmq_strerror(failure));
    }
    status = bora_client_connection_hello(client, err);
    if (status != BORA_CLIENT_OK) {
        bora_client_connection_end(client);
        return status;
    }
    bora_client_connection_rearm(client); /* sending may have taken the signal of what arrived */
    return BORA_CLIENT_OK;
}

void bora_client_connection_end(bora_client *client)
{
    set_timer(client, 0);
    close_socket(client, &client->monitor);
    close_socket(client, &client->dealer);
    client->state = BORA_CLIENT_CLOSED;
    client->loss = BORA_CLIENT_LOSS_NONE;
}

bora_client_status bora_client_connection_send(bora_client *client, const bora_pack *pack, bora_client_error *err)
{
    int failure;
    do {
        if (zmq_send(client->dealer, pack->data, pack->size, ZMQ_DONTWAIT) >= 0)
            return BORA_CLIENT_OK;
        failure = zmq_errno();
    } while (failure == EINTR);
    return bora_client_fail(err, BORA_CLIENT_E_IO, "cannot send to the daemon: %s",
                            failure == EAGAIN ? "it does not read" : zmq_strerror(failure));
}

bora_client_status bora_client_connection_hello(bora_client *client, bora_client_error *err)
{
    bora_pack hello = {0};
    uint64_t id = ++client->last_id;
    bora_pack_map(&hello, NULL);
    bora_pack_uint(&hello, "id", id);
    bora_pack_string(&hello, "verb", "hello");
    bora_pack_uint(&hello, "protocol", BORA_PROTOCOL_VERSION);
    bora_pack_string(&hello, "client", client->name);
    bora_pack_end(&hello);
    bora_client_status status = bora_pack_ok(&hello)
                                    ? bora_client_connection_send(client, &hello, err)
                                    : bora_client_fail(err, BORA_CLIENT_E_NO_MEMORY, "no memory for a greeting");
    bora_pack_release(&hello);
    if (status != BORA_CLIENT_OK)
        return status;
    client->hello_id = id;
    client->state = BORA_CLIENT_GREETING;
    set_timer(client, client->timeout_ms);
    return BORA_CLIENT_OK;
}

void bora_client_connection_ready(bora_client *client)
{
    set_timer(client, 0);
    client->state = BORA_CLIENT_READY;
}

void bora_client_connection_check(bora_client *client)
{
    while (client->monitor && is_readable(client->monitor)) {
        /* Two parts: number and value of the event, then the endpoint. Only events of loss were asked for. */
        uint16_t event = 0;
        char part[256];
        int more = 0;
        size_t more_size = sizeof more;
        int size = zmq_recv(client->monitor, part, sizeof part, ZMQ_DONTWAIT);
        if (size < 0)
            return;
        if (size >= (int)sizeof event)
            memcpy(&event, part, sizeof event);
        while (zmq_getsockopt(client->monitor, ZMQ_RCVMORE, &more, &more_size) == 0 && more)
            if (zmq_recv(client->monitor, part, sizeof part, ZMQ_DONTWAIT) < 0)
                break;
        if (client->loss != BORA_CLIENT_LOSS_NONE)
            continue; /* the first cause counts */
        if (event == ZMQ_EVENT_CLOSED)
            client->loss = BORA_CLIENT_LOSS_REFUSED;
        else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL || event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
            client->loss = BORA_CLIENT_LOSS_FOREIGN;
        else if (event & EVENTS_OF_LOSS)
            client->loss = BORA_CLIENT_LOSS_GONE;
    }
}

void bora_client_connection_rearm(bora_client *client)
{
    if (!is_readable(client->dealer) && !is_readable(client->monitor))
        return;
    const uint64_t one = 1;
    ssize_t written = write(client->wake_fd, &one, sizeof one);
    (void)written; /* it can only be full, and then it is readable already */
}
