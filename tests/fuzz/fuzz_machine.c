/* What Linux says of memory: /proc/meminfo, a cgroup's limit, and the list of the process's cgroups, whose paths are
 * looked up below a folder that is not there. */
#include "fuzz/fuzz.h"

#include "base/machine_memory.h"
#include "base/memory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = bora_strndup((const char *)data, size);
    FUZZ_CHECK(text);
    const uint64_t total = bora_meminfo_total(text), limit = bora_cgroup_limit(text);
    FUZZ_CHECK(total == BORA_MEMORY_UNLIMITED || (total % 1024 == 0 && strstr(text, "MemTotal:")));
    FUZZ_CHECK(limit == BORA_MEMORY_UNLIMITED || strspn(text, " \t0123456789\n") >= 1);
    FUZZ_CHECK(bora_cgroups_limit("/nowhere/to/be/found", text) == BORA_MEMORY_UNLIMITED);
    bora_free(text);
    return 0;
}
