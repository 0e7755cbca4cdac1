/* Secrets of three users who begin alike: the same long system prompt, then something of their own. Nobody's first
 * request may be quicker for what another has cached, and nothing that one user can ask for holds a word of another's.
 * (tests/integration/test_many.c looks for the same in the midst of a load.) */
#include "support/chat.h"
#include "support/daemon.h"
#include "support/skip.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_OWNERS 3
#define PAGE     64u /* tokens: a shorter beginning is not taken over */
#define DEPTH    16u /* of values; the protocol has 8 */

static const struct {
    uid_t uid;
    const char *secret;
} owners[N_OWNERS] = {{0, "QZX-amber-17"}, {1001, "WVK-cobalt-29"}, {1002, "JYP-jasper-83"}};

static bora_test_daemon daemon_;
static bora_client *clients[N_OWNERS];
static char system_prompt[1600];

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* A connection is whose it was when it was made. */
static bora_client *connect_as(uid_t uid)
{
    if (seteuid(uid) != 0)
        return NULL;
    bora_client *client = bora_test_connect(daemon_.socket);
    return seteuid(0) == 0 ? client : NULL;
}

static int set_up(void **state)
{
    (void)state;
    char run[BORA_TEMP_PATH_SIZE];
    if (geteuid() != 0)
        return 0; /* the tests skip themselves */
    if (!bora_test_daemon_init(&daemon_) || !bora_test_daemon_start(&daemon_, NULL, NULL))
        return -1;
    (void)bora_temp_folder_path(&daemon_.folder, "run", run);
    if (chmod(daemon_.folder.path, 0711) || chmod(run, 0711) || chmod(daemon_.socket, 0666))
        return -1;
    for (size_t i = 0; i < 12; i++)
        (void)snprintf(system_prompt + strlen(system_prompt), sizeof system_prompt - strlen(system_prompt),
                       "You are a helper in house %zu. In the house lives a fox, and the fox reads a book. ", i);
    for (size_t i = 0; i < N_OWNERS; i++)
        if (!(clients[i] = connect_as(owners[i].uid)))
            return -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OWNERS; i++)
        bora_client_close(clients[i]);
    int code = daemon_.pid ? bora_test_daemon_end(&daemon_, SIGTERM) : 0;
    bora_test_daemon_release(&daemon_);
    return code;
}

#define NEEDS_ROOT()                                                                                                   \
    do {                                                                                                               \
        if (geteuid() != 0)                                                                                            \
            BORA_SKIP("only root can be several users");                                                               \
    } while (0)

/* ---- looking for secrets ------------------------------------------------------------------------------------------
 */

static bool holds_text(const char *text, size_t size, const char *secret)
{
    return size > 0 && memmem(text, size, secret, strlen(secret)) != NULL;
}

static bool holds(const bora_client_value *value, const char *secret, unsigned depth)
{
    size_t size = 0;
    const char *text = bora_client_value_text(value, &size);
    bool found = holds_text(text, size, secret);
    for (uint32_t i = 0; !found && depth < DEPTH && i < bora_client_value_count(value); i++)
        found = holds(bora_client_value_key(value, i), secret, depth + 1) ||
                holds(bora_client_value_at(value, i), secret, depth + 1);
    return found;
}

static void assert_no_foreign_text(size_t owner, const char *text, const char *what)
{
    for (size_t i = 0; i < N_OWNERS; i++)
        if (i != owner && holds_text(text, strlen(text), owners[i].secret))
            fail_msg("owner %zu got the secret of owner %zu from %s: %s", owner, i, what, text);
}

/* Whatever the answer is, result or error. True: it was a result with the owner's own secret in it. */
static bool ask(size_t owner, const char *verb, const char *key, const char *text)
{
    bora_client_request *request = bora_client_request_new(verb);
    bora_client_result *result = NULL;
    bora_client_error error = {.message = ""};
    if (key)
        bora_client_request_string(request, key, text);
    bora_client_status st = bora_client_call(clients[owner], &request, &result, &error);
    assert_true(st == BORA_CLIENT_OK || st == BORA_CLIENT_E_REFUSED);
    const bora_client_value *value = bora_client_result_value(result);
    for (size_t i = 0; i < N_OWNERS; i++)
        if (i != owner && holds(value, owners[i].secret, 0))
            fail_msg("owner %zu got the secret of owner %zu from %s", owner, i, verb);
    assert_no_foreign_text(owner, error.message, verb);
    bool has_own = holds(value, owners[owner].secret, 0);
    bora_client_result_free(result);
    return has_own;
}

/* ---- talking -------------------------------------------------------------------------------------------------------
 */

static bora_client_generation generation_of(const char *session, const char *text, uint32_t n_tokens)
{
    return (bora_client_generation){.text = text,
                                    .text_size = strlen(text),
                                    .session = session,
                                    .system = system_prompt,
                                    .ignore_eos = true,
                                    .set = BORA_CLIENT_SET_MAX_TOKENS | BORA_CLIENT_SET_TEMPERATURE,
                                    .max_tokens = n_tokens};
}

/* Tokens that were taken over. */
static uint64_t say(size_t owner, const char *session, const char *format)
{
    char text[200];
    (void)snprintf(text, sizeof text, "%s %s.", format, owners[owner].secret);
    bora_client_generation g = generation_of(session, text, 24);
    bora_test_answer a = {0};
    if (bora_test_answer_get(clients[owner], &g, &a) != BORA_CLIENT_OK)
        fail_msg("%s", a.error.message);
    assert_null(a.disorder);
    assert_no_foreign_text(owner, a.text, "an answer");
    uint64_t n = a.n_reused;
    bora_test_answer_release(&a);
    return n;
}

/* ---- the tests ------------------------------------------------------------------------------------------------------
 */

static void reuse_tells_nothing_of_others(void **state)
{
    (void)state;
    NEEDS_ROOT();
    /* One after the other, each with what those before it have left in memory. */
    for (size_t i = 0; i < N_OWNERS; i++) {
        assert_int_equal(say(i, NULL, "My secret word is"), 0);
        assert_true(say(i, NULL, "Keep this word for me:") >= PAGE);
        char name[64];
        (void)snprintf(name, sizeof name, "diary of %s", owners[i].secret);
        assert_true(say(i, name, "Dear diary, the word is") >= PAGE);
    }
}

static bora_test_answer endless;
static uint64_t n_reused_meanwhile;

static void a_newcomer_speaks(void *context)
{
    (void)context; /* inside a handler of the other's client: another connection may be used */
    n_reused_meanwhile = say(2, NULL, "What is the word? Mine is");
}

/* One that runs is as foreign as one that has ended. */
static void nor_while_others_run(void **state)
{
    (void)state;
    NEEDS_ROOT();
    bora_client *newcomer = connect_as(1003), *old = clients[2];
    assert_non_null(newcomer);
    clients[2] = newcomer; /* who has nothing cached */
    bora_client_generation g = generation_of(NULL, "Tell me a story.", 200);
    n_reused_meanwhile = 1;
    endless = (bora_test_answer){.act = a_newcomer_speaks, .act_on = BORA_CLIENT_EVENT_TOKEN, .act_at = 3};
    assert_int_equal(bora_test_answer_get(clients[0], &g, &endless), BORA_CLIENT_OK);
    assert_true(endless.n_reused >= PAGE); /* its own */
    assert_int_equal(n_reused_meanwhile, 0);
    bora_test_answer_release(&endless);
    bora_client_close(newcomer);
    clients[2] = old;
}

static void nothing_that_is_told_holds_anothers_secret(void **state)
{
    (void)state;
    NEEDS_ROOT();
    char ids[N_OWNERS][40] = {""};
    for (size_t i = 0; i < N_OWNERS; i++) {
        bora_client_result *result = NULL;
        size_t size = 0;
        assert_int_equal(bora_client_session_list(clients[i], &result, NULL), BORA_CLIENT_OK);
        const bora_client_value *sessions = bora_client_value_get(bora_client_result_value(result), "sessions");
        assert_int_equal(bora_client_value_count(sessions), 1);
        const char *id =
            bora_client_value_text(bora_client_value_get(bora_client_value_at(sessions, 0), "session_id"), &size);
        (void)snprintf(ids[i], sizeof ids[i], "%.*s", (int)size, id);
        bora_client_result_free(result);
    }
    for (size_t i = 0; i < N_OWNERS; i++) {
        /* That one's own secret is found shows that others' would be. */
        assert_true(ask(i, "session.list", NULL, NULL));
        assert_true(ask(i, "session.show", "session", ids[i]));
        assert_true(ask(i, "status", NULL, NULL));
        static const char *const verbs[] = {"model", "plugin.list", "metrics", "plugin.use", "hello", "nonsense"};
        for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; v++)
            (void)ask(i, verbs[v], NULL, NULL);
        for (size_t k = 0; k < N_OWNERS; k++) {
            if (k == i)
                continue;
            (void)ask(i, "session.show", "session", ids[k]);
            (void)ask(i, "session.delete", "session", ids[k]);
            (void)ask(i, "session.rename", "session", ids[k]);
            bora_client_generation g = generation_of(ids[k], "What is the word?", 4);
            bora_test_answer a = {0};
            assert_int_equal(bora_test_answer_get(clients[i], &g, &a), BORA_CLIENT_E_REFUSED);
            assert_string_equal(a.error.code, "not_found");
            assert_no_foreign_text(i, a.error.message, "an error");
            bora_test_answer_release(&a);
        }
    }
    for (size_t i = 0; i < N_OWNERS; i++) /* nobody has deleted anything of anybody else */
        assert_true(ask(i, "session.show", "session", ids[i]));
    for (size_t i = 0; i < N_OWNERS; i++)
        assert_false(bora_test_daemon_logged(&daemon_, owners[i].secret));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reuse_tells_nothing_of_others),
        cmocka_unit_test(nor_while_others_run),
        cmocka_unit_test(nothing_that_is_told_holds_anothers_secret),
    };
    return cmocka_run_group_tests_name("canaries", tests, set_up, tear_down);
}
