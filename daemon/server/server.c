/* The loop: waits on the client socket, its monitor, the engine's and the store's mailboxes and the signals, and hands
 * on what comes.
 *
 * The monitor is read before each frame is handled, not after: ZeroMQ's I/O thread reports a connection's end and its
 * successor's beginning before it delivers the successor's first frame, so a descriptor is never taken for the one that
 * had its number before. */
#include "server/server_private.h"

#include "base/memory.h"
#include "endpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define MONITOR          "inproc://monitor"
#define FRAMES_PER_ROUND 64                   /* then the engine's events have their turn */
#define RETRY_NS         UINT64_C(200000000)  /* until a client that does not read is tried again */
#define LINGER_MS        1000                 /* for the last events at the end */
#define ROUND_NS         UINT64_C(5000000)    /* likewise */
#define LOADING_NS       UINT64_C(1000000000) /* between two words about it to those who wait */
#define FDS_MAX          (64 * 64)
#define FDS_OWN          128 /* descriptors that are not clients': files, libraries, plugins */

uint64_t bora_server_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- who is connected ----------------------------------------------------------------------------------- */

static bool fd_is_open(const bora_server *server, int fd)
{
    return fd >= 0 && fd < FDS_MAX && (server->open_fds[fd / 64] >> (fd % 64) & 1);
}

/* ZeroMQ aborts the process when accept finds no free descriptor, so that never may happen. Hanging up on the one that
 * has just come is all that can be done from here; should its number belong to somebody else by now, then that is a
 * client which came later still. */
static void turn_away(bora_server *server, int fd)
{
    (void)shutdown(fd, SHUT_RDWR); /* fails if it has gone by itself */
    if (!server->is_crowded)
        bora_logf(server->log, BORA_LOG_WARN, "%u connections are open: hanging up on new ones", server->n_open_fds);
    server->is_crowded = true;
}

static void on_monitor_event(bora_server *server, uint16_t event, int fd)
{
    bool is_known = fd_is_open(server, fd);
    uint64_t bit = UINT64_C(1) << (fd < 0 ? 0 : fd % 64);
    if (event == ZMQ_EVENT_ACCEPTED) {
        server->n_open_fds++;
        if (fd < 0 || fd >= FDS_MAX || server->n_open_fds > server->open_fds_max)
            turn_away(server, fd);
        else
            server->open_fds[fd / 64] |= bit;
    } else if (event == ZMQ_EVENT_DISCONNECTED) {
        server->n_open_fds -= server->n_open_fds > 0;
        server->is_crowded = server->is_crowded && server->n_open_fds >= server->open_fds_max;
        if (is_known)
            server->open_fds[fd / 64] &= ~bit;
        bora_connections_disconnected(server, fd);
    }
}

/* Each event is two frames: uint16 event, uint32 value; then the endpoint. */
static void read_monitor(bora_server *server)
{
    for (;;) {
        uint8_t head[6], endpoint[256];
        int n = zmq_recv(server->monitor, head, sizeof head, ZMQ_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        (void)zmq_recv(server->monitor, endpoint, sizeof endpoint, 0); /* always there; not needed */
        uint16_t event;
        int32_t value;
        memcpy(&event, head, sizeof event);
        memcpy(&value, head + sizeof event, sizeof value);
        if (n == sizeof head)
            on_monitor_event(server, event, value);
    }
}

/* ---- frames ----------------------------------------------------------------------------------------------- */

/* "uid:N" of the peer, from the kernel. libzmq's Peer-Address of an ipc peer ends in ":uid:gid:pid"; what stands before
 * it (nothing, or a host's name) depends on the system. */
static bool owner_of(zmq_msg_t *message, char ret_owner[32])
{
    const char *address = zmq_msg_gets(message, "Peer-Address");
    const char *at = address ? address + strlen(address) : NULL;
    for (int i = 0; i < 3 && at; i++) {
        const char *end = at;
        while (at > address && at[-1] >= '0' && at[-1] <= '9')
            at--;
        at = at < end && at > address && at[-1] == ':' ? at - 1 : NULL;
    }
    if (!at)
        return false;
    (void)snprintf(ret_owner, 32, "uid:%lu", strtoul(at + 1, NULL, 10)); /* fits */
    return true;
}

static void on_frame(bora_server *server, zmq_msg_t *id, zmq_msg_t *body, bool is_whole)
{
    const uint8_t *routing_id = zmq_msg_data(id);
    char owner[32];
    int fd = zmq_msg_get(body, ZMQ_SRCFD);
    read_monitor(server);
    if (zmq_msg_size(id) != BORA_ROUTING_ID_SIZE || routing_id[0] != 0) {
        if (!server->told_routing_id)
            bora_logf(server->log, BORA_LOG_WARN, "ignoring clients that choose their own routing id");
        server->told_routing_id = true;
        return;
    }
    if (!fd_is_open(server, fd))
        return; /* it has hung up meanwhile */
    if (!owner_of(body, owner)) {
        bora_logf(server->log, BORA_LOG_ERROR, "ignoring a client whose user the system does not tell");
        return;
    }
    bora_server_dispatch(server, routing_id, fd, owner, is_whole ? zmq_msg_data(body) : NULL, zmq_msg_size(body));
}

/* One message: the routing id, then its frames. False when there is none. */
static bool read_frame(bora_server *server)
{
    zmq_msg_t id, body, rest;
    (void)zmq_msg_init(&id);
    (void)zmq_msg_init(&body);
    int n;
    do
        n = zmq_msg_recv(&id, server->router, ZMQ_DONTWAIT);
    while (n < 0 && errno == EINTR);
    bool got = n >= 0;
    if (got && zmq_msg_more(&id) && zmq_msg_recv(&body, server->router, 0) >= 0) {
        bool is_whole = true;
        while (zmq_msg_more(&body) && is_whole) {
            is_whole = false;
            (void)zmq_msg_init(&rest);
            while (zmq_msg_recv(&rest, server->router, 0) >= 0 && zmq_msg_more(&rest))
                continue;
            (void)zmq_msg_close(&rest);
        }
        on_frame(server, &id, &body, is_whole);
    }
    (void)zmq_msg_close(&body);
    (void)zmq_msg_close(&id);
    return got;
}

/* ---- the loop ----------------------------------------------------------------------------------------------- */

static void read_signals(bora_server *server)
{
    struct signalfd_siginfo info;
    while (read(server->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        bora_logf(server->log, BORA_LOG_INFO,
                  server->is_stopping ? "signal %s again: not waiting any longer" : "signal %s: ending",
                  strsignal((int)info.ssi_signo));
        server->must_stop = server->is_stopping;
        bora_server_stop(server, BORA_OK, NULL);
    }
}

void bora_server_stop(bora_server *server, bora_status status, const bora_error *error)
{
    if (server->is_stopping)
        return;
    server->is_stopping = true;
    server->load_status = status;
    if (error)
        server->load_error = *error;
    bora_systemd_stopping(server);
    bora_exchange_stop(server);
    bora_sessions_stop(server->options.sessions);
}

/* Without a model there is nothing to serve. Those who waited for it have been told: their events came before. */
static void on_loaded(bora_server *server, const bora_event *event)
{
    bora_error why = {{0}};
    bora_status st = server->is_stopping ? BORA_OK : bora_exchange_on_loaded(server, event, &why);
    if (st != BORA_OK)
        bora_server_stop(server, st, &why);
}

void bora_server_move(bora_server *server, bora_house *house)
{
    bora_server_options *options = &server->options;
    options->house = house;
    options->model = bora_house_model(house);
    options->pipeline = bora_house_pipeline(house);
    options->scheduler = bora_house_scheduler(house);
    options->sessions = bora_house_sessions(house);
    options->events = bora_house_events(house);
    server->told_loading_ns = bora_server_now_ns();
}

bora_house *bora_server_house(const bora_server *server)
{
    return server->options.house;
}

static void read_mail(bora_server *server)
{
    bora_mail *mail;
    while ((mail = bora_mailbox_take(server->options.events))) {
        bora_event *event = (bora_event *)mail;
        if (event->type != BORA_EVENT_LOADED && event->type != BORA_EVENT_SWAPPED) {
            bora_sessions_on_event(server->options.sessions, event);
            continue;
        }
        if (event->type == BORA_EVENT_LOADED)
            on_loaded(server, event);
        else
            bora_server_on_swapped(server, event);
        bora_event_free(event);
    }
    while ((mail = bora_mailbox_take(server->options.replies))) {
        bora_store_job *job = (bora_store_job *)mail;
        job->done(job, server->options.sessions);
    }
    bora_exchange_on_opened(server);
}

/* ns until it wants to be called again; UINT64_MAX: never. */
static uint64_t tell_loading(bora_server *server, uint64_t now)
{
    bora_scheduler_stats stats;
    bora_scheduler_stats_get(server->options.scheduler, &stats);
    if (!stats.is_loading || server->is_stopping)
        return UINT64_MAX;
    if (now - server->told_loading_ns >= LOADING_NS) {
        server->told_loading_ns = now;
        bora_connections_tell_loading(server, &stats);
        bora_exchange_tell_loading(server, &stats);
    }
    return LOADING_NS - (now - server->told_loading_ns);
}

static long timeout_ms(bora_server *server)
{
    const uint64_t now = bora_server_now_ns(), exchange = bora_exchange_tick(server, now); /* first: it may move */
    const uint64_t loading = tell_loading(server, now);
    uint64_t wait = bora_systemd_tick(server, now);
    wait = wait < loading ? wait : loading;
    wait = wait < exchange ? wait : exchange;
    if (server->has_lapses && wait > RETRY_NS)
        wait = RETRY_NS;
    return wait == UINT64_MAX ? -1 : (long)(wait / 1000000 + 1);
}

static bora_status loop(bora_server *server, bora_error *err)
{
    while (!server->must_stop && !(server->is_stopping && bora_sessions_n_open(server->options.sessions) == 0)) {
        const long timeout = timeout_ms(server); /* first: the house may change, and its mailbox with it */
        zmq_pollitem_t items[] = {
            {.socket = server->router, .events = ZMQ_POLLIN},
            {.socket = server->monitor, .events = ZMQ_POLLIN},
            {.fd = bora_mailbox_fd(server->options.events), .events = ZMQ_POLLIN},
            {.fd = bora_mailbox_fd(server->options.replies), .events = ZMQ_POLLIN},
            {.fd = server->signal_fd, .events = ZMQ_POLLIN},
            {.fd = bora_mailbox_fd(server->opened), .events = ZMQ_POLLIN},
        };
        if (zmq_poll(items, (int)BORA_ARRAY_SIZE(items), timeout) < 0 && errno != EINTR)
            return bora_fail(err, BORA_E_IO, "waiting for clients: %s", zmq_strerror(errno));
        if (items[4].revents)
            read_signals(server);
        if (items[1].revents)
            read_monitor(server);
        uint64_t round_end = bora_server_now_ns() + ROUND_NS;
        for (int i = 0;
             items[0].revents && i < FRAMES_PER_ROUND && read_frame(server) && bora_server_now_ns() < round_end; i++)
            continue;
        read_mail(server);
        bora_connections_tidy(server);
    }
    if (server->load_status != BORA_OK)
        return bora_fail(err, server->load_status, "%s", server->load_error.message);
    return BORA_OK;
}

bora_status bora_server_run(bora_server *server, bora_error *err)
{
    bora_house_enter(server->options.house, NULL);
    bora_systemd_ready(server);
    bora_status st = loop(server, err);
    bora_exchange_free(server); /* the store is still there for what it has begun */
    return st;
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static bora_status set_int(bora_server *server, int option, int value, bora_error *err)
{
    if (zmq_setsockopt(server->router, option, &value, sizeof value) != 0)
        return bora_fail(err, BORA_E_IO, "socket option %d: %s", option, zmq_strerror(errno));
    return BORA_OK;
}

/* Room for BORA_CONNECTIONS_MAX clients, and as many again that come while the loop is busy. */
static void reserve_descriptors(bora_server *server)
{
    struct rlimit limit = {0};
    const rlim_t wanted = 2 * BORA_CONNECTIONS_MAX + FDS_OWN;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* up to the hard limit it cannot fail */
    }
    rlim_t room = limit.rlim_cur > 2 * FDS_OWN ? (limit.rlim_cur - FDS_OWN) / 2 : FDS_OWN / 2;
    server->open_fds_max = room < BORA_CONNECTIONS_MAX ? (uint32_t)room : BORA_CONNECTIONS_MAX;
}

static bora_status open_sockets(bora_server *server, bora_error *err)
{
    reserve_descriptors(server);
    server->zmq = zmq_ctx_new();
    server->router = server->zmq ? zmq_socket(server->zmq, ZMQ_ROUTER) : NULL;
    server->monitor = server->router ? zmq_socket(server->zmq, ZMQ_PAIR) : NULL;
    if (!server->monitor)
        return bora_fail(err, BORA_E_IO, "sockets: %s", zmq_strerror(errno));
    int64_t size_max = BORA_FRAME_RECEIVED_MAX;
    if (zmq_setsockopt(server->router, ZMQ_MAXMSGSIZE, &size_max, sizeof size_max) != 0)
        return bora_fail(err, BORA_E_IO, "largest frame: %s", zmq_strerror(errno));
    const struct {
        int option, value;
    } settings[] = {{ZMQ_ROUTER_MANDATORY, 1},
                    {ZMQ_SNDHWM, BORA_EVENTS_WAITING_MAX},
                    {ZMQ_RCVHWM, BORA_REQUESTS_MAX},
                    {ZMQ_LINGER, LINGER_MS},
                    {ZMQ_USE_FD, server->options.listen_fd}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(settings); i++) {
        if (settings[i].option == ZMQ_USE_FD && settings[i].value < 0)
            continue;
        bora_status st = set_int(server, settings[i].option, settings[i].value, err);
        if (st != BORA_OK)
            return st;
    }
    int linger = 0;
    if (zmq_socket_monitor(server->router, MONITOR, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) != 0 ||
        zmq_setsockopt(server->monitor, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(server->monitor, ZMQ_RCVHWM, &linger, sizeof linger) != 0 || /* 0: no event may be lost */
        zmq_connect(server->monitor, MONITOR) != 0)
        return bora_fail(err, BORA_E_IO, "socket monitor: %s", zmq_strerror(errno));
    if (zmq_bind(server->router, server->options.endpoint) != 0)
        return bora_fail(err, BORA_E_IO, "listen on %s: %s", server->options.endpoint, zmq_strerror(errno));
    server->has_socket_file = server->options.listen_fd < 0;
    return BORA_OK;
}

static void server_freep(bora_server **server)
{
    bora_server_free(*server);
}

bora_status bora_server_new(const bora_server_options *options, const bora_log *log, bora_server **ret_server,
                            bora_error *err)
{
    BORA_CLEANUP(server_freep) bora_server *server = bora_calloc(1, sizeof *server);
    if (!server)
        return bora_fail(err, BORA_E_NOMEM, "server");
    server->options = *options;
    server->log = log;
    server->signal_fd = server->lock_fd = -1;
    server->started_ns = server->told_loading_ns = bora_server_now_ns();
    sigset_t signals;
    (void)sigemptyset(&signals); /* these cannot fail: the numbers are valid */
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    server->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->signal_fd < 0)
        return bora_fail(err, BORA_E_IO, "signalfd: %s", strerror(errno));
    bora_server_move(server, options->house);
    bora_status st = bora_mailbox_new(&server->opened, err);
    if (st == BORA_OK && options->listen_fd < 0)
        st = bora_endpoint_prepare(server, err);
    if (st == BORA_OK)
        st = open_sockets(server, err);
    if (st != BORA_OK)
        return st;
    *ret_server = bora_steal(&server);
    return BORA_OK;
}

void bora_server_free(bora_server *server)
{
    if (!server)
        return;
    bora_exchange_free(server);
    bora_mailbox_free(server->opened);
    bora_connections_free(server);
    if (server->monitor) {
        (void)zmq_socket_monitor(server->router, NULL, 0); /* ends it; fails only if there was none */
        (void)zmq_close(server->monitor);
    }
    if (server->router)
        (void)zmq_close(server->router); /* what waits to be sent has LINGER_MS */
    if (server->zmq)
        while (zmq_ctx_term(server->zmq) != 0 && errno == EINTR)
            continue;
    bora_closep(&server->signal_fd);
    /* Both under the lock; if they stay, the next daemon uses them. */
    if (server->has_socket_file)
        (void)unlink(bora_endpoint_path(server->options.endpoint));
    if (server->lock_fd >= 0)
        (void)unlink(server->lock_path);
    bora_closep(&server->lock_fd);
    bora_free(server->lock_path);
    bora_free(server);
}
