/* The command line: what is right is taken, what is wrong is named. */
#include "bench/load/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define ARGUMENTS_MAX 24

/* words: arguments with blanks between. */
static bool parse(const char *words, bora_load_options *ret, char why[200])
{
    static char copy[600];
    char *argv[ARGUMENTS_MAX] = {"load"}, *save = NULL;
    int argc = 1;
    (void)snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        assert_true(argc < ARGUMENTS_MAX - 1);
        argv[argc++] = word;
    }
    return bora_load_options_parse(argc, argv, ret, why);
}

static void good(const char *words, bora_load_options *ret)
{
    char why[200] = "";
    if (!parse(words, ret, why))
        fail_msg("'%s': %s", words, why);
}

static void bad(const char *words, const char *what)
{
    char why[200] = "";
    bora_load_options o;
    if (parse(words, &o, why))
        fail_msg("'%s' was taken", words);
    if (!strstr(why, what))
        fail_msg("'%s': '%s' does not say '%s'", words, why, what);
}

static void test_defaults(void **state)
{
    (void)state;
    bora_load_options o;
    good("", &o);
    assert_null(o.socket);
    assert_int_equal(o.n_clients, 16);
    assert_int_equal(o.n_owners, 1);
    assert_int_equal(o.n_clients_of[0], 16);
    assert_int_equal(o.seconds, 10);
    assert_int_equal(o.n_requests, 0);
    assert_int_equal(o.n_lengths, 3);
    assert_int_equal(o.lengths[0].weight, 70);
    for (int i = 0; i < BORA_LOAD_CHURN_NONE; i++)
        assert_true(o.churn[i] == 0);
    assert_false(o.check_solo || o.canary || o.json || o.help);
}

static void test_all(void **state)
{
    (void)state;
    bora_load_options o;
    good("-S /x/y --clients 10 --owners 4 --seconds 7 --think 5,6 --prompt-mix long:1,33:2 --max-tokens 3,4 "
         "--sessions .25 --churn slow:1,cancel:2.5",
         &o);
    assert_string_equal(o.socket, "/x/y");
    const uint32_t split[] = {3, 3, 2, 2};
    assert_memory_equal(o.n_clients_of, split, sizeof split);
    assert_int_equal(o.seconds, 7);
    assert_int_equal(o.think_min, 5);
    assert_int_equal(o.think_max, 6);
    assert_int_equal(o.n_lengths, 2);
    assert_int_equal(o.lengths[0].n_words, 300);
    assert_int_equal(o.lengths[1].n_words, 33);
    assert_int_equal(o.lengths[1].weight, 2);
    assert_int_equal(o.max_tokens_min, 3);
    assert_int_equal(o.max_tokens_max, 4);
    assert_true(o.sessions == 0.25);
    assert_true(o.churn[BORA_LOAD_CHURN_SLOW] == 0.01);
    assert_true(o.churn[BORA_LOAD_CHURN_CANCEL] == 0.025);
    assert_true(o.churn[BORA_LOAD_CHURN_VANISH] == 0);
    good("--split 40,8,1 --requests 9 --background 1 --timeout-ms 50 --seed 18446744073709551615 --uid-first 70000 "
         "--check-solo --canary --falsify canary --json=/tmp/x",
         &o);
    assert_int_equal(o.n_owners, 3);
    assert_int_equal(o.n_clients, 49);
    assert_int_equal(o.n_clients_of[1], 8);
    assert_int_equal(o.n_requests, 9);
    assert_true(o.background == 1);
    assert_int_equal(o.timeout_ms, 50);
    assert_true(o.seed == UINT64_MAX);
    assert_int_equal(o.uid_first, 70000);
    assert_true(o.check_solo && o.canary && o.json);
    assert_int_equal(o.falsify, BORA_LOAD_FALSIFY_CANARY);
    assert_string_equal(o.json_path, "/tmp/x");
    good("--json", &o);
    assert_true(o.json);
    assert_null(o.json_path);
}

static void test_wrong(void **state)
{
    (void)state;
    bad("--clients 0", "--clients must be");
    bad("--clients 1001", "--clients must be");
    bad("--clients -1", "--clients must be");
    bad("--clients 5x", "--clients must be");
    bad("--clients", "a value is missing: --clients");
    bad("--owners 17", "--owners must be");
    bad("--owners 4 --clients 3", "at least as many clients");
    bad("--nonsense", "no such option: --nonsense");
    bad("word", "unexpected: 'word'");
    bad("--seconds 99999999999999999999999", "--seconds must be");
    bad("--think 6,5", "--think must be");
    bad("--think 6", "--think must be");
    bad("--think 6;7", "--think must be");
    bad("--max-tokens 0,5", "--max-tokens must be");
    bad("--max-tokens 5,6,7", "--max-tokens must be");
    bad("--sessions 1.5", "--sessions must be");
    bad("--sessions nan", "--sessions must be");
    bad("--sessions -0", "--sessions must be");
    bad("--prompt-mix tall:5", "does not begin with");
    bad("--prompt-mix 0:5", "does not begin with");
    bad("--prompt-mix short", "does not begin with");
    bad("--prompt-mix 12", "--prompt-mix must be");
    bad("--prompt-mix short:5000", "--prompt-mix must be");
    bad("--prompt-mix short:5;", "--prompt-mix must be");
    bad("--prompt-mix short:0,long:0", "some weight");
    bad("--prompt-mix 1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1", "at most 8 lengths");
    bad("--churn dance:5", "--churn must be");
    bad("--churn cancel:101", "--churn must be");
    bad("--churn cancel:60,vanish:41", "more than 100 per cent");
    bad("--split 1,2,x", "--split must be");
    bad("--split 1,0", "--split must be");
    bad("--split 1000,1", "--split: at most");
    bad("--split 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "--split must be");
    bad("--seed 18446744073709551616", "--seed must be");
    bad("--falsify everything", "--falsify must be");
    bad("--falsify solo --canary", "--falsify needs the check");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
