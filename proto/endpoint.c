#include "endpoint.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ipc[] = "ipc://";

__attribute__((format(printf, 1, 2))) static char *format_new(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    return size < 0 ? NULL : text;
}

char *bora_endpoint_resolve(const char *endpoint)
{
    if (!endpoint || !*endpoint)
        return bora_endpoint_default();
    return strstr(endpoint, "://") ? strdup(endpoint) : format_new("%s%s", ipc, endpoint);
}

char *bora_endpoint_default(void)
{
    const char *given = getenv("BORA_SOCKET");
    if (given && *given)
        return bora_endpoint_resolve(given);
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime == '/')
        return format_new("%s%s/bora/bora.sock", ipc, runtime);
    char user_dir[64];
    struct stat found;
    (void)snprintf(user_dir, sizeof user_dir, "/run/user/%lu", (unsigned long)getuid()); /* fits */
    if (stat(user_dir, &found) == 0 && S_ISDIR(found.st_mode))
        return format_new("%s%s/bora/bora.sock", ipc, user_dir);
    return format_new("%s/tmp/bora-%lu/bora.sock", ipc, (unsigned long)getuid());
}

const char *bora_endpoint_path(const char *endpoint)
{
    return strncmp(endpoint, ipc, sizeof ipc - 1) == 0 ? endpoint + sizeof ipc - 1 : NULL;
}
