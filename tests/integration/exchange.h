/* What the tests of model.load share: a second model, and short ways to ask. */
#ifndef BORA_TESTS_INTEGRATION_EXCHANGE_H
#define BORA_TESTS_INTEGRATION_EXCHANGE_H

#include "integration/spawn.h"
#include "integration/wire.h"

#define MODEL_A     BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf"
#define BORA_MODEL  BORA_BUILD_DIR "/bin/bora-model"
#define LONG_ANSWER 30000 /* tokens: it does not end by itself while a test looks */

/* The first model again, in another type: its path. */
static inline const char *exchange_convert(const bora_temp_folder *folder, const char *type,
                                           char path[BORA_TEMP_PATH_SIZE])
{
    char name[32];
    (void)snprintf(name, sizeof name, "%s.gguf", type);
    (void)bora_temp_folder_path(folder, name, path);
    const char *argv[] = {BORA_MODEL, "convert", MODEL_A, path, "--type", type, "--force", NULL};
    spawn_expect(argv, NULL, 0, "");
    return path;
}

static inline uint64_t exchange_submit(wire *w, const char *model, uint64_t timeout_ms)
{
    bora_pack pack = wire_request(w, "model.load");
    bora_pack_string(&pack, "model", model);
    bora_pack_uint(&pack, "timeout_ms", timeout_ms);
    wire_submit(w, &pack);
    return w->last_id;
}

/* The last event of the exchange; those on the way are counted. */
static inline void exchange_receive(wire *w, uint64_t id, wire_event *ret, size_t *ret_n_draining)
{
    size_t n_draining = 0;
    for (;;) {
        wire_receive(w, ret);
        assert_int_equal(ret->id, id);
        if (strcmp(ret->event, "draining") == 0)
            n_draining++;
        else if (strcmp(ret->event, "loading") != 0)
            break;
    }
    if (ret_n_draining)
        *ret_n_draining = n_draining;
}

static inline void exchange_expect_loaded(wire *w, uint64_t id, const char *path)
{
    wire_event e = {0};
    char text[512];
    exchange_receive(w, id, &e, NULL);
    if (strcmp(e.event, "result") != 0)
        print_error("model.load: %s: %s\n", e.code, e.message);
    assert_string_equal(e.event, "result");
    wire_copy(text, sizeof text, bora_value_get(e.root, "path"));
    assert_string_equal(text, path);
    wire_copy(text, sizeof text, bora_value_get(e.root, "fingerprint"));
    assert_int_equal(strlen(text), 32);
    (void)wire_uint_of(&e, "took_ms");
    wire_event_release(&e);
}

static inline void exchange_expect_refused(wire *w, uint64_t id, const char *code, const char *message)
{
    wire_event e = {0};
    exchange_receive(w, id, &e, NULL);
    if (strcmp(e.event, "error") != 0 || strcmp(e.code, code) != 0 || !strstr(e.message, message))
        print_error("model.load: %s %s: '%s', not %s: '%s'\n", e.event, e.code, e.message, code, message);
    assert_string_equal(e.event, "error");
    assert_string_equal(e.code, code);
    assert_non_null(strstr(e.message, message));
    wire_event_release(&e);
}

static inline void exchange_load(wire *w, const char *path)
{
    exchange_expect_loaded(w, exchange_submit(w, path, 30000), path);
}

/* One text of status. */
static inline void exchange_status_text(wire *w, const char *key, char *text, size_t size)
{
    wire_event e = {0};
    bora_pack pack = wire_request(w, "status");
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    wire_copy(text, size, bora_value_get(e.root, key));
    wire_event_release(&e);
}

static inline void exchange_assert_status(wire *w, const char *key, const char *expected)
{
    char text[512];
    exchange_status_text(w, key, text, sizeof text);
    assert_string_equal(text, expected);
}

static inline void exchange_wait_status(wire *w, const char *key, const char *expected)
{
    char text[512] = "";
    for (int ms = 0; ms < WIRE_MS && strcmp(text, expected) != 0; ms += 5) {
        struct timespec pause = {.tv_nsec = 5000000};
        exchange_status_text(w, key, text, sizeof text);
        if (strcmp(text, expected) != 0)
            (void)nanosleep(&pause, NULL); /* polling, bounded above */
    }
    assert_string_equal(text, expected);
}

/* A turn that goes on until it is ended from outside; returns when its first token is there. */
static inline uint64_t exchange_begin_long(wire *w, const char *session)
{
    wire_event e = {0};
    bora_pack pack = wire_turn(w, session, "Tell me a very long story.", LONG_ANSWER);
    bora_pack_bool(&pack, "ignore_eos", true);
    wire_submit(w, &pack);
    do
        wire_receive(w, &e);
    while (strcmp(e.event, "accepted") == 0 || strcmp(e.event, "progress") == 0);
    assert_string_equal(e.event, "token");
    wire_event_release(&e);
    return w->last_id;
}

/* The end of one, behind the tokens that are still on their way: its reason. */
static inline void exchange_end_long(wire *w, uint64_t id, char reason[32], uint64_t *ret_n)
{
    wire_event e = {0};
    do
        wire_receive(w, &e);
    while (e.id != id || strcmp(e.event, "token") == 0);
    assert_string_equal(e.event, "done");
    wire_copy(reason, 32, bora_value_get(e.root, "reason"));
    *ret_n = wire_uint_of(&e, "n_generated");
    wire_event_release(&e);
}

/* A turn; of its history, how many tokens were run again. */
static inline uint64_t exchange_say(wire *w, const char *session, const char *text, uint64_t n, wire_answer *ret)
{
    wire_event e = {0};
    uint64_t n_rerun = UINT64_MAX;
    bora_pack pack = wire_turn(w, session, text, n);
    wire_submit(w, &pack);
    *ret = (wire_answer){.n = 0};
    for (;;) {
        wire_receive(w, &e);
        if (strcmp(e.event, "accepted") == 0) {
            n_rerun = wire_uint_of(&e, "n_rerun");
            ret->n_history = wire_uint_of(&e, "n_history");
            ret->n_cached = wire_uint_of(&e, "n_cached");
        } else if (strcmp(e.event, "token") == 0) {
            ret->tokens[ret->n++] = (int32_t)wire_uint_of(&e, "token");
        } else if (strcmp(e.event, "done") == 0) {
            break;
        } else if (strcmp(e.event, "error") == 0) {
            print_error("session %s: %s: %s\n", session, e.code, e.message);
            fail();
        }
    }
    wire_event_release(&e);
    return n_rerun;
}

/* Messages of a session that were cut, and its tokens. */
static inline void exchange_show(wire *w, const char *session, uint64_t *ret_n_interrupted, uint64_t *ret_n_tokens)
{
    wire_event e = {0};
    char state[32];
    bora_pack pack = wire_request(w, "session.show");
    bora_pack_string(&pack, "session", session);
    wire_submit(w, &pack);
    wire_expect_result(w, &e);
    const bora_value *messages = bora_value_get(e.root, "messages");
    *ret_n_interrupted = 0;
    *ret_n_tokens = wire_uint_of(&e, "n_tokens");
    for (uint32_t i = 0; i < bora_value_count(messages); i++) {
        wire_copy(state, sizeof state, bora_value_get(bora_value_at(messages, i), "state"));
        *ret_n_interrupted += strcmp(state, "interrupted") == 0;
    }
    wire_event_release(&e);
}

#endif
