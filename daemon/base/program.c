#include "base/program.h"

#include "base/memory.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

bora_status bora_program_base(char **ret_base, bora_error *err)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return bora_fail(err, BORA_E_IO, "own path: %s", strerror(errno));
    exe[n] = '\0';
    for (int i = 0; i < 2; i++) { /* the program's name, its folder's */
        char *slash = strrchr(exe, '/');
        if (slash)
            *slash = '\0';
    }
    *ret_base = bora_strdup(exe);
    return *ret_base ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "own path");
}
