#include "base/status.h"

#include "base/memory.h"

#include <unistd.h>

const char *bora_status_name(bora_status status)
{
    static const char *const names[] = {"ok",         "no_memory", "invalid", "io",         "format",    "unsupported",
                                        "not_found",  "exists",    "busy",    "limit",      "cancelled", "closed",
                                        "permission", "internal",  "full",    "unavailable"};
    if (status > 0 || status <= -(bora_status)BORA_ARRAY_SIZE(names))
        return "unknown";
    return names[-status];
}

void bora_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* opened for reading, or the writer has checked already */
}

void bora_freep(void *pointer)
{
    bora_free(*(void **)pointer);
}
