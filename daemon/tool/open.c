/* Opening the model that a command names: a path, or a name to look for where borad looks by default. */
#include "tool/tool.h"

#include "base/memory.h"
#include "base/program.h"

bora_status bora_tool_open(const char *name, const bora_model_options *model_options, const bora_tool_options *options,
                           bora_model **ret_model, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *base = NULL;
    BORA_CLEANUP(bora_freep) char *path = NULL;
    (void)bora_program_base(&base, NULL); /* without it the places that go by it are left out */
    BORA_CLEANUP(bora_freep) char *search = bora_model_search_default(base);
    if (!search)
        return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    bora_status st = bora_model_find(name, search, &path, err);
    if (st != BORA_OK)
        return st;
    bora_model_options all = *model_options;
    all.window = options->window;
    return bora_model_open(path, &all, options->log, ret_model, err);
}
