/* Status, error and clean-up: the one idiom for functions that can fail.
 *
 * A function that can fail returns bora_status (0 is success) and takes a bora_error last. The types are the
 * plugin SDK's, so that host and plugins share them. Locals free themselves through BORA_CLEANUP; on success
 * bora_steal hands ownership to the caller. */
#ifndef BORA_BASE_STATUS_H
#define BORA_BASE_STATUS_H

#include <bora/plugin.h>

/* Calls fn(&variable) when the variable leaves scope. Initialise on the same line, always. */
#define BORA_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Takes a pointer out of a variable, leaving NULL: its clean-up then does nothing. */
#define bora_steal(pointer)                                                                                            \
    (__extension__({                                                                                                   \
        __auto_type bora_steal_from_ = (pointer);                                                                      \
        __auto_type bora_steal_value_ = *bora_steal_from_;                                                             \
        *bora_steal_from_ = NULL;                                                                                      \
        bora_steal_value_;                                                                                             \
    }))

#define BORA_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Stable lower-case name of a status code, for logs and the wire: "ok", "no_memory", "invalid", "io", "format",
 * "unsupported", "not_found", "exists", "busy", "limit", "cancelled", "closed", "permission", "internal",
 * "full", "unavailable"; "unknown" for any other number. Any thread. */
const char *bora_status_name(bora_status status);

/* Clean-ups for BORA_CLEANUP. */
void bora_closep(int *fd);      /* close, if fd >= 0 */
void bora_freep(void *pointer); /* bora_free(*(void **)pointer) */

#endif
