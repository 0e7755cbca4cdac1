/* The daemon under observation: the metrics text line by line, counters that move with what is done, status's fields
 * for queue and limits, and a log that tells every request's end and never what was said. */
#include "integration/verbs.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define CANARY    "xylophagous"
#define NAMES_MAX 128

static int set_up_watched(void **state)
{
    static const char *const arguments[] = {"--set", "log.slow_step_ms=1", NULL};
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f || !bora_test_daemon_init(&f->daemon) || !bora_test_daemon_start(&f->daemon, arguments, NULL))
        return -1;
    f->client = bora_test_connect(f->daemon.socket);
    return f->client ? 0 : -1;
}

/* ---- reading the text -------------------------------------------------------------------------------------------- */

/* A copy of the text; free(). */
static char *metrics(fixture *f)
{
    const bora_client_value *map = ask(f, "metrics", NULL, NULL);
    size_t size = 0;
    assert_non_null(map);
    assert_true(bora_test_fields(map, "id:uint event:text text:text"));
    const char *text = bora_client_value_text(get(map, "text"), &size);
    assert_null(memchr(text, '\0', size));
    char *copy = strndup(text, size);
    assert_non_null(copy);
    return copy;
}

/* The value of the sample that begins so ("bora_steps_total", "bora_errors_total{code=\"busy\"}"); NAN: there is none.
 */
static double value_in(const char *text, const char *sample)
{
    size_t size = strlen(sample);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, sample, size) == 0 && line[size] == ' ')
            return strtod(line + size, NULL);
    }
    return (double)NAN;
}

static double value(fixture *f, const char *sample)
{
    char *text = metrics(f);
    double found = value_in(text, sample);
    free(text);
    if (isnan(found))
        fail_msg("there is no %s", sample);
    return found;
}

typedef struct metric {
    char name[80];
    bool is_counter;
    uint32_t n_samples;
} metric;

static size_t name_size(const char *line)
{
    size_t n = 0;
    while (isalnum((unsigned char)line[n]) || line[n] == '_')
        n++;
    return n;
}

static metric *find(metric *all, size_t n, const char *name, size_t size)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(all[i].name) == size && memcmp(all[i].name, name, size) == 0)
            return &all[i];
    return NULL;
}

/* name{label="value",...} and a number; to the line's end. */
static void check_sample(metric *of, const char *line)
{
    const char *at = line + name_size(line);
    if (*at == '{') {
        do {
            at++;
            assert_true(name_size(at) > 0);
            at += name_size(at);
            assert_true(at[0] == '=' && at[1] == '"');
            for (at += 2; *at != '"'; at++) {
                assert_true(*at != '\0' && *at != '\n');
                at += *at == '\\';
            }
            at++;
        } while (*at == ',');
        assert_int_equal(*at, '}');
        at++;
    }
    assert_int_equal(*at, ' ');
    char *end = NULL;
    double number = strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\0');
    assert_true(isfinite(number) && number >= 0);
    of->n_samples++;
}

/* Every line is HELP, TYPE or a sample; TYPE follows its HELP and goes before its samples, all of one metric stand
 * together, and no sample comes twice. */
static void every_line_is_valid(void **state)
{
    fixture *f = *state;
    char *text = metrics(f);
    static metric all[NAMES_MAX];
    size_t n = 0, size = strlen(text);
    char helped[80] = "";
    assert_true(size > 0 && text[size - 1] == '\n');
    memset(all, 0, sizeof all);
    for (char *end = text; (end = strchr(end, '\n')); end++)
        *end = '\0'; /* a line is a string now */
    for (const char *line = text; line < text + size; line += strlen(line) + 1) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            size_t name = name_size(line + 7);
            assert_true(name > 5 && name < sizeof helped && line[7 + name] == ' ' && line[8 + name] != '\0');
            assert_null(find(all, n, line + 7, name));
            (void)snprintf(helped, sizeof helped, "%.*s", (int)name, line + 7);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            size_t name = name_size(line + 7);
            assert_true(n < NAMES_MAX && strlen(helped) == name && memcmp(helped, line + 7, name) == 0);
            const char *type = line + 8 + name;
            assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0);
            all[n].is_counter = *type == 'c';
            (void)snprintf(all[n++].name, sizeof all[0].name, "%s", helped);
            bool is_total = name > 6 && strcmp(helped + name - 6, "_total") == 0;
            assert_int_equal(is_total, *type == 'c');
        } else {
            metric *of = find(all, n, line, name_size(line));
            assert_int_equal(strncmp(line, "bora_", 5), 0);
            assert_true(of && of == &all[n - 1]);
            check_sample(of, line);
            size_t labels = (size_t)(strrchr(line, ' ') - line);
            for (const char *before = text; before < line; before += strlen(before) + 1)
                assert_false(strncmp(before, line, labels + 1) == 0);
        }
    }
    assert_true(n > 30);
    for (size_t i = 0; i < n; i++)
        assert_true(all[i].n_samples > 0);
    free(text);
}

/* ---- what it counts -----------------------------------------------------------------------------------------------
 */

static void counters_move(void **state)
{
    fixture *f = *state;
    bora_test_answer a;
    bora_client_generation g = completion("Once upon a time", 9);
    char *before = metrics(f);
    generate(f, &g, &a);
    assert_refused(f, ask(f, "session.show", "session", "nobody"), "not_found");
    assert_refused(f, ask(f, "no.such.verb", NULL, NULL), "unknown_verb");
    char *after = metrics(f);
    const struct {
        const char *sample;
        double by;
    } moves[] = {
        {"bora_requests_total{verb=\"generate\"}", 1},
        {"bora_requests_total{verb=\"session.show\"}", 1},
        {"bora_requests_total{verb=\"metrics\"}", 1},
        {"bora_requests_total{verb=\"status\"}", 0},
        {"bora_errors_total{code=\"not_found\"}", 1},
        {"bora_errors_total{code=\"unknown_verb\"}", 1},
        {"bora_errors_total{code=\"busy\"}", 0},
        {"bora_generations_total{reason=\"length\"}", 1},
        {"bora_generations_total{reason=\"stop\"}", 0},
        {"bora_prompt_tokens_total", (double)a.n_prompt},
        {"bora_generated_tokens_total", 9},
    };
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        double moved = value_in(after, moves[i].sample) - value_in(before, moves[i].sample);
        if (!(moved == moves[i].by))
            fail_msg("%s moved by %g, not by %g", moves[i].sample, moved, moves[i].by);
    }
    static const char *const grow[] = {"bora_steps_total", "bora_busy_seconds_total", "bora_uptime_seconds",
                                       "bora_generation_seconds_total{phase=\"decode\"}"};
    for (size_t i = 0; i < sizeof grow / sizeof grow[0]; i++)
        assert_true(value_in(after, grow[i]) > value_in(before, grow[i]));
    assert_true(value_in(after, "bora_step_seconds") > 0);
    assert_true(value_in(after, "bora_connections") == 1);
    assert_true(value_in(after, "bora_open_requests") == 1); /* itself */
    assert_true(value_in(after, "bora_generations_open") == 0);
    assert_true(value_in(after, "bora_store_queue") == 0);
    assert_true(value_in(after, "bora_info{version=\"" BORA_VERSION "\",model=\"bora-tiny\"}") == 1);
    free(before);
    free(after);
    bora_test_answer_release(&a);
}

static void memory_adds_up(void **state)
{
    fixture *f = *state;
    char *text = metrics(f);
    static const char *const accounts[] = {"weights", "kv", "activations", "plugins", "requests", "store", "program"};
    double sum = 0;
    for (size_t i = 0; i < sizeof accounts / sizeof accounts[0]; i++) {
        char sample[64];
        (void)snprintf(sample, sizeof sample, "bora_memory_bytes{account=\"%s\"}", accounts[i]);
        sum += value_in(text, sample);
    }
    double used = value_in(text, "bora_memory_used_bytes"), limit = value_in(text, "bora_memory_limit_bytes");
    assert_true(sum == used && used > 0 && used <= limit);
    assert_true(value_in(text, "bora_memory_peak_bytes") >= used && value_in(text, "bora_resident_bytes") > 0);
    const bora_client_value *status = ask(f, "status", NULL, NULL);
    assert_true((double)bora_client_value_uint(get(get(status, "limits"), "memory"), 0) == limit);
    free(text);
}

static void nothing_of_anybody(void **state)
{
    fixture *f = *state;
    bora_test_answer a;
    bora_client_generation g = chat(CANARY "-session", "Say " CANARY " twice.");
    g.max_tokens = 3;
    g.system = "You know the word " CANARY ".";
    generate(f, &g, &a);
    char *text = metrics(f);
    assert_null(strstr(text, CANARY));
    assert_null(strstr(text, "uid"));
    assert_null(strstr(text, a.session_id));
    assert_true(value_in(text, "bora_sessions_in_memory") >= 1);
    free(text);
    bora_test_answer_release(&a);
}

static void swaps_are_counted(void **state)
{
    fixture *f = *state;
    double before = value(f, "bora_swaps_total");
    assert_text(get(get(ask(f, "status", NULL, NULL), "plugins"), "attention"), "flash");
    bora_client_error error;
    assert_int_equal(bora_client_plugin_use(f->client, "attention", "reference", NULL, &error), BORA_CLIENT_OK);
    assert_text(get(get(ask(f, "status", NULL, NULL), "plugins"), "attention"), "reference");
    assert_int_equal(bora_client_value_uint(get(bora_client_result_value(f->result), "n_swaps"), 99), (int)before + 1);
    assert_int_equal(bora_client_plugin_use(f->client, "attention", "no-such", NULL, &error), BORA_CLIENT_E_REFUSED);
    assert_string_equal(error.code, "not_found");
    assert_int_equal(bora_client_plugin_use(f->client, "attention", "flash", NULL, &error), BORA_CLIENT_OK);
    assert_true(value(f, "bora_swaps_total") == before + 2);
    assert_true(bora_test_daemon_logged(&f->daemon, "plugin.use attention reference (uid:"));
}

/* ---- the log ------------------------------------------------------------------------------------------------------
 */

static int note_request(void *context, const bora_client_event *event)
{
    uint64_t *request = context;
    if (event->kind == BORA_CLIENT_EVENT_ACCEPTED)
        *request = bora_client_value_uint(get(event->value, "request"), 0);
    return 0;
}

static void the_log_tells_ends_not_texts(void **state)
{
    fixture *f = *state;
    uint64_t request = 0;
    char line[128];
    bora_client_generation g = completion("The " CANARY " beetle and the " CANARY " ant", 7);
    assert_int_equal(bora_client_generate(f->client, &g, note_request, &request, NULL), BORA_CLIENT_OK);
    assert_true(request > 0);
    (void)snprintf(line, sizeof line, "info: request %llu (uid:%u): length, 7 tokens after ",
                   (unsigned long long)request, (unsigned)getuid());
    assert_true(bora_test_daemon_logged(&f->daemon, line));
    g = chat(CANARY "-other", "What is " CANARY "?");
    g.max_tokens = 2;
    assert_int_equal(bora_client_generate(f->client, &g, note_request, &request, NULL), BORA_CLIENT_OK);
    (void)snprintf(line, sizeof line, "info: request %llu (uid:%u): length, 2 tokens", (unsigned long long)request,
                   (unsigned)getuid());
    assert_true(bora_test_daemon_logged(&f->daemon, line));
    g.no_create = true; /* an end without a beginning; its message would quote the name */
    g.session = CANARY "-absent";
    assert_int_equal(bora_client_generate(f->client, &g, NULL, NULL, NULL), BORA_CLIENT_E_REFUSED);
    (void)snprintf(line, sizeof line, "info: request %llu (uid:%u): error, not_found", (unsigned long long)request + 1,
                   (unsigned)getuid());
    assert_true(bora_test_daemon_logged(&f->daemon, line));
    assert_false(bora_test_daemon_logged(&f->daemon, CANARY));
}

/* A prompt of hundreds of rows takes longer than a millisecond on any machine. */
static void slow_steps_are_told(void **state)
{
    fixture *f = *state;
    int32_t tokens[900];
    for (size_t i = 0; i < 900; i++)
        tokens[i] = (int32_t)(300 + i % 700);
    double before = value(f, "bora_slow_steps_total");
    bora_client_generation g = {.tokens = tokens, .n_tokens = 900, .set = BORA_CLIENT_SET_MAX_TOKENS, .max_tokens = 1};
    assert_int_equal(bora_client_generate(f->client, &g, NULL, NULL, NULL), BORA_CLIENT_OK);
    assert_true(value(f, "bora_slow_steps_total") > before);
    assert_true(bora_test_daemon_logged(&f->daemon, "warn: slow step: "));
    assert_true(bora_test_daemon_logged(&f->daemon, " prompt rows of requests "));

    bora_test_daemon quiet = {0};
    static const char *const arguments[] = {"--set", "log.slow_step_ms=0", NULL};
    assert_true(bora_test_daemon_init(&quiet) && bora_test_daemon_start(&quiet, arguments, NULL));
    bora_client *client = bora_test_connect(quiet.socket);
    assert_non_null(client);
    assert_int_equal(bora_client_generate(client, &g, NULL, NULL, NULL), BORA_CLIENT_OK);
    assert_int_equal(bora_test_number(client, "status", "n_slow_steps"), 0);
    bora_client_close(client);
    assert_int_equal(bora_test_daemon_end(&quiet, SIGTERM), 0);
    assert_false(bora_test_daemon_logged(&quiet, "slow step"));
    bora_test_daemon_release(&quiet);
}

/* ---- the queue ----------------------------------------------------------------------------------------------------
 */

#define N_AT_ONCE 12

typedef struct crowd {
    uint32_t n_done, n_queued, n_wrong;
} crowd;

static int note_crowd(void *context, const bora_client_event *event)
{
    crowd *c = context;
    c->n_done += event->kind == BORA_CLIENT_EVENT_DONE;
    if (event->kind == BORA_CLIENT_EVENT_ERROR)
        c->n_wrong++;
    if (event->kind == BORA_CLIENT_EVENT_QUEUED) {
        c->n_queued++;
        c->n_wrong += event->place < 1 || event->place > event->n_waiting || event->n_waiting >= N_AT_ONCE ||
                      !bora_test_fields(event->value, "id:uint event:text place:uint n_waiting:uint");
    }
    return 0;
}

static bora_client *start_limited(bora_test_daemon *daemon, uint64_t limit)
{
    char text[32];
    const char *arguments[] = {limit ? "--memory-limit" : NULL, text, NULL};
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)limit);
    assert_true(bora_test_daemon_start(daemon, arguments, NULL));
    bora_client *client = bora_test_connect(daemon->socket);
    assert_non_null(client);
    bora_client_generation g = completion("x", 1); /* whoever has an answer has a model that is loaded */
    assert_int_equal(bora_client_generate(client, &g, NULL, NULL, NULL), BORA_CLIENT_OK);
    return client;
}

/* Twelve come where there is memory for a few: the others are told their place, and all are answered. */
static void who_waits_is_told(void **state)
{
    (void)state;
    crowd c = {0};
    bora_test_daemon daemon = {0};
    bora_client_result *result = NULL;
    assert_true(bora_test_daemon_init(&daemon));
    bora_client *client = start_limited(&daemon, 0);
    assert_int_equal(bora_client_daemon_status(client, &result, NULL), BORA_CLIENT_OK);
    uint64_t used = bora_client_value_uint(get(get(bora_client_result_value(result), "memory"), "used"), 0);
    bora_client_result_free(result);
    bora_client_close(client);
    assert_int_equal(bora_test_daemon_end(&daemon, SIGTERM), 0);
    client = start_limited(&daemon, used + (UINT64_C(3) << 20));
    for (uint32_t i = 0; i < N_AT_ONCE; i++) {
        bora_client_generation g = completion("Once upon a time", 300);
        bora_client_request *request = bora_client_generation_request(&g);
        assert_int_equal(bora_client_submit(client, &request, note_crowd, &c, NULL, NULL), BORA_CLIENT_OK);
    }
    while (c.n_done + c.n_wrong < N_AT_ONCE)
        assert_true(bora_test_dispatch(&client, 1));
    assert_int_equal(c.n_wrong, 0);
    assert_true(c.n_queued > 0);
    assert_int_equal(bora_test_number(client, "status", "n_waiting"), 0);
    bora_client_close(client);
    assert_int_equal(bora_test_daemon_end(&daemon, SIGTERM), 0);
    bora_test_daemon_release(&daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_is_valid), cmocka_unit_test(counters_move),
        cmocka_unit_test(memory_adds_up),      cmocka_unit_test(nothing_of_anybody),
        cmocka_unit_test(swaps_are_counted),   cmocka_unit_test(the_log_tells_ends_not_texts),
        cmocka_unit_test(slow_steps_are_told), cmocka_unit_test(who_waits_is_told),
    };
    return cmocka_run_group_tests_name("metrics", tests, set_up_watched, tear_down);
}
