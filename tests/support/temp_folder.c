#include "support/temp_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void give_up(const char *what)
{
    perror(what);
    abort();
}

void bora_temp_folder_make(bora_temp_folder *folder)
{
    const char *root = getenv("TMPDIR");
    if (!root || !*root)
        root = "/tmp";
    int n = snprintf(folder->path, sizeof folder->path, "%s/bora-test-XXXXXX", root);
    if (n < 0 || (size_t)n >= sizeof folder->path || !mkdtemp(folder->path))
        give_up("temporary folder");
}

static int entry_remove(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void bora_temp_folder_remove(bora_temp_folder *folder)
{
    if (folder->path[0])
        (void)nftw(folder->path, entry_remove, 8, FTW_DEPTH | FTW_PHYS); /* what is left is in the temporary folder */
    folder->path[0] = '\0';
}

const char *bora_temp_folder_path(const bora_temp_folder *folder, const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    int n = snprintf(path, BORA_TEMP_PATH_SIZE, "%s/%s", folder->path, name);
    if (n < 0 || n >= BORA_TEMP_PATH_SIZE)
        give_up(name);
    return path;
}

const char *bora_temp_folder_write(const bora_temp_folder *folder, const char *name, const void *data, size_t size,
                                   char path[BORA_TEMP_PATH_SIZE])
{
    FILE *file = fopen(bora_temp_folder_path(folder, name, path), "wb");
    if (!file || (size && fwrite(data, 1, size, file) != size) || fclose(file) != 0)
        give_up(path);
    return path;
}

unsigned char *bora_temp_read(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        give_up(path);
    long size = ftell(file);
    unsigned char *data = size < 0 ? NULL : malloc((size_t)size + 1);
    if (!data || fseek(file, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)size, file) != (size_t)size)
        give_up(path);
    (void)fclose(file); /* only read */
    *ret_size = (size_t)size;
    return data;
}
