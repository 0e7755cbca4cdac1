/* Skips, by name: a test that needs data which is not there says which and is counted as skipped, never as passed. */
#ifndef BORA_TESTS_SKIP_H
#define BORA_TESTS_SKIP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define BORA_SKIP(why)                                                                                                 \
    do {                                                                                                               \
        fprintf(stderr, "SKIP: %s: %s\n", __func__, (why));                                                            \
        skip();                                                                                                        \
    } while (0)

/* The folder of third-party test data, or skips the test by name. */
#define BORA_TEST_DATA_OR_SKIP(ret_path)                                                                               \
    do {                                                                                                               \
        *(ret_path) = getenv("BORA_TEST_DATA");                                                                        \
        if (!*(ret_path) || !**(ret_path))                                                                             \
            BORA_SKIP("BORA_TEST_DATA names no folder of test data");                                                  \
    } while (0)

#endif
