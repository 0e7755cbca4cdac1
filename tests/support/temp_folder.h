/* A folder of its own for a test that needs files, removed with all it holds. */
#ifndef BORA_TESTS_TEMP_FOLDER_H
#define BORA_TESTS_TEMP_FOLDER_H

#include <stddef.h>

#define BORA_TEMP_PATH_SIZE 512

typedef struct bora_temp_folder {
    char path[BORA_TEMP_PATH_SIZE];
} bora_temp_folder;

/* Under $TMPDIR or /tmp. Ends the test program if it cannot. */
void bora_temp_folder_make(bora_temp_folder *folder);
void bora_temp_folder_remove(bora_temp_folder *folder);
/* "<folder>/<name>" into path, which is returned. */
const char *bora_temp_folder_path(const bora_temp_folder *folder, const char *name, char path[BORA_TEMP_PATH_SIZE]);
/* Writes (or writes anew) a file; its path as above. */
const char *bora_temp_folder_write(const bora_temp_folder *folder, const char *name, const void *data, size_t size,
                                   char path[BORA_TEMP_PATH_SIZE]);
/* Size of a file and its bytes in new memory (free), for tests that damage a copy. */
unsigned char *bora_temp_read(const char *path, size_t *ret_size);

#endif
