/* The GGUF writer and what it is told of a model: refusals of the writer, keys that are kept, templates that our own
 * reader takes for what they are. The files themselves are tested with bora-model convert. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/gguf_export.h"
#include "model/gguf_reader.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bora_temp_folder folder;

static int make_folder(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static bora_gguf_out *new_file(void)
{
    bora_gguf_out *file = NULL;
    assert_int_equal(bora_gguf_out_new(&file, NULL), BORA_OK);
    return file;
}

static void assert_not_created(bora_gguf_out *file, bora_status status, const char *names)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_error err = {{0}};
    bora_temp_folder_path(&folder, "new.gguf", path);
    assert_int_equal(bora_gguf_out_create(file, path, false, &err), status);
    if (!strstr(err.message, names))
        fail_msg("'%s' does not name '%s'", err.message, names);
    bora_gguf_out_free(file);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void the_writer_refuses_nonsense(void **state)
{
    (void)state;
    const uint64_t shape[] = {3, 64}, odd[] = {3, 33}, huge[] = {UINT64_MAX / 2, 64};
    bora_gguf_out *file = new_file();
    bora_gguf_set_u32(file, "a.key", 1);
    bora_gguf_set_bool(file, "a.key", true);
    assert_not_created(file, BORA_E_INVAL, "a.key");
    file = new_file();
    bora_gguf_add_tensor(file, "t", shape, 2, BORA_DTYPE_F32);
    bora_gguf_add_tensor(file, "t", shape, 2, BORA_DTYPE_F16);
    assert_not_created(file, BORA_E_INVAL, "'t'");
    file = new_file();
    bora_gguf_add_tensor(file, "odd", odd, 2, BORA_DTYPE_Q8_0);
    assert_not_created(file, BORA_E_INVAL, "odd");
    file = new_file();
    bora_gguf_add_tensor(file, "huge", huge, 2, BORA_DTYPE_F32);
    assert_not_created(file, BORA_E_INVAL, "huge");
    file = new_file();
    bora_gguf_add_tensor(file, "type", shape, 2, BORA_DTYPE_COUNT);
    assert_not_created(file, BORA_E_INVAL, "type");
}

static void bytes_are_counted(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    const uint64_t shape[] = {10};
    const float values[10] = {1, 2, 3};
    bora_gguf_out *file = new_file();
    bora_temp_folder_path(&folder, "counted.gguf", path);
    bora_gguf_add_tensor(file, "t", shape, 1, BORA_DTYPE_F32);
    assert_int_equal(bora_gguf_out_create(file, path, false, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_write(file, values, 24, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_finish(file, NULL), BORA_E_INVAL); /* 16 bytes are missing */
    assert_int_equal(bora_gguf_out_write(file, values, 20, NULL), BORA_E_INVAL);
    assert_int_equal(bora_gguf_out_write(file, values + 6, 16, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_write(file, values, 4, NULL), BORA_E_INVAL);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(bora_gguf_out_finish(file, NULL), BORA_OK);
    size_t size = 0;
    free(bora_temp_read(path, &size));
    assert_int_equal(size, bora_gguf_out_size(file));
    bora_gguf_out_free(file);
}

/* A file that was not finished is gone, with its temporary name. */
static void what_is_not_finished_is_removed(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], temporary[BORA_TEMP_PATH_SIZE];
    bora_gguf_out *file = new_file();
    bora_temp_folder_path(&folder, "half.gguf", path);
    bora_temp_folder_path(&folder, "half.gguf.tmp", temporary);
    bora_gguf_set_u32(file, "a.key", 1);
    assert_int_equal(bora_gguf_out_create(file, path, false, NULL), BORA_OK);
    assert_int_equal(access(temporary, F_OK), 0);
    bora_gguf_out_free(file);
    assert_int_not_equal(access(temporary, F_OK), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void keys_of_a_gguf_file_are_kept(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    bora_gguf_writer writer;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
    bora_gguf_writer_string(&writer, "general.license", "of its own");
    bora_gguf_writer_string(&writer, "tokenizer.chat_template", "{{ something else }}");
    bora_gguf_writer_string(&writer, "vendor.note", "nobody knows");
    size_t source_size = 0;
    uint8_t *source = bora_gguf_writer_bytes(&writer, &source_size);
    bora_gguf_writer_release(&writer);
    bora_temp_folder_write(&folder, "source.gguf", source, source_size, path);
    free(source);
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (bora_model_open(path, NULL, NULL, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    bora_gguf_out *file = new_file();
    bora_temp_folder_path(&folder, "kept.gguf", path);
    assert_int_equal(bora_gguf_export_keys(model, file, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_create(file, path, false, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_finish(file, NULL), BORA_OK);
    bora_gguf_out_free(file);
    bora_model_free(model);
    size_t size = 0;
    unsigned char *bytes = bora_temp_read(path, &size);
    bora_gguf gguf = {0};
    bora_gguf_text text = {0};
    assert_int_equal(bora_gguf_read(bytes, size, &gguf, NULL), BORA_OK);
    assert_int_equal(bora_gguf_string(&gguf, "general.license", true, &text, NULL), BORA_OK);
    assert_true(bora_gguf_text_equal(text, "of its own"));
    assert_int_equal(bora_gguf_string(&gguf, "tokenizer.chat_template", true, &text, NULL), BORA_OK);
    assert_true(bora_gguf_text_equal(text, "{{ something else }}"));
    assert_null(bora_gguf_find(&gguf, "vendor.note"));
    assert_non_null(bora_gguf_find(&gguf, "tokenizer.ggml.tokens"));
    bora_gguf_release(&gguf);
    free(bytes);
}

/* A vocabulary with the marks of a layout as control pieces. */
static bora_tokenizer *tokenizer_with(const char *const *controls, size_t n_controls)
{
    const char *pieces[32] = {"<unk>", "<s>", "</s>", "a", "\xe2\x96\x81"};
    int32_t types[32] = {BORA_PIECE_UNKNOWN, BORA_PIECE_CONTROL, BORA_PIECE_CONTROL, BORA_PIECE_NORMAL,
                         BORA_PIECE_NORMAL};
    uint32_t sizes[32] = {0};
    float scores[32] = {0};
    size_t n = 5;
    for (size_t i = 0; i < n_controls; i++, n++) {
        pieces[n] = controls[i];
        types[n] = BORA_PIECE_CONTROL;
    }
    for (size_t i = 0; i < n; i++)
        sizes[i] = (uint32_t)strlen(pieces[i]);
    const bora_vocab vocab = {.pieces = pieces,
                              .piece_sizes = sizes,
                              .scores = scores,
                              .types = types,
                              .n_pieces = n,
                              .bos_id = 1,
                              .eos_id = 2,
                              .unk_id = 0,
                              .add_dummy_prefix = true};
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new(&vocab, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

static void templates_are_known_again(void **state)
{
    (void)state;
    static const char *const controls[] = {
        "[INST]",          "[/INST]",      "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]",   "[/SYSTEM_PROMPT]",   "[TOOL_CONTENT]"};
    static const bora_chat_layout layouts[] = {BORA_CHAT_V1, BORA_CHAT_V2, BORA_CHAT_V3, BORA_CHAT_V7};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        const char *text = bora_gguf_template(layouts[i]);
        bora_tokenizer *tokenizer = tokenizer_with(controls, i ? BORA_ARRAY_SIZE(controls) : 0);
        assert_non_null(text);
        assert_int_equal(bora_chat_layout_of_template(text, strlen(text), tokenizer), layouts[i]);
        bora_tokenizer_free(tokenizer);
    }
    assert_null(bora_gguf_template(BORA_CHAT_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_writer_refuses_nonsense),     cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(what_is_not_finished_is_removed), cmocka_unit_test(keys_of_a_gguf_file_are_kept),
        cmocka_unit_test(templates_are_known_again),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
