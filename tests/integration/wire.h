/* What the hostile tests share: a bare DEALER that can send anything, events taken apart, and a witness: an old session
 * that must go on with the right tokens whatever has been done to the daemon. Everything here fails the running test by
 * itself. */
#ifndef BORA_TESTS_INTEGRATION_WIRE_H
#define BORA_TESTS_INTEGRATION_WIRE_H

#include "codec.h"
#include "support/daemon.h"
#include "support/skip.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define WIRE_MS         30000 /* until an answer is missing: far more than any takes */
#define WIRE_TOKENS_MAX 4096

/* ---- one connection --------------------------------------------------------------------------------------- */

typedef struct wire {
    void *zmq, *dealer;
    uint64_t last_id;
} wire;

/* The last event that was received. */
typedef struct wire_event {
    bora_frame *frame;
    const bora_value *root;
    uint64_t id;
    char event[16], code[32], message[600];
} wire_event;

static inline void wire_open_with(wire *w, const char *socket_path, int rcvhwm)
{
    char endpoint[128];
    int linger = 0;
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s", socket_path);
    *w = (wire){.zmq = zmq_ctx_new()};
    assert_non_null(w->zmq);
    w->dealer = zmq_socket(w->zmq, ZMQ_DEALER);
    assert_non_null(w->dealer);
    assert_int_equal(zmq_setsockopt(w->dealer, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_setsockopt(w->dealer, ZMQ_RCVHWM, &rcvhwm, sizeof rcvhwm), 0);
    assert_int_equal(zmq_connect(w->dealer, endpoint), 0);
}

static inline void wire_open(wire *w, const char *socket_path)
{
    wire_open_with(w, socket_path, 100000);
}

static inline void wire_close(wire *w)
{
    if (w->dealer)
        assert_int_equal(zmq_close(w->dealer), 0);
    if (w->zmq)
        assert_int_equal(zmq_ctx_term(w->zmq), 0);
    *w = (wire){0};
}

static inline void wire_send(wire *w, const void *data, size_t size)
{
    assert_int_equal(zmq_send(w->dealer, data, size, 0), (int)size);
}

static inline void wire_event_release(wire_event *e)
{
    bora_frame_free(e->frame);
    *e = (wire_event){0};
}

static inline void wire_copy(char *to, size_t size, const bora_value *value)
{
    const char *bytes = "";
    size_t n = 0;
    if (bora_value_text(value, &bytes, &n) && n < size)
        memcpy(to, bytes, n);
    to[n < size ? n : 0] = '\0';
}

/* False when nothing comes in time. Every event must be a sound frame. */
static inline bool wire_receive_within(wire *w, wire_event *ret, int ms)
{
    const char *why = "";
    zmq_msg_t frame;
    zmq_pollitem_t item = {.socket = w->dealer, .events = ZMQ_POLLIN};
    wire_event_release(ret);
    if (zmq_poll(&item, 1, ms) <= 0)
        return false;
    assert_int_equal(zmq_msg_init(&frame), 0);
    assert_true(zmq_msg_recv(&frame, w->dealer, 0) >= 0);
    assert_false(zmq_msg_more(&frame));
    ret->frame = bora_frame_parse(zmq_msg_data(&frame), zmq_msg_size(&frame), (size_t)64 << 20, &why);
    (void)zmq_msg_close(&frame);
    if (!ret->frame)
        print_error("the daemon sent a bad frame: %s\n", why);
    assert_non_null(ret->frame);
    ret->root = bora_frame_root(ret->frame);
    assert_true(bora_value_uint(bora_value_get(ret->root, "id"), &ret->id));
    wire_copy(ret->event, sizeof ret->event, bora_value_get(ret->root, "event"));
    wire_copy(ret->code, sizeof ret->code, bora_value_get(ret->root, "code"));
    wire_copy(ret->message, sizeof ret->message, bora_value_get(ret->root, "message"));
    return true;
}

static inline void wire_receive(wire *w, wire_event *ret)
{
    bool got = wire_receive_within(w, ret, WIRE_MS);
    if (!got)
        print_error("no event in %d ms\n", WIRE_MS);
    assert_true(got);
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

/* Opens a request's map; wire_submit closes and sends it. */
static inline bora_pack wire_request(wire *w, const char *verb)
{
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", ++w->last_id);
    bora_pack_string(&pack, "verb", verb);
    return pack;
}

static inline void wire_submit(wire *w, bora_pack *pack)
{
    bora_pack_end(pack);
    assert_true(bora_pack_ok(pack));
    wire_send(w, pack->data, pack->size);
    bora_pack_release(pack);
}

static inline void wire_expect_result(wire *w, wire_event *ret)
{
    wire_receive(w, ret);
    if (strcmp(ret->event, "result") != 0)
        print_error("got %s %s: %s\n", ret->event, ret->code, ret->message);
    assert_string_equal(ret->event, "result");
    assert_int_equal(ret->id, w->last_id);
}

/* message: what the sentence must have in it. */
static inline void wire_expect_error(wire *w, uint64_t id, const char *code, const char *message)
{
    wire_event e = {0};
    wire_receive(w, &e);
    if (strcmp(e.event, "error") != 0 || e.id != id || strcmp(e.code, code) != 0 || !strstr(e.message, message))
        print_error("request %llu: got %s of %llu, '%s', '%s'; not '%s', '%s'\n", (unsigned long long)id, e.event,
                    (unsigned long long)e.id, e.code, e.message, code, message);
    assert_string_equal(e.event, "error");
    assert_string_equal(e.code, code);
    assert_non_null(strstr(e.message, message));
    assert_int_equal(e.id, id);
    wire_event_release(&e);
}

static inline void wire_submit_refused(wire *w, bora_pack *pack, const char *code, const char *message)
{
    wire_submit(w, pack);
    wire_expect_error(w, w->last_id, code, message);
}

static inline void wire_hello(wire *w)
{
    wire_event e = {0};
    bora_pack pack = wire_request(w, "hello");
    bora_pack_uint(&pack, "protocol", BORA_PROTOCOL_VERSION);
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    wire_event_release(&e);
}

static inline void wire_greet(wire *w, const char *socket_path)
{
    wire_open(w, socket_path);
    wire_hello(w);
}

static inline uint64_t wire_uint_of(const wire_event *e, const char *key)
{
    uint64_t value = 0;
    assert_true(bora_value_uint(bora_value_get(e->root, key), &value));
    return value;
}

/* One number of status. */
static inline uint64_t wire_status(wire *w, const char *key)
{
    wire_event e = {0};
    bora_pack pack = wire_request(w, "status");
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    uint64_t value = wire_uint_of(&e, key);
    wire_event_release(&e);
    return value;
}

/* Asks until a number of status is as it should be: for what ends by itself, soon. */
static inline void wire_wait_status(wire *w, const char *key, uint64_t value)
{
    uint64_t got = value + 1;
    for (int ms = 0; ms < WIRE_MS && got != value; ms += 10) {
        struct timespec pause = {.tv_nsec = 10000000};
        got = wire_status(w, key);
        if (got != value)
            (void)nanosleep(&pause, NULL); /* polling, bounded above */
    }
    if (got != value)
        print_error("status: %s stays at %llu\n", key, (unsigned long long)got);
    assert_int_equal(got, value);
}

/* ---- generations ---------------------------------------------------------------------------------------------- */

typedef struct wire_answer {
    int32_t tokens[WIRE_TOKENS_MAX];
    size_t n;
    char reason[16];
    uint64_t n_history, n_cached, n_prompt;
} wire_answer;

static inline bora_pack wire_turn(wire *w, const char *session, const char *text, uint64_t max_tokens)
{
    bora_pack pack = wire_request(w, "generate");
    bora_pack_string(&pack, "session", session);
    bora_pack_string(&pack, "text", text);
    bora_pack_uint(&pack, "max_tokens", max_tokens);
    bora_pack_float(&pack, "temperature", 0);
    return pack;
}

/* Takes an accepted event, or any number of others, up to the last of request id. False: it ended with an error, which
 * is in ret_last. Events of other requests are not expected. */
static inline bool wire_follow(wire *w, uint64_t id, wire_answer *ret, wire_event *ret_last)
{
    *ret = (wire_answer){.n = 0};
    for (;;) {
        wire_receive(w, ret_last);
        assert_int_equal(ret_last->id, id);
        if (strcmp(ret_last->event, "accepted") == 0) {
            ret->n_history = wire_uint_of(ret_last, "n_history");
            ret->n_cached = wire_uint_of(ret_last, "n_cached");
            ret->n_prompt = wire_uint_of(ret_last, "n_prompt");
        } else if (strcmp(ret_last->event, "token") == 0) {
            assert_true(ret->n < WIRE_TOKENS_MAX);
            assert_int_equal(wire_uint_of(ret_last, "index"), ret->n);
            ret->tokens[ret->n++] = (int32_t)wire_uint_of(ret_last, "token");
        } else if (strcmp(ret_last->event, "done") == 0) {
            wire_copy(ret->reason, sizeof ret->reason, bora_value_get(ret_last->root, "reason"));
            return true;
        } else if (strcmp(ret_last->event, "progress") != 0 && strcmp(ret_last->event, "loading") != 0) {
            return false;
        }
    }
}

/* One greedy turn; it must succeed. */
static inline void wire_say(wire *w, const char *session, const char *text, uint64_t max_tokens, wire_answer *ret)
{
    wire_event last = {0};
    bora_pack pack = wire_turn(w, session, text, max_tokens);
    wire_submit(w, &pack);
    bool done = wire_follow(w, w->last_id, ret, &last);
    if (!done)
        print_error("session %s: %s: %s\n", session, last.code, last.message);
    assert_true(done);
    wire_event_release(&last);
}

/* ---- the witness ------------------------------------------------------------------------------------------------ */

#define WITNESS_TURNS  64
#define WITNESS_TOKENS 6

/* The same conversation is held twice: at once by "twin", and turn by turn by "witness" between the attacks. */
typedef struct witness {
    wire wire;
    const bora_test_daemon *daemon;
    wire_answer expected[WITNESS_TURNS]; /* [n_turns] */
    size_t n_turns, turn;
} witness;

static inline void witness_text(size_t turn, char text[64])
{
    static const char *const words[] = {"red", "green", "blue", "seven", "bread", "the sea", "a bird"};
    (void)snprintf(text, 64, "Number %zu is about %s.", turn, words[turn % 7]);
}

static inline void witness_connect(witness *self, const bora_test_daemon *daemon)
{
    self->daemon = daemon;
    wire_greet(&self->wire, daemon->socket);
}

static inline void witness_begin(witness *self, const bora_test_daemon *daemon, size_t n_turns)
{
    char text[64];
    *self = (witness){.n_turns = n_turns};
    assert_true(n_turns <= WITNESS_TURNS);
    witness_connect(self, daemon);
    for (size_t i = 0; i < n_turns; i++) {
        witness_text(i, text);
        wire_say(&self->wire, "twin", text, WITNESS_TOKENS, &self->expected[i]);
    }
}

/* The daemon lives, answers status, and the old session goes on as if nothing had happened. */
static inline void witness_check(witness *self)
{
    static wire_answer got;
    char text[64];
    assert_int_equal(kill(self->daemon->pid, 0), 0);
    assert_int_equal(wire_status(&self->wire, "pid"), self->daemon->pid);
    assert_true(self->turn < self->n_turns);
    const wire_answer *expected = &self->expected[self->turn];
    witness_text(self->turn++, text);
    wire_say(&self->wire, "witness", text, WITNESS_TOKENS, &got);
    assert_int_equal(got.n, expected->n);
    assert_memory_equal(got.tokens, expected->tokens, got.n * sizeof *got.tokens);
    assert_int_equal(got.n_history, expected->n_history);
    assert_string_equal(got.reason, expected->reason);
}

static inline void witness_end(witness *self)
{
    wire_close(&self->wire);
}

/* ---- a plain Unix socket ---- */

static inline int wire_plain(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_true(strlen(socket_path) < sizeof address.sun_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* The other side has hung up: reads away what it said before. */
static inline void wire_plain_expect_end(int fd)
{
    char bytes[256];
    struct pollfd item = {.fd = fd, .events = POLLIN};
    for (;;) {
        assert_int_equal(poll(&item, 1, WIRE_MS), 1);
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return;
        assert_true(n > 0);
    }
}

#endif
