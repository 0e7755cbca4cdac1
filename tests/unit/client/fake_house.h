/* Answers of a fake daemon that has a model, plugins and sessions, for the tests of the command line. A chat turn's
 * text says what is to happen; a raw completion is answered with what was asked for. */
#ifndef BORA_TESTS_UNIT_CLIENT_FAKE_HOUSE_H
#define BORA_TESTS_UNIT_CLIENT_FAKE_HOUSE_H

#include <inttypes.h>

#include "fake_daemon.h"

static inline void house_session(bora_pack *pack, const char *name, uint64_t n_tokens, bool is_current)
{
    bora_pack_string(pack, "session_id", "0123456789abcdef0123456789abcdef");
    bora_pack_string(pack, "name", name);
    bora_pack_string(pack, "model", "f00d");
    bora_pack_string(pack, "model_name", is_current ? "tiny" : "other");
    bora_pack_bool(pack, "current_model", is_current);
    bora_pack_uint(pack, "created", 1700000000000);
    bora_pack_uint(pack, "updated", 1700000600000);
    bora_pack_uint(pack, "n_tokens", n_tokens);
    bora_pack_uint(pack, "n_messages", 4);
}

static inline void house_message(bora_pack *pack, const char *role, const char *text, const char *state)
{
    bora_pack_map(pack, NULL);
    bora_pack_uint(pack, "turn", 0);
    bora_pack_string(pack, "role", role);
    bora_pack_string(pack, "text", text);
    bora_pack_string(pack, "state", state);
    bora_pack_end(pack);
}

static inline void house_plugin(bora_pack *pack, const char *kind, const char *name, bool is_used)
{
    bora_pack_map(pack, NULL);
    bora_pack_string(pack, "kind", kind);
    bora_pack_string(pack, "name", name);
    bora_pack_string(pack, "version", "1.0");
    bora_pack_string(pack, "path", "/lib/x.so");
    bora_pack_bool(pack, "batch_invariant", is_used);
    bora_pack_bool(pack, "in_use", is_used);
    bora_pack_end(pack);
}

static inline void house_plugin_info(bora_pack *pack, const bora_value *request)
{
    char *kind = bora_value_dup(bora_value_get(request, "kind")),
         *name = bora_value_dup(bora_value_get(request, "name"));
    bora_pack_string(pack, "kind", kind ? kind : "?");
    bora_pack_string(pack, "name", name ? name : "?");
    bora_pack_string(pack, "version", "1.0");
    bora_pack_string(pack, "path", "/lib/x.so");
    bora_pack_string(pack, "abi", "1.3");
    bora_pack_bool(pack, "batch_invariant", true);
    bora_pack_array(pack, "types");
    bora_pack_string(pack, NULL, "f32");
    bora_pack_string(pack, NULL, "q8_0");
    bora_pack_end(pack);
    free(kind);
    free(name);
}

static inline void house_accepted(fake_peer *peer, uint64_t id, bool in_session, uint64_t n_history, uint64_t n_rerun)
{
    bora_pack pack;
    fake_begin(&pack, id, "accepted");
    if (in_session) {
        bora_pack_string(&pack, "session", "work");
        bora_pack_string(&pack, "session_id", "0123456789abcdef0123456789abcdef");
    }
    bora_pack_uint(&pack, "n_history", n_history);
    bora_pack_uint(&pack, "n_cached", n_history - n_rerun);
    bora_pack_uint(&pack, "n_rerun", n_rerun);
    bora_pack_uint(&pack, "n_prompt", 7);
    if (in_session)
        bora_pack_uint(&pack, "n_reused", 64);
    bora_pack_uint(&pack, "seed", UINT64_MAX);
    fake_end(peer, &pack);
}

static inline void house_text(fake_peer *peer, uint64_t id, const char *text)
{
    bora_pack pack;
    fake_begin(&pack, id, "token");
    bora_pack_uint(&pack, "index", 0);
    bora_pack_int(&pack, "token", 5);
    bora_pack_string(&pack, "text", text);
    bora_pack_float(&pack, "logprob", -0.25);
    fake_end(peer, &pack);
}

static inline void house_done(fake_peer *peer, uint64_t id, const char *reason, bool is_stored)
{
    bora_pack pack;
    fake_begin(&pack, id, "done");
    bora_pack_string(&pack, "reason", reason);
    bora_pack_string(&pack, "text", "");
    bora_pack_uint(&pack, "n_generated", 2);
    bora_pack_float(&pack, "decode_ms", 500.1);
    bora_pack_bool(&pack, "stored", is_stored);
    fake_end(peer, &pack);
}

/* A part of one of several answers; event: token, or choice for its end. */
static inline void house_part(fake_peer *peer, uint64_t id, const char *event, uint64_t choice, const char *text)
{
    bora_pack pack;
    fake_begin(&pack, id, event);
    bora_pack_uint(&pack, "choice", choice);
    bora_pack_string(&pack, "text", text);
    fake_end(peer, &pack);
}

/* They come side by side, and end in another order than they began. */
static inline void house_choices(fake_peer *peer, uint64_t id)
{
    house_accepted(peer, id, false, 0, 0);
    house_part(peer, id, "token", 0, "one");
    house_part(peer, id, "token", 2, "eins\n");
    house_part(peer, id, "token", 1, "un");
    house_part(peer, id, "token", 7, "was not asked for");
    house_part(peer, id, "choice", 2, "zwei");
    house_part(peer, id, "token", 0, " two");
    house_part(peer, id, "choice", 0, "");
    house_part(peer, id, "token", 1, " deux");
    house_part(peer, id, "choice", 1, "!");
    house_done(peer, id, "stop", false);
}

static inline void house_queued(fake_peer *peer, uint64_t id, uint64_t place, uint64_t n_waiting)
{
    bora_pack pack;
    fake_begin(&pack, id, "queued");
    bora_pack_uint(&pack, "place", place);
    bora_pack_uint(&pack, "n_waiting", n_waiting);
    fake_end(peer, &pack);
}

/* What a raw completion asked for, as its text: key=value in the order in which it came. */
static inline void house_describe(fake_peer *peer, uint64_t id, const bora_value *request)
{
    char text[2048] = "";
    for (uint32_t i = 0; i < bora_value_count(request); i++) {
        const bora_value *value = bora_value_at(request, i);
        char *key = bora_value_dup(bora_value_key(request, i)), *string = bora_value_dup(value);
        double number = 0;
        bool flag = false;
        size_t at = strlen(text), room = sizeof text - at;
        if (!key || strcmp(key, "id") == 0 || strcmp(key, "verb") == 0)
            ;
        else if (string)
            (void)snprintf(text + at, room, "%s=%s ", key, string);
        else if (bora_value_bool(value, &flag))
            (void)snprintf(text + at, room, "%s=%s ", key, flag ? "true" : "false");
        else if (bora_value_float(value, &number))
            (void)snprintf(text + at, room, "%s=%.17g ", key, number);
        else {
            (void)snprintf(text + at, room, "%s=[", key);
            for (uint32_t j = 0; j < bora_value_count(value); j++) {
                int64_t item_key = 0;
                double item = 0;
                char *item_text = bora_value_dup(bora_value_at(value, j));
                at = strlen(text);
                if (bora_value_int(bora_value_key(value, j), &item_key))
                    at += (size_t)snprintf(text + at, sizeof text - at, "%" PRId64 ":", item_key);
                if (bora_value_float(bora_value_at(value, j), &item))
                    (void)snprintf(text + at, sizeof text - at, "%g,", item);
                else
                    (void)snprintf(text + at, sizeof text - at, "%s,", item_text ? item_text : "?");
                free(item_text);
            }
            at = strlen(text);
            (void)snprintf(text + at, sizeof text - at, "] ");
        }
        free(key);
        free(string);
    }
    house_accepted(peer, id, false, 0, 0);
    house_text(peer, id, text);
    house_done(peer, id, "stop", false);
}

static inline bool house_generate(fake_peer *peer, uint64_t id, const bora_value *request)
{
    const bora_value *text = bora_value_get(request, "text");
    bool in_session = bora_value_get(request, "session") != NULL;
    if (!text) {
        house_describe(peer, id, request);
    } else if (fake_is(text, "hello")) {
        house_accepted(peer, id, in_session, in_session ? 1234 : 0, 0);
        house_text(peer, id, "Hi ");
        house_text(peer, id, "there.");
        house_done(peer, id, "stop", true);
    } else if (fake_is(text, "hello\n\nfrom the pipe\n") || fake_is(text, "two\nlines") || fake_is(text, "/slash")) {
        house_accepted(peer, id, in_session, 0, 0);
        house_text(peer, id, "I have read all of it.\n");
        house_done(peer, id, "stop", true);
    } else if (fake_is(text, "partly")) {
        house_accepted(peer, id, in_session, 1000, 600);
        house_text(peer, id, "ok");
        house_done(peer, id, "context", false);
    } else if (fake_is(text, "hostile")) {
        house_accepted(peer, id, in_session, 0, 0);
        house_text(peer, id,
                   "a\033[31mb\xc2\x9b"
                   "c\xe2\x80\xae"
                   "d\te\nend");
        house_done(peer, id, "stop", true);
    } else if (fake_is(text, "choices")) {
        house_choices(peer, id);
    } else if (fake_is(text, "choices cut")) {
        house_accepted(peer, id, false, 0, 0);
        house_part(peer, id, "token", 1, "second");
        fake_error(peer, id, "io", "the model's file is damaged");
    } else if (fake_is(text, "wait")) {
        house_queued(peer, id, 3, 7);
        house_queued(peer, id, 1, 2);
        house_accepted(peer, id, false, 0, 0);
        house_text(peer, id, "At last.");
        house_done(peer, id, "stop", false);
    } else if (fake_is(text, "slow")) {
        house_accepted(peer, id, in_session, 0, 0);
        house_text(peer, id, "half an ans");
        house_done(peer, id, "deadline", in_session);
    } else if (fake_is(text, "late")) {
        house_queued(peer, id, 3, 7);
        fake_error(peer, id, "cancelled", "its time was over before the answer began");
    } else if (fake_is(text, "shut down")) {
        house_accepted(peer, id, in_session, 0, 0);
        house_text(peer, id, "half an ans");
        house_done(peer, id, "shutdown", true);
    } else {
        return false;
    }
    return true;
}

static inline bool house_answers(fake_peer *peer, uint64_t id, const bora_value *request)
{
    const bora_value *verb = bora_value_get(request, "verb");
    const bora_value *session = bora_value_get(request, "session");
    bora_pack pack;
    if (fake_is(verb, "generate"))
        return house_generate(peer, id, request);
    if (fake_is(verb, "session.show") && !fake_is(session, "work"))
        return false; /* not found */
    if (fake_is(verb, "session.delete") && !fake_is(session, "work")) {
        fake_error(peer, id, "not_found", "there is no session 'gone'");
        return true;
    }
    if (fake_is(verb, "plugin.use") && fake_is(bora_value_get(request, "name"), "secret")) {
        fake_error(peer, id, "permission", "only the daemon's own user and root may do this");
        return true;
    }
    fake_begin(&pack, id, "result");
    if (fake_is(verb, "plugin.use") || fake_is(verb, "plugin.info")) {
        house_plugin_info(&pack, request);
    } else if (fake_is(verb, "metrics")) {
        bora_pack_string(&pack, "text", "# HELP bora_x X.\n# TYPE bora_x gauge\nbora_x 1\n");
    } else if (fake_is(verb, "session.list")) {
        bora_pack_array(&pack, "sessions");
        bora_pack_map(&pack, NULL);
        house_session(&pack, "work", 1234, true);
        bora_pack_end(&pack);
        bora_pack_map(&pack, NULL);
        house_session(&pack, "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 7, false);
        bora_pack_end(&pack);
        bora_pack_end(&pack);
    } else if (fake_is(verb, "session.show")) {
        house_session(&pack, "work", 1234, true);
        bora_pack_string(&pack, "system", "Be brief.");
        bora_pack_array(&pack, "messages");
        house_message(&pack, "user", "two\nlines", "whole");
        house_message(&pack, "assistant", "half an ans", "interrupted");
        bora_pack_end(&pack);
    } else if (fake_is(verb, "session.create")) {
        bora_pack_string(&pack, "session_id", "0123456789abcdef0123456789abcdef");
        bora_pack_string(&pack, "name", "made-up");
    } else if (fake_is(verb, "status")) {
        bora_pack_string(&pack, "version", "9.8.7");
        bora_pack_uint(&pack, "pid", 77);
        const unsigned n_statuses = atomic_fetch_add(&peer->daemon->n_statuses, 1);
        bora_pack_uint(&pack, "uptime_ms", 3723000 + 1000 * n_statuses);
        bora_pack_string(&pack, "state", "loading");
        bora_pack_uint(&pack, "n_loaded_bytes", 1572864);
        bora_pack_uint(&pack, "n_load_bytes", 4194304);
        bora_pack_float(&pack, "prompt_tokens_per_second", 101.26);
        bora_pack_float(&pack, "generated_tokens_per_second", 12.34);
        bora_pack_string(&pack, "model", "tiny");
        bora_pack_uint(&pack, "kv_bytes", 1572864);
        bora_pack_string(&pack, "kv_dtype", "q8_0");
        bora_pack_map(&pack, "memory");
        bora_pack_uint(&pack, "limit", UINT64_C(20) << 30);
        bora_pack_uint(&pack, "used", 1288490189);
        bora_pack_uint(&pack, "peak", UINT64_C(2) << 30);
        bora_pack_uint(&pack, "rss_bytes", 1 << 30);
        bora_pack_uint(&pack, "weights", 0);
        bora_pack_uint(&pack, "kv", 1572864);
        bora_pack_uint(&pack, "activations", 0);
        bora_pack_uint(&pack, "program", 32 << 20);
        bora_pack_uint(&pack, "later\n", 1024); /* of a newer daemon */
        bora_pack_end(&pack);
        bora_pack_uint(&pack, "n_prompt_tokens", 1234567);
        bora_pack_uint(&pack, "n_reused_tokens", 640);
        bora_pack_uint(&pack, "n_steps", 1000 + n_statuses);
        bora_pack_float(&pack, "busy_ms", 1861500);
        bora_pack_float(&pack, "last_step_ms", 12.34);
        bora_pack_uint(&pack, "last_step_rows", 17);
        bora_pack_uint(&pack, "n_running", 2);
        bora_pack_uint(&pack, "n_waiting", 1);
        bora_pack_uint(&pack, "n_connections", 3);
        bora_pack_map(&pack, "limits");
        bora_pack_uint(&pack, "open_max", 256);
        bora_pack_uint(&pack, "open_per_owner", 64);
        bora_pack_end(&pack);
        bora_pack_map(&pack, "plugins");
        bora_pack_string(&pack, "attention", "flash");
        bora_pack_string(&pack, "cache", "ring\033");
        bora_pack_end(&pack);
        bora_pack_uint(&pack, "n_threads", 1);
        bora_pack_uint(&pack, "n_stages", 2);
        bora_pack_array(&pack, "sessions");
        bora_pack_map(&pack, NULL);
        bora_pack_string(&pack, "name", "\xe6\x97\xa5\xe6\x9c\xac");
        bora_pack_uint(&pack, "n_tokens", 7);
        bora_pack_bool(&pack, "running", false);
        bora_pack_end(&pack);
        bora_pack_map(&pack, NULL);
        bora_pack_string(&pack, "name", "work");
        bora_pack_uint(&pack, "n_tokens", 1234);
        bora_pack_uint(&pack, "kv_bytes", 2048);
        bora_pack_bool(&pack, "running", true);
        bora_pack_end(&pack);
        bora_pack_end(&pack);
    } else if (fake_is(verb, "model")) {
        bora_pack_string(&pack, "name", "tiny");
        bora_pack_uint(&pack, "n_parameters", 46702792704);
        bora_pack_uint(&pack, "n_active_parameters", 12879925248);
        bora_pack_uint(&pack, "n_experts", 8);
        bora_pack_uint(&pack, "n_experts_per_tok", 2);
        bora_pack_float(&pack, "rope_theta", 1000000);
        bora_pack_array(&pack, "windows");
        for (int i = 0; i < 6; i++)
            bora_pack_uint(&pack, NULL, i % 3 == 0 ? 0 : 4096);
        bora_pack_end(&pack);
    } else if (fake_is(verb, "plugin.list")) {
        bora_pack_array(&pack, "plugins");
        house_plugin(&pack, "attention", "reference", true);
        house_plugin(&pack, "expert", "blas", false);
        bora_pack_end(&pack);
    } else if (fake_is(verb, "tokenize")) {
        bora_pack_array(&pack, "tokens");
        bora_pack_int(&pack, NULL, 1);
        bora_pack_int(&pack, NULL, 2345);
        bora_pack_end(&pack);
        bora_pack_array(&pack, "pieces");
        bora_pack_string(&pack, NULL, "<s>");
        bora_pack_string(&pack, NULL, " hel\n");
        bora_pack_end(&pack);
    } else if (fake_is(verb, "detokenize")) {
        char text[64];
        (void)snprintf(text, sizeof text, "%" PRIu32 " tokens", bora_value_count(bora_value_get(request, "tokens")));
        bora_pack_string(&pack, "text", text);
    } else {
        bora_pack_release(&pack);
        return false;
    }
    fake_end(peer, &pack);
    return true;
}

#endif
