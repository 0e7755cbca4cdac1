/* Under a service manager: the socket comes from outside, a client that was first is served, and the manager is told
 * what it wants to know. systemd-socket-activate plays the manager where none runs. */
#include "support/chat.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SILENCE_MS    60000
#define WATCHDOG_USEC "300000"

typedef struct fixture {
    bora_temp_folder folder;
    char socket[108], notify[108], database[108];
    int notify_fd, says_fd;
    pid_t pid;
    char told[8192]; /* everything the manager was told, one message after the other */
    bora_client *client;
} fixture;

/* ---- the manager ------------------------------------------------------------------------------------------------- */

static bool has_activator(void)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path ? path : ""), *rest = copy;
    bool found = false;
    for (char *folder; (folder = strsep(&rest, ":"));) {
        char program[1024];
        (void)snprintf(program, sizeof program, "%s/systemd-socket-activate", folder);
        found = found || access(program, X_OK) == 0;
    }
    free(copy);
    return found;
}

/* Never returns. It hands on only those variables that it is told. */
static void run_activator(const fixture *f, int says)
{
    char notify[128], watchdog[64];
    (void)snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", f->notify);
    (void)snprintf(watchdog, sizeof watchdog, "WATCHDOG_USEC=%s", WATCHDOG_USEC);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves nothing behind */
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0 && dup2(null, 0) >= 0 && dup2(says, 1) >= 0 && dup2(says, 2) >= 0)
        (void)execlp("systemd-socket-activate", "systemd-socket-activate", "-l", f->socket, "-E", notify, "-E",
                     watchdog, "-E", "ASAN_OPTIONS", "-E", "TSAN_OPTIONS", "-E", "UBSAN_OPTIONS",
                     BORA_BUILD_DIR "/bin/borad", "--config", "none", "--database", f->database, (char *)NULL);
    _exit(127);
}

/* Reads what it says until it listens; the daemon's log follows in the same pipe. */
static bool wait_until_listening(const fixture *f)
{
    char text[4096] = "";
    size_t size = 0;
    struct pollfd fd = {.fd = f->says_fd, .events = POLLIN};
    while (size < sizeof text - 1 && poll(&fd, 1, SILENCE_MS) > 0) {
        ssize_t n = read(f->says_fd, text + size, sizeof text - 1 - size);
        if (n <= 0)
            break;
        size += (size_t)n;
        text[size] = '\0';
        if (strstr(text, "Listening on"))
            return true;
    }
    (void)fprintf(stderr, "systemd-socket-activate: %s\n", text);
    return false;
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (!f)
        return -1;
    f->notify_fd = f->says_fd = -1;
    (void)snprintf(f->folder.path, sizeof f->folder.path, "/tmp/bora-test-XXXXXX"); /* a socket's path must be short */
    if (!mkdtemp(f->folder.path))
        return -1;
    (void)snprintf(f->socket, sizeof f->socket, "%.60s/bora.sock", f->folder.path);
    (void)snprintf(f->notify, sizeof f->notify, "%.60s/notify", f->folder.path);
    (void)snprintf(f->database, sizeof f->database, "%.60s/sessions.db", f->folder.path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", f->notify);
    f->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return f->notify_fd >= 0 ? bind(f->notify_fd, (struct sockaddr *)&address, sizeof address) : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    bora_client_close(f->client);
    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
        (void)waitpid(f->pid, NULL, 0);
    }
    (void)close(f->notify_fd);
    if (f->says_fd >= 0)
        (void)close(f->says_fd);
    bora_temp_folder_remove(&f->folder);
    free(f);
    return 0;
}

static void activate(fixture *f)
{
    int says[2];
    assert_int_equal(pipe2(says, O_CLOEXEC), 0);
    f->says_fd = says[0];
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0)
        run_activator(f, says[1]);
    (void)close(says[1]);
    assert_true(wait_until_listening(f));
}

/* Takes messages until one has the text; all of them are kept in told. False if none comes. */
static bool wait_told(fixture *f, const char *text)
{
    struct pollfd fd = {.fd = f->notify_fd, .events = POLLIN};
    while (poll(&fd, 1, SILENCE_MS) > 0) {
        char message[1024];
        ssize_t size = recv(f->notify_fd, message, sizeof message - 1, 0);
        if (size < 0)
            return false;
        message[size] = '\0';
        size_t at = strlen(f->told);
        (void)snprintf(f->told + at, sizeof f->told - at, "%s\n", message);
        if (strstr(message, text))
            return true;
    }
    return false;
}

static int wait_for_end(fixture *f)
{
    int status = 0;
    while (waitpid(f->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    f->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- the test ---- */

static void a_daemon_on_the_managers_socket(void **state)
{
    fixture *f = *state;
    if (!has_activator())
        BORA_SKIP("systemd-socket-activate is not installed");
    activate(f);

    /* The first client waits in the socket while the daemon starts. */
    f->client = bora_test_connect(f->socket);
    assert_non_null(f->client);
    assert_true(wait_told(f, "READY=1"));
    assert_non_null(strstr(f->told, "STATUS=bora-tiny"));
    bora_test_answer answer = {0};
    bora_client_generation g = {.text = "hey", .text_size = 3, .session = "activated"};
    assert_int_equal(bora_test_answer_get(f->client, &g, &answer), BORA_CLIENT_OK);
    assert_true(answer.stored);
    bora_test_answer_release(&answer);

    /* Signs of life as long as it lives, with nothing to do. */
    for (int i = 0; i < 3; i++)
        assert_true(wait_told(f, "WATCHDOG=1"));
    assert_null(strstr(f->told, "STOPPING=1"));

    assert_int_equal(kill(f->pid, SIGTERM), 0);
    assert_true(wait_told(f, "STOPPING=1"));
    assert_int_equal(wait_for_end(f), 0);

    /* The socket is the manager's: it stays for the next start. */
    struct stat info;
    assert_int_equal(stat(f->socket, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
}

/* A turn that runs when the manager ends the daemon is stored, and its client told, before the end. */
static void a_running_turn_at_the_managers_stop(void **state)
{
    fixture *f = *state;
    if (!has_activator())
        BORA_SKIP("systemd-socket-activate is not installed");
    activate(f);
    f->client = bora_test_connect(f->socket);
    assert_non_null(f->client);
    bora_test_answer answer = {0};
    bora_client_generation g = {.text = "Tell me a story.",
                                .text_size = strlen("Tell me a story."),
                                .session = "cut",
                                .ignore_eos = true,
                                .set = BORA_CLIENT_SET_MAX_TOKENS,
                                .max_tokens = 30000};
    assert_int_equal(bora_test_answer_submit(f->client, &g, &answer), BORA_CLIENT_OK);
    while (answer.n_tokens < 5)
        assert_true(bora_test_dispatch(&f->client, 1));
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    while (!answer.has_ended)
        assert_true(bora_test_dispatch(&f->client, 1));
    assert_int_equal(answer.status, BORA_CLIENT_OK);
    assert_string_equal(answer.reason, "shutdown");
    assert_true(answer.stored);
    assert_int_equal(wait_for_end(f), 0);
    assert_true(wait_told(f, "STOPPING=1"));
    bora_test_answer_release(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_daemon_on_the_managers_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_running_turn_at_the_managers_stop, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
