/* Opening the model that a command names: a path, or a name to look for where borad looks by default. */
#include "tool/tool.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

/* The folder above that of the program: PREFIX/bin/bora-model. */
static char *program_base(void)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(exe, '/');
        if (!slash)
            return NULL;
        *slash = '\0';
    }
    return bora_strdup(exe);
}

bora_status bora_tool_open(const char *name, const bora_model_options *model_options, const bora_tool_options *options,
                           bora_model **ret_model, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *base = program_base();
    BORA_CLEANUP(bora_freep) char *search = bora_model_search_default(base);
    BORA_CLEANUP(bora_freep) char *path = NULL;
    if (!search)
        return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    bora_status st = bora_model_find(name, search, &path, err);
    if (st != BORA_OK)
        return st;
    bora_model_options all = *model_options;
    all.window = options->window;
    return bora_model_open(path, &all, options->log, ret_model, err);
}
