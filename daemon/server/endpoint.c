/* The socket's place in the file system: its folder, and the lock that tells whether a daemon runs there.
 *
 * ZeroMQ removes whatever stands at the path when it binds. The lock is what keeps a second daemon from taking the
 * socket of a first one that way; a socket left behind by a killed daemon has no lock any more. */
#include "server/server_private.h"

#include "base/file.h"
#include "base/memory.h"
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_SIZE_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

static bora_status prepare_folder(bora_server *server, const char *path, bora_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return BORA_OK;
    BORA_CLEANUP(bora_freep) char *folder = bora_strndup(path, (size_t)(slash - path));
    if (!folder)
        return bora_fail(err, BORA_E_NOMEM, "socket");
    bora_status st = bora_dir_make(folder, 0700, err);
    if (st != BORA_OK)
        return st;
    struct stat info;
    if (lstat(folder, &info) != 0)
        return bora_fail(err, BORA_E_IO, "stat '%s': %s", folder, strerror(errno));
    if (!server->options.private_dir)
        return BORA_OK; /* the user chose it */
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid())
        return bora_fail(err, BORA_E_PERMISSION, "'%s' is not a folder of ours: somebody else made it", folder);
    if ((info.st_mode & 077) != 0 && chmod(folder, 0700) != 0)
        return bora_fail(err, BORA_E_PERMISSION, "'%s' cannot be made private: %s", folder, strerror(errno));
    return BORA_OK;
}

/* The lock file may vanish between open and lock, when its daemon ends: then it is made anew. */
static bora_status take_lock(bora_server *server, const char *path, bora_error *err)
{
    server->lock_path = bora_format("%s.lock", path);
    if (!server->lock_path)
        return bora_fail(err, BORA_E_NOMEM, "socket");
    for (;;) {
        BORA_CLEANUP(bora_closep)
        int fd = open(server->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
        if (fd < 0)
            return bora_fail(err, BORA_E_IO, "open '%s': %s", server->lock_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK
                       ? bora_fail(err, BORA_E_BUSY, "another daemon listens on %s", server->options.endpoint)
                       : bora_fail(err, BORA_E_IO, "lock '%s': %s", server->lock_path, strerror(errno));
        struct stat ours, there;
        if (fstat(fd, &ours) == 0 && stat(server->lock_path, &there) == 0 && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino) {
            server->lock_fd = fd;
            fd = -1;
            return BORA_OK;
        }
    }
}

bora_status bora_endpoint_prepare(bora_server *server, bora_error *err)
{
    const char *path = bora_endpoint_path(server->options.endpoint);
    if (!path || !*path)
        return bora_fail(err, BORA_E_INVAL, "%s: only ipc:// endpoints and paths can be listened on",
                         server->options.endpoint);
    if (path[0] != '/')
        return bora_fail(err, BORA_E_INVAL, "%s: the socket's path must be absolute", server->options.endpoint);
    if (strlen(path) >= PATH_SIZE_MAX)
        return bora_fail(err, BORA_E_INVAL, "the socket's path must have at most %zu bytes, '%s' has %zu",
                         PATH_SIZE_MAX - 1, path, strlen(path));
    bora_status st = prepare_folder(server, path, err);
    if (st == BORA_OK)
        st = take_lock(server, path, err);
    struct stat info;
    if (st == BORA_OK && lstat(path, &info) == 0 && !S_ISSOCK(info.st_mode))
        return bora_fail(err, BORA_E_EXISTS, "'%s' is there and is no socket", path); /* ZeroMQ would remove it */
    return st;
}

bora_status bora_server_endpoint_of(int listen_fd, char **ret_endpoint, bora_error *err)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(listen_fd, (struct sockaddr *)&address, &size) != 0 || address.sun_family != AF_UNIX ||
        size <= offsetof(struct sockaddr_un, sun_path) || address.sun_path[0] != '/')
        return bora_fail(err, BORA_E_INVAL, "the descriptor passed in is not a Unix socket with a path");
    *ret_endpoint = bora_format("ipc://%.*s", (int)PATH_SIZE_MAX, address.sun_path);
    return *ret_endpoint ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "endpoint");
}
