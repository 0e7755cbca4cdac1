/* PROTOCOL.md against the real daemon: every verb but generate, every field of the answers, and what it promises about
 * them. */
#include "verbs.h"

#include "codec.h"

#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#define RECORD                                                                                                         \
    "session_id:text name:text model:text model_name:text current_model:bool created:uint updated:uint n_tokens:uint " \
    "n_messages:uint"

/* ---- the greeting, on a socket of its own ---- */

typedef struct raw_socket {
    void *zmq, *dealer;
    bora_frame *frame; /* the last event */
} raw_socket;

static void raw_open(raw_socket *r, const fixture *f)
{
    char endpoint[128];
    int silence_ms = 60000, linger_ms = 0;
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s", f->daemon.socket);
    *r = (raw_socket){.zmq = zmq_ctx_new()};
    r->dealer = zmq_socket(r->zmq, ZMQ_DEALER);
    assert_int_equal(zmq_setsockopt(r->dealer, ZMQ_RCVTIMEO, &silence_ms, sizeof silence_ms), 0);
    assert_int_equal(zmq_setsockopt(r->dealer, ZMQ_LINGER, &linger_ms, sizeof linger_ms), 0);
    assert_int_equal(zmq_connect(r->dealer, endpoint), 0);
}

static void raw_close(raw_socket *r)
{
    bora_frame_free(r->frame);
    (void)zmq_close(r->dealer);
    (void)zmq_ctx_term(r->zmq);
}

/* protocol < 0: left out. Keys that nobody knows come along. */
static const bora_client_value *raw_ask(raw_socket *r, uint64_t id, const char *verb, int64_t protocol)
{
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_uint(&pack, "id", id);
    bora_pack_string(&pack, "verb", verb);
    if (protocol >= 0)
        bora_pack_uint(&pack, "protocol", (uint64_t)protocol);
    bora_pack_array(&pack, "x-unknown");
    bora_pack_string(&pack, NULL, "of a later version");
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    assert_true(bora_pack_ok(&pack));
    assert_true(zmq_send(r->dealer, pack.data, pack.size, 0) >= 0);
    bora_pack_release(&pack);

    char bytes[65536];
    int size = zmq_recv(r->dealer, bytes, sizeof bytes, 0);
    assert_in_range(size, 1, sizeof bytes);
    const char *why = NULL;
    bora_frame_free(r->frame);
    r->frame = bora_frame_parse(bytes, (size_t)size, sizeof bytes, &why);
    assert_non_null(r->frame);
    /* libbora's values are the codec's; a test may know that. */
    const bora_client_value *map = (const bora_client_value *)bora_frame_root(r->frame);
    assert_int_equal(bora_client_value_uint(get(map, "id"), UINT64_MAX), id);
    return map;
}

static void assert_error_event(const bora_client_value *map, const char *code)
{
    assert_true(bora_test_fields(map, "id:uint event:text code:text message:text"));
    assert_text(get(map, "event"), "error");
    assert_text(get(map, "code"), code);
}

static void hello_comes_first(void **state)
{
    fixture *f = *state;
    raw_socket r;
    raw_open(&r, f);
    assert_error_event(raw_ask(&r, 1, "status", -1), "hello_required");
    assert_error_event(raw_ask(&r, 2, "no.such.verb", -1), "hello_required");
    assert_error_event(raw_ask(&r, 3, "hello", -1), "version");
    assert_error_event(raw_ask(&r, 4, "hello", 2), "version");
    assert_error_event(raw_ask(&r, 5, "status", -1), "hello_required"); /* a refused greeting is none */
    const bora_client_value *hello = raw_ask(&r, 6, "hello", 1);
    assert_true(
        bora_test_fields(hello, "id:uint event:text protocol:uint server:text version:text owner:text max_frame:uint"));
    assert_text(get(hello, "event"), "result");
    assert_int_equal(bora_client_value_uint(get(hello, "protocol"), 0), 1);
    assert_text(get(hello, "server"), "bora");
    assert_text(get(hello, "version"), BORA_VERSION);
    char owner[32];
    (void)snprintf(owner, sizeof owner, "uid:%u", (unsigned)getuid());
    assert_text(get(hello, "owner"), owner);
    assert_int_equal(bora_client_value_uint(get(hello, "max_frame"), 0), 1 << 20);
    assert_text(get(raw_ask(&r, 7, "status", -1), "event"), "result");
    assert_error_event(raw_ask(&r, UINT64_MAX, "no.such.verb", -1), "unknown_verb");
    raw_close(&r);
}

/* ---- what is there ---------------------------------------------------------------------------------------------- */

static void assert_memory_adds_up(const bora_client_value *memory, uint64_t kv_bytes)
{
    assert_true(bora_test_fields(memory, "limit:uint used:uint peak:uint rss_bytes:uint weights:uint kv:uint "
                                         "activations:uint plugins:uint requests:uint store:uint program:uint"));
    uint64_t sum = 0;
    for (uint32_t i = 4; i < bora_client_value_count(memory); i++)
        sum += bora_client_value_uint(bora_client_value_at(memory, i), 0);
    const uint64_t used = bora_client_value_uint(get(memory, "used"), 0);
    const uint64_t peak = bora_client_value_uint(get(memory, "peak"), 0);
    assert_int_equal(used, sum);
    assert_true(used > 0 && used <= peak && peak <= bora_client_value_uint(get(memory, "limit"), 0));
    assert_true(bora_client_value_uint(get(memory, "rss_bytes"), 0) > 0);
    assert_true(bora_client_value_uint(get(memory, "kv"), 0) >= kv_bytes && kv_bytes > 0);
    assert_true(bora_client_value_uint(get(memory, "weights"), 0) > 0);
    assert_true(bora_client_value_uint(get(memory, "activations"), 0) > 0);
    assert_true(bora_client_value_uint(get(memory, "plugins"), 0) > 0);
    assert_true(bora_client_value_uint(get(memory, "program"), 0) >= 32 << 20);
}

static void status_has_its_fields(void **state)
{
    fixture *f = *state;
    bora_test_answer answer;
    bora_client_generation g = chat("seen", "hey");
    generate(f, &g, &answer);
    const bora_client_value *status = ask(f, "status", NULL, NULL);
    assert_true(bora_test_fields(
        status,
        "id:uint event:text version:text pid:uint uptime_ms:uint state:text model:text model_path:text "
        "n_running:uint n_waiting:uint n_connections:uint kv_bytes:uint weight_bytes:uint memory:map "
        "n_prompt_tokens:uint n_generated_tokens:uint n_steps:uint n_slow_steps:uint busy_ms:float "
        "last_step_ms:float last_step_rows:uint n_reused_tokens:uint n_cancelled:uint n_swaps:uint "
        "n_pressures:uint n_on_shelf:uint n_left_over:uint shelf_bytes:uint promised_bytes:uint limits:map plugins:map "
        "prompt_tokens_per_second:float "
        "generated_tokens_per_second:float n_threads:uint n_stages:uint kv_dtype:text cpu:text "
        "sessions:array"));
    assert_text(get(status, "version"), BORA_VERSION);
    assert_text(get(status, "state"), "ready");
    assert_text(get(status, "model"), "bora-tiny");
    assert_text(get(status, "kv_dtype"), "f16");
    assert_int_equal(bora_client_value_uint(get(status, "pid"), 0), f->daemon.pid);
    assert_int_equal(bora_client_value_uint(get(status, "n_stages"), 0), 1);
    assert_true(bora_client_value_uint(get(status, "n_connections"), 0) >= 1);
    assert_true(bora_client_value_uint(get(status, "n_prompt_tokens"), 0) >= answer.n_prompt);
    assert_true(bora_client_value_uint(get(status, "n_generated_tokens"), 0) >= answer.n_generated);
    assert_true(bora_client_value_float(get(status, "prompt_tokens_per_second"), -1) >= 0);
    assert_true(bora_client_value_float(get(status, "generated_tokens_per_second"), -1) >= 0);
    assert_memory_adds_up(get(status, "memory"), bora_client_value_uint(get(status, "kv_bytes"), 0));
    assert_true(bora_client_value_float(get(status, "busy_ms"), 0) > 0);
    assert_true(bora_client_value_float(get(status, "last_step_ms"), 0) > 0);
    assert_true(bora_client_value_uint(get(status, "last_step_rows"), 0) > 0);
    assert_true(bora_client_value_uint(get(status, "n_on_shelf"), 0) >= 1); /* the session's */
    const bora_client_value *limits = get(status, "limits");
    assert_true(bora_test_fields(limits, "memory:uint open_max:uint open_per_owner:uint live_max:uint context:uint"));
    assert_int_equal(bora_client_value_uint(get(limits, "open_max"), 0), 256);
    assert_int_equal(bora_client_value_uint(get(limits, "open_per_owner"), 0), 64);
    assert_true(bora_test_fields(get(status, "plugins"), "attention:text cache:text expert:text"));
    assert_text(get(get(status, "plugins"), "expert"), "quant");
    const bora_client_value *sessions = get(status, "sessions"), *seen = NULL;
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        const bora_client_value *entry = bora_client_value_at(sessions, i);
        assert_true(bora_test_fields(entry, "name:text session_id:text n_tokens:uint kv_bytes:uint running:bool"));
        if (bora_test_text_is(get(entry, "name"), "seen"))
            seen = entry;
    }
    assert_non_null(seen);
    assert_text(get(seen, "session_id"), answer.session_id);
    assert_int_equal(bora_client_value_uint(get(seen, "n_tokens"), 0), answer.n_prompt + answer.n_generated);
    assert_int_equal(bora_client_value_uint(get(seen, "kv_bytes"), 0), answer.kv_bytes);
    assert_false(bora_client_value_bool(get(seen, "running"), true));
    bora_test_answer_release(&answer);
}

static void model_has_its_fields(void **state)
{
    fixture *f = *state;
    const bora_client_value *model = ask(f, "model", NULL, NULL);
    assert_true(bora_test_fields(
        model, "id:uint event:text name:text path:text format:text fingerprint:text layout:text n_layers:uint dim:uint "
               "hidden_dim:uint n_heads:uint n_kv_heads:uint head_dim:uint vocab_size:uint n_experts:uint "
               "n_experts_per_tok:uint context:uint windows:array window_source:text rope_theta:float norm_eps:float "
               "n_parameters:uint "
               "n_active_parameters:uint weight_bytes:uint tensor_types:text kv_bytes_per_token:uint "
               "kv_bytes_per_session:uint memory_bytes:uint"));
    static const struct {
        const char *key;
        uint64_t value;
    } card[] = {{"n_layers", 4},          {"dim", 256},      {"hidden_dim", 512},
                {"n_heads", 8},           {"n_kv_heads", 2}, {"head_dim", 32},
                {"vocab_size", 2048},     {"n_experts", 4},  {"n_experts_per_tok", 2},
                {"n_parameters", 8001792}};
    for (size_t i = 0; i < sizeof card / sizeof card[0]; i++)
        assert_int_equal(bora_client_value_uint(get(model, card[i].key), 0), card[i].value);
    assert_text(get(model, "format"), "gguf");
    assert_text(get(model, "layout"), "v3");
    assert_true(bora_client_value_float(get(model, "rope_theta"), 0) == 10000);
    assert_int_equal(bora_client_value_count(get(model, "windows")), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(bora_client_value_uint(bora_client_value_at(get(model, "windows"), i), 0), 256);
}

static void plugins_are_listed(void **state)
{
    fixture *f = *state;
    const bora_client_value *map = ask(f, "plugin.list", NULL, NULL);
    assert_true(bora_test_fields(map, "id:uint event:text plugins:array"));
    const bora_client_value *plugins = get(map, "plugins");
    static const char *const kinds[] = {"attention", "cache", "expert"};
    uint32_t n_used[3] = {0};
    bool has_plain_expert = false;
    for (uint32_t i = 0; i < bora_client_value_count(plugins); i++) {
        const bora_client_value *plugin = bora_client_value_at(plugins, i);
        assert_true(
            bora_test_fields(plugin, "kind:text name:text version:text path:text batch_invariant:bool in_use:bool"));
        bool in_use = bora_client_value_bool(get(plugin, "in_use"), false);
        for (size_t kind = 0; kind < 3; kind++)
            n_used[kind] += in_use && bora_test_text_is(get(plugin, "kind"), kinds[kind]);
        has_plain_expert = has_plain_expert || (bora_test_text_is(get(plugin, "kind"), "expert") &&
                                                bora_test_text_is(get(plugin, "name"), "reference") && !in_use);
    }
    for (size_t kind = 0; kind < 3; kind++)
        assert_int_equal(n_used[kind], 1);
    assert_true(has_plain_expert); /* those not in use are there as well */
}

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

static void tokens_go_round(void **state)
{
    fixture *f = *state;
    static const char text[] = "Hello w\xc3\xb6rld, 42 \xf0\x9f\x98\x80 [INST] </s>";
    bora_client_request *request = bora_client_request_new("tokenize");
    bora_client_request_string(request, "text", text);
    bora_client_request_bool(request, "bos", true);
    const bora_client_value *map = call(f, request);
    assert_true(bora_test_fields(map, "id:uint event:text tokens:array pieces:array"));
    uint32_t n = bora_client_value_count(get(map, "tokens"));
    assert_int_equal(bora_client_value_count(get(map, "pieces")), n);
    assert_in_range(n, 10, 64);
    int32_t ids[64];
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)bora_client_value_int(bora_client_value_at(get(map, "tokens"), i), -1);
        assert_int_equal(bora_client_value_kind(bora_client_value_at(get(map, "pieces"), i)), BORA_CLIENT_VALUE_TEXT);
        assert_true(i == 0 ? ids[i] == 1 : ids[i] > 4); /* no control token comes out of a text */
    }
    request = bora_client_request_new("detokenize");
    bora_client_request_tokens(request, "tokens", ids, n);
    map = call(f, request);
    assert_true(bora_test_fields(map, "id:uint event:text text:text"));
    assert_text(get(map, "text"), text);

    map = ask(f, "tokenize", "text", ""); /* nothing is nothing */
    assert_non_null(map);
    assert_int_equal(bora_client_value_count(get(map, "tokens")), 0);
    assert_refused(f, ask(f, "tokenize", NULL, NULL), "invalid");
    assert_refused(f, ask(f, "detokenize", "tokens", "1"), "invalid");
    int32_t unknown = 2048;
    request = bora_client_request_new("detokenize");
    bora_client_request_tokens(request, "tokens", &unknown, 1);
    assert_refused(f, call(f, request), "invalid");
}

/* ---- cancel ----------------------------------------------------------------------------------------------------- */

static const bora_client_value *cancel(fixture *f, uint64_t id)
{
    bora_client_request *request = bora_client_request_new("cancel");
    bora_client_request_uint(request, "request", id);
    return call(f, request);
}

static void cancel_finds_what_runs(void **state)
{
    fixture *f = *state;
    bora_test_answer a = {0};
    bora_client_generation g = chat("cancelled", "Tell me a story.");
    g.ignore_eos = true;
    g.max_tokens = 30000;
    assert_int_equal(bora_test_answer_submit(f->client, &g, &a), BORA_CLIENT_OK);
    while (a.n_tokens < 3)
        assert_true(bora_test_dispatch(&f->client, 1));

    /* While it answers, a second turn of that session is refused. */
    bora_test_answer second = {0};
    bora_client_generation again = chat("cancelled", "hey");
    assert_int_equal(bora_test_answer_get(f->client, &again, &second), BORA_CLIENT_E_REFUSED);
    assert_string_equal(second.error.code, "busy");
    bora_test_answer_release(&second);

    const bora_client_value *map = cancel(f, a.request);
    assert_true(bora_test_fields(map, "id:uint event:text found:bool"));
    assert_true(bora_client_value_bool(get(map, "found"), false));
    while (!a.has_ended)
        assert_true(bora_test_dispatch(&f->client, 1));
    assert_null(a.disorder);
    assert_string_equal(a.reason, "cancelled");
    assert_true(a.stored);
    map = cancel(f, a.request);
    assert_non_null(map);
    assert_false(bora_client_value_bool(get(map, "found"), true));
    assert_refused(f, ask(f, "cancel", NULL, NULL), "invalid");

    map = ask(f, "session.show", "session", "cancelled");
    assert_text(get(bora_client_value_at(get(map, "messages"), 1), "state"), "interrupted");
    assert_text(get(bora_client_value_at(get(map, "messages"), 1), "text"), a.text);
    bora_test_answer_release(&a);
}

/* ---- sessions --------------------------------------------------------------------------------------------------- */

static void a_session_from_create_to_delete(void **state)
{
    fixture *f = *state;
    const bora_client_value *map = ask(f, "session.create", "name", "Grüße an alle");
    assert_true(bora_test_fields(map, "id:uint event:text session_id:text name:text"));
    assert_text(get(map, "name"), "Grüße an alle");
    char id[33] = "";
    size_t size = 0;
    const char *text = bora_client_value_text(get(map, "session_id"), &size);
    assert_int_equal(size, 32);
    memcpy(id, text, size);
    assert_refused(f, ask(f, "session.create", "name", "Grüße an alle"), "exists");

    map = ask(f, "session.create", NULL, NULL); /* one is made up */
    assert_true(bora_test_fields(map, "id:uint event:text session_id:text name:text"));

    bora_test_answer a;
    bora_client_generation g = chat(id, "My name is Anna."); /* by id */
    generate(f, &g, &a);
    assert_string_equal(a.session, "Grüße an alle");
    assert_string_equal(a.session_id, id);

    map = ask(f, "session.list", NULL, NULL);
    assert_true(bora_test_fields(map, "id:uint event:text sessions:array"));
    const bora_client_value *sessions = get(map, "sessions");
    uint64_t updated = UINT64_MAX;
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        assert_true(bora_test_fields(bora_client_value_at(sessions, i), RECORD));
        uint64_t at = bora_client_value_uint(get(bora_client_value_at(sessions, i), "updated"), 0);
        assert_true(at <= updated); /* newest use first */
        updated = at;
    }
    assert_text(get(bora_client_value_at(sessions, 0), "session_id"), id);
    assert_true(bora_client_value_bool(get(bora_client_value_at(sessions, 0), "current_model"), false));

    map = ask(f, "session.rename", "session", id);
    assert_refused(f, map, "invalid"); /* name is missing */
    bora_client_request *request = bora_client_request_new("session.rename");
    bora_client_request_string(request, "session", "Grüße an alle");
    bora_client_request_string(request, "name", "greetings");
    map = call(f, request);
    assert_true(bora_test_fields(map, "id:uint event:text session_id:text name:text"));
    assert_text(get(map, "session_id"), id);
    assert_text(get(map, "name"), "greetings");
    assert_refused(f, ask(f, "session.show", "session", "Grüße an alle"), "not_found");

    map = ask(f, "session.show", "session", "greetings");
    assert_true(bora_test_fields(map, "id:uint event:text " RECORD " ?system:text tokens:array messages:array"));
    assert_int_equal(bora_client_value_uint(get(map, "n_tokens"), 0), a.n_prompt + a.n_generated);
    assert_int_equal(bora_client_value_count(get(map, "tokens")), a.n_prompt + a.n_generated);
    assert_int_equal(bora_client_value_uint(get(map, "n_messages"), 0), 2);
    const bora_client_value *messages = get(map, "messages");
    assert_int_equal(bora_client_value_count(messages), 2);
    for (uint32_t i = 0; i < 2; i++) {
        const bora_client_value *message = bora_client_value_at(messages, i);
        assert_true(bora_test_fields(message, "turn:uint role:text text:text state:text created:uint"));
        assert_text(get(message, "role"), i ? "assistant" : "user");
        assert_text(get(message, "text"), i ? a.text : "My name is Anna.");
        assert_text(get(message, "state"), "whole");
    }

    map = ask(f, "session.delete", "session", "greetings");
    assert_true(bora_test_fields(map, "id:uint event:text session_id:text"));
    assert_text(get(map, "session_id"), id);
    assert_refused(f, ask(f, "session.delete", "session", id), "not_found");
    bora_test_answer_release(&a);
}

static void session_names_have_rules(void **state)
{
    fixture *f = *state;
    char long_name[66] = "";
    memset(long_name, 'x', 65);
    const char *const names[] = {"a/b", " a", "-a", "a\nb", "0123456789abcdef0123456789abcdef", long_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_refused(f, ask(f, "session.create", "name", names[i]), "invalid");
    long_name[64] = '\0';
    assert_non_null(ask(f, "session.create", "name", long_name));
}

/* A session that is deleted while it answers: the answer ends first. */
static void delete_cancels_first(void **state)
{
    fixture *f = *state;
    bora_test_answer a = {0};
    bora_client_generation g = chat("doomed", "Tell me a story.");
    g.ignore_eos = true;
    g.max_tokens = 30000;
    assert_int_equal(bora_test_answer_submit(f->client, &g, &a), BORA_CLIENT_OK);
    while (a.n_tokens < 3)
        assert_true(bora_test_dispatch(&f->client, 1));
    assert_non_null(ask(f, "session.delete", "session", "doomed"));
    assert_true(a.has_ended);
    assert_null(a.disorder);
    assert_true(!a.has_done || strcmp(a.reason, "cancelled") == 0);
    assert_refused(f, ask(f, "session.show", "session", "doomed"), "not_found");
    bora_test_answer_release(&a);
}

static void unknown_keys_are_ignored(void **state)
{
    fixture *f = *state;
    bora_client_request *request = bora_client_request_new("tokenize");
    bora_client_request_string(request, "text", "hey");
    bora_client_request_string(request, "of a later version", "hey");
    bora_client_request_float(request, "also", 1.5);
    const bora_client_value *map = call(f, request);
    assert_int_equal(bora_client_value_count(get(map, "tokens")), 2);
    request = bora_client_request_new("tokenize");
    bora_client_request_string(request, "text", "hey");
    bora_client_request_string(request, "bos", "yes"); /* known, of the wrong type */
    assert_refused(f, call(f, request), "invalid");
    assert_refused(f, ask(f, "no.such.verb", NULL, NULL), "unknown_verb");
}

/* ---- one plugin -------------------------------------------------------------------------------------------------- */

static const bora_client_value *plugin_info(fixture *f, const char *kind, const char *name)
{
    bora_client_result_free(f->result);
    f->result = NULL;
    f->error = (bora_client_error){0};
    if (bora_client_plugin_info(f->client, kind, name, &f->result, &f->error) != BORA_CLIENT_OK)
        return NULL;
    return bora_client_result_value(f->result);
}

static void plugin_info_has_its_fields(void **state)
{
    fixture *f = *state;
    static const char fields[] = "id:uint event:text kind:text name:text version:text path:text abi:text "
                                 "batch_invariant:bool packs_weights:bool types:array in_use:bool";
    const bora_client_value *used = plugin_info(f, "expert", "quant");
    assert_non_null(used);
    assert_true(bora_test_fields(used, fields));
    assert_text(get(used, "kind"), "expert");
    assert_true(bora_client_value_bool(get(used, "in_use"), false));
    assert_true(bora_client_value_bool(get(used, "packs_weights"), false));
    size_t size = 0;
    const char *text = bora_client_value_text(get(used, "path"), &size);
    char *path = strndup(text, size);
    assert_non_null(path);
    assert_non_null(strstr(path, "/expert-quant.so"));
    const bora_client_value *other = plugin_info(f, "attention", "reference");
    assert_non_null(other);
    assert_true(bora_test_fields(other, fields));
    assert_text(get(other, "name"), "reference");
    assert_false(bora_client_value_bool(get(other, "in_use"), true));
    assert_true(bora_client_value_count(get(other, "types")) >= 2);
    assert_text(bora_client_value_at(get(other, "types"), 0), "f32");
    const bora_client_value *by_path = plugin_info(f, "expert", path); /* the one in use, under its other name */
    assert_non_null(by_path);
    assert_true(bora_client_value_bool(get(by_path, "in_use"), false));
    assert_refused(f, plugin_info(f, "attention", path), "invalid"); /* of another kind */
    assert_refused(f, plugin_info(f, "attention", "no-such"), "not_found");
    assert_refused(f, plugin_info(f, "sampler", "x"), "invalid");
    assert_refused(f, ask(f, "plugin.info", "kind", "expert"), "invalid");
    assert_refused(f, ask(f, "plugin.use", "kind", "expert"), "invalid");
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_comes_first),          cmocka_unit_test(status_has_its_fields),
        cmocka_unit_test(model_has_its_fields),       cmocka_unit_test(plugins_are_listed),
        cmocka_unit_test(plugin_info_has_its_fields), cmocka_unit_test(tokens_go_round),
        cmocka_unit_test(cancel_finds_what_runs),     cmocka_unit_test(a_session_from_create_to_delete),
        cmocka_unit_test(session_names_have_rules),   cmocka_unit_test(delete_cancels_first),
        cmocka_unit_test(unknown_keys_are_ignored),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
