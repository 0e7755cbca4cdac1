/* Plugins change places while everybody talks: each kind back and forth, many times, between clients that chat in
 * sessions and clients that complete texts. No token is lost, every answer ends as it was asked to, what the two
 * plugins promise to compute alike is alike to the last token, and nothing is left behind. A swap that cannot be says
 * why, and nobody notices. */
#include "integration/process.h"
#include "support/chat.h"
#include "support/daemon.h"
#include "support/skip.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_SPEAKERS 6
#define N_CHATTING 4 /* the first so many, in sessions; the others complete raw texts */
#define N_TURNS    3
#define N_TOKENS   24
#define N_WARM     6 /* swaps after which nothing may grow: every library is loaded, every buffer was there once */
#define OTHER_UID  65534u

/* Resident memory after the last swap against that after the first few. What an instance takes is in the ledger's books
 * and must come back to the byte; this is for what the books do not know. The C library keeps freed memory in the heap
 * of each thread that used it, in pieces that depend on who talked when: a MiB or two, in a hundred swaps as in a
 * thousand. What is lost in each of 94 swaps shows from 44 KiB on. */
#define RSS_KIB    4096u

static const char *const texts[N_SPEAKERS][N_TURNS] = {
    {"My name is Anna.", "What is the capital of France?", "What is my name?"},
    {"Tell me a story.", "What is 3 plus 4?", "Bye!"},
    {"My dog is called Rufus.", "I like pizza.", "What is the name of my dog?"},
    {"Heidi is in the library. Ravi is in the bedroom. Where is Ravi?", "Who are you?", "Thank you."},
    {"Once upon a time", "The capital of Austria is", "One two three four five six seven eight nine ten"},
    {"A dog and a fox went to the wood, and the dog said to the fox: In the wood lives a bear, and the bear has a book "
     "of ninety seven pages about dogs, foxes and bears.",
     "Repeat: the quick brown fox.", "The opposite of hot is"},
};

typedef struct speaker {
    bora_client *client;
    bora_test_answer answers[N_TURNS]; /* of this round */
    size_t turn;                       /* answers[turn] is being given */
    uint64_t n_rounds;                 /* that are over */
    bool is_talking;
} speaker;

/* plugin.use, on its way or answered. */
typedef struct use {
    bool is_open, is_refused;
    bora_client_error error;
    char kind[16], name[32];
} use;

typedef struct fixture {
    bora_test_daemon daemon;
    bora_client *clients[N_SPEAKERS + 1]; /* the last one swaps */
    bora_client *admin;
    speaker speakers[N_SPEAKERS];
    bora_test_answer alone[N_SPEAKERS][N_TURNS];
    bool is_exact; /* answers must be those that were given alone */
    use use;
    uint64_t n_tokens_seen; /* when the last swap was asked for */
} fixture;

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    return f && bora_test_daemon_init(&f->daemon) ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < N_SPEAKERS; i++)
        for (size_t turn = 0; turn < N_TURNS; turn++) {
            bora_test_answer_release(&f->speakers[i].answers[turn]);
            bora_test_answer_release(&f->alone[i][turn]);
        }
    for (size_t i = 0; i <= N_SPEAKERS; i++)
        bora_client_close(f->clients[i]);
    bora_test_daemon_release(&f->daemon);
    free(f);
    return 0;
}

static void start(fixture *f, const char *const *arguments)
{
    int code = 0;
    if (!bora_test_daemon_start(&f->daemon, arguments, &code))
        fail_msg("borad did not start: %d", code);
    for (size_t i = 0; i <= N_SPEAKERS; i++)
        assert_non_null(f->clients[i] = bora_test_connect(f->daemon.socket));
    for (size_t i = 0; i < N_SPEAKERS; i++)
        f->speakers[i].client = f->clients[i];
    f->admin = f->clients[N_SPEAKERS];
}

/* It goes without a word about memory that nobody gave back. */
static void end(fixture *f)
{
    assert_int_equal(bora_test_daemon_end(&f->daemon, SIGTERM), 0);
    assert_false(bora_test_daemon_logged(&f->daemon, "never given back"));
}

/* ---- talking ------------------------------------------------------------------------------------------------------
 */

static void session_of(size_t i, char ret_name[32])
{
    (void)snprintf(ret_name, 32, "speaker-%zu", i);
}

static void say(fixture *f, size_t i)
{
    speaker *s = &f->speakers[i];
    char session[32];
    session_of(i, session);
    const char *text = texts[i][s->turn];
    bora_client_generation g = {.set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
                                .max_tokens = N_TOKENS,
                                .ignore_eos = (i + s->turn) % 3 != 0};
    if (i < N_CHATTING) {
        g.session = session;
        g.text = text;
        g.text_size = strlen(text);
    } else {
        g.prompt = text;
        g.prompt_size = strlen(text);
    }
    s->is_talking = true;
    assert_int_equal(bora_test_answer_submit(s->client, &g, &s->answers[s->turn]), BORA_CLIENT_OK);
}

static void check_same(const bora_test_answer *a, const bora_test_answer *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_string_equal(a->text, b->text);
    assert_string_equal(a->reason, b->reason);
}

/* Every token came once, in order (disorder), and the end is one that was asked for. */
static void check_answer(const fixture *f, size_t i, size_t turn)
{
    const bora_test_answer *a = &f->speakers[i].answers[turn];
    if (a->status != BORA_CLIENT_OK)
        fail_msg("speaker %zu, turn %zu: %s", i, turn, a->error.message);
    assert_null(a->disorder);
    assert_true(a->has_done && a->n_tokens > 0);
    assert_int_equal(a->n_generated, a->n_tokens);
    if ((i + turn) % 3 != 0 || strcmp(a->reason, "stop") != 0) {
        assert_string_equal(a->reason, "length");
        assert_int_equal(a->n_tokens, N_TOKENS);
    }
    if (i < N_CHATTING) {
        assert_true(a->stored);
        assert_int_equal(a->turn, turn);
        assert_int_equal(a->n_rerun, 0); /* a swap costs nobody's cache */
    }
    if (f->is_exact)
        check_same(a, &f->alone[i][turn]);
}

/* What was told is what is kept: all answers, one after the other, and their texts. */
static void check_session(fixture *f, size_t i, const char *session)
{
    bora_client_result *result = NULL;
    size_t n = 0, at = 0;
    int32_t *tokens = bora_test_session_tokens(f->clients[i], session, &n, NULL);
    assert_non_null(tokens);
    assert_int_equal(bora_client_session_show(f->clients[i], session, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *messages = bora_client_value_get(bora_client_result_value(result), "messages");
    assert_int_equal(bora_client_value_count(messages), 2 * N_TURNS);
    for (size_t turn = 0; turn < N_TURNS; turn++) {
        const bora_test_answer *a = &f->speakers[i].answers[turn];
        const bora_client_value *answer = bora_client_value_at(messages, (uint32_t)(2 * turn + 1));
        assert_true(bora_test_text_is(bora_client_value_get(answer, "state"), "whole"));
        assert_true(bora_test_text_is(bora_client_value_get(answer, "text"), a->text));
        while (at + a->n_tokens <= n && memcmp(tokens + at, a->tokens, a->n_tokens * sizeof *tokens) != 0)
            at++;
        assert_true(at + a->n_tokens <= n);
        at += a->n_tokens;
    }
    bora_client_result_free(result);
    free(tokens);
}

static void end_round(fixture *f, size_t i)
{
    speaker *s = &f->speakers[i];
    char session[32];
    session_of(i, session);
    if (i < N_CHATTING) {
        check_session(f, i, session);
        assert_int_equal(bora_client_session_delete(s->client, session, NULL), BORA_CLIENT_OK);
    }
    for (size_t turn = 0; turn < N_TURNS; turn++)
        bora_test_answer_release(&s->answers[turn]);
    s->turn = 0;
    s->n_rounds++;
}

/* Whose answer has ended says the next thing; at the end of a round only if others go on. True: somebody talks. */
static bool go_on(fixture *f, bool begin_rounds)
{
    bool talking = false;
    for (size_t i = 0; i < N_SPEAKERS; i++) {
        speaker *s = &f->speakers[i];
        if (s->is_talking && s->answers[s->turn].has_ended) {
            s->is_talking = false;
            check_answer(f, i, s->turn);
            if (++s->turn == N_TURNS)
                end_round(f, i);
        }
        if (!s->is_talking && (s->turn > 0 || begin_rounds))
            say(f, i);
        talking = talking || s->is_talking;
    }
    return talking;
}

/* One after the other, nobody else there, before anything was swapped. */
static void talk_alone(fixture *f)
{
    f->is_exact = false;
    for (size_t i = 0; i < N_SPEAKERS; i++) {
        speaker *s = &f->speakers[i];
        char session[32];
        session_of(i, session);
        for (s->turn = 0; s->turn < N_TURNS; s->turn++) {
            say(f, i);
            while (!s->answers[s->turn].has_ended)
                assert_true(bora_test_dispatch(&s->client, 1));
            check_answer(f, i, s->turn);
            f->alone[i][s->turn] = s->answers[s->turn];
            s->answers[s->turn] = (bora_test_answer){0};
        }
        s->turn = 0;
        s->is_talking = false;
        if (i < N_CHATTING)
            assert_int_equal(bora_client_session_delete(s->client, session, NULL), BORA_CLIENT_OK);
    }
}

/* All at once, some rounds. Afterwards every buffer has been as large as they make it. */
static void talk_together(fixture *f)
{
    for (int round = 0; round < 3; round++)
        for (bool talking = go_on(f, true); talking; talking = go_on(f, false))
            assert_true(bora_test_dispatch(f->clients, N_SPEAKERS + 1));
}

static uint64_t count_tokens(const fixture *f)
{
    uint64_t n = 0;
    for (size_t i = 0; i < N_SPEAKERS; i++) {
        n += f->speakers[i].n_rounds * N_TURNS * (N_TOKENS + 1); /* at least what the rounds had: it only grows */
        for (size_t turn = 0; turn < N_TURNS; turn++)
            n += f->speakers[i].answers[turn].n_tokens;
    }
    return n;
}

/* ---- swapping ------------------------------------------------------------------------------------------------------
 */

static void copy_text(const bora_client_event *event, const char *key, char *to, size_t to_size)
{
    size_t size = 0;
    const char *text = bora_client_value_text(bora_client_value_get(event->value, key), &size);
    (void)snprintf(to, to_size, "%.*s", (int)size, text);
}

static int on_used(void *context, const bora_client_event *event)
{
    use *u = context;
    u->is_open = false;
    u->is_refused = event->kind != BORA_CLIENT_EVENT_RESULT;
    if (event->kind == BORA_CLIENT_EVENT_ERROR)
        u->error = *event->error;
    copy_text(event, "kind", u->kind, sizeof u->kind);
    copy_text(event, "name", u->name, sizeof u->name);
    return 0;
}

/* NULL: the argument is left out. */
static void ask_for(fixture *f, const char *kind, const char *name)
{
    bora_client_request *request = bora_client_request_new("plugin.use");
    bora_client_request_string(request, "kind", kind);
    bora_client_request_string(request, "name", name);
    f->use = (use){.is_open = true};
    f->n_tokens_seen = count_tokens(f);
    assert_int_equal(bora_client_submit(f->admin, &request, on_used, &f->use, NULL, NULL), BORA_CLIENT_OK);
}

/* True when the last swap is answered and somebody has got a token since it was asked for. */
static bool is_time(const fixture *f)
{
    return !f->use.is_open && count_tokens(f) > f->n_tokens_seen;
}

static void assert_in_use(fixture *f, const char *kind, const char *name)
{
    bora_client_result *result = NULL;
    size_t n = 0;
    assert_int_equal(bora_client_plugin_list(f->admin, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *plugins = bora_client_value_get(bora_client_result_value(result), "plugins");
    for (uint32_t i = 0; i < bora_client_value_count(plugins); i++) {
        const bora_client_value *plugin = bora_client_value_at(plugins, i);
        if (!bora_client_value_bool(bora_client_value_get(plugin, "in_use"), false) ||
            !bora_test_text_is(bora_client_value_get(plugin, "kind"), kind))
            continue;
        assert_true(bora_test_text_is(bora_client_value_get(plugin, "name"), name));
        n++;
    }
    assert_int_equal(n, 1);
    bora_client_result_free(result);
}

/* n swaps, first to names[1], under load; then everybody finishes what was begun. n is even. */
static void swap_under_load(fixture *f, const char *kind, const char *const names[2], uint32_t n)
{
    uint32_t n_asked = 0, n_done = 0;
    f->n_tokens_seen = count_tokens(f);
    while (go_on(f, n_done < n)) {
        assert_true(bora_test_dispatch(f->clients, N_SPEAKERS + 1));
        if (n_done < n_asked && !f->use.is_open) {
            if (f->use.is_refused)
                fail_msg("%s/%s: %s", kind, names[n_asked % 2], f->use.error.message);
            assert_string_equal(f->use.kind, kind);
            assert_string_equal(f->use.name, names[n_asked % 2]);
            n_done++;
        }
        if (n_asked < n && n_done == n_asked && is_time(f)) {
            n_asked++;
            ask_for(f, kind, names[n_asked % 2]);
        }
    }
    assert_int_equal(n_done, n);
    assert_in_use(f, kind, names[0]);
}

/* ---- at rest -------------------------------------------------------------------------------------------------------
 */

static const char *const accounts[] = {"requests",    "store",   "kv",      "weights",
                                       "activations", "plugins", "program", "used"};
#define N_ACCOUNTS (sizeof accounts / sizeof accounts[0])

typedef struct rest {
    uint64_t accounts[N_ACCOUNTS];
    uint64_t sequence_bytes, rss_kib, n_threads, n_descriptors;
} rest;

static void read_accounts(fixture *f, rest *ret)
{
    bora_client_result *result = NULL;
    assert_int_equal(bora_client_daemon_status(f->admin, &result, NULL), BORA_CLIENT_OK);
    const bora_client_value *memory = bora_client_value_get(bora_client_result_value(result), "memory");
    for (size_t i = 0; i < N_ACCOUNTS; i++)
        ret->accounts[i] = bora_client_value_uint(bora_client_value_get(memory, accounts[i]), UINT64_MAX);
    ret->sequence_bytes =
        bora_client_value_uint(bora_client_value_get(bora_client_result_value(result), "kv_bytes"), UINT64_MAX);
    bora_client_result_free(result);
}

/* Nobody talks and no session is left: the store and the engine may need a moment to see it. */
static rest rest_of(fixture *f)
{
    rest r = {.n_threads = process_number(f->daemon.pid, "Threads")};
    int ms = 0;
    do
        read_accounts(f, &r);
    while ((r.accounts[0] || r.accounts[1] || r.sequence_bytes) && process_wait(&ms));
    r.rss_kib = process_number(f->daemon.pid, "VmRSS");
    r.n_descriptors = process_descriptors(f->daemon.pid);
    return r;
}

static void assert_same_books(const rest *a, const rest *b)
{
    for (size_t i = 0; i < N_ACCOUNTS; i++)
        if (a->accounts[i] != b->accounts[i])
            fail_msg("%s: %llu bytes, before %llu", accounts[i], (unsigned long long)b->accounts[i],
                     (unsigned long long)a->accounts[i]);
}

/* ---- back and forth ------------------------------------------------------------------------------------------------
 */

static void back_and_forth(fixture *f, const char *kind, const char *first, const char *second,
                           const char *const *arguments, bool is_exact, uint32_t n)
{
    const char *const names[2] = {first, second};
    start(f, arguments);
    talk_alone(f);
    f->is_exact = true;
    talk_together(f);
    f->is_exact = is_exact;
    const rest before = rest_of(f);
    swap_under_load(f, kind, names, N_WARM);
    const rest warm = rest_of(f);
    swap_under_load(f, kind, names, n - N_WARM);
    const rest after = rest_of(f);
    assert_same_books(&before, &warm);
    assert_same_books(&before, &after);
    assert_int_equal(after.n_threads, warm.n_threads);
    assert_int_equal(after.n_descriptors, warm.n_descriptors);
    uint64_t n_rounds = 0;
    for (size_t i = 0; i < N_SPEAKERS; i++)
        n_rounds += f->speakers[i].n_rounds;
    print_message("%s %s/%s: %u swaps in %llu answers; resident %llu KiB after %d swaps, %llu after all\n", kind, first,
                  second, n, (unsigned long long)(n_rounds * N_TURNS), (unsigned long long)warm.rss_kib, N_WARM,
                  (unsigned long long)after.rss_kib);
    if (!PROCESS_IS_SANITIZED)
        assert_true(after.rss_kib <= warm.rss_kib + RSS_KIB);
    end(f);
}

#define N_SWAPS      100

/* Books that can be compared at rest: nothing is kept of a request that has ended, and buffers, which are as large as
 * the largest step was, are so after one prompt of more than 32 tokens. */
#define STEADY_BOOKS "--set", "sessions.left_max=0", "--set", "engine.batch_tokens=32", "--set", "engine.chunk=32"

static void attention(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, NULL};
    back_and_forth(*state, "attention", "flash", "reference", arguments, false, N_SWAPS);
}

static void cache(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, "--plugin", "cache=ring", NULL};
    back_and_forth(*state, "cache", "ring", "paged", arguments, true, N_SWAPS);
}

static void cache_of_two_stages(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, "--plugin", "cache=paged", "--set", "pipeline.stages=2", NULL};
    back_and_forth(*state, "cache", "paged", "ring", arguments, true, N_SWAPS);
}

static void expert(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, "--plugin", "expert=quant", NULL};
    back_and_forth(*state, "expert", "quant", "reference", arguments, false, N_SWAPS);
}

static void expert_blas(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, "--plugin", "expert=quant", NULL};
    if (access(BORA_BUILD_DIR "/lib/bora/plugins/expert-blas.so", R_OK) != 0)
        BORA_SKIP("built without OpenBLAS");
    back_and_forth(*state, "expert", "quant", "blas", arguments, false, N_SWAPS);
}

static void link_of_two_stages(void **state)
{
    const char *const arguments[] = {STEADY_BOOKS, "--set", "pipeline.stages=2", NULL};
    back_and_forth(*state, "link", "thread", "thread", arguments, true, N_SWAPS);
}

/* What finished requests left in memory goes into the new cache too, and serves there. */
static void what_was_left_is_carried_over(void **state)
{
    fixture *f = *state;
    const char *const arguments[] = {"--plugin", "cache=ring", NULL};
    const char *const names[] = {"paged", "ring", "paged"};
    char prompt[2000] = "";
    for (size_t i = 0; i < 24; i++)
        (void)strncat(prompt, "In the wood lives a fox, and the fox reads a book. ",
                      sizeof prompt - strlen(prompt) - 1);
    bora_client_generation g = {.prompt = prompt,
                                .prompt_size = strlen(prompt),
                                .ignore_eos = true,
                                .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
                                .max_tokens = N_TOKENS};
    bora_test_answer first = {0};
    start(f, arguments);
    assert_int_equal(bora_test_answer_get(f->clients[0], &g, &first), BORA_CLIENT_OK);
    for (size_t i = 0; i < 3; i++) {
        ask_for(f, "cache", names[i]);
        while (f->use.is_open)
            assert_true(bora_test_dispatch(&f->admin, 1));
        assert_false(f->use.is_refused);
        bora_test_answer again = {0};
        assert_int_equal(bora_test_answer_get(f->clients[0], &g, &again), BORA_CLIENT_OK);
        check_same(&again, &first);
        assert_true(again.n_reused >= first.n_prompt / 2);
        bora_test_answer_release(&again);
    }
    bora_test_answer_release(&first);
    end(f);
}

/* ---- swaps that cannot be ------------------------------------------------------------------------------------------
 */

/* An attention for keys and values of DTYPES that never gets further than create. */
static const char narrow_source[] =
    "#include <bora/plugin.h>\n"
    "struct bora_attention { const bora_host *host; };\n"
    "static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,\n"
    "                          bora_error *e)\n"
    "{ (void)host; (void)shape; (void)ret; return bora_fail(e, BORA_E_INVAL, \"this plugin wants more heads\"); }\n"
    "static void destroy(bora_attention *self) { (void)self; }\n"
    "static bora_status attend(bora_attention *self, uint32_t n, const bora_attention_seq *seqs, bora_error *e)\n"
    "{ (void)self; (void)n; (void)seqs; return bora_fail(e, BORA_E_INTERNAL, \"not for use\"); }\n"
    "static const bora_attention_ops ops = {sizeof ops, DTYPES, create, 0, 0, destroy, attend};\n"
    "static const bora_plugin plugin = {sizeof plugin, 1, 0, BORA_PLUGIN_ATTENTION, 0, \"odd\", \"1.0\", &ops};\n"
    "const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)\n"
    "{ (void)host; (void)err; return &plugin; }\n";

static void compile(const bora_temp_folder *folder, const char *dtypes, const char *name,
                    char ret_path[BORA_TEMP_PATH_SIZE])
{
    char command[4 * BORA_TEMP_PATH_SIZE], from[BORA_TEMP_PATH_SIZE];
    (void)bora_temp_folder_write(folder, "plugin.c", narrow_source, sizeof narrow_source - 1, from);
    (void)bora_temp_folder_path(folder, name, ret_path);
    (void)snprintf(command, sizeof command,
                   "cc -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared -I'%s/plugins/include' -DDTYPES='%s' "
                   "-o '%s' '%s'",
                   BORA_SOURCE_DIR, dtypes, ret_path, from);
    assert_int_equal(system(command), 0);
}

typedef struct refusal {
    const char *kind, *name, *code, *says;
} refusal;

/* Each while all talk: the reason comes, and their answers are those that they get alone. */
static void check_refused(fixture *f, const refusal *refusals, size_t n)
{
    size_t n_asked = 0, n_done = 0;
    f->n_tokens_seen = count_tokens(f);
    while (go_on(f, n_done < n)) {
        assert_true(bora_test_dispatch(f->clients, N_SPEAKERS + 1));
        const refusal *r = n_asked ? &refusals[n_asked - 1] : NULL;
        if (n_done < n_asked && !f->use.is_open) {
            assert_true(f->use.is_refused);
            if (strcmp(f->use.error.code, r->code) != 0 || !strstr(f->use.error.message, r->says))
                fail_msg("%s %s: not %s, '%s', but %s: %s", r->kind ? r->kind : "-", r->name ? r->name : "-", r->code,
                         r->says, f->use.error.code, f->use.error.message);
            n_done++;
        }
        if (n_asked < n && n_done == n_asked && is_time(f)) {
            ask_for(f, refusals[n_asked].kind, refusals[n_asked].name);
            n_asked++;
        }
    }
    assert_int_equal(n_done, n);
}

static void what_cannot_be_says_why_and_changes_nothing(void **state)
{
    fixture *f = *state;
    const char *const arguments[] = {STEADY_BOOKS,   "--set",      "expert.reference.colour=red",
                                     "--plugin",     "cache=ring", "--plugin",
                                     "expert=quant", NULL};
    char text[BORA_TEMP_PATH_SIZE], narrow[BORA_TEMP_PATH_SIZE], refusing[BORA_TEMP_PATH_SIZE];
    (void)bora_temp_folder_write(&f->daemon.folder, "text.so", "no plugin at all\n", 17, text);
    compile(&f->daemon.folder, "BORA_DTYPE_BIT(BORA_DTYPE_F32)", "narrow.so", narrow);
    compile(&f->daemon.folder, "BORA_DTYPE_BITS_ALL", "refusing.so", refusing);
    const char *plain = BORA_BUILD_DIR "/lib/libbora.so.0", *other = BORA_BUILD_DIR "/lib/bora/plugins/expert-quant.so";
    const refusal refusals[] = {
        {"attention", "nowhere", "not_found", "nowhere"},
        {"expert", "flash", "not_found", "flash"},
        {"attention", "/nowhere/attention-flash.so", "not_found", "/nowhere/attention-flash.so"},
        {"attention", "../flash", "invalid", "../flash"},
        {"router", "flash", "invalid", "kind must be attention, cache, expert or link, not 'router'"},
        {"", "flash", "invalid", "kind must be"},
        {NULL, "flash", "invalid", "kind"},
        {"attention", NULL, "invalid", "name"},
        {"attention", other, "invalid", "is of kind 'expert', wanted is 'attention'"},
        {"attention", text, "format", "text.so"},
        {"attention", plain, "format", "bora_plugin_entry"},
        {"attention", narrow, "unsupported", "plugin attention/odd does not speak f16 keys and values"},
        {"attention", refusing, "invalid", "this plugin wants more heads"},
        {"expert", "reference", "invalid", "colour"},
        {"link", "thread", "unsupported", "a link is not in use with one stage"},
    };
    start(f, arguments);
    talk_alone(f);
    f->is_exact = true;
    talk_together(f);
    const rest before = rest_of(f);
    check_refused(f, refusals, sizeof refusals / sizeof refusals[0]);
    assert_in_use(f, "attention", "flash");
    assert_in_use(f, "cache", "ring");
    assert_in_use(f, "expert", "quant");
    const rest after = rest_of(f);
    assert_same_books(&before, &after);
    assert_int_equal(after.n_threads, before.n_threads);
    assert_int_equal(after.n_descriptors, before.n_descriptors);
    assert_true(bora_test_daemon_logged(&f->daemon, "plugin.use: nothing has changed: "));
    end(f);
}

/* A swap that the memory limit does not allow: the packed weights of quant are not there while reference is in use. */
static void without_memory_all_stays(void **state)
{
    fixture *f = *state;
    const char *const arguments[] = {STEADY_BOOKS, "--plugin", "expert=quant", "--threads", "2", NULL};
    char limit[32];
    start(f, arguments);
    talk_alone(f);
    const rest with_quant = rest_of(f);
    for (size_t i = 0; i <= N_SPEAKERS; i++) {
        bora_client_close(f->clients[i]);
        f->clients[i] = NULL;
    }
    end(f);

    /* Both at once do not fit: half of what quant's weights take is left for caches. */
    (void)snprintf(limit, sizeof limit, "%llu",
                   (unsigned long long)(with_quant.accounts[7] + with_quant.accounts[3] / 2));
    const char *const limited[] = {STEADY_BOOKS, "--plugin",       "expert=quant", "--threads",
                                   "2",          "--memory-limit", limit,          NULL};
    start(f, limited);
    f->is_exact = true;
    talk_together(f);
    const rest before = rest_of(f);
    const refusal refusals[] = {{"expert", "quant", "limit", "would pass the limit of "}};
    check_refused(f, refusals, 1);
    assert_in_use(f, "expert", "quant");
    const rest after = rest_of(f);
    assert_same_books(&before, &after);
    end(f);
}

/* In a process of its own: whoever becomes somebody else stays so. 0: as it should be. */
static int be_another_user(const char *socket)
{
    if (setgroups(0, NULL) != 0 || setgid(OTHER_UID) != 0 || setuid(OTHER_UID) != 0)
        return 2;
    bora_client *client = bora_test_connect(socket);
    bora_client_request *request = bora_client_request_new("plugin.use");
    bora_client_request_string(request, "kind", "cache");
    bora_client_request_string(request, "name", "paged");
    bora_client_error error = {.code = ""};
    if (!client || bora_client_call(client, &request, NULL, &error) != BORA_CLIENT_E_REFUSED)
        return 3;
    return strcmp(error.code, "permission") == 0 ? 0 : 4;
}

static void only_whom_the_daemon_belongs_to_may(void **state)
{
    fixture *f = *state;
    const char *const arguments[] = {"--plugin", "cache=ring", NULL};
    char run[BORA_TEMP_PATH_SIZE];
    int status = 0;
    if (geteuid() != 0)
        BORA_SKIP("only root can be another user");
    start(f, arguments);
    (void)bora_temp_folder_path(&f->daemon.folder, "run", run);
    assert_int_equal(chmod(f->daemon.folder.path, 0711) || chmod(run, 0711) || chmod(f->daemon.socket, 0666), 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(be_another_user(f->daemon.socket));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_in_use(f, "cache", "ring");
    end(f);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN(attention),
        RUN(cache),
        RUN(cache_of_two_stages),
        RUN(expert),
        RUN(expert_blas),
        RUN(link_of_two_stages),
        RUN(what_was_left_is_carried_over),
        RUN(what_cannot_be_says_why_and_changes_nothing),
        RUN(without_memory_all_stays),
        RUN(only_whom_the_daemon_belongs_to_may),
    };
    return cmocka_run_group_tests_name("plugin use", tests, NULL, NULL);
}
