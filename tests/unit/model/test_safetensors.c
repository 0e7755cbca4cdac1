/* safetensors files, whole and damaged, as the weights of a small folder: what is read from them, and how they are
 * refused. */
#include "model/model.h"
#include "support/safetensors_writer.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The weights of the folder are a link to a file in memory, which is cheap to change. */
static bora_temp_folder folder;
static int weights_fd = -1;
static bora_tiny_model shape;

static int group_setup(void **state)
{
    (void)state;
    char link[BORA_TEMP_PATH_SIZE], target[64], path[BORA_TEMP_PATH_SIZE];
    shape = BORA_TINY_MODEL;
    shape.n_layers = 1;
    shape.dim = 4;
    shape.hidden_dim = 4;
    shape.n_heads = 2;
    shape.n_kv_heads = 1;
    shape.head_dim = 2;
    shape.vocab_size = 8;
    bora_temp_folder_make(&folder);
    char *params = bora_writer_native_params(&shape, NULL);
    bora_temp_folder_write(&folder, "params.json", params, strlen(params), path);
    free(params);
    weights_fd = memfd_create("weights", MFD_CLOEXEC);
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", weights_fd);
    return weights_fd < 0 || symlink(target, bora_temp_folder_path(&folder, "consolidated.safetensors", link)) != 0;
}

static int group_teardown(void **state)
{
    (void)state;
    close(weights_fd);
    bora_temp_folder_remove(&folder);
    return 0;
}

static bora_status open_bytes(const void *bytes, size_t size, bora_model **ret_model, bora_error *err)
{
    static const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    assert_int_equal(ftruncate(weights_fd, 0), 0);
    assert_int_equal(pwrite(weights_fd, bytes, size, 0), (ssize_t)size);
    return bora_model_open(folder.path, &options, NULL, ret_model, err);
}

static bora_status open_header(const char *header, size_t data_size, bora_model **ret_model, bora_error *err)
{
    size_t size = 0;
    uint8_t *bytes = bora_safetensors_bytes(header, data_size, &size);
    bora_status st = open_bytes(bytes, size, ret_model, err);
    free(bytes);
    return st;
}

static void assert_header_refused(const char *header, size_t data_size, bora_status status, const char *names)
{
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_status st = open_header(header, data_size, &model, &err);
    if (st != status || !strstr(err.message, names))
        fail_msg("status %d '%s', expected %d naming '%s'", st, err.message, status, names);
    assert_null(model);
}

/* The good header with one piece of text replaced. */
static void assert_edit_refused(const char *from, const char *to, bora_status status, const char *names)
{
    size_t data_size = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    char *at = strstr(header, from);
    assert_non_null(at);
    size_t size = strlen(header) + strlen(to) + 1;
    char *edited = malloc(size);
    assert_non_null(edited);
    (void)snprintf(edited, size, "%.*s%s%s", (int)(at - header), header, to, at + strlen(from));
    assert_header_refused(edited, data_size, status, names);
    free(edited);
    free(header);
}

static void whole_file_is_read(void **state)
{
    (void)state;
    size_t data_size = 0;
    char *header =
        bora_writer_native_header(&shape, "\"__metadata__\":{\"format\":\"pt\",\"x\":\"y\"},", 0, 1, true, &data_size);
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (open_header(header, data_size, &model, &err) != BORA_OK)
        fail_msg("%s", err.message);
    free(header);
    assert_int_equal(bora_model_n_tensors(model), 12);
    const bora_tensor_info *info = bora_model_tensor(model, 0);
    assert_string_equal(info->name, "tok_embeddings.weight");
    assert_int_equal(info->n_dims, 2);
    assert_int_equal(info->shape[0], 8);
    assert_int_equal(info->shape[1], 4);
    assert_int_equal(info->shape[2], 1);
    assert_int_equal(info->size, 8 * 4 * 4);
    assert_int_equal(info->dtype, BORA_DTYPE_F32);
    assert_int_equal(bora_model_size(model), data_size);
    assert_int_equal(bora_model_n_parameters(model), data_size / 4);
    bora_model_free(model);
}

/* Opens the good header with its first entry's description replaced. */
static bora_model *must_open_first_as(const char *rest)
{
    static const char first[] = "{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,128]}";
    size_t data_size = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    char *at = strstr(header, first);
    assert_non_null(at);
    size_t size = strlen(header) + strlen(rest) + 1;
    char *edited = malloc(size);
    assert_non_null(edited);
    (void)snprintf(edited, size, "%.*s%s%s", (int)(at - header), header, rest, at + strlen(first));
    bora_model *model = NULL;
    bora_error err = {{0}};
    if (open_header(edited, data_size, &model, &err) != BORA_OK)
        fail_msg("%s: %s", rest, err.message);
    free(edited);
    free(header);
    return model;
}

/* Spaces behind the header, a leading dimension of 1, other float types. */
static void other_forms_are_read(void **state)
{
    (void)state;
    size_t data_size = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    char *padded = malloc(strlen(header) + 8);
    assert_non_null(padded);
    (void)snprintf(padded, strlen(header) + 8, "%s    ", header);
    bora_model *model = NULL;
    assert_int_equal(open_header(padded, data_size, &model, NULL), BORA_OK);
    bora_model_free(model);
    free(padded);
    free(header);

    model = must_open_first_as("{\"dtype\":\"F32\",\"shape\":[1,8,4],\"data_offsets\":[0,128]}");
    assert_int_equal(bora_model_embeddings(model)->n_rows, 8);
    assert_int_equal(bora_model_embeddings(model)->n_cols, 4);
    bora_model_free(model);

    /* Half as many bytes, the second half of where the F32 numbers were. */
    const uint8_t *data = NULL;
    static const char *const types[] = {"F16", "BF16"};
    static const uint32_t dtypes[] = {BORA_DTYPE_F16, BORA_DTYPE_BF16};
    for (size_t i = 0; i < 2; i++) {
        char rest[96];
        (void)snprintf(rest, sizeof rest, "{\"dtype\":\"%s\",\"shape\":[8,4],\"data_offsets\":[64,128]}", types[i]);
        model = must_open_first_as(rest);
        assert_int_equal(bora_model_embeddings(model)->dtype, dtypes[i]);
        assert_int_equal(bora_model_embeddings(model)->row_size, 8);
        data = bora_model_layer(model, 0)->attention_norm.data; /* the next tensor in the file */
        assert_ptr_equal(bora_model_embeddings(model)->data, data - 64);
        bora_model_free(model);
    }
}

static void header_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {3,          100,           UINT64_C(1) << 26, UINT64_C(1) << 31, UINT64_C(1) << 63,
                                     UINT64_MAX, UINT64_MAX - 7};
    uint8_t bytes[16] = {0};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(sizes); i++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        memcpy(bytes, &sizes[i], 8);
        assert_int_equal(open_bytes(bytes, i == 0 ? 10 : sizeof bytes, &model, &err), BORA_E_FORMAT);
        assert_non_null(strstr(err.message, "eader"));
    }
    for (size_t n = 0; n < 8; n++) {
        bora_model *model = NULL;
        bora_error err = {{0}};
        assert_int_equal(open_bytes(bytes, n, &model, &err), BORA_E_FORMAT);
        assert_true(err.message[0] != '\0');
    }
}

static void headers_that_are_none(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "",         " ",
        "[]",       "null",
        "7",        "{",
        "{}x",      "{\"a\"}",
        "\"\xff\"", "{\"a\\u0000b\":{}}",
        "{,}",      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(headers); i++)
        assert_header_refused(headers[i], 0, BORA_E_FORMAT, "eader");
    assert_header_refused("{}", 0, BORA_E_FORMAT, "tok_embeddings.weight");
    assert_header_refused("{\"__metadata__\":{}}", 0, BORA_E_FORMAT, "tok_embeddings.weight");
    char *deep = malloc(100001);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    assert_header_refused(deep, 0, BORA_E_FORMAT, "eader");
    free(deep);
}

static void entries_damaged(void **state)
{
    (void)state;
    static const char first[] =
        "\"tok_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,128]}";
    static const struct {
        const char *rest; /* of the first entry, behind its name */
        bora_status status;
    } cases[] = {
        {"7", BORA_E_FORMAT},
        {"[]", BORA_E_FORMAT},
        {"null", BORA_E_FORMAT},
        {"{}", BORA_E_FORMAT},
        {"{\"shape\":[8,4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":0,\"shape\":[8,4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"I8\",\"shape\":[8,4],\"data_offsets\":[0,32]}", BORA_E_UNSUPPORTED},
        {"{\"dtype\":\"F8_E4M3\",\"shape\":[8,4],\"data_offsets\":[0,32]}", BORA_E_UNSUPPORTED},
        {"{\"dtype\":\"f32\",\"shape\":[8,4],\"data_offsets\":[0,128]}", BORA_E_UNSUPPORTED},
        {"{\"dtype\":\"F32\",\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":32,\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,\"4\"],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4.0],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,-4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,0],\"data_offsets\":[0,0]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,8,4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[9223372036854775807,9223372036854775807],\"data_offsets\":[0,128]}",
         BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,128,256]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[\"0\",128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[-128,0]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[128,0]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,124]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,132]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[1000000,1000128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[9223372036854775679,9223372036854775807]}",
         BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[4,8],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,1,4],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
        {"{\"dtype\":\"F32\",\"shape\":[8,4,1],\"data_offsets\":[0,128]}", BORA_E_FORMAT},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        char entry[256];
        (void)snprintf(entry, sizeof entry, "\"tok_embeddings.weight\":%s", cases[i].rest);
        assert_edit_refused(first, entry, cases[i].status, "tok_embeddings.weight");
    }
    assert_edit_refused("\"norm.weight\"", "\"norm\\n.weight\"", BORA_E_FORMAT, "norm?.weight");
    assert_edit_refused("\"norm.weight\"", "\"\"", BORA_E_FORMAT, "name");
    assert_edit_refused("\"norm.weight\"", "\"output.weight\"", BORA_E_FORMAT, "output.weight"); /* there twice */
    assert_edit_refused("\"norm.weight\"", "\"norm.bias\"", BORA_E_FORMAT, "norm.weight");
    assert_edit_refused("\"output.weight\"", "\"vision_encoder.x\"", BORA_E_UNSUPPORTED, "vision_encoder.x");
}

static void cut_off_at_every_byte(void **state)
{
    (void)state;
    static const bora_model_options options = {.layout = BORA_CHAT_AUTO, .without_tokenizer = true};
    size_t data_size = 0, size = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, data_size, &size);
    bora_model *model = NULL;
    assert_int_equal(open_bytes(bytes, size, &model, NULL), BORA_OK);
    bora_model_free(model);
    for (size_t n = size; n-- > 0;) {
        bora_error err = {{0}};
        assert_int_equal(ftruncate(weights_fd, (off_t)n), 0);
        if (bora_model_open(folder.path, &options, NULL, &model, &err) != BORA_E_FORMAT || !err.message[0])
            fail_msg("cut to %zu of %zu bytes: '%s'", n, size, err.message);
    }
    free(bytes);
    free(header);
}

static void each_byte_of_the_header_wrong(void **state)
{
    (void)state;
    size_t data_size = 0, size = 0, n_refused = 0;
    char *header = bora_writer_native_header(&shape, NULL, 0, 1, true, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, data_size, &size);
    for (size_t i = 0; i < size - data_size; i++) {
        const uint8_t right = bytes[i];
        const uint8_t wrong[] = {(uint8_t)(right ^ 0xff), (uint8_t)(right + 1), '"', '9'};
        for (size_t k = 0; k < sizeof wrong; k++) {
            bora_error err = {{0}};
            bora_model *model = NULL;
            bytes[i] = wrong[k];
            bora_status st = open_bytes(bytes, size, &model, &err);
            n_refused += st != BORA_OK;
            assert_true(st == BORA_OK || st == BORA_E_FORMAT || st == BORA_E_UNSUPPORTED || st == BORA_E_LIMIT);
            assert_true((st == BORA_OK) == (model != NULL));
            assert_true(st == BORA_OK || err.message[0] != '\0');
            bora_model_free(model);
        }
        bytes[i] = right;
    }
    assert_true(n_refused > size - data_size);
    free(bytes);
    free(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_file_is_read),
        cmocka_unit_test(other_forms_are_read),
        cmocka_unit_test(header_sizes),
        cmocka_unit_test(headers_that_are_none),
        cmocka_unit_test(entries_damaged),
        cmocka_unit_test(cut_off_at_every_byte),
        cmocka_unit_test(each_byte_of_the_header_wrong),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
