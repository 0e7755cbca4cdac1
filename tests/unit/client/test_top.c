/* bora top: the page as text, and live in a terminal: keys, sizes, signals, a daemon that goes and comes back, and a
 * terminal that is afterwards as it was. */
#include "bora_fixture.h"

#include <sys/ioctl.h>
#include <termios.h>

#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"

static void test_once(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, NULL, "top"), 0); /* there is no terminal */
    assert_has(f->out, "borad 9.8.7, process 77, loading, up 1 h 2 min\nloading   38 % of 4.0 MiB\n");
    assert_has(f->out, "\nmodel     tiny; 1 thread, 2 stages; \n");
    assert_has(f->out, "\nspeed     101.3 prompt and 12.3 generated tokens per second; engine busy 50 %\n");
    assert_has(f->out, "\nsteps     1,000, the last 12.3 ms for 17 rows; 0 slow\n");
    assert_has(f->out, "\ntokens    1,234,567 prompt, 640 more reused, 0 generated; 0 cancelled\n");
    assert_has(f->out, "\nqueue     2 running, 1 waiting; at most 256 open, 64 of one user; 3 connected\n");
    assert_has(f->out, "\nplugins   attention flash, cache ring\\x1b\n");
    assert_has(f->out, "\nmemory    [#.......................] 1.2 GiB of 20.0 GiB; at most 2.0 GiB so far; ");
    assert_has(f->out, "\n  kv       [#.......................]   1.5 MiB\n");
    assert_has(f->out, "\n  later\\n  [#.......................]   1.0 KiB\n");
    assert_has_not(f->out, "weights"); /* nothing is in it */
    assert_has(f->out, "\nYOUR SESSION IN MEMORY  TOKENS  KV CACHE  STATE\n"
                       "work                     1,234   2.0 KiB  answering\n"
                       "\xe6\x97\xa5\xe6\x9c\xac                         7       0 B  idle\n");
    assert_has_not(f->out, "\033");
    assert_int_equal(RUN(f, NULL, "top", "--json"), 0);
    assert_has(f->out, "\"last_step_rows\": 17,");
    start_in_terminal(f, (const char *const[]){"top", "--once", NULL});
    assert_int_equal(wait_for_end(f), 0);
    assert_has(f->out, "borad 9.8.7");
    assert_has_not(f->out, "\033[?1049h");
    assert_int_equal(RUN(f, NULL, "--socket", "/tmp/bora-test-of-nobody/bora.sock", "top"), 3);
}

/* ---- live
 * ------------------------------------------------------------------------------------------------------------ */

static void start_top(fixture *f)
{
    start_in_terminal(f, (const char *const[]){"top", NULL});
    expect(f, ENTER);
}

/* What the terminal does with keys: as for a line, or one by one. */
static bool reads_lines(const fixture *f)
{
    struct termios keys;
    assert_int_equal(tcgetattr(f->terminal, &keys), 0);
    bool lines = keys.c_lflag & ICANON;
    assert_true(lines == ((keys.c_lflag & ECHO) != 0));
    assert_true(lines == (keys.c_cc[VSUSP] != _POSIX_VDISABLE));
    return lines;
}

/* The program has ended; its terminal is looked at before it is closed. */
static void expect_end(fixture *f, int expected)
{
    int status = 0;
    expect(f, LEAVE);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    f->pid = 0;
    assert_true(reads_lines(f));
    (void)close(f->terminal);
    f->terminal = -1;
    assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), expected);
}

static void test_live_until_q(void **state)
{
    fixture *f = *state;
    start_top(f);
    expect(f, "\033[1mborad 9.8.7");
    expect(f, "steps     1,000, the last");
    assert_false(reads_lines(f));
    expect(f, "\033[24H\033[Kq: quit");
    expect(f, "\033[H");
    expect(f, "engine busy 0 %"); /* since the page before it has not been */
    expect(f, "steps     1,001, the last");
    type(f, "x\033");
    type(f, "q");
    expect_end(f, 0);
}

static void test_interrupted(void **state)
{
    fixture *f = *state;
    start_top(f);
    expect(f, "q: quit");
    type(f, "\003");
    expect_end(f, 0);
}

static void test_terminated(void **state)
{
    fixture *f = *state;
    static const int signals[] = {SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        start_top(f);
        expect(f, "q: quit");
        assert_int_equal(kill(f->pid, signals[i]), 0);
        expect_end(f, -signals[i]);
    }
}

/* Nothing runs over the edges: lines are cut, and what does not fit is counted. */
static void test_resized(void **state)
{
    fixture *f = *state;
    start_top(f);
    expect(f, "\033[24H");
    struct winsize size = {.ws_row = 5, .ws_col = 11};
    assert_int_equal(ioctl(f->terminal, TIOCSWINSZ, &size), 0);
    expect(f, "\033[H\033[K\033[1mborad 9.8.7\033[0m\r\n\033[Kloading   3\r\n\033[Kmodel     t\r\n"
              "\033[K... and 1");
    expect(f, "\033[J\033[5H\033[Kq: quit");
    size = (struct winsize){.ws_row = 24, .ws_col = 3};
    assert_int_equal(ioctl(f->terminal, TIOCSWINSZ, &size), 0);
    expect(f, "\033[Kwor\r\n\033[K\xe6\x97\xa5\r\n"); /* two columns and two: half a character is none */
    size = (struct winsize){.ws_row = 1, .ws_col = 3};
    assert_int_equal(ioctl(f->terminal, TIOCSWINSZ, &size), 0);
    expect(f, "\033[H\033[J\033[1H\033[Kq: ");
    type(f, "q");
    expect_end(f, 0);
}

/* Somebody else has the terminal for a while, as a shell does when it has stopped a program. */
static void test_stopped_and_continued(void **state)
{
    fixture *f = *state;
    int status = 0;
    struct termios keys;
    start_top(f);
    expect(f, "q: quit");
    assert_int_equal(kill(f->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(f->pid, &status, WUNTRACED), f->pid);
    assert_int_equal(tcgetattr(f->terminal, &keys), 0);
    keys.c_lflag |= ICANON | ECHO;
    keys.c_cc[VSUSP] = 032;
    assert_int_equal(tcsetattr(f->terminal, TCSANOW, &keys), 0);
    assert_true(reads_lines(f));
    assert_int_equal(kill(f->pid, SIGCONT), 0);
    expect(f, ENTER);
    expect(f, "q: quit");
    assert_false(reads_lines(f));
    type(f, "q");
    expect_end(f, 0);
}

static void test_outlives_the_daemon(void **state)
{
    fixture *f = *state;
    char directory[sizeof f->daemon->directory];
    (void)snprintf(directory, sizeof directory, "%s", f->daemon->directory);
    start_top(f);
    expect(f, "q: quit");
    fake_stop(f->daemon, true);
    f->daemon = NULL;
    expect(f, "no daemon listens on ");
    expect(f, "trying again every second");
    f->daemon = fake_start_with(FAKE_GOOD, directory, house_answers);
    assert_non_null(f->daemon);
    expect(f, "borad 9.8.7");
    type(f, "q");
    expect_end(f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_live_until_q, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resized, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_and_continued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_outlives_the_daemon, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
