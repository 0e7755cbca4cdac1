/* A daemon of a few verbs for the client's tests: a ROUTER socket in a thread of its own. What it is to do wrong is
 * said by the requests themselves (a generate's `text` or a verb of its own), or by the mode it was started in. */
#ifndef BORA_TESTS_UNIT_CLIENT_FAKE_DAEMON_H
#define BORA_TESTS_UNIT_CLIENT_FAKE_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "codec.h"

enum fake_mode {
    FAKE_GOOD,
    FAKE_MUTE,        /* answers nothing */
    FAKE_VERSION,     /* refuses the version */
    FAKE_NEXT,        /* speaks version 2 */
    FAKE_NO_GREETING, /* answers hello with something else */
    FAKE_GARBAGE,     /* answers hello with bytes that are no frame */
    FAKE_FORGETFUL    /* wants a greeting before each request, again and again */
};

#define FAKE_PEERS_MAX      32
#define FAKE_FRAME_SIZE_MAX 4096

typedef struct fake_peer fake_peer;

typedef struct fake_daemon {
    char directory[64], endpoint[96];
    enum fake_mode mode;
    void *zmq, *router, *control, *control_peer;
    pthread_t thread;
    atomic_bool forgets_once; /* after the first greeting of a peer */
    /* A test's own answers, asked first; false: not a request it knows. NULL: none. */
    bool (*answers)(fake_peer *peer, uint64_t id, const bora_value *request);
    struct {
        char id[16];
        size_t id_size;
    } peers[FAKE_PEERS_MAX];
    unsigned n_peers;
    uint64_t hanging;                                         /* id of a generate that waits for its cancel; 0: none */
    atomic_uint n_hellos, n_generates, n_cancels, n_statuses; /* read by the test when the daemon has answered */
} fake_daemon;

struct fake_peer {
    fake_daemon *daemon;
    char id[64];
    size_t id_size;
};

static inline void fake_send_bytes(fake_peer *peer, const void *bytes, size_t size)
{
    (void)zmq_send(peer->daemon->router, peer->id, peer->id_size, ZMQ_SNDMORE);
    (void)zmq_send(peer->daemon->router, bytes, size, 0);
}

static inline void fake_begin(bora_pack *pack, uint64_t id, const char *event)
{
    *pack = (bora_pack){0};
    bora_pack_map(pack, NULL);
    bora_pack_uint(pack, "id", id);
    bora_pack_string(pack, "event", event);
}

static inline void fake_end(fake_peer *peer, bora_pack *pack)
{
    bora_pack_end(pack);
    fake_send_bytes(peer, pack->data, pack->size);
    bora_pack_release(pack);
}

static inline void fake_error(fake_peer *peer, uint64_t id, const char *code, const char *message)
{
    bora_pack pack;
    fake_begin(&pack, id, "error");
    bora_pack_string(&pack, "code", code);
    bora_pack_string(&pack, "message", message);
    fake_end(peer, &pack);
}

static inline void fake_token(fake_peer *peer, uint64_t id, uint64_t index)
{
    char text[32];
    (void)snprintf(text, sizeof text, "t%u ", (unsigned)index);
    bora_pack pack;
    fake_begin(&pack, id, "token");
    bora_pack_uint(&pack, "index", index);
    bora_pack_int(&pack, "token", (int64_t)(100 + index));
    bora_pack_string(&pack, "text", text);
    bora_pack_float(&pack, "logprob", -0.5);
    fake_end(peer, &pack);
}

static inline void fake_done(fake_peer *peer, uint64_t id, const char *reason)
{
    bora_pack pack;
    fake_begin(&pack, id, "done");
    bora_pack_string(&pack, "reason", reason);
    bora_pack_string(&pack, "text", "end");
    fake_end(peer, &pack);
}

static inline bool fake_is(const bora_value *value, const char *word)
{
    const char *text = NULL;
    size_t size = 0;
    return bora_value_text(value, &text, &size) && size == strlen(word) && memcmp(text, word, size) == 0;
}

static inline bool fake_knows(fake_peer *peer)
{
    fake_daemon *daemon = peer->daemon;
    for (unsigned i = 0; i < daemon->n_peers; i++)
        if (daemon->peers[i].id_size == peer->id_size && memcmp(daemon->peers[i].id, peer->id, peer->id_size) == 0)
            return true;
    return false;
}

static inline void fake_hello(fake_peer *peer, uint64_t id)
{
    fake_daemon *daemon = peer->daemon;
    atomic_fetch_add(&daemon->n_hellos, 1);
    bora_pack pack;
    switch (daemon->mode) {
    case FAKE_MUTE:
        return;
    case FAKE_VERSION:
        fake_error(peer, id, "version", "this daemon speaks version 7");
        return;
    case FAKE_GARBAGE:
        fake_send_bytes(peer, "HTTP/1.1 400", 12);
        return;
    default:
        break;
    }
    fake_begin(&pack, id, "result");
    if (daemon->mode != FAKE_NO_GREETING) {
        bora_pack_uint(&pack, "protocol", daemon->mode == FAKE_NEXT ? 2 : 1);
        bora_pack_string(&pack, "server", "bora");
        bora_pack_string(&pack, "version", "9.8.7");
        bora_pack_uint(&pack, "max_frame", FAKE_FRAME_SIZE_MAX);
    }
    fake_end(peer, &pack);
    if (daemon->mode != FAKE_FORGETFUL && !fake_knows(peer) && daemon->n_peers < FAKE_PEERS_MAX &&
        peer->id_size <= sizeof daemon->peers[0].id && !daemon->forgets_once) {
        memcpy(daemon->peers[daemon->n_peers].id, peer->id, peer->id_size);
        daemon->peers[daemon->n_peers++].id_size = peer->id_size;
    }
    daemon->forgets_once = false;
}

/* False: the daemon is to vanish. */
static inline bool fake_generate(fake_peer *peer, uint64_t id, const bora_value *request)
{
    const bora_value *text = bora_value_get(request, "text");
    bora_pack pack;
    atomic_fetch_add(&peer->daemon->n_generates, 1);
    if (fake_is(text, "refuse")) {
        fake_error(peer, id, "busy", "the session is answering");
        return true;
    }
    if (fake_is(text, "cancelled at once")) {
        fake_error(peer, id, "cancelled", "the request was cancelled");
        return true;
    }
    fake_begin(&pack, id, "accepted");
    bora_pack_uint(&pack, "n_prompt", 5);
    bora_pack_uint(&pack, "seed", 11);
    fake_end(peer, &pack);
    if (fake_is(text, "vanish before a token"))
        return false;
    if (fake_is(text, "hang")) {
        fake_token(peer, id, 0);
        peer->daemon->hanging = id;
        return true;
    }
    fake_begin(&pack, id, "progress");
    bora_pack_uint(&pack, "n_done", 5);
    bora_pack_uint(&pack, "n_total", 5);
    fake_end(peer, &pack);
    fake_begin(&pack, id, "an event of the future");
    fake_end(peer, &pack);
    fake_begin(&pack, id + 1000, "token"); /* of a request that nobody made */
    fake_end(peer, &pack);
    fake_token(peer, id, 0);
    if (fake_is(text, "vanish"))
        return false;
    fake_token(peer, id, 1);
    fake_token(peer, id, 2);
    fake_done(peer, id, "stop");
    return true;
}

/* False: the daemon is to vanish. */
static inline bool fake_handle(fake_peer *peer, const bora_value *request)
{
    static const char *const garbage[] = {"",
                                          "\xc1",
                                          "\x81\xa2id",
                                          "\x80",
                                          "\x81\xa2id\x05",
                                          "\x82\xa2id\x05\xa5"
                                          "event\x01",
                                          "\x81\xa1x\xdd\xff\xff\xff\xff"};
    static const size_t garbage_sizes[] = {0, 1, 4, 1, 5, 12, 8};
    const bora_value *verb = bora_value_get(request, "verb");
    uint64_t id = 0, other = 0;
    bora_pack pack;
    (void)bora_value_uint(bora_value_get(request, "id"), &id);
    if (fake_is(verb, "hello")) {
        fake_hello(peer, id);
    } else if (!fake_knows(peer)) {
        fake_error(peer, id, "hello_required", "say hello first");
    } else if (peer->daemon->answers && peer->daemon->answers(peer, id, request)) {
        /* done */
    } else if (fake_is(verb, "generate")) {
        return fake_generate(peer, id, request);
    } else if (fake_is(verb, "cancel")) {
        atomic_fetch_add(&peer->daemon->n_cancels, 1);
        (void)bora_value_uint(bora_value_get(request, "request"), &other);
        bool found = other != 0 && other == peer->daemon->hanging;
        fake_begin(&pack, id, "result");
        bora_pack_bool(&pack, "found", found);
        fake_end(peer, &pack);
        if (found) {
            fake_done(peer, other, "cancelled");
            peer->daemon->hanging = 0;
        }
    } else if (fake_is(verb, "garbage")) {
        (void)bora_value_uint(bora_value_get(request, "n"), &other);
        if (other < sizeof garbage / sizeof garbage[0])
            fake_send_bytes(peer, garbage[other], garbage_sizes[other]);
    } else if (fake_is(verb, "two frames")) {
        (void)zmq_send(peer->daemon->router, peer->id, peer->id_size, ZMQ_SNDMORE);
        (void)zmq_send(peer->daemon->router, "\x80", 1, ZMQ_SNDMORE);
        (void)zmq_send(peer->daemon->router, "\x80", 1, 0);
    } else if (fake_is(verb, "bad frame")) {
        fake_error(peer, 0, "bad_frame", "the frame is cut off");
    } else if (fake_is(verb, "silence")) {
        /* no answer */
    } else if (fake_is(verb, "vanish")) {
        return false;
    } else if (fake_is(verb, "session.show")) {
        fake_error(peer, id, "not_found", "no such session");
    } else {
        fake_begin(&pack, id, "result");
        const char *name = NULL;
        size_t size = 0;
        if (bora_value_text(verb, &name, &size))
            bora_pack_text(&pack, "verb", name, size);
        bora_pack_uint(&pack, "n_keys", bora_value_count(request));
        const char *text = NULL;
        if (bora_value_text(bora_value_get(request, "text"), &text, &size))
            bora_pack_text(&pack, "text", text, size);
        bora_pack_array(&pack, "list");
        bora_pack_int(&pack, NULL, -1);
        bora_pack_float(&pack, NULL, 0.5);
        bora_pack_bool(&pack, NULL, true);
        bora_pack_end(&pack);
        fake_end(peer, &pack);
    }
    return true;
}

static inline void *fake_run(void *argument)
{
    fake_daemon *daemon = argument;
    zmq_pollitem_t items[] = {{.socket = daemon->router, .events = ZMQ_POLLIN},
                              {.socket = daemon->control, .events = ZMQ_POLLIN}};
    for (bool lives = true; lives;) {
        if (zmq_poll(items, 2, -1) < 0)
            continue;
        if (items[1].revents)
            break;
        if (!items[0].revents)
            continue;
        fake_peer peer = {.daemon = daemon};
        static const size_t size_max = BORA_FRAME_SIZE_MAX;
        char *bytes = malloc(size_max);
        int id_size = zmq_recv(daemon->router, peer.id, sizeof peer.id, 0);
        int size = zmq_recv(daemon->router, bytes, size_max, 0);
        peer.id_size = id_size > 0 ? (size_t)id_size : 0;
        const char *why = NULL;
        bora_frame *frame = size >= 0 ? bora_frame_parse(bytes, (size_t)size, size_max, &why) : NULL;
        if (frame)
            lives = fake_handle(&peer, bora_frame_root(frame));
        bora_frame_free(frame);
        free(bytes);
    }
    (void)zmq_close(daemon->router);
    (void)zmq_close(daemon->control);
    return NULL;
}

/* Starts at a path of its own, or where an earlier one was (directory not empty). */
static inline fake_daemon *fake_start_with(enum fake_mode mode, const char *directory,
                                           bool (*answers)(fake_peer *, uint64_t, const bora_value *))
{
    fake_daemon *daemon = calloc(1, sizeof *daemon);
    if (!daemon)
        return NULL;
    daemon->mode = mode;
    daemon->answers = answers;
    (void)snprintf(daemon->directory, sizeof daemon->directory, "%s", directory ? directory : "/tmp/bora-test-XXXXXX");
    if (!directory && !mkdtemp(daemon->directory)) {
        free(daemon);
        return NULL;
    }
    (void)snprintf(daemon->endpoint, sizeof daemon->endpoint, "ipc://%s/bora.sock", daemon->directory);
    daemon->zmq = zmq_ctx_new();
    daemon->router = zmq_socket(daemon->zmq, ZMQ_ROUTER);
    daemon->control = zmq_socket(daemon->zmq, ZMQ_PAIR);
    daemon->control_peer = zmq_socket(daemon->zmq, ZMQ_PAIR);
    if (zmq_bind(daemon->control, "inproc://control") != 0 ||
        zmq_connect(daemon->control_peer, "inproc://control") != 0 || zmq_bind(daemon->router, daemon->endpoint) != 0 ||
        pthread_create(&daemon->thread, NULL, fake_run, daemon) != 0)
        abort();
    return daemon;
}

static inline fake_daemon *fake_start(enum fake_mode mode, const char *directory)
{
    return fake_start_with(mode, directory, NULL);
}

/* Ends it (also one that has vanished), and waits until its sockets are closed. */
static inline void fake_stop(fake_daemon *daemon, bool keep_directory)
{
    if (!daemon)
        return;
    int linger = 0;
    (void)zmq_setsockopt(daemon->control_peer, ZMQ_LINGER, &linger, sizeof linger);
    (void)zmq_send(daemon->control_peer, "", 0, ZMQ_DONTWAIT);
    (void)pthread_join(daemon->thread, NULL);
    (void)zmq_close(daemon->control_peer);
    (void)zmq_ctx_term(daemon->zmq);
    if (!keep_directory) {
        (void)unlink(daemon->endpoint + strlen("ipc://"));
        (void)rmdir(daemon->directory);
    }
    free(daemon);
}

#endif
