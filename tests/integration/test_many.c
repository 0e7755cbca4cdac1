/* Many clients of several users at one daemon, with churn: each gets what it would get alone, nobody gets anything of
 * anybody else's, no error comes that was not asked for, and nothing is left behind. The clients are the load
 * generator's, tests/bench/load.
 *
 * With BORA_SOAK_SECONDS=N (make soak) the load goes on for so long and is reported, with verdicts on fairness and on
 * times as well; these are printed and fail nothing, for they depend on who else uses the machine. */
#include "integration/spawn.h"

#include "support/chat.h"
#include "support/daemon.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define LOAD           BORA_BUILD_DIR "/tests/bench/load"

#define REQUESTS       "24" /* of each of the 64 clients: about 1,500, of which each kind of churn gets its share */
#define PATIENCE_S     60   /* until what ends by itself has ended */

/* How much more memory may be resident in the last quarter of a load than in its second. In a soak everything that
 * is kept (64 sessions, buffers, the allocator's own hoard) has been in use by then, and thousands of requests come
 * after: what grows by 16 MiB still is a leak. The short load is not that far. Its sessions may be twice as
 * many in the end, and some in the middle of the longest prompt: half of the 64 clients with the whole cache of a
 * session more. Leaks above some 20 KiB a request are still seen. */
#define GROWTH_SOAK    ((double)(16 << 20))
#define GROWTH_CLIENTS 32

/* Sanitizers keep what was freed, and memory of their own; and they take their time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_OURS 0
#define LOAD_MS        900000
#else
#define MEMORY_IS_OURS 1
#define LOAD_MS        270000 /* what a load may take in all; a soak has its seconds on top */
#endif

static bora_test_daemon daemon_;
static bora_client *witness;
static char report_path[BORA_TEMP_PATH_SIZE], json_path[BORA_TEMP_PATH_SIZE];
static json_t *report; /* of the last load; NULL if it wrote none */
static bool several;   /* we are root: the owners are users of their own */

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    char run[BORA_TEMP_PATH_SIZE];
    int code = 0;
    several = geteuid() == 0;
    if (!bora_test_daemon_init(&daemon_) || !bora_test_daemon_start(&daemon_, NULL, &code)) {
        print_error("borad did not start: %d\n", code);
        return -1;
    }
    (void)bora_temp_folder_path(&daemon_.folder, "report.txt", report_path);
    (void)bora_temp_folder_path(&daemon_.folder, "report.json", json_path);
    /* What a service for several users would do: the folder lets others pass, the socket lets them connect. */
    (void)bora_temp_folder_path(&daemon_.folder, "run", run);
    if (chmod(daemon_.folder.path, 0711) || chmod(run, 0711) || chmod(daemon_.socket, 0666)) {
        print_error("chmod in %s: %s\n", daemon_.folder.path, strerror(errno));
        return -1;
    }
    witness = bora_test_connect(daemon_.socket);
    return witness ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(report);
    bora_client_close(witness);
    int code = bora_test_daemon_end(&daemon_, SIGTERM);
    bora_test_daemon_release(&daemon_);
    return code;
}

/* ---- the load ---------------------------------------------------------------------------------------------------- */

static void be_load(const char *const *arguments, bool is_shown)
{
    const char *argv[SPAWN_ARGUMENTS_MAX + 4] = {LOAD, "--socket", daemon_.socket};
    char json[BORA_TEMP_PATH_SIZE + 8];
    size_t n = 3;
    (void)snprintf(json, sizeof json, "--json=%s", json_path);
    argv[n++] = json;
    for (size_t i = 0; arguments[i] && i < SPAWN_ARGUMENTS_MAX - 1; i++)
        argv[n++] = arguments[i];
    int out = is_shown ? 1 : open(report_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (out >= 0 && dup2(out, 1) >= 0)
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static void show_report(void)
{
    FILE *file = fopen(report_path, "r");
    char line[512];
    while (file && fgets(line, sizeof line, file))
        print_message("%s", line);
    if (file)
        (void)fclose(file);
}

/* Runs it to its end, at most limit_ms; its exit status. Its JSON is in report, the rest in the report's file unless
 * is_shown. */
static int run_load(const char *const *arguments, bool is_shown, int limit_ms)
{
    int status = 0;
    json_decref(report);
    report = NULL;
    (void)unlink(json_path);
    (void)fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_load(arguments, is_shown);
    int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = {.fd = pid_fd, .events = POLLIN};
    bool in_time = pid_fd >= 0 && poll(&ended, 1, limit_ms) == 1;
    if (!in_time)
        (void)kill(pid, SIGKILL);
    (void)close(pid_fd);
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    if (!in_time)
        fail_msg("the load did not end in %d ms", limit_ms);
    report = json_load_file(json_path, 0, NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A number of the report: path is keys with '.' between them. */
static double number(const char *path)
{
    char copy[128], *save = NULL;
    const json_t *at = report;
    (void)snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strtok_r(copy, ".", &save); key; key = strtok_r(NULL, ".", &save))
        at = json_object_get(at, key);
    if (!json_is_number(at))
        fail_msg("the report has no number '%s'", path);
    return json_number_value(at);
}

static double number_of_owner(size_t owner, const char *key)
{
    const json_t *value = json_object_get(json_array_get(json_object_get(report, "owners"), owner), key);
    if (!json_is_number(value))
        fail_msg("the report has no number '%s' of owner %zu", key, owner);
    return json_number_value(value);
}

/* ---- what the daemon holds ----------------------------------------------------------------------------------------
 */

static size_t count(const char *what)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)daemon_.pid, what);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    (void)closedir(folder);
    return n;
}

/* Asks until it is so: each question is answered at once, and the descriptors of clients that went are closed soon. */
static void wait_until_left(size_t n_threads, size_t n_fds)
{
    uint64_t n_running = 1, n_waiting = 0, n_connections = 0;
    size_t threads = 0, fds = 0;
    for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end;) {
        const struct timespec pause = {.tv_nsec = 10000000};
        n_running = bora_test_number(witness, "status", "n_running");
        n_waiting = bora_test_number(witness, "status", "n_waiting");
        n_connections = bora_test_number(witness, "status", "n_connections");
        threads = count("task");
        fds = count("fd");
        if (n_running == 0 && n_waiting == 0 && n_connections == 1 && threads == n_threads && fds == n_fds)
            return;
        (void)nanosleep(&pause, NULL); /* polling, bounded above */
    }
    fail_msg("left behind: %llu running, %llu waiting, %llu connections (1 is ours), %zu threads (%zu before), %zu "
             "descriptors (%zu before)",
             (unsigned long long)n_running, (unsigned long long)n_waiting, (unsigned long long)n_connections, threads,
             n_threads, fds, n_fds);
}

/* ---- the checks ----------------------------------------------------------------------------------------------------
 */

static void check_nothing_failed(int code)
{
    if (code != 0)
        show_report();
    if (!report)
        fail_msg("the load ended with %d and wrote no report", code);
    assert_int_equal(json_object_size(json_object_get(json_object_get(report, "all"), "errors")), 0);
    assert_true(number("all.n_errors") == 0);
    assert_true(number("all.checks.n_different") == 0);
    assert_true(number("all.checks.n_leaks") == 0);
    assert_true(number("status.n_errors") == 0);
    assert_true(number("status.n_leaks") == 0);
    assert_true(number("n_failures") == 0);
    assert_int_equal(code, 0);
}

/* A load in which nothing happened would show nothing. */
static void check_it_was_a_load(size_t n_owners, double n_requests_min)
{
    assert_true(number("n_clients") == 64);
    assert_true(number("n_owners") == (double)n_owners);
    assert_int_equal(json_is_true(json_object_get(report, "several_uids")), several);
    assert_true(number("all.n_requests") >= n_requests_min);
    assert_true(number("all.checks.n_compared") == number("all.n_requests"));
    assert_true(number("all.checks.n_searched") > number("all.n_requests"));
    assert_true(number("all.checks.n_own_secrets") > 0); /* secrets were spoken: others could have heard them */
    assert_true(number("all.n_turns") > 0);
    assert_true(number("all.asked_for.cancelled") > 0);
    assert_true(number("all.asked_for.vanished") > 0);
    assert_true(number("all.asked_for.reconnects") > 0);
    assert_true(number("all.asked_for.slow") > 0);
    assert_true(number("all.asked_for.unread") > 0);
    assert_true(number("all.n_done") + number("all.asked_for.cancelled") + number("all.asked_for.vanished") +
                    number("all.asked_for.unread") ==
                number("all.n_requests"));
    assert_true(number("status.n_asked") > 20);
    for (size_t i = 0; i < n_owners; i++) {
        assert_true(number_of_owner(i, "n_done") > 0);
        assert_true(number_of_owner(i, "n_tokens") > 0);
    }
}

static void check_memory(double growth_max)
{
    double growth = number("status.resident_bytes.last_quarter") - number("status.resident_bytes.second_quarter");
    if (!MEMORY_IS_OURS)
        print_message("memory is not looked at under sanitizers\n");
    else if (growth > growth_max)
        fail_msg("%.1f MiB more than after the warm-up, and at most %.1f are understood", growth / (1 << 20),
                 growth_max / (1 << 20));
}

/* Threads and descriptors as they are when everything has been used once: model, store, a session. */
static void warm_up(size_t *ret_n_threads, size_t *ret_n_fds)
{
    bora_test_answer answer = {0};
    const bora_client_generation generation = {.text = "hey", .text_size = 3, .session = "witness"};
    assert_int_equal(bora_test_answer_get(witness, &generation, &answer), BORA_CLIENT_OK);
    bora_test_answer_release(&answer);
    *ret_n_threads = count("task");
    *ret_n_fds = count("fd");
}

static const char *churn = "connect:5,cancel:5,vanish:5,slow:1";

static void sixty_four_clients_get_what_they_get_alone(void **state)
{
    (void)state;
    size_t n_threads, n_fds, n_owners = several ? 4 : 1;
    const char *const arguments[] = {"--clients", "64",      "--owners",     several ? "4" : "1", "--requests",
                                     REQUESTS,    "--think", "0,20",         "--churn",           churn,
                                     "--seed",    "7",       "--check-solo", "--canary",          NULL};
    warm_up(&n_threads, &n_fds);
    int code = run_load(arguments, false, LOAD_MS);
    check_nothing_failed(code);
    check_it_was_a_load(n_owners, 64 * strtod(REQUESTS, NULL));
    wait_until_left(n_threads, n_fds);
    check_memory(GROWTH_CLIENTS * (double)bora_test_number(witness, "model", "kv_bytes_per_session"));
    print_message("%.0f requests in %.1f s, %.0f prompt tokens reused; fairness %.3f, status within %.1f ms at p99, "
                  "resident %.1f MiB then %.1f\n",
                  number("all.n_requests"), number("seconds"), number("all.checks.n_reused"), number("fairness.tokens"),
                  number("status.ms.p99"), number("status.resident_bytes.second_quarter") / (1 << 20),
                  number("status.resident_bytes.last_quarter") / (1 << 20));
}

static void the_owners_were_users_of_their_own(void **state)
{
    (void)state;
    if (!several)
        BORA_SKIP("only root can be several users");
    assert_non_null(report);
    assert_true(json_is_true(json_object_get(report, "several_uids")));
    for (int i = 0; i < 4; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "client of uid:%d does not read", 61000 + i);
        if (bora_test_daemon_logged(&daemon_, text))
            return; /* the daemon saw one of them */
    }
    fail_msg("the daemon's log knows none of the users");
}

/* ---- the checks can fail ------------------------------------------------------------------------------------------
 */

static void a_different_answer_is_noticed(void **state)
{
    (void)state;
    const char *const arguments[] = {"--clients", "4", "--requests", "4", "--check-solo", "--falsify", "solo", NULL};
    assert_int_equal(run_load(arguments, false, LOAD_MS), 1);
    assert_true(number("all.checks.n_different") > 0);
    assert_true(number("n_failures") == number("all.checks.n_different"));
    const char *told = json_string_value(json_array_get(json_object_get(report, "failures"), 0));
    assert_non_null(told);
    assert_non_null(strstr(told, "owner 0, client "));
    assert_non_null(strstr(told, "alone it was"));
}

static void a_secret_in_the_wrong_hands_is_noticed(void **state)
{
    (void)state;
    const char *const arguments[] = {"--clients", "4", "--requests", "4", "--canary", "--falsify", "canary", NULL};
    assert_int_equal(run_load(arguments, false, LOAD_MS), 1);
    assert_true(number("all.checks.n_leaks") > 0);
    const char *told = json_string_value(json_array_get(json_object_get(report, "failures"), 0));
    assert_non_null(told);
    assert_non_null(strstr(told, "holds the secret of owner 0"));
}

static void an_error_is_noticed(void **state)
{
    (void)state;
    static const char *const few[] = {"--set", "sessions.open_max=2", NULL};
    bora_test_daemon narrow;
    const char *const arguments[] = {"--clients",    "12",      "--requests", "4", "--think", "0,0",
                                     "--max-tokens", "200,200", "--sessions", "0", NULL};
    assert_true(bora_test_daemon_init(&narrow) && bora_test_daemon_start(&narrow, few, NULL));
    char socket[sizeof daemon_.socket];
    memcpy(socket, daemon_.socket, sizeof socket);
    memcpy(daemon_.socket, narrow.socket, sizeof socket);
    int code = run_load(arguments, false, LOAD_MS);
    memcpy(daemon_.socket, socket, sizeof socket);
    bora_test_daemon_release(&narrow);
    assert_int_equal(code, 1);
    assert_true(number("all.errors.busy") > 0);
    assert_true(number("all.n_errors") == number("all.errors.busy"));
}

/* 200 tokens do not come within a millisecond; what had come by then is still what it is alone. */
static void a_deadline_is_no_error(void **state)
{
    (void)state;
    const char *const arguments[] = {"--clients",    "16",  "--requests",   "4", "--max-tokens", "200,200",
                                     "--sessions",   "0.2", "--timeout-ms", "1", "--seed",       "3",
                                     "--check-solo", NULL};
    int code = run_load(arguments, false, LOAD_MS);
    check_nothing_failed(code);
    assert_true(number("all.asked_for.late") > 0);
    assert_true(number("all.n_done") + number("all.asked_for.late") == number("all.n_requests"));
    assert_true(number("all.checks.n_compared") == number("all.n_requests"));
}

static void what_cannot_be_run_says_so(void **state)
{
    (void)state;
    const char *const wrong[] = {LOAD, "--clients", "many", NULL};
    spawn_expect(wrong, NULL, 2, "--clients must be a whole number");
    const char *const nobody[] = {LOAD, "--socket", "/tmp/bora-nobody-listens-here", "--requests", "1", NULL};
    spawn_expect(nobody, NULL, 3, "no daemon listens on");
    const char *const help[] = {LOAD, "--help", NULL};
    spawn_expect(help, NULL, 0, "--prompt-mix");
}

/* ---- the soak ------------------------------------------------------------------------------------------------------
 */

static void verdict(const char *what, double is, const char *relation, double bound)
{
    bool holds = *relation == '<' ? is < bound : is >= bound;
    print_message("%-14s %s: %.4g, to be %s %g\n", holds ? "HOLDS" : "DOES NOT HOLD", what, is, relation, bound);
}

/* Beside it stands how late the machine woke who asked: that much no daemon could help. */
static void verdict_on_status(void)
{
    verdict("status at p99, ms", number("status.ms.p99"), "<", 20);
    print_message("%-14s the machine woke who asked late, by %.4g ms at p99\n", "beside it",
                  number("status.late_ms.p99"));
}

static const char *soak_seconds;

static int soak_ms(void)
{
    double ms = strtod(soak_seconds, NULL) * 1000 + LOAD_MS + 60000;
    assert_true(ms > LOAD_MS && ms < INT32_MAX);
    return (int)ms;
}

static void soak(void **state)
{
    (void)state;
    size_t n_threads, n_fds, n_owners = several ? 4 : 1;
    const char *const arguments[] = {"--clients",  "64",           "--owners",     several ? "4" : "1", "--seconds",
                                     soak_seconds, "--background", "0.2",          "--churn",           churn,
                                     "--seed",     "11",           "--check-solo", "--canary",          NULL};
    warm_up(&n_threads, &n_fds);
    int code = run_load(arguments, true, soak_ms());
    check_nothing_failed(code);
    check_it_was_a_load(n_owners, 64);
    wait_until_left(n_threads, n_fds);
    print_message("\n");
    verdict("fairness between 4 owners alike", number("fairness.tokens"), ">=", 0.95);
    verdict_on_status();
    verdict("memory after the warm-up, MiB more",
            (number("status.resident_bytes.last_quarter") - number("status.resident_bytes.second_quarter")) / (1 << 20),
            "<", GROWTH_SOAK / (1 << 20));
    print_message("%-14s %.0f answers as they are alone, %.0f replies without others' secrets, %zu threads and %zu "
                  "descriptors as before\n",
                  "HOLDS", number("all.checks.n_compared"), number("all.checks.n_searched"), n_threads, n_fds);
    check_memory(GROWTH_SOAK);
}

/* One owner with five times the clients of each other, none of whom thinks: all want more than there is. */
static void soak_with_a_greedy_owner(void **state)
{
    (void)state;
    char seconds[32];
    if (!several)
        BORA_SKIP("only root can be several users");
    (void)snprintf(seconds, sizeof seconds, "%.0f", ceil(strtod(soak_seconds, NULL) / 10));
    const char *const arguments[] = {"--split", "40,8,8,8", "--seconds", seconds,        "--think",  "0,0", "--churn",
                                     churn,     "--seed",   "13",        "--check-solo", "--canary", NULL};
    print_message("\n");
    int code = run_load(arguments, true, soak_ms());
    check_nothing_failed(code);
    print_message("\n");
    verdict("fairness with one owner of 40 clients and 3 of 8", number("fairness.rate"), ">=", 0.95);
    verdict_on_status();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixty_four_clients_get_what_they_get_alone),
        cmocka_unit_test(the_owners_were_users_of_their_own),
        cmocka_unit_test(a_different_answer_is_noticed),
        cmocka_unit_test(a_secret_in_the_wrong_hands_is_noticed),
        cmocka_unit_test(an_error_is_noticed),
        cmocka_unit_test(a_deadline_is_no_error),
        cmocka_unit_test(what_cannot_be_run_says_so),
    };
    const struct CMUnitTest long_tests[] = {
        cmocka_unit_test(soak),
        cmocka_unit_test(soak_with_a_greedy_owner),
    };
    soak_seconds = getenv("BORA_SOAK_SECONDS");
    if (soak_seconds && *soak_seconds)
        return cmocka_run_group_tests_name("soak", long_tests, set_up, tear_down);
    return cmocka_run_group_tests_name("many", tests, set_up, tear_down);
}
