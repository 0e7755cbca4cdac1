/* What fuzz targets share. A target is one file with one LLVMFuzzerTestOneInput: linked with libFuzzer by `make fuzz`,
 * with replay.c as part of `make check`. It must not depend on anything but its bytes, and ends the program when the
 * code under test breaks a promise of its header. */
#ifndef BORA_TESTS_FUZZ_H
#define BORA_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The name is libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise, whatever the input: never compiled out. */
#define FUZZ_CHECK(promise)                                                                                            \
    do {                                                                                                               \
        if (!(promise)) {                                                                                              \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #promise);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
