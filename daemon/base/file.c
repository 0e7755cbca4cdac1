#include "base/file.h"

#include "base/guard.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bora_status file_open(const char *path, int *ret_fd, size_t *ret_size, bora_error *err)
{
    /* NONBLOCK: opening a FIFO must not hang; regular files do not care. */
    BORA_CLEANUP(bora_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bora_fail(err, errno == ENOENT || errno == ENOTDIR ? BORA_E_NOT_FOUND : BORA_E_IO, "open '%s': %s", path,
                         strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0)
        return bora_fail(err, BORA_E_IO, "stat '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bora_fail(err, BORA_E_IO, "'%s' is not a regular file", path);
    *ret_size = (size_t)st.st_size;
    *ret_fd = fd;
    fd = -1;
    return BORA_OK;
}

bora_status bora_file_map(const char *path, bora_file *ret_file, bora_error *err)
{
    BORA_CLEANUP(bora_closep) int fd = -1;
    bora_file file = {0};
    bora_status st = file_open(path, &fd, &file.size, err);
    if (st != BORA_OK)
        return st;
    if (file.size > 0) {
        void *data = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            return bora_fail(err, BORA_E_IO, "map '%s': %s", path, strerror(errno));
        file.data = data;
        file.guard = bora_guard_add(data, file.size);
    }
    *ret_file = file;
    return BORA_OK;
}

void bora_file_release(bora_file *file)
{
    bora_guard_remove(file->guard);
    if (file->data)
        (void)munmap((void *)(uintptr_t)file->data, file->size); /* our own mapping: cannot fail */
    *file = (bora_file){0};
}

bool bora_file_is_damaged(const bora_file *file)
{
    return bora_guard_is_damaged(file->guard);
}

bora_status bora_file_read(const char *path, size_t max_size, char **ret_text, size_t *ret_size, bora_error *err)
{
    BORA_CLEANUP(bora_closep) int fd = -1;
    size_t size = 0;
    bora_status st = file_open(path, &fd, &size, err);
    if (st != BORA_OK)
        return st;
    if (size > max_size)
        return bora_fail(err, BORA_E_LIMIT, "'%s' has %zu bytes, more than the %zu allowed", path, size, max_size);
    BORA_CLEANUP(bora_freep) char *text = bora_alloc(size + 1);
    if (!text)
        return bora_fail(err, BORA_E_NOMEM, "reading '%s'", path);
    size_t n = 0;
    while (n < size) {
        ssize_t got = read(fd, text + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return bora_fail(err, BORA_E_IO, "read '%s': %s", path, strerror(errno));
        if (got == 0)
            break; /* it shrank meanwhile */
        n += (size_t)got;
    }
    text[n] = '\0';
    *ret_text = bora_steal(&text);
    if (ret_size)
        *ret_size = n;
    return BORA_OK;
}

bora_status bora_dir_make(const char *path, unsigned mode, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *copy = bora_strdup(path);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "folder '%s'", path);
    for (char *p = copy + (copy[0] == '/');; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (*copy && mkdir(copy, mode) != 0 && errno != EEXIST)
            return bora_fail(err, BORA_E_IO, "make folder '%s': %s", copy, strerror(errno));
        *p = end;
        if (end == '\0')
            break;
    }
    return BORA_OK;
}
