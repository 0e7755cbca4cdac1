/* GGUF models in several files: found, put together, and told apart from what only looks like one. */
#include "model/model_private.h"
#include "support/model_writer.h"
#include "support/skip.h"

#include <string.h>
#include <unistd.h>

static const bora_model_options without_tokenizer = {.without_tokenizer = true};
static const bora_tiny_model shape = {2, 32, 64, 4, 2, 8, 64, 4, 2, 0, 0, false, false, true};
static bora_temp_folder folder;
static char first[BORA_TEMP_PATH_SIZE];

static int setup(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    bora_model_write(&folder, &(bora_model_writing){.shape = shape}, BORA_MODEL_GGUF_SPLIT, first);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static void assert_refused(const char *name, bora_status status, const char *names)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st =
        bora_model_open(bora_temp_folder_path(&folder, name, path), &without_tokenizer, NULL, &model, &err);
    if (st != status || !strstr(err.message, names))
        fail_msg("%s: status %d '%s', expected %d naming '%s'", name, st, err.message, status, names);
    assert_null(model);
}

static void rename_to(const char *from, const char *to)
{
    char from_path[BORA_TEMP_PATH_SIZE], to_path[BORA_TEMP_PATH_SIZE];
    assert_int_equal(rename(bora_temp_folder_path(&folder, from, from_path),
                            bora_temp_folder_path(&folder, to, to_path)),
                     0);
}

static void the_first_opens_all(void **state)
{
    (void)state;
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(first, &without_tokenizer, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(bora_model_n_tensors(model), 3 + 2 * 10);
    assert_int_equal(model->n_files, 3);
    char types[64];
    bora_model_types_text(model, types, sizeof types);
    assert_string_equal(types, "f32 23");
    bora_model_free(model);
}

static void parts_that_are_missing_or_misplaced(void **state)
{
    (void)state;
    assert_refused("model-00002-of-00003.gguf", BORA_E_INVAL, "part 2 of 3");
    rename_to("model-00003-of-00003.gguf", "x");
    assert_refused("model-00001-of-00003.gguf", BORA_E_NOT_FOUND, "model-00003-of-00003.gguf");
    rename_to("model-00002-of-00003.gguf", "model-00003-of-00003.gguf");
    rename_to("x", "model-00002-of-00003.gguf");
    assert_refused("model-00001-of-00003.gguf", BORA_E_FORMAT, "part 2 of 3: split.no is 2");
    rename_to("model-00001-of-00003.gguf", "renamed.gguf");
    assert_refused("renamed.gguf", BORA_E_INVAL, "-00001-of-00003.gguf");
}

static void parts_of_another_model(void **state)
{
    (void)state;
    /* Twice the same tensors. */
    char path[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    bora_temp_folder_path(&folder, "model-00003-of-00003.gguf", path);
    unsigned char *bytes = bora_temp_read(bora_temp_folder_path(&folder, "model-00002-of-00003.gguf", path), &size);
    unsigned char *no = NULL;
    for (size_t i = 0; i + 14 < size && !no; i++)
        if (memcmp(bytes + i, "split.no", 8) == 0)
            no = bytes + i + 8 + 4;
    assert_non_null(no);
    no[0] = 2;
    bora_temp_folder_write(&folder, "model-00003-of-00003.gguf", bytes, size, path);
    assert_refused("model-00001-of-00003.gguf", BORA_E_FORMAT, "split.tensors.count");
    no[0] = 1;
    /* And not of three files, as the first says. */
    unsigned char *count = no + 2 + 8 + strlen("split.count") + 4;
    assert_int_equal(count[0], 3);
    count[0] = 4;
    bora_temp_folder_write(&folder, "model-00002-of-00003.gguf", bytes, size, path);
    assert_refused("model-00001-of-00003.gguf", BORA_E_FORMAT, "split.count 4");
    free(bytes);
}

static void later_part_cut_off(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    unsigned char *bytes = bora_temp_read(bora_temp_folder_path(&folder, "model-00002-of-00003.gguf", path), &size);
    for (size_t cut = 0; cut < size; cut += cut < 512 ? 1 : 997) {
        bora_temp_folder_write(&folder, "model-00002-of-00003.gguf", bytes, cut, path);
        assert_refused("model-00001-of-00003.gguf", BORA_E_FORMAT, "part 2 of 3: ");
    }
    free(bytes);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(the_first_opens_all),
        WITH_FOLDER(parts_that_are_missing_or_misplaced),
        WITH_FOLDER(parts_of_another_model),
        WITH_FOLDER(later_part_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
