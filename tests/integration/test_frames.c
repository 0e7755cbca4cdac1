/* Frames that no client should send: each costs its sender one error and nobody else anything. */
#define FIXTURE_TURNS 24
#include "integration/witness_fixture.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>

/* xorshift: the same storm every time. */
static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* ---- below the protocol -------------------------------------------------------------------------------------- */

static void test_bytes_that_are_no_zmtp(void **state)
{
    (void)state;
    uint64_t seed = 20261124;
    for (int round = 0; round < 40; round++) {
        uint8_t bytes[512];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)random_next(&seed);
        if (round % 4 == 0)
            bytes[0] = 0xff; /* how a greeting begins */
        int fd = wire_plain(daemon_.socket);
        (void)send(fd, bytes, 1 + random_next(&seed) % sizeof bytes, MSG_NOSIGNAL); /* it may hang up meanwhile */
        (void)close(fd);
    }
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = wire_plain(daemon_.socket);
    (void)send(fd, http, sizeof http - 1, MSG_NOSIGNAL);
    (void)close(fd);
    witness_check(&witness_);
}

/* ZMTP 3.0's greeting: signature, version, mechanism, as-server, filler; then READY. */
static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};

static void test_half_a_handshake(void **state)
{
    (void)state;
    for (size_t size = 0; size <= sizeof greeting; size += 3) {
        int fd = wire_plain(daemon_.socket);
        assert_int_equal(send(fd, greeting, size, MSG_NOSIGNAL), (int)size);
        (void)close(fd);
    }
    /* A command that announces more than it may have. */
    static const uint8_t huge[9] = {0x06, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    int fd = wire_plain(daemon_.socket);
    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), (int)sizeof greeting);
    assert_int_equal(send(fd, huge, sizeof huge, MSG_NOSIGNAL), (int)sizeof huge);
    wire_plain_expect_end(fd);
    (void)close(fd);
    witness_check(&witness_);
}

static void test_own_routing_id(void **state)
{
    (void)state;
    wire w;
    wire_open(&w, daemon_.socket);
    assert_int_equal(zmq_setsockopt(w.dealer, ZMQ_ROUTING_ID, "mine!", 5), 0);
    char endpoint[128];
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s", daemon_.socket);
    assert_int_equal(zmq_disconnect(w.dealer, endpoint), 0);
    assert_int_equal(zmq_connect(w.dealer, endpoint), 0);
    bora_pack pack = wire_request(&w, "hello");
    bora_pack_uint(&pack, "protocol", 1);
    wire_submit(&w, &pack);
    for (int i = 0; i < 100 && !bora_test_daemon_logged(&daemon_, "own routing id"); i++)
        (void)wire_status(&witness_.wire, "pid"); /* its frame comes before or soon after */
    assert_true(bora_test_daemon_logged(&daemon_, "own routing id"));
    wire_event e = {0};
    assert_false(wire_receive_within(&w, &e, 0));
    wire_close(&w);
    witness_check(&witness_);
}

static void test_too_long(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        bool hangs_up;
    } cases[] = {{BORA_FRAME_SIZE_MAX + 1, false},
                 {(size_t)4 << 20, false},
                 {((size_t)4 << 20) + 1, true},
                 {(size_t)8 << 20, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wire w;
        wire_greet(&w, daemon_.socket);
        char *bytes = calloc(1, cases[i].size);
        assert_non_null(bytes);
        memset(bytes, 0xc0, cases[i].size);
        wire_send(&w, bytes, cases[i].size);
        free(bytes);
        if (!cases[i].hangs_up) {
            wire_expect_error(&w, 0, "bad_frame", "too long");
        } else { /* the socket connects again by itself, and is a stranger then */
            bora_pack pack = wire_request(&w, "status");
            wire_submit_refused(&w, &pack, "hello_required", "hello");
        }
        wire_close(&w);
    }
    witness_check(&witness_);
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static void send_parts(wire *w, const char *const *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(zmq_send(w->dealer, parts[i], strlen(parts[i]), i + 1 < n ? ZMQ_SNDMORE : 0) >= 0);
}

static void test_several_frames(void **state)
{
    (void)state;
    static const char hello[] = "\x83\xa2id\x01\xa4verb\xa5hello\xa8protocol\x01";
    static const char *const twice[] = {hello, hello}, *const delimited[] = {"", hello},
                             *const many[] = {"", "", "x", "", "y"};
    wire w;
    wire_open(&w, daemon_.socket);
    send_parts(&w, twice, 2);
    wire_expect_error(&w, 0, "bad_frame", "one frame");
    send_parts(&w, delimited, 2); /* a REQ's */
    wire_expect_error(&w, 0, "bad_frame", "DEALER");
    send_parts(&w, many, 5);
    wire_expect_error(&w, 0, "bad_frame", "one frame");
    wire_send(&w, "", 0);
    wire_expect_error(&w, 0, "bad_frame", "empty");
    wire_send(&w, hello, sizeof hello - 1); /* and alone it is one */
    wire_event e = {0};
    w.last_id = 1;
    wire_expect_result(&w, &e);
    wire_event_release(&e);
    wire_close(&w);

    /* The REQ itself: it throws away what comes without a delimiter, but the daemon does not mind. */
    char endpoint[128];
    int linger = 0;
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s", daemon_.socket);
    void *zmq = zmq_ctx_new(), *req = zmq_socket(zmq, ZMQ_REQ);
    assert_int_equal(zmq_setsockopt(req, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_connect(req, endpoint), 0);
    assert_true(zmq_send(req, hello, sizeof hello - 1, 0) > 0);
    assert_int_equal(zmq_close(req), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    witness_check(&witness_);
}

#define BYTES(text) text, sizeof(text) - 1

static void test_not_one_map(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *why;
    } cases[] = {
        {BYTES("\xc0"), "no map"},
        {BYTES("\x93\x01\x02\x03"), "no map"},
        {BYTES("\xa5hello"), "no map"},
        {BYTES("{\"id\":1,\"verb\":\"status\"}"), "no map"},
        {BYTES("\x81\xa2id\xc1"), "does not use"},
        {BYTES("\xdf\xff\xff\xff\xff"), "more values than"},
        {BYTES("\xdf\x7f\xff\xff\xff\xa2id\x01"), "more values than"},
        {BYTES("\x81\xa2id\xdd\xff\xff\xff\xff"), "more values than"},
        {BYTES("\x81\xa2id\xdb\xff\xff\xff\xff"), "cut off"},
        {BYTES("\x81\xa2id\xc6\xff\xff\xff\xff"), "cut off"},
        {BYTES("\x81\xa2id\xc9\xff\xff\xff\xff\x01"), "cut off"},
        {BYTES("\x81\xa2id\x01\x00"), "bytes follow"},
        {BYTES("\x81\x01\x02"), "no string"},
        {BYTES("\x81\xa1x\x81\xc3\x02"), "neither string nor integer"},
        {BYTES("\x81\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x01"), "too deep"},
        {BYTES("\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x01"), "too deep"},
    };
    wire w;
    wire_greet(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wire_send(&w, cases[i].bytes, cases[i].size);
        wire_expect_error(&w, 0, "bad_frame", cases[i].why);
    }
    char deep[100000]; /* of arrays: a reader that recurses would end here */
    memset(deep, 0x91, sizeof deep);
    memcpy(deep, "\x81\xa1x", 3);
    wire_send(&w, deep, sizeof deep);
    wire_expect_error(&w, 0, "bad_frame", "too deep");
    wire_close(&w);
    witness_check(&witness_);
}

static void test_cut_at_each_length(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_turn(&w, "cut", "Good morning.", 4);
    bora_pack_array(&pack, "stop");
    bora_pack_string(&pack, NULL, "end");
    bora_pack_end(&pack);
    bora_pack_map(&pack, "logit_bias");
    bora_pack_int_float(&pack, 7, 1.5);
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    assert_true(bora_pack_ok(&pack));
    for (size_t size = 0; size < pack.size; size++) {
        wire_send(&w, pack.data, size);
        wire_expect_error(&w, 0, "bad_frame", size ? "" : "empty");
    }
    bora_pack_release(&pack);
    wire_close(&w);
    witness_check(&witness_);
}

/* ---- id, verb, hello ---- */

static void test_envelope(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t id;
        const char *code, *why;
    } cases[] = {
        {BYTES("\x80"), 0, "invalid", "id must be"},
        {BYTES("\x81\xa4verb\xa6status"), 0, "invalid", "id must be"},
        {BYTES("\x82\xa2id\xff\xa4verb\xa6status"), 0, "invalid", "id must be"},
        {BYTES("\x82\xa2id\xa1"
               "1\xa4verb\xa6status"),
         0, "invalid", "id must be"},
        {BYTES("\x82\xa2id\xc3\xa4verb\xa6status"), 0, "invalid", "id must be"},
        {BYTES("\x82\xa2id\xcb\x3f\xf0\0\0\0\0\0\0\xa4verb\xa6status"), 0, "invalid", "id must be"},
        {BYTES("\x82\xa2id\xc0\xa4verb\xa6status"), 0, "invalid", "id must be"},
        {BYTES("\x81\xa2id\x07"), 7, "invalid", "verb must be"},
        {BYTES("\x82\xa2id\x07\xa4verb\x05"), 7, "invalid", "verb must be"},
        {BYTES("\x82\xa2id\x07\xa4verb\x91\xa6status"), 7, "invalid", "verb must be"},
        {BYTES("\x82\xa2id\x07\xa4verb\xa2\xff\xfe"), 7, "invalid", "verb must be"},
        {BYTES("\x82\xa2id\x07\xa4verb\xa0"), 7, "unknown_verb", "no such verb"},
        {BYTES("\x82\xa2id\x07\xa4verb\xa7STATUS "), 7, "unknown_verb", "no such verb"},
        {BYTES("\x82\xa2id\x07\xa4verb\xa7status\0"), 7, "unknown_verb", "no such verb"},
        {BYTES("\x82\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa4verb\xa1x"), UINT64_MAX, "unknown_verb",
         "no such verb"},
    };
    wire w;
    wire_greet(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wire_send(&w, cases[i].bytes, cases[i].size);
        wire_expect_error(&w, cases[i].id, cases[i].code, cases[i].why);
    }
    wire_close(&w);
    witness_check(&witness_);
}

static void test_id_twice(void **state)
{
    (void)state;
    wire w;
    wire_event e = {0};
    wire_answer answer;
    wire_greet(&w, daemon_.socket);
    bora_pack pack = wire_request(&w, "generate");
    uint64_t id = w.last_id;
    bora_pack_string(&pack, "prompt", "Once");
    bora_pack_uint(&pack, "max_tokens", 400);
    bora_pack_bool(&pack, "ignore_eos", true);
    wire_submit(&w, &pack);
    do
        wire_receive(&w, &e);
    while (strcmp(e.event, "token") != 0);
    w.last_id = id - 1;
    pack = wire_request(&w, "status"); /* with the id of the open one */
    wire_submit(&w, &pack);
    do
        wire_receive(&w, &e);
    while (strcmp(e.event, "token") == 0);
    assert_string_equal(e.event, "error");
    assert_string_equal(e.code, "invalid");
    assert_non_null(strstr(e.message, "still open"));
    w.last_id = id;
    pack = wire_request(&w, "cancel");
    bora_pack_uint(&pack, "request", id);
    wire_submit(&w, &pack);
    bool found = false, done = false;
    while (!found || !done) {
        wire_receive(&w, &e);
        if (e.id == id + 1) {
            assert_string_equal(e.event, "result");
            assert_true(bora_value_bool(bora_value_get(e.root, "found"), &found) && found);
        } else if (strcmp(e.event, "done") == 0) {
            wire_copy(answer.reason, sizeof answer.reason, bora_value_get(e.root, "reason"));
            assert_string_equal(answer.reason, "cancelled");
            done = true;
        } else {
            assert_string_equal(e.event, "token");
        }
    }
    wire_event_release(&e);
    wire_close(&w);
    witness_check(&witness_);
}

static void test_before_hello(void **state)
{
    (void)state;
    static const char *const verbs[] = {"status",       "model",          "generate",       "cancel",
                                        "tokenize",     "detokenize",     "session.create", "session.list",
                                        "session.show", "session.rename", "session.delete", "plugin.list",
                                        "plugin.info",  "plugin.use",     "metrics",        "model.load",
                                        "no such verb"};
    wire w;
    wire_open(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        bora_pack pack = wire_request(&w, verbs[i]);
        wire_submit_refused(&w, &pack, "hello_required", "hello");
    }
    bora_pack pack = wire_request(&w, "hello");
    wire_submit_refused(&w, &pack, "version", "protocol is missing");
    static const uint64_t versions[] = {0, 2, UINT64_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        pack = wire_request(&w, "hello");
        bora_pack_uint(&pack, "protocol", versions[i]);
        wire_submit_refused(&w, &pack, "version", "version 1");
    }
    pack = wire_request(&w, "hello");
    bora_pack_string(&pack, "protocol", "1");
    wire_submit_refused(&w, &pack, "invalid", "protocol must be");
    pack = wire_request(&w, "hello");
    bora_pack_uint(&pack, "protocol", 1);
    bora_pack_uint(&pack, "client", 1);
    wire_submit_refused(&w, &pack, "invalid", "client must be");
    pack = wire_request(&w, "status"); /* none of these was a greeting */
    wire_submit_refused(&w, &pack, "hello_required", "hello");
    wire_hello(&w);
    wire_hello(&w); /* and twice is no harm */
    assert_int_equal(wire_status(&w, "pid"), daemon_.pid);
    wire_close(&w);
    witness_check(&witness_);
}

/* ---- a storm ---- */

#define STORM_REQUESTS 10000
#define STORM_BASES    14

static void make_bases(bora_pack bases[STORM_BASES])
{
    static const char *const verbs[STORM_BASES] = {"hello",          "status",       "model",          "generate",
                                                   "generate",       "cancel",       "tokenize",       "detokenize",
                                                   "session.create", "session.show", "session.rename", "session.list",
                                                   "plugin.info",    "metrics"};
    wire counter = {0};
    for (int i = 0; i < STORM_BASES; i++) {
        bora_pack *p = &bases[i];
        *p = wire_request(&counter, verbs[i]);
        if (i == 0)
            bora_pack_uint(p, "protocol", 1);
        if (i == 3) {
            bora_pack_string(p, "session", "storm");
            bora_pack_string(p, "text", "Hi");
            bora_pack_uint(p, "max_tokens", 1);
            bora_pack_uint(p, "seed", 5);
        }
        if (i == 4) {
            bora_pack_string(p, "prompt", "Once");
            bora_pack_uint(p, "max_tokens", 2);
            bora_pack_float(p, "temperature", 0.8);
            bora_pack_float(p, "top_p", 0.9);
            bora_pack_float(p, "min_p", 0.1);
            bora_pack_uint(p, "top_k", 40);
            bora_pack_string(p, "priority", "background");
            bora_pack_uint(p, "timeout_ms", 20000);
            bora_pack_uint(p, "n", 2);
            bora_pack_array(p, "stop");
            bora_pack_string(p, NULL, "end");
            bora_pack_end(p);
            bora_pack_map(p, "logit_bias");
            bora_pack_int_float(p, 300, -5);
            bora_pack_end(p);
        }
        if (i == 5)
            bora_pack_uint(p, "request", 3);
        if (i == 6)
            bora_pack_string(p, "text", "some words \xe2\x82\xac");
        if (i == 7) {
            bora_pack_array(p, "tokens");
            bora_pack_uint(p, NULL, 17);
            bora_pack_uint(p, NULL, 300);
            bora_pack_end(p);
        }
        if (i == 8 || i == 10)
            bora_pack_string(p, "name", "storm2");
        if (i == 9 || i == 10)
            bora_pack_string(p, "session", "storm");
        if (i == 12) {
            bora_pack_string(p, "kind", "attention");
            bora_pack_string(p, "name", "reference");
        }
        bora_pack_end(p);
        assert_true(bora_pack_ok(p));
    }
}

/* One to four changes of a copy: a byte, a bit, a cut, a piece twice, bytes put in. */
static size_t mutate(const bora_pack *base, uint64_t *seed, uint8_t out[4096])
{
    size_t size = base->size;
    memcpy(out, base->data, size);
    for (uint64_t n = 1 + random_next(seed) % 4; n > 0 && size > 0; n--) {
        size_t at = (size_t)(random_next(seed) % size), length = 1 + (size_t)(random_next(seed) % 8);
        switch (random_next(seed) % 6) {
        case 0:
            out[at] = (uint8_t)random_next(seed);
            break;
        case 1:
            out[at] ^= (uint8_t)(1u << random_next(seed) % 8);
            break;
        case 2:
            size = at;
            break;
        case 3: /* leave some out */
            length = length < size - at ? length : size - at;
            memmove(out + at, out + at + length, size - at - length);
            size -= length;
            break;
        case 4: /* twice */
            length = length < size - at ? length : size - at;
            memmove(out + at + length, out + at, size - at);
            size += length;
            break;
        default: /* a type byte of msgpack in the middle */
            out[at] = (uint8_t)(0xc0 + random_next(seed) % 0x20);
            break;
        }
    }
    return size;
}

static void test_storm(void **state)
{
    (void)state;
    bora_pack bases[STORM_BASES];
    uint64_t seed = 77;
    wire w = {0};
    wire_event e = {0};
    size_t n_events = 0;
    make_bases(bases);
    for (int i = 0; i < STORM_REQUESTS; i++) {
        uint8_t bytes[4096];
        if (i % 500 == 0) { /* what long answers were begun ends with their connection */
            wire_close(&w);
            wire_greet(&w, daemon_.socket);
        }
        size_t size = mutate(&bases[random_next(&seed) % STORM_BASES], &seed, bytes);
        wire_send(&w, bytes, size);
        while (wire_receive_within(&w, &e, 0))
            n_events++;
        if (i % 100 == 99) { /* no faster than it is read */
            bora_pack pack = {0};
            bora_pack_map(&pack, NULL);
            bora_pack_uint(&pack, "id", 1000000 + (uint64_t)i);
            bora_pack_string(&pack, "verb", "status");
            wire_submit(&w, &pack);
            do {
                wire_receive(&w, &e);
                n_events++;
            } while (e.id != 1000000 + (uint64_t)i);
            assert_true(strcmp(e.event, "result") == 0 || strcmp(e.code, "busy") == 0);
        }
    }
    wire_event_release(&e);
    wire_close(&w);
    for (int i = 0; i < STORM_BASES; i++)
        bora_pack_release(&bases[i]);
    assert_true(n_events >= STORM_REQUESTS);
    wire_wait_status(&witness_.wire, "n_running", 0);
    wire_wait_status(&witness_.wire, "n_connections", 1);
    witness_check(&witness_);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_that_are_no_zmtp),
        cmocka_unit_test(test_half_a_handshake),
        cmocka_unit_test(test_own_routing_id),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_several_frames),
        cmocka_unit_test(test_not_one_map),
        cmocka_unit_test(test_cut_at_each_length),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_id_twice),
        cmocka_unit_test(test_before_hello),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests_name("frames", tests, set_up, tear_down);
}
