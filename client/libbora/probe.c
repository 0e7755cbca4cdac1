/* A first knock at the socket: is there a daemon at all? */
#include "probe.h"

#include "endpoint.h"
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

char *bora_client_endpoint_default(void)
{
    return bora_endpoint_default();
}

bora_client_status bora_client_fail_no_daemon(bora_client_error *err, const char *endpoint)
{
    return bora_client_fail(err, BORA_CLIENT_E_NO_DAEMON,
                            "no daemon listens on %s; start one with: borad  (or: systemctl --user start borad.socket)",
                            endpoint);
}

/* The last of the default places: in /tmp everybody may have made the folder first. */
static bool is_fallback(const char *path)
{
    char folder[64];
    int size = snprintf(folder, sizeof folder, "/tmp/bora-%lu/", (unsigned long)getuid());
    return strncmp(path, folder, (size_t)size) == 0;
}

static bool listener_is_foreign(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || (peer.uid != geteuid() && peer.uid != 0);
}

bora_client_status bora_client_probe(const char *endpoint, bora_client_error *err)
{
    const char *path = bora_endpoint_path(endpoint);
    if (!path)
        return BORA_CLIENT_OK;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof address.sun_path)
        return bora_client_fail(err, BORA_CLIENT_E_INVALID, "the socket's path must have 1 to %zu bytes, '%s' has %zu",
                                sizeof address.sun_path - 1, path, size);
    memcpy(address.sun_path, path, size);
    bool abstract = path[0] == '@'; /* as ZeroMQ writes the names of Linux's abstract sockets */
    if (abstract)
        address.sun_path[0] = '\0';
    socklen_t address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (abstract ? 0 : 1));

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return bora_client_fail(err, BORA_CLIENT_E_IO, "cannot make a socket: %s", strerror(errno));
    int failure = connect(fd, (const struct sockaddr *)&address, address_size) == 0 ? 0 : errno;
    bool is_foreign = failure == 0 && is_fallback(path) && listener_is_foreign(fd);
    (void)close(fd); /* it was only a knock */
    if (is_foreign)
        return bora_client_fail(err, BORA_CLIENT_E_IO, "%s belongs to another user: not saying anything to it",
                                endpoint);
    switch (failure) {
    case 0:
    case EAGAIN: /* somebody listens and is busy */
    case EINPROGRESS:
        return BORA_CLIENT_OK;
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return bora_client_fail_no_daemon(err, endpoint);
    default:
        return bora_client_fail(err, BORA_CLIENT_E_IO, "cannot connect to %s: %s", endpoint, strerror(failure));
    }
}
