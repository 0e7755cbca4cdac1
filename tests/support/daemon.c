#include "support/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS      60000
#define ARGUMENTS_MAX 64

bool bora_test_daemon_init(bora_test_daemon *daemon)
{
    memset(daemon, 0, sizeof *daemon);
    char folder[] = "/tmp/bora-test-XXXXXX";
    if (!mkdtemp(folder))
        return false;
    (void)snprintf(daemon->folder.path, sizeof daemon->folder.path, "%s", folder);
    (void)snprintf(daemon->socket, sizeof daemon->socket, "%s/run/bora.sock", folder);
    (void)snprintf(daemon->database, sizeof daemon->database, "%s/sessions.db", folder);
    (void)snprintf(daemon->log, sizeof daemon->log, "%s/borad.log", folder);
    return true;
}

/* This process, as it is about to become another program. */
static bool join_cgroup(const char *folder)
{
    char path[160], pid[16];
    (void)snprintf(path, sizeof path, "%.120s/cgroup.procs", folder);
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool joined = fd >= 0 && write(fd, pid, strlen(pid)) == (ssize_t)strlen(pid);
    if (fd >= 0)
        (void)close(fd);
    return joined;
}

/* Never returns. */
static void run_borad(const bora_test_daemon *daemon, const char *notify, const char *const *arguments)
{
    const char *argv[ARGUMENTS_MAX + 8] = {
        BORA_BUILD_DIR "/bin/borad", "--config", "none", "--socket", daemon->socket, "--database", daemon->database};
    size_t n = 7;
    for (size_t i = 0; arguments && arguments[i] && i < ARGUMENTS_MAX; i++)
        argv[n++] = arguments[i];
    int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves no daemon behind */
    if (*daemon->cgroup && !join_cgroup(daemon->cgroup))
        _exit(127);
    const struct rlimit data = {daemon->data_limit, daemon->data_limit};
    if (daemon->data_limit && setrlimit(RLIMIT_DATA, &data) != 0)
        _exit(127);
    if (log >= 0 && null >= 0 && dup2(log, 1) >= 0 && dup2(log, 2) >= 0 && dup2(null, 0) >= 0 &&
        setenv("NOTIFY_SOCKET", notify, 1) == 0)
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 255;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool wait_ready(int notify, int pid_fd)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = notify, .events = POLLIN}, {.fd = pid_fd, .events = POLLIN}};
        int n = poll(fds, 2, READY_MS);
        if (n < 0 && errno == EINTR)
            continue;
        char text[512];
        ssize_t size = n > 0 && fds[0].revents ? recv(notify, text, sizeof text - 1, MSG_DONTWAIT) : -1;
        if (size > 0) {
            text[size] = '\0';
            if (strstr(text, "READY=1"))
                return true;
            continue;
        }
        return false; /* it ended, or is silent for too long */
    }
}

bool bora_test_daemon_start(bora_test_daemon *daemon, const char *const *arguments, int *ret_exit)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.90s/notify", daemon->folder.path);
    (void)unlink(address.sun_path);
    int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify < 0 || bind(notify, (struct sockaddr *)&address, sizeof address) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        run_borad(daemon, address.sun_path, arguments);
    int pid_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    bool ready = pid_fd >= 0 && wait_ready(notify, pid_fd);
    if (ready) {
        daemon->pid = pid;
    } else if (pid > 0) {
        /* Ended already, or hanging: then this makes an end of it. */
        struct pollfd ended = {.fd = pid_fd, .events = POLLIN};
        if (poll(&ended, 1, 0) == 0)
            (void)kill(pid, SIGKILL);
        int code = wait_for(pid);
        if (ret_exit)
            *ret_exit = code;
    }
    if (pid_fd >= 0)
        (void)close(pid_fd);
    (void)close(notify);
    (void)unlink(address.sun_path);
    return ready;
}

int bora_test_daemon_end(bora_test_daemon *daemon, int signal)
{
    if (!daemon->pid)
        return 255;
    (void)kill(daemon->pid, signal);
    int code = wait_for(daemon->pid);
    daemon->pid = 0;
    return code;
}

bool bora_test_daemon_logged(const bora_test_daemon *daemon, const char *text)
{
    FILE *file = fopen(daemon->log, "r");
    char line[2048];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = strstr(line, text) != NULL;
    if (file)
        (void)fclose(file);
    return found;
}

void bora_test_daemon_release(bora_test_daemon *daemon)
{
    if (daemon->pid)
        (void)bora_test_daemon_end(daemon, SIGKILL);
    if (*daemon->folder.path)
        bora_temp_folder_remove(&daemon->folder);
    *daemon->folder.path = '\0';
}
