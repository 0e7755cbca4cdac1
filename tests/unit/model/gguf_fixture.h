/* What the tests on GGUF files share: a writer with a whole small model in it, ready to be changed, and how what was
 * written is opened or refused. */
#ifndef BORA_TESTS_GGUF_FIXTURE_H
#define BORA_TESTS_GGUF_FIXTURE_H

#include "model/model.h"
#include "support/gguf_writer.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <string.h>

static bora_temp_folder folder;
static bora_gguf_writer writer;

static int group_setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static int writer_setup(void **state)
{
    (void)state;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
    return 0;
}

static int writer_teardown(void **state)
{
    (void)state;
    bora_gguf_writer_release(&writer);
    return 0;
}

static bora_status open_bytes(const void *bytes, size_t size, bora_model **ret_model, bora_error *err)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_write(&folder, "model.gguf", bytes, size, path);
    return bora_model_open(path, NULL, NULL, ret_model, err);
}

static bora_status open_written(bora_model **ret_model, bora_error *err)
{
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    bora_status st = open_bytes(bytes, size, ret_model, err);
    free(bytes);
    return st;
}

static inline bora_model *must_open(void)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (open_written(&model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

/* What is in writer is refused with that status, in words that name the thing. */
static void assert_refused(bora_status status, const char *names)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st = open_written(&model, &err);
    if (st != status || !strstr(err.message, names))
        fail_msg("status %d '%s', expected %d naming '%s'", st, err.message, status, names);
    assert_null(model);
}

static inline void writer_again(const bora_tiny_model *shape)
{
    bora_gguf_writer_release(&writer);
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, shape);
}

#define WITH_WRITER(test) cmocka_unit_test_setup_teardown(test, writer_setup, writer_teardown)

#endif
