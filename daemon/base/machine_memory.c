#include "base/machine_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TEXT_SIZE_MAX 8192 /* of the files read here, which are shorter; what follows is not needed */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The beginning of a file, ended with a zero byte. False if it cannot be read. */
static bool read_text(const char *path, char text[TEXT_SIZE_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0, got = fd < 0 ? -1 : 1;
    while (got > 0 && n < TEXT_SIZE_MAX - 1) {
        got = read(fd, text + n, (size_t)(TEXT_SIZE_MAX - 1 - n));
        n += got > 0 ? got : 0;
    }
    if (fd >= 0)
        (void)close(fd); /* opened for reading */
    text[n] = '\0';
    return got >= 0;
}

/* A decimal number at the start of text, spaces before it allowed; *ret_end is behind it. False if there is none or it
 * does not fit. */
static bool read_number(const char *text, uint64_t *ret_number, const char **ret_end)
{
    text += strspn(text, " \t");
    if (*text < '0' || *text > '9')
        return false;
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    *ret_number = number;
    *ret_end = end;
    return errno == 0;
}

uint64_t bora_meminfo_total(const char *text)
{
    static const char key[] = "MemTotal:";
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (strncmp(line, key, sizeof key - 1) != 0)
            continue;
        uint64_t kib;
        const char *end = NULL;
        if (!read_number(line + sizeof key - 1, &kib, &end) || strncmp(end, " kB", 3) != 0 || kib > UINT64_MAX / 1024)
            return BORA_MEMORY_UNLIMITED;
        return kib * 1024;
    }
    return BORA_MEMORY_UNLIMITED;
}

uint64_t bora_cgroup_limit(const char *text)
{
    uint64_t limit;
    const char *end = NULL;
    if (!read_number(text, &limit, &end) || (*end && *end != '\n'))
        return BORA_MEMORY_UNLIMITED;
    return limit;
}

/* ---- cgroups ---------------------------------------------------------------------------------------------- */

/* The least limit of the group and of all above it. mount: where the hierarchy begins; path [n]: of the group, from
 * there; name: of the file. In a container the path may be one of the machine outside, of which only the end is there,
 * or nothing: the hierarchy's own top is then the container's. */
static uint64_t group_limit(const char *root, const char *mount, const char *path, size_t n, const char *name)
{
    uint64_t limit = BORA_MEMORY_UNLIMITED;
    if (n >= 3 && strncmp(path, "/..", 3) == 0)
        n = 0; /* a group outside of what is mounted here */
    for (;;) {
        char file[PATH_MAX], text[TEXT_SIZE_MAX];
        while (n > 0 && path[n - 1] == '/')
            n--;
        int size = snprintf(file, sizeof file, "%s%s%.*s/%s", root, mount, (int)n, path, name);
        if (size > 0 && (size_t)size < sizeof file && read_text(file, text))
            limit = least(limit, bora_cgroup_limit(text));
        if (n == 0)
            return limit;
        while (n > 0 && path[n - 1] != '/')
            n--;
    }
}

/* Whether a comma-separated list [n] has the word. */
static bool list_has(const char *list, size_t n, const char *word)
{
    const size_t n_word = strlen(word);
    for (size_t i = 0; i + n_word <= n; i++)
        if ((i == 0 || list[i - 1] == ',') && strncmp(list + i, word, n_word) == 0 &&
            (i + n_word == n || list[i + n_word] == ','))
            return true;
    return false;
}

/* One line "id:controllers:path" of /proc/self/cgroup [n]; v2 has no controllers. */
static uint64_t line_limit(const char *root, const char *line, size_t n)
{
    const char *controllers = memchr(line, ':', n);
    if (!controllers)
        return BORA_MEMORY_UNLIMITED;
    controllers++;
    const char *path = memchr(controllers, ':', n - (size_t)(controllers - line));
    if (!path)
        return BORA_MEMORY_UNLIMITED;
    const size_t n_controllers = (size_t)(path - controllers);
    path++;
    const size_t n_path = n - (size_t)(path - line);
    if (n_path > PATH_MAX)
        return BORA_MEMORY_UNLIMITED;
    if (list_has(controllers, n_controllers, "memory"))
        return group_limit(root, "/sys/fs/cgroup/memory", path, n_path, "memory.limit_in_bytes");
    if (n_controllers > 0)
        return BORA_MEMORY_UNLIMITED;
    return group_limit(root, "/sys/fs/cgroup", path, n_path, "memory.max");
}

uint64_t bora_cgroups_limit(const char *root, const char *text)
{
    uint64_t limit = BORA_MEMORY_UNLIMITED;
    for (const char *line = text; *line;) {
        const size_t n = strcspn(line, "\n");
        limit = least(limit, line_limit(root, line, n));
        line += n + (line[n] == '\n');
    }
    return limit;
}

uint64_t bora_machine_memory_in(const char *root)
{
    uint64_t limit = BORA_MEMORY_UNLIMITED;
    char file[PATH_MAX], text[TEXT_SIZE_MAX];
    int size = snprintf(file, sizeof file, "%s/proc/meminfo", root);
    if (size > 0 && (size_t)size < sizeof file && read_text(file, text))
        limit = bora_meminfo_total(text);
    size = snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    if (size > 0 && (size_t)size < sizeof file && read_text(file, text))
        limit = least(limit, bora_cgroups_limit(root, text));
    return limit;
}

/* ---- this process ------------------------------------------------------------------------------------------- */

static uint64_t resource_limit(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return BORA_MEMORY_UNLIMITED;
    return limit.rlim_cur;
}

uint64_t bora_machine_memory(void)
{
    uint64_t limit = bora_machine_memory_in("");
    if (limit == BORA_MEMORY_UNLIMITED) { /* no /proc */
        long n_pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
        if (n_pages > 0 && page_size > 0)
            limit = (uint64_t)n_pages * (uint64_t)page_size;
    }
    return least(limit, least(resource_limit(RLIMIT_AS), resource_limit(RLIMIT_DATA)));
}

uint64_t bora_machine_rss(void)
{
    char text[TEXT_SIZE_MAX];
    uint64_t n_pages;
    const char *end = NULL;
    if (!read_text("/proc/self/statm", text) || !read_number(text, &n_pages, &end) ||
        !read_number(end, &n_pages, &end)) /* the first is the address space */
        return 0;
    const long page_size = sysconf(_SC_PAGESIZE);
    return page_size > 0 ? n_pages * (uint64_t)page_size : 0;
}
