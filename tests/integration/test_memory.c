/* Memory has a bound: past window and slack a session's cache does not grow, and it comes back when the session goes.
 */
#include "support/chat.h"
#include "support/daemon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW   256u
#define SLACK    64u
#define PAGE     64u /* kept beyond the slack, so that pages can be stored whole */
#define FULL     (WINDOW + SLACK + PAGE)
#define BOOKS    4096u /* bytes a cache needs for itself, at most, whatever it holds */
#define N_TOKENS 2000u
#define RSS_KIB  8192u /* what the process may grow by in 2,000 tokens: their text, ids and events */

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *client, *watcher;
} fixture;

static int set_up(void **state)
{
    static const char *const arguments[] = {"--set", "cache.slack=64", "--set", "engine.chunk=64", NULL};
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bora_test_daemon_init(&f->daemon) || !bora_test_daemon_start(&f->daemon, arguments, NULL))
        return -1;
    f->client = bora_test_connect(f->daemon.socket);
    f->watcher = bora_test_connect(f->daemon.socket);
    return f->client && f->watcher ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    bora_client_close(f->watcher);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

/* ---- what is there ---- */

typedef struct held {
    uint64_t n_tokens, kv_bytes;
    bool found, running;
} held;

/* A session as status tells it; total: bytes of all sessions. */
static held held_by(bora_client *client, const char *session, uint64_t *ret_total)
{
    bora_client_result *result = NULL;
    held h = {0};
    assert_int_equal(bora_client_daemon_status(client, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *map = bora_client_result_value(result);
    const bora_client_value *sessions = bora_client_value_get(map, "sessions");
    for (uint32_t i = 0; i < bora_client_value_count(sessions); i++) {
        const bora_client_value *entry = bora_client_value_at(sessions, i);
        if (!bora_test_text_is(bora_client_value_get(entry, "name"), session))
            continue;
        h.found = true;
        h.n_tokens = bora_client_value_uint(bora_client_value_get(entry, "n_tokens"), 0);
        h.kv_bytes = bora_client_value_uint(bora_client_value_get(entry, "kv_bytes"), 0);
        h.running = bora_client_value_bool(bora_client_value_get(entry, "running"), false);
    }
    *ret_total = bora_client_value_uint(bora_client_value_get(map, "kv_bytes"), UINT64_MAX);
    bora_client_result_free(result);
    return h;
}

static uint64_t rss_kib(const fixture *f)
{
    char path[64], line[256];
    uint64_t kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)f->daemon.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %lu kB", &kib) == 1)
            break;
    (void)fclose(file);
    return kib;
}

static void generate(bora_client *client, const char *session, const char *text, uint32_t n_tokens,
                     bora_test_answer *ret_answer)
{
    bora_client_generation g = {.text = text,
                                .text_size = strlen(text),
                                .session = session,
                                .ignore_eos = true,
                                .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_SEED,
                                .seed = 7,
                                .max_tokens = n_tokens};
    if (bora_test_answer_get(client, &g, ret_answer) != BORA_CLIENT_OK)
        fail_msg("%s", ret_answer->error.message);
    assert_null(ret_answer->disorder);
    assert_int_equal(ret_answer->n_tokens, n_tokens);
}

/* ---- the tests ---- */

static void a_session_does_not_grow_past_window_and_slack(void **state)
{
    fixture *f = *state;
    uint64_t per_token = bora_test_number(f->client, "model", "kv_bytes_per_token");
    uint64_t at_most = bora_test_number(f->client, "model", "kv_bytes_per_session");
    /* 4 layers, keys and values of 2 heads of 32 half floats */
    assert_int_equal(per_token, 4 * 2 * 2 * 32 * 2);
    assert_int_equal(at_most, FULL * per_token);

    bora_test_answer first = {0}, second = {0};
    uint64_t total = 0;
    generate(f->client, "long", "Tell me a story.", FULL, &first); /* the ring is full now */
    held before = held_by(f->watcher, "long", &total);
    assert_true(before.found && !before.running);
    assert_int_equal(before.kv_bytes, first.kv_bytes);
    assert_int_equal(total, before.kv_bytes);
    assert_in_range(before.kv_bytes, at_most, at_most + BOOKS);
    uint64_t rss = rss_kib(f);

    generate(f->client, "long", "Tell me another story.", N_TOKENS, &second);
    held after = held_by(f->watcher, "long", &total);
    assert_true(after.n_tokens > before.n_tokens + N_TOKENS);
    assert_int_equal(after.kv_bytes, before.kv_bytes);
    assert_int_equal(total, before.kv_bytes);
    assert_int_equal(second.kv_bytes, before.kv_bytes);
    print_message("%lu tokens: %lu bytes of cache, %lu tokens: %lu; resident memory grew by %ld KiB\n", before.n_tokens,
                  before.kv_bytes, after.n_tokens, after.kv_bytes, (long)(rss_kib(f) - rss));
#ifndef __SANITIZE_ADDRESS__ /* which keeps freed memory for a while */
    assert_true(rss_kib(f) <= rss + RSS_KIB);
#endif
    bora_test_answer_release(&first);
    bora_test_answer_release(&second);
}

typedef struct watch {
    bora_client *watcher;
    uint64_t at_most;
    held seen;
} watch;

static void look(void *context)
{
    watch *w = context;
    uint64_t total = 0;
    w->seen = held_by(w->watcher, "watched", &total);
}

/* While it answers, too; and status is answered meanwhile. */
static void status_tells_while_it_runs(void **state)
{
    fixture *f = *state;
    watch w = {.watcher = f->watcher, .at_most = bora_test_number(f->client, "model", "kv_bytes_per_session")};
    bora_test_answer answer = {.act = look, .context = &w, .act_on = BORA_CLIENT_EVENT_TOKEN, .act_at = FULL + 50};
    generate(f->client, "watched", "Tell me a story.", FULL + 200, &answer);
    assert_true(w.seen.found && w.seen.running);
    assert_in_range(w.seen.n_tokens, FULL + 50, FULL + 300);
    assert_in_range(w.seen.kv_bytes, 1, w.at_most + BOOKS);
    bora_test_answer_release(&answer);
}

static void memory_comes_back(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"one", "two", "three"};
    uint64_t total = 0, sum = 0;
    assert_int_equal(bora_test_number(f->watcher, "status", "kv_bytes"), 0);
    for (size_t i = 0; i < 3; i++) {
        bora_test_answer answer = {0};
        generate(f->client, names[i], "hey", 20, &answer);
        sum += answer.kv_bytes;
        bora_test_answer_release(&answer);
    }
    for (size_t i = 0; i < 3; i++) {
        held h = held_by(f->watcher, names[i], &total);
        assert_int_equal(total, sum);
        sum -= h.kv_bytes;
        assert_int_equal(bora_client_session_delete(f->client, names[i], NULL), BORA_CLIENT_OK);
        /* The engine closes it between two steps: asked until it has. */
        for (int round = 0; total != sum && round < 100000; round++)
            h = held_by(f->watcher, names[i], &total);
        assert_int_equal(total, sum);
        assert_false(h.found);
    }
    assert_int_equal(total, 0);

    bora_test_answer raw = {0};
    bora_client_generation g = {.prompt = "hey", .prompt_size = 3, .set = BORA_CLIENT_SET_MAX_TOKENS, .max_tokens = 20};
    assert_int_equal(bora_test_answer_get(f->client, &g, &raw), BORA_CLIENT_OK);
    assert_true(raw.kv_bytes > 0);
    for (int round = 0; round < 100000 && total != 0; round++)
        total = bora_test_number(f->watcher, "status", "kv_bytes");
    assert_int_equal(total, 0); /* nothing is kept of what is in no session */
    bora_test_answer_release(&raw);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(a_session_does_not_grow_past_window_and_slack),
        RUN(status_tells_while_it_runs),
        RUN(memory_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
