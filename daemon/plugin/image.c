#include "plugin/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADERS_MAX 256u

static bora_status truncated(const char *path, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "plugin '%s' is cut off: its headers speak of more bytes than it has", path);
}

bora_status bora_image_check(const char *path, bora_error *err)
{
    BORA_CLEANUP(bora_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return bora_fail(err, BORA_E_IO, "plugin '%s': %s", path, strerror(errno));
    ElfW(Ehdr) header;
    ssize_t n = pread(fd, &header, sizeof header, 0);
    if (n < 0)
        return bora_fail(err, BORA_E_IO, "plugin '%s': %s", path, strerror(errno));
    if (n < SELFMAG || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' is not a shared object (no ELF file)", path);
    if ((size_t)n < sizeof header)
        return truncated(path, err);
    if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || header.e_type != ET_DYN)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' is not a shared object for this machine", path);
    ElfW(Phdr) parts[HEADERS_MAX];
    if (header.e_phentsize != sizeof parts[0] || header.e_phnum < 1 || header.e_phnum > HEADERS_MAX)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s': its program headers make no sense", path);
    size_t size = header.e_phnum * sizeof parts[0];
    uint64_t file_size = (uint64_t)st.st_size;
    if (header.e_phoff > file_size || size > file_size - header.e_phoff ||
        pread(fd, parts, size, (off_t)header.e_phoff) != (ssize_t)size)
        return truncated(path, err);
    for (size_t i = 0; i < header.e_phnum; i++)
        if (parts[i].p_type == PT_LOAD &&
            (parts[i].p_offset > file_size || parts[i].p_filesz > file_size - parts[i].p_offset))
            return truncated(path, err);
    return BORA_OK;
}
