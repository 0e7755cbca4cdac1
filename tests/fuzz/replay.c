/* A fuzz target without libFuzzer, for `make check`: every file of its corpus as it is, cut short, and with bytes
 * changed, the same way every time. A target that breaks ends the program; the last line says at which file.
 *
 * Usage: fuzz_NAME [FILE...]   Without files: all of tests/fuzz/corpus/NAME. With files: only as they are. */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define FILES_MAX     256
#define FILE_SIZE_MAX (1 << 20)
#define CUTS_MAX      1024 /* a file of up to this size is cut at every byte */
#define MUTATIONS     1500 /* per file */
#define CHANGES_MAX   4    /* per mutation */

static size_t n_runs;

/* In memory of exactly its size, so that a sanitizer sees a read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size); /* always 0 */
    free(copy);
    n_runs++;
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % n);
}

/* Numbers that readers of counts, sizes and offsets get wrong. */
static void put_number(uint8_t *data, size_t size, size_t at, uint64_t *state)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       UINT32_MAX,
                                       INT64_MAX,
                                       (uint64_t)INT64_MAX + 1,
                                       UINT64_MAX,
                                       UINT64_MAX - 7};
    uint64_t number = numbers[random_below(state, sizeof numbers / sizeof numbers[0])];
    size_t width = (size_t)1 << random_below(state, 4);
    for (size_t i = 0; i < width && at + i < size; i++)
        data[at + i] = (uint8_t)(number >> (8 * i));
}

static void mutate(uint8_t *data, size_t size, uint64_t *state)
{
    uint32_t n = 1 + random_below(state, CHANGES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        /* Headers matter more than what follows: half of all changes are near the start. */
        size_t reach = random_below(state, 2) && size > 512 ? 512 : size;
        size_t at = random_below(state, (uint32_t)reach);
        switch (random_below(state, 4)) {
        case 0:
            data[at] ^= (uint8_t)(1u << random_below(state, 8));
            break;
        case 1:
            data[at] = (uint8_t)random_below(state, 256);
            break;
        case 2:
            put_number(data, size, at, state);
            break;
        default: { /* a stretch from elsewhere */
            size_t from = random_below(state, (uint32_t)size), width = 1 + random_below(state, 32);
            if (from + width <= size && at + width <= size)
                memmove(data + at, data + from, width);
            break;
        }
        }
    }
}

static void replay(const uint8_t *data, size_t size)
{
    size_t step = size / CUTS_MAX + 1;
    for (size_t cut = 0; cut < size; cut += step)
        run(data, cut);
    uint8_t *changed = malloc(size ? size : 1);
    FUZZ_CHECK(changed);
    uint64_t state = size;
    for (size_t i = 0; size && i < MUTATIONS; i++) {
        memcpy(changed, data, size);
        mutate(changed, size, &state);
        run(changed, size);
    }
    free(changed);
}

static bool replay_file(const char *path, bool as_it_is)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    uint8_t *data = malloc(FILE_SIZE_MAX);
    FUZZ_CHECK(data);
    size_t size = fread(data, 1, FILE_SIZE_MAX, file);
    (void)fclose(file); /* was only read */
    const char *name = strrchr(path, '/');
    n_runs = 0;
    printf("# %s\n", path);
    (void)fflush(stdout); /* it is to be seen if the target ends the program */
    run(data, size);
    if (!as_it_is)
        replay(data, size);
    printf("ok - %s: %zu runs\n", name ? name + 1 : path, n_runs);
    free(data);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool replay_folder(const char *folder)
{
    char *names[FILES_MAX];
    size_t n = 0;
    DIR *dir = opendir(folder);
    if (!dir) {
        fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return false;
    }
    for (const struct dirent *entry; n < FILES_MAX && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            FUZZ_CHECK((names[n++] = strdup(entry->d_name)) != NULL);
    (void)closedir(dir); /* was only read */
    qsort(names, n, sizeof *names, by_name);
    bool good = n > 0;
    for (size_t i = 0; i < n; i++) {
        char path[1024];
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        good &= length > 0 && (size_t)length < sizeof path && replay_file(path, false);
        free(names[i]);
    }
    return good;
}

int main(int argc, char **argv)
{
    bool good = true;
    for (int i = 1; i < argc; i++)
        good &= replay_file(argv[i], true);
    if (argc > 1)
        return good ? 0 : 1;
    char folder[1024];
    const char *name = strstr(program_invocation_short_name, "fuzz_");
    int length = snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", BORA_SOURCE_DIR, name ? name + 5 : "");
    good = length > 0 && (size_t)length < sizeof folder && replay_folder(folder);
    return good ? 0 : 1;
}
