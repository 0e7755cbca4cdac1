/* The command bora against a fake daemon: what it sends, what it prints, how it ends; and a chat in a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bora_fixture.h"

/* ---- the command line ---- */

static void test_help(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "--help"), 0);
    assert_has(f->out, "usage: bora COMMAND");
    assert_has(f->out, "exit status:");
    static const char *const commands[] = {"chat",   "ask",    "complete", "sessions", "session",
                                           "status", "model",  "plugins",  "tokenize", "detokenize",
                                           "top",    "plugin", "metrics"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        assert_int_equal(RUN(f, NULL, commands[i], "--help"), 0);
        char usage[64];
        (void)snprintf(usage, sizeof usage, "usage: bora %s [OPTION...]", commands[i]);
        assert_has(f->out, usage);
        assert_has(f->out, "--socket PATH");
    }
    assert_int_equal(atomic_load(&f->daemon->n_hellos), 0); /* help needs no daemon */
}

static void test_usage_errors(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *words[6];
        const char *complaint;
    } cases[] = {
        {{NULL}, "bora: say what to do, as in: bora chat; see: bora --help\n"},
        {{"dance"}, "there is no command 'dance'"},
        {{"ask"}, "no TEXT is given"},
        {{"ask", "--wrong", "x"}, "ask: unknown option --wrong; see: bora ask --help\n"},
        {{"ask", "-q", "x"}, "unknown option -q"},
        {{"ask", "x", "--temp"}, "option --temp takes a value"},
        {{"ask", "x", "-n"}, "option -n takes a value"},
        {{"ask", "x", "--verbose=1"}, "option --verbose=1 takes no value"},
        {{"ask", "x", "--temp", "hot"}, "--temp takes a number, not 'hot'"},
        {{"ask", "x", "--temp", "nan"}, "--temp takes a number, not 'nan'"},
        {{"ask", "x", "--top-p", "inf"}, "--top-p takes a number, not 'inf'"},
        {{"ask", "x", "-n", "-3"}, "--max-tokens takes a whole number from 0, not '-3'"},
        {{"ask", "x", "-n", "4294967296"}, "--max-tokens takes a whole number"},
        {{"ask", "x", "--seed", "18446744073709551616"}, "--seed takes a whole number"},
        {{"ask", "x", "--logit-bias", "5"}, "--logit-bias takes ID=BIAS"},
        {{"ask", "x", "--logit-bias", "5=x"}, "--logit-bias takes ID=BIAS"},
        {{"ask", "x", "--tokens", "1"}, "unknown option --tokens"},
        {{"ask", "\xff"}, "TEXT is not UTF-8"},
        {{"complete", "--tokens", "1,x"}, "'x' is not a token id"},
        {{"complete", "--tokens", "99999999999"}, "'99999999999' is not a token id"},
        {{"complete", "--tokens", "1", "x"}, "give TEXT or --tokens, not both"},
        {{"complete", "--tokens", "1", "--no-bos"}, "--no-bos goes with TEXT"},
        {{"session"}, "say what: show, rename or delete"},
        {{"session", "burn", "x"}, "there is no 'session burn'"},
        {{"session", "show"}, "show takes one NAME"},
        {{"session", "rename", "x"}, "rename takes the old NAME and the NEW one"},
        {{"status", "now"}, "takes no words, such as 'now'"},
        {{"chat", "hello"}, "to ask once: bora ask"},
        {{"detokenize", "1", "two"}, "'two' is not a token id"},
        {{"detokenize", ","}, "no token ids are given"},
        {{"ask", "x", "--choices", "0"}, "--choices takes a whole number from 1, not '0'"},
        {{"ask", "-s", "work", "--choices", "2", "x"}, "--choices goes without --session"},
        {{"ask", "x", "--timeout", "0"}, "--timeout takes seconds, from 0.001 to 4294967, not '0'"},
        {{"ask", "x", "--timeout", "4294968"}, "--timeout takes seconds"},
        {{"ask", "x", "--timeout", "soon"}, "--timeout takes seconds"},
        {{"chat", "--choices", "2"}, "unknown option --choices"},
        {{"plugin"}, "say what: info or use"},
        {{"plugin", "burn", "x"}, "there is no 'plugin burn'"},
        {{"plugin", "use", "attention"}, "use takes a KIND and a NAME"},
        {{"top", "now"}, "takes no words, such as 'now'"},
        {{"metrics", "now"}, "takes no words, such as 'now'"},
        {{"tokenize", "--ids", "--json", "x"}, "give --ids or --json, not both"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(run(f, NULL, cases[i].words), 2);
        assert_has(f->err, cases[i].complaint);
        assert_string_equal(f->out, "");
    }
    assert_int_equal(atomic_load(&f->daemon->n_hellos), 0);
}

static void test_no_daemon(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "--socket", "/tmp/bora-test-of-nobody/bora.sock", "status"), 3);
    assert_has(f->err, "bora: no daemon listens on ipc:///tmp/bora-test-of-nobody/bora.sock; start one with: borad");
    assert_int_equal(RUN(f, "hello\n", "chat", "--socket", "/tmp/bora-test-of-nobody/bora.sock"), 3);
}

/* ---- listings ---- */

static void test_listings(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "sessions"), 0);
    assert_has(f->out, "SESSION  TOKENS  MESSAGES  LAST USED         MODEL\n"
                       "work      1,234         4  ");
    assert_has(f->out, "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e        7         4  "); /* wide characters: 6 columns */
    assert_has(f->out, "other (not loaded)\n");
    assert_int_equal(RUN(f, NULL, "session", "show", "work"), 0);
    assert_has(f->out, "tokens     1,234\n");
    assert_has(f->out, "\nsystem\n  Be brief.\n\nuser\n  two\n  lines\n\nassistant\n  half an ans\n  [interrupted]\n");
    assert_int_equal(RUN(f, NULL, "status"), 0);
    assert_has(f->out, "101.3 prompt tokens and 12.3 generated per second");
    assert_has(f->out, "daemon     borad 9.8.7, process 77, loading\n"
                       "loading    38 %, 1.5 MiB of 4.0 MiB\nup         1 h 2 min\n");
    assert_has(f->out, "memory     1.2 GiB of 20.0 GiB: weights 0 B, sessions 1.5 MiB (q8_0), program 32.0 MiB, "
                       "later\\n 1.0 KiB\n"
                       "resident   1.0 GiB; at most 2.0 GiB were in use so far\n");
    assert_has(f->out, "1,234,567 prompt tokens, 640 more reused, ");
    assert_has(f->out, "plugins    attention flash, cache ring\\x1b\n");
    assert_has(f->out, "1 thread, 2 pipeline stages");
    assert_has(f->out, "work                1,234   2.0 KiB  answering\n");
    assert_int_equal(RUN(f, NULL, "model"), 0);
    assert_has(f->out, "46,702,792,704, of which a token uses 12,879,925,248\n");
    assert_has(f->out, "none in 2 layers, 4,096 in 4 layers\n");
    assert_has(f->out, "rope theta    1000000\n");
    assert_int_equal(RUN(f, NULL, "plugins"), 0);
    assert_has(f->out, "attention  reference  1.0      yes     yes        /lib/x.so\n");
    assert_int_equal(RUN(f, NULL, "tokenize", "hello"), 0);
    assert_has(f->out, "  ID  PIECE\n   1  \"<s>\"\n2345  \" hel\\n\"\n");
    assert_int_equal(RUN(f, NULL, "tokenize", "--ids", "hello"), 0);
    assert_string_equal(f->out, "1,2345\n");
    assert_int_equal(RUN(f, NULL, "detokenize", "1,2", "3"), 0);
    assert_string_equal(f->out, "3 tokens");
    assert_int_equal(RUN(f, "4, 5\n", "detokenize"), 0);
    assert_string_equal(f->out, "2 tokens");
    assert_has_not(f->out, "\033"); /* no colours in a file */
}

static void test_listings_as_json(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "sessions", "--json"), 0);
    assert_has(f->out, "{\n  \"sessions\": [\n    {\n      \"session_id\": \"0123456789abcdef0123456789abcdef\",");
    assert_has(f->out, "\"n_tokens\": 1234,");
    assert_has(f->out, "\"current_model\": false,");
    assert_int_equal(RUN(f, NULL, "--json", "status"), 2); /* after the command */
    assert_int_equal(RUN(f, NULL, "session", "show", "work", "--json"), 0);
    assert_has(f->out, "\"text\": \"two\\nlines\"");
    assert_int_equal(RUN(f, NULL, "model", "--json"), 0);
    assert_has(f->out, "\"windows\": [0, 4096, 4096, 0, 4096, 4096]\n}\n");
    assert_int_equal(RUN(f, NULL, "tokenize", "--json", "hello"), 0);
    assert_has(f->out, "\"tokens\": [1, 2345],");
    assert_int_equal(RUN(f, NULL, "plugins", "--json"), 0);
    assert_has(f->out, "\"in_use\": true");
}

static void test_session_changes(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "session", "rename", "work", "play"), 0);
    assert_int_equal(RUN(f, NULL, "session", "delete", "work"), 0);
    assert_int_equal(RUN(f, NULL, "session", "delete", "gone"), 1);
    assert_string_equal(f->err, "bora: there is no session 'gone' (not_found)\n");
    assert_int_equal(RUN(f, NULL, "session", "show", "gone"), 1);
}

/* ---- answers ---- */

static void test_complete_sends_all_options(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "complete", "Once", "upon", "-n", "7", "--temp", "0.5", "--top-k=3", "--top-p", "0.9",
                         "--min-p", "0.25", "--repeat-penalty", "1.5", "--stop", "a b", "--stop", "c", "--logit-bias",
                         "5=-100", "--no-bos", "--ignore-eos"),
                     0);
    assert_string_equal(f->out, "prompt=Once upon bos=false ignore_eos=true max_tokens=7 temperature=0.5 top_k=3 "
                                "top_p=0.90000000000000002 min_p=0.25 repetition_penalty=1.5 stop=[a b,c,] "
                                "logit_bias=[5:-100,] ");
    assert_int_equal(RUN(f, NULL, "complete", "--tokens", "1,2 3", "--seed", "5", "--repeat-window", "9"), 0);
    assert_string_equal(f->out, "tokens=[1,2,3,] repetition_window=9 seed=5 ");
    assert_int_equal(RUN(f, "from a file\n", "complete"), 0);
    assert_string_equal(f->out, "prompt=from a file\n ");
    assert_int_equal(RUN(f, "unread", "complete", "--", "--temp"), 0);
    assert_string_equal(f->out, "prompt=--temp ");
    char many[4096] = "0";
    for (int i = 1; i < 100; i++)
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), ",%d", i);
    assert_int_equal(RUN(f, NULL, "complete", "--tokens", many), 0);
    assert_has(f->out, "97,98,99,] ");
}

static void test_complete_as_json(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "complete", "x", "--json"), 0);
    assert_string_equal(
        f->out,
        "{\"event\": \"accepted\", \"n_history\": 0, \"n_cached\": 0, \"n_rerun\": 0, \"n_prompt\": 7, \"seed\": "
        "18446744073709551615}\n"
        "{\"event\": \"token\", \"index\": 0, \"token\": 5, \"text\": \"prompt=x \", "
        "\"logprob\": -0.25}\n"
        "{\"event\": \"done\", \"reason\": \"stop\", \"text\": \"\", \"n_generated\": 2, "
        "\"decode_ms\": 500.1, \"stored\": false}\n");
}

static void test_ask(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "hello"), 0);
    assert_string_equal(f->out, "Hi there.\n");
    assert_string_equal(f->err, "");
    assert_int_equal(RUN(f, "from the pipe\n", "ask", "hello"), 0);
    assert_string_equal(f->out, "I have read all of it.\n");
    assert_int_equal(RUN(f, "", "ask", "hello"), 0); /* an empty pipe adds nothing */
    assert_string_equal(f->out, "Hi there.\n");
    assert_int_equal(RUN(f, "hello", "ask"), 0);
    assert_string_equal(f->out, "Hi there.\n");
    assert_int_equal(RUN(f, "\xff\xfe", "ask", "hello"), 1);
    assert_has(f->err, "standard input is not UTF-8 text");
    assert_int_equal(RUN(f, NULL, "ask", "-v", "-s", "work", "hello"), 0);
    assert_has(f->err, "[resumed: 1,234 tokens of history, 0 of them run again]\n");
    assert_has(f->err, "[2 new tokens in 500 ms, 4.0 per second;");
    assert_has(f->err, "seed 18446744073709551615]\n");
    assert_int_equal(RUN(f, NULL, "ask", "-s", "work", "partly"), 0);
    assert_string_equal(f->out, "ok\n");
    assert_has(f->err, "[the context is full: the answer ends here]\n[this answer could not be stored]\n");
}

static void test_failed_answers(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "refuse"), 1);
    assert_string_equal(f->err, "bora: the session is answering (busy)\n");
    assert_string_equal(f->out, "");
    assert_int_equal(RUN(f, NULL, "ask", "shut down"), 4);
    assert_string_equal(f->out, "half an ans\n[interrupted]\n");
    assert_int_equal(RUN(f, NULL, "ask", "refuse", "--json"), 1);
    assert_string_equal(f->out,
                        "{\"event\": \"error\", \"code\": \"busy\", \"message\": \"the session is answering\"}\n");
    assert_int_equal(RUN(f, NULL, "ask", "vanish"), 4);
    assert_string_equal(f->out, "t0 \n[interrupted]\n");
    assert_string_equal(f->err, "bora: the daemon went away before its answer was whole\n");
}

static void test_lost_daemon_as_json(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "ask", "vanish", "--json"), 4);
    assert_has(f->out, "{\"event\": \"error\", \"code\": \"lost\", \"message\": \"the daemon went away\"}\n");
}

/* ---- pipes ---- */

/* Runs bora with its output going to target (-1: closed). */
static int run_into(fixture *f, int target, const char *const *words)
{
    const char *all[WORDS_MAX];
    FILE *err = tmpfile();
    assert_non_null(err);
    (void)words_of(f, words, all);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(open("/dev/null", O_RDONLY), 0);
        (void)dup2(fileno(err), 2);
        if (target >= 0)
            (void)dup2(target, 1);
        else
            (void)close(1);
        become_bora(all);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_file(err, f->err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_output_nobody_reads(void **state)
{
    fixture *f = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    (void)close(ends[0]);
    assert_int_equal(run_into(f, ends[1], (const char *const[]){"ask", "hello", NULL}), 141);
    assert_string_equal(f->err, "");
    assert_int_equal(run_into(f, ends[1], (const char *const[]){"ask", "hang", NULL}),
                     141); /* cancelled, not waited for */
    assert_int_equal(atomic_load(&f->daemon->n_cancels) > 0, 1);
    assert_int_equal(run_into(f, ends[1], (const char *const[]){"sessions", NULL}), 141);
    assert_string_equal(f->err, "");
    (void)close(ends[1]);
    assert_int_equal(run_into(f, -1, (const char *const[]){"ask", "hello", NULL}), 1);
    assert_has(f->err, "cannot write the output");
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full >= 0) {
        assert_int_equal(run_into(f, full, (const char *const[]){"model", NULL}), 1);
        assert_has(f->err, "cannot write the output: No space left on device");
        (void)close(full);
    }
}

/* ---- chats without a terminal ---- */

static void test_scripted_chat(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "hello\n\n  \ntwo\\\nlines\n//slash\n", "chat", "-s", "work"), 0);
    assert_string_equal(f->out, "Hi there.\nI have read all of it.\nI have read all of it.\n");
    assert_has(f->err, "[session work: 4 messages, 1,234 tokens; last used 2023-11-1");
    assert_has(f->err, "[resumed: 1,234 tokens of history, 0 of them run again]\n");
    assert_int_equal(RUN(f, "partly\nhello\n", "chat", "-s", "fresh", "--echo"), 0);
    assert_string_equal(f->out, "> partly\nok\n> hello\nHi there.\n");
    assert_has(f->err, "[session fresh is new]\n[resumed: 1,000 tokens of history, 600 of them run again]\n");
    assert_int_equal(RUN(f, "hello\nrefuse\nhello\n", "chat"), 1); /* the first failure ends a script */
    assert_string_equal(f->out, "Hi there.\n");
    assert_has(f->err, "(busy)");
    assert_int_equal(RUN(f, "hello\n/quit\nhello\n", "chat"), 0);
    assert_string_equal(f->out, "Hi there.\n");
    assert_int_equal(RUN(f, "\xff\n", "chat"), 1);
}

static void test_slash_commands(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "/settings\n/temp 0.5\n/seed 7\n/top-k 3\n/stop x y\n/settings\n", "chat"), 0);
    assert_has(f->err, "[nothing is set: the daemon's defaults hold]");
    assert_has(f->out,
               "  temp             0.5\n  top-k            3\n  seed             7\n  stop             \"x y\"\n");
    assert_int_equal(RUN(f, "/seed 7\n/seed random\n/settings\n", "chat"), 0);
    assert_has(f->err, "[nothing is set");
    assert_int_equal(RUN(f, "/sessions\n", "chat"), 0);
    assert_has(f->out, "SESSION  TOKENS");
    assert_int_equal(RUN(f, "/session\n/session work\n/session\n/show\n/new\n/session\n", "chat"), 0);
    assert_has(f->err, "[this is a new session");
    assert_has(f->err, "[this is session work]");
    assert_has(f->out, "  half an ans\n");
    assert_int_equal(RUN(f, "/temp\n/temp hot\n/dance\n/socket x\n/help me\n/rename x\n", "chat"), 0);
    assert_has(f->err, "/temp takes a value");
    assert_has(f->err, "--temp takes a number, not 'hot'");
    assert_has(f->err, "there is no /dance; /help lists the commands");
    assert_has(f->err, "there is no /socket");
    assert_has(f->err, "/help takes no words");
    assert_int_equal(RUN(f, "/help\n", "chat"), 0);
    assert_has(f->out, "  /session [NAME]     go on in another session");
}

/* ---- chats in a terminal ---- */

#define PROMPT "\033[1m>\033[0m "

static void test_terminal_chat(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"chat", NULL});
    expect(f, "bora " BORA_VERSION " with tiny. /help lists the commands");
    expect(f, PROMPT);
    type(f, "hang\r");
    expect(f, "t0 ");
    type(f, "\003");
    expect(f, "[interrupted]\r\n");
    expect(f, PROMPT);
    assert_int_equal(atomic_load(&f->daemon->n_cancels), 1);
    type(f, "half a line");
    expect(f, "half a line");
    type(f, "\003");
    expect(f, PROMPT); /* cleared, and the program lives */
    type(f, "hexxllo");
    expect(f, "hexxllo");
    type(f, "\002\002\002\b\b\r"); /* edited: three to the left, two away */
    expect(f, "Hi there.\r\n");
    expect(f, PROMPT);
    type(f, "\020\r"); /* the last line once more, from the history */
    expect(f, "Hi there.\r\n");
    expect(f, PROMPT);
    type(f, "refuse\r");
    expect(f, "the session is answering (busy)");
    expect(f, PROMPT);
    type(f, "\004");
    expect(f, "bora chat -s made-up]");
    assert_int_equal(wait_for_end(f), 0);
}

/* The daemon goes in the middle of an answer and comes back: the chat lives on, and says what the resumption cost. */
static void test_terminal_chat_outlives_the_daemon(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"chat", "-s", "it's", NULL});
    expect(f, PROMPT);
    type(f, "hello\r");
    expect(f, "[resumed: 1,234 tokens of history, 0 of them run again]");
    expect(f, PROMPT);
    type(f, "hello\r");
    expect(f, "Hi there.");
    expect(f, PROMPT);
    assert_null(strstr(strstr(f->out, "resumed") + 1, "resumed")); /* said once */
    type(f, "vanish\r");
    expect(f, "t0 \r\n[interrupted]\r\n");
    expect(f, "the daemon went away before its answer was whole");
    expect(f, PROMPT);
    char directory[sizeof f->daemon->directory];
    (void)snprintf(directory, sizeof directory, "%s", f->daemon->directory);
    fake_stop(f->daemon, true);
    type(f, "hello\r");
    expect(f, "no daemon listens on ");
    expect(f, PROMPT);
    f->daemon = fake_start_with(FAKE_GOOD, directory, house_answers);
    assert_non_null(f->daemon);
    type(f, "hello\r");
    expect(f, "[resumed: 1,234 tokens of history, 0 of them run again]");
    expect(f, "Hi there.");
    expect(f, PROMPT);
    type(f, "/quit\r");
    expect(f, "bora chat -s 'it'\\''s']");
    assert_int_equal(wait_for_end(f), 0);
}

static void test_terminal_is_safe(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"ask", "hostile", NULL});
    assert_int_equal(wait_for_end(f), 0);
    assert_string_equal(f->out, "a\\x1b[31mb\\u009bc\\u202ed\te\r\nend\r\n");
    assert_int_equal(RUN(f, NULL, "ask", "hostile"), 0); /* to a file as it is */
    assert_has(f->out, "a\033[31mb\xc2\x9b");
}

static void test_interrupted_ask(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"ask", "hang", NULL});
    expect(f, "t0 ");
    type(f, "\003");
    assert_int_equal(wait_for_end(f), 130);
    assert_has(f->out, "[interrupted]\r\n");
}

static void test_terminated_chat(void **state)
{
    fixture *f = *state;
    start_in_terminal(f, (const char *const[]){"chat", NULL});
    expect(f, PROMPT);
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    assert_int_equal(wait_for_end(f), -SIGTERM);
    start_in_terminal(f, (const char *const[]){"chat", NULL});
    expect(f, PROMPT);
    type(f, "hang\r");
    expect(f, "t0 ");
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    assert_int_equal(wait_for_end(f), -SIGTERM);
    assert_has(f->out, "[interrupted]\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_help, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_usage_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_daemon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listings_as_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_session_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_complete_sends_all_options, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_complete_as_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_daemon_as_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_output_nobody_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scripted_chat, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slash_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminal_chat, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminal_chat_outlives_the_daemon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminal_is_safe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupted_ask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminated_chat, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
