/* Says what a plugin is: "KIND NAME version V, ...", for run.sh. Usage: plugin_kind PATH */
#include "base/memory.h"
#include "model/blocks.h"
#include "plugin/plugin.h"

#include <stdio.h>
#include <stdlib.h>

static void print(const bora_plugin_library *library)
{
    const bool invariant = bora_plugin_flags(library) & BORA_PLUGIN_BATCH_INVARIANT;
    printf("%s %s version %s, %s batch invariance", bora_plugin_kind_name(bora_plugin_kind(library)),
           bora_plugin_name(library), bora_plugin_version(library), invariant ? "promises" : "does not promise");
    const char *before = "; element types:";
    for (uint32_t dtype = 0; dtype < BORA_DTYPE_COUNT; dtype++)
        if (bora_plugin_dtypes(library) & BORA_DTYPE_BIT(dtype)) {
            printf("%s %s", before, bora_block_of(dtype)->name);
            before = "";
        }
    printf("\n");
}

int main(int argc, char **argv)
{
    char *path = argc == 2 ? realpath(argv[1], NULL) : NULL;
    if (!path) {
        fprintf(stderr, argc == 2 ? "there is no file '%s'\n" : "usage: %s PATH\n", argv[argc - 1]);
        return 1;
    }
    if (setenv("OPENBLAS_NUM_THREADS", "1", 0) != 0)
        return 1;
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    bora_plugin_library *library = NULL;
    bora_error err = {""};
    bora_status status = BORA_E_INVAL; /* of another kind, or not a plugin that can be used */
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS && status == BORA_E_INVAL; kind++)
        status = bora_plugin_load(path, kind, &log, &library, &err);
    if (status == BORA_OK)
        print(library);
    else
        fprintf(stderr, "%s\n", err.message);
    bora_plugin_unload(library);
    free(path);
    return status == BORA_OK ? 0 : 1;
}
