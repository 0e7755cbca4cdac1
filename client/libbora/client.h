/* What libbora's sources share: the client, its connection and its open requests. */
#ifndef BORA_LIBBORA_CLIENT_H
#define BORA_LIBBORA_CLIENT_H

#include <bora/client.h>

#include "codec.h"

#define BORA_CLIENT_EVENT_SIZE_MAX ((size_t)64 << 20) /* bytes of a frame from the daemon */

struct bora_client_request {
    bora_pack pack; /* the map is open until the request is sent */
};

struct bora_client_result {
    bora_frame *frame; /* owned */
};

/* A request whose last event is to come. Its bytes are kept until then: the daemon may ask for a greeting first. */
typedef struct bora_client_open_request {
    uint64_t id;         /* 0: the slot is free */
    bora_pack pack;      /* owned; the whole frame */
    bool is_sent;        /* on the present connection */
    bool was_sent_again; /* after hello_required: once is enough */
    bool is_cancelled;   /* before it was sent */
    bora_client_handler handler;
    void *context;
} bora_client_open_request;

enum bora_client_state {
    BORA_CLIENT_CLOSED,   /* no sockets; the next request connects */
    BORA_CLIENT_GREETING, /* hello is sent, requests wait for its answer */
    BORA_CLIENT_READY
};

/* How a connection broke. */
enum bora_client_loss {
    BORA_CLIENT_LOSS_NONE = 0, /* it stands */
    BORA_CLIENT_LOSS_GONE,     /* it stood, or somebody took the call and hung up */
    BORA_CLIENT_LOSS_REFUSED,  /* it never came to be */
    BORA_CLIENT_LOSS_FOREIGN   /* somebody answered in another language */
};

struct bora_client {
    char *endpoint; /* owned */
    char *name;     /* owned */
    char daemon_version[64];
    uint32_t timeout_ms;
    uint64_t frame_size_max; /* bytes of a request, as the daemon said */

    enum bora_client_state state;
    void *zmq;     /* context: one per client, so that clients share nothing */
    void *dealer;  /* one socket per connection: nothing queued for a daemon that died reaches its successor */
    void *monitor; /* tells when the connection breaks */
    uint32_t n_connections;
    enum bora_client_loss loss; /* as the monitor told it; what had arrived before is still handled */

    int poll_fd;      /* epoll over all below, and over both sockets */
    int wake_fd;      /* readable: dispatch again */
    int timer_fd;     /* the greeting is overdue */
    int interrupt_fd; /* not in poll_fd: for blocking calls */

    uint64_t last_id; /* ids are never used twice */
    uint64_t hello_id;
    bora_client_open_request open[BORA_REQUESTS_MAX];
    uint32_t n_open;

    bora_frame *frame;         /* being handled; a handler of the library may take it */
    bool is_in_handler;        /* no blocking call may begin */
    bora_client_error failure; /* why the last connection ended */
};

const bora_client_value *bora_client_value_of(const bora_value *value);
/* Takes *frame; NULL: no memory, nothing taken. */
bora_client_result *bora_client_result_new(bora_frame **frame);

/* ---- connection.c: sockets ---- */

/* Connects and sends hello; returns before it is answered. Only when CLOSED. */
bora_client_status bora_client_connection_begin(bora_client *client, bora_client_error *err);
/* Closes the sockets. Open requests stay as they are. */
void bora_client_connection_end(bora_client *client);
bora_client_status bora_client_connection_send(bora_client *client, const bora_pack *pack, bora_client_error *err);
/* Greets (again) on the present connection. */
bora_client_status bora_client_connection_hello(bora_client *client, bora_client_error *err);
/* The greeting is answered. */
void bora_client_connection_ready(bora_client *client);
/* Notes in client->loss if the connection has broken. */
void bora_client_connection_check(bora_client *client);
/* Makes poll_fd readable if there is something to do that no descriptor would tell: ZeroMQ's are edge-triggered. */
void bora_client_connection_rearm(bora_client *client);

/* ---- dispatch.c: requests and events ---- */

/* Forgets an open request without calling its handler. */
void bora_client_abandon(bora_client *client, uint64_t id);

#endif
