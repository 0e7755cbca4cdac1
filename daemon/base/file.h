/* Files mapped read-only. */
#ifndef BORA_BASE_FILE_H
#define BORA_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>

/* Caller-owned; all zero is "nothing mapped". */
typedef struct bora_file {
    const uint8_t *data; /* [size]; NULL when size is 0 */
    size_t size;         /* bytes */
    uint32_t guard;      /* base/guard.h; 0: none */
} bora_file;

/* Maps a whole regular file and guards it. Errors: NOT_FOUND, IO (not a regular file, no permission). */
bora_status bora_file_map(const char *path, bora_file *ret_file, bora_error *err);
void bora_file_release(bora_file *file);
/* It was cut short, or could not be read, after it was mapped: zeros were read in its place. */
bool bora_file_is_damaged(const bora_file *file);
/* Reads a whole file of at most max_size bytes into new, zero-terminated memory (bora_free). Errors: NOT_FOUND,
 * IO, LIMIT, NOMEM. ret_size may be NULL. */
bora_status bora_file_read(const char *path, size_t max_size, char **ret_text, size_t *ret_size, bora_error *err);
/* mkdir -p with the given mode for what is created. */
bora_status bora_dir_make(const char *path, unsigned mode, bora_error *err);

#endif
