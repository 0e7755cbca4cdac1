/* Models that are none: borad --check, borad itself and bora-model end with exit status 1 and one line that says which
 * file and why. */
#include "integration/spawn.h"
#include "support/gguf_writer.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BORA_MODEL BORA_BUILD_DIR "/bin/bora-model"

static bora_temp_folder folder;

static int set_up(void **state)
{
    (void)state;
    bora_temp_folder_make(&folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

/* ---- what refusing looks like ---- */

/* The last line of output, cut off from the rest, which is one of log or nothing. */
static const char *last_line(char *output)
{
    size_t size = strlen(output);
    while (size > 0 && output[size - 1] == '\n')
        output[--size] = '\0';
    char *at = strrchr(output, '\n');
    return at ? at + 1 : output;
}

static void expect_refusal(const char *const *argv, const char *name, const char *file, const char *why)
{
    static spawn_result result;
    spawn(argv, NULL, &result);
    const char *line = last_line(result.output);
    if (result.code != 1 || !strstr(line, why) || !strstr(line, file) || strstr(result.output, "Sanitizer"))
        print_error("%s, %s: ended with %d and '%s', expected '%s' in '%s'\n", name, argv[0], result.code,
                    result.output, why, file);
    assert_int_equal(result.code, 1);
    assert_non_null(strstr(line, why));
    assert_non_null(strstr(line, file)); /* it says which file */
}

static void refuse(const char *name, const char *path, const char *why)
{
    const char *file = strrchr(path, '/') + 1;
    const char *const check[] = {BORAD, "--config", "none", "--check", "--model", path, NULL};
    const char *const inspect[] = {BORA_MODEL, "inspect", path, NULL};
    expect_refusal(check, name, file, why);
    if (strcmp(name, "no tokenizer") != 0) /* inspect can do without */
        expect_refusal(inspect, name, file, why);
}

/* And so does a daemon that is asked to serve it, before it touches socket or database. */
static void refuse_to_serve(const char *path, const char *why)
{
    char sock[BORA_TEMP_PATH_SIZE], database[BORA_TEMP_PATH_SIZE];
    struct stat info;
    (void)bora_temp_folder_path(&folder, "serve.sock", sock);
    (void)bora_temp_folder_path(&folder, "serve.db", database);
    const char *const argv[] = {BORAD,        "--config", "none",    "--socket", sock,
                                "--database", database,   "--model", path,       NULL};
    expect_refusal(argv, "serving", strrchr(path, '/') + 1, why);
    assert_int_not_equal(stat(sock, &info), 0);
    assert_int_not_equal(stat(database, &info), 0);
}

static void accept_model(const char *path)
{
    const char *const check[] = {BORAD, "--config", "none", "--check", "--model", path, NULL};
    const char *const inspect[] = {BORA_MODEL, "inspect", path, NULL};
    spawn_expect(check, NULL, 0, "are in order");
    spawn_expect(inspect, NULL, 0, "");
}

/* ---- GGUF: bytes ---- */

static uint8_t *good_gguf(size_t *ret_size)
{
    static bora_gguf_writer writer;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, ret_size);
    bora_gguf_writer_release(&writer);
    return bytes;
}

static void test_gguf_header(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at;
        uint64_t value;
        size_t size;
        const char *why;
    } cases[] = {
        {"magic", 0, 0x464d4c47, 4, "not a GGUF file"},
        {"magic of zeros", 0, 0, 4, "not a GGUF file"},
        {"version 0", 4, 0, 4, "version 0"},
        {"version 1", 4, 1, 4, "version 1"},
        {"version of the future", 4, 4, 4, "version 4"},
        {"other byte order", 4, 0x03000000, 4, "big-endian"},
        {"no tensors", 8, 0, 8, "is missing"},
        {"more tensors than bytes", 8, UINT64_MAX, 8, "tensor count"},
        {"a billion tensors", 8, 1000000000, 8, "tensor count"},
        {"one tensor less", 8, 20, 8, "follow the last tensor"},
        {"one tensor more", 8, 22, 8, ""},
        {"more keys than bytes", 16, UINT64_MAX, 8, "metadata count"},
        {"no keys", 16, 0, 8, ""},
        {"a key less", 16, 5, 8, ""},
        {"a key's length", 24, UINT64_MAX, 8, "a text of 18446744073709551615 bytes"},
        {"a key of nothing", 24, 0, 8, "key"},
    };
    size_t size = 0;
    uint8_t *good = good_gguf(&size);
    char path[BORA_TEMP_PATH_SIZE];
    accept_model(bora_temp_folder_write(&folder, "good.gguf", good, size, path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *bytes = malloc(size);
        assert_non_null(bytes);
        memcpy(bytes, good, size);
        for (size_t k = 0; k < cases[i].size; k++)
            bytes[cases[i].at + k] = (uint8_t)(cases[i].value >> (8 * k));
        refuse(cases[i].name, bora_temp_folder_write(&folder, "bad.gguf", bytes, size, path), cases[i].why);
        if (i == 0)
            refuse_to_serve(path, cases[i].why);
        free(bytes);
    }
    free(good);
}

static void test_gguf_truncated(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *good = good_gguf(&size);
    char path[BORA_TEMP_PATH_SIZE];
    const size_t sizes[] = {0,  1,   3,   4,    8,        16,       23,          24,      25,
                            40, 100, 500, 2000, size / 4, size / 2, size - 4096, size - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        refuse("truncated", bora_temp_folder_write(&folder, "cut.gguf", good, sizes[i], path), "");
    free(good);
    const char *const missing[] = {BORAD, "--config", "none", "--check", "--model", "/nonexistent/x.gguf", NULL};
    spawn_expect(missing, NULL, 1, "No such file");
    const char *const device[] = {BORAD, "--config", "none", "--check", "--model", "/dev/zero", NULL};
    spawn_expect(device, NULL, 1, "not a regular file");
    const char *const empty[] = {BORAD, "--config", "none", "--check", "--model", "", NULL};
    spawn_expect(empty, NULL, 2, "model.path is empty");
}

/* Bytes at random in the metadata: whatever it says, it must end by itself. */
static void test_gguf_random_damage(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *good = good_gguf(&size);
    char path[BORA_TEMP_PATH_SIZE];
    static spawn_result result;
    uint64_t seed = 4242;
    for (int i = 0; i < 150; i++) {
        uint8_t *bytes = malloc(size);
        assert_non_null(bytes);
        memcpy(bytes, good, size);
        for (int k = 0; k < 1 + i % 4; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[(seed >> 33) % (i % 2 ? 12000 : 900)] = (uint8_t)(seed >> 24);
        }
        (void)bora_temp_folder_write(&folder, "random.gguf", bytes, size, path);
        free(bytes);
        const char *const argv[] = {BORAD, "--config", "none", "--check", "--model", path, NULL};
        spawn(argv, NULL, &result);
        if (result.code != 0 && result.code != 1)
            print_error("damage %d: ended with %d: %s\n", i, result.code, result.output);
        assert_true(result.code == 0 || result.code == 1);
    }
    free(good);
}

/* ---- GGUF: contents ---- */

typedef struct content_case {
    const char *name;
    void (*damage)(bora_gguf_writer *writer);
    const char *why;
} content_case;

static void theta_nan(bora_gguf_writer *w)
{
    bora_gguf_writer_f32(w, "llama.rope.freq_base", NAN);
}
static void theta_zero(bora_gguf_writer *w)
{
    bora_gguf_writer_f32(w, "llama.rope.freq_base", 0);
}
static void theta_infinite(bora_gguf_writer *w)
{
    bora_gguf_writer_f32(w, "llama.rope.freq_base", INFINITY);
}
static void eps_negative(bora_gguf_writer *w)
{
    bora_gguf_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", -1e-5f);
}
static void no_heads(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "llama.attention.head_count", 0);
}
static void odd_heads(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "llama.attention.head_count_kv", 3);
}
static void many_layers(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "llama.block_count", 4000000000u);
}
static void more_layers(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "llama.block_count", 3);
}
static void huge_dim(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "llama.embedding_length", UINT32_MAX);
}
static void text_dim(bora_gguf_writer *w)
{
    bora_gguf_writer_string(w, "llama.embedding_length", "thirty-two");
}
static void other_architecture(bora_gguf_writer *w)
{
    bora_gguf_writer_string(w, "general.architecture", "mamba");
}
static void no_architecture(bora_gguf_writer *w)
{
    bora_gguf_writer_remove(w, "general.architecture");
}
static void no_tokenizer(bora_gguf_writer *w)
{
    bora_gguf_writer_remove(w, "tokenizer.ggml.model");
}
static void no_vocabulary(bora_gguf_writer *w)
{
    bora_gguf_writer_remove(w, "tokenizer.ggml.tokens");
}
static void short_vocabulary(bora_gguf_writer *w)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>"};
    bora_gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, 3);
}
static void bad_bos(bora_gguf_writer *w)
{
    bora_gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 100000);
}
static void array_without_end(bora_gguf_writer *w)
{
    static const uint8_t value[12] = {8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    bora_gguf_writer_raw(w, "tokenizer.ggml.tokens", BORA_WRITER_ARRAY, value, sizeof value);
}
static void tensor_missing(bora_gguf_writer *w)
{
    bora_gguf_writer_remove_tensor(w, "blk.1.attn_v.weight");
}
static void tensor_twice(bora_gguf_writer *w)
{
    const uint64_t dims[] = {32};
    (void)bora_gguf_writer_tensor(w, "output_norm.weight", BORA_WRITER_TENSOR_F32, 1, dims);
}
static void tensor_shape(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.attn_q.weight")->dims[0] = 16;
}
static void tensor_flat(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.attn_q.weight")->n_dims = 1;
}
static void tensor_without_rows(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "output.weight")->dims[0] = 0;
}
static void tensor_overflow(bora_gguf_writer *w)
{
    bora_writer_tensor *t = bora_gguf_writer_find(w, "output.weight");
    t->dims[0] = t->dims[1] = (uint64_t)1 << 33;
}
static void tensor_dimensions(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "output.weight")->n_dims = 0;
}
static void tensor_type(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.ffn_up.weight")->type = 99;
}
static void tensor_type_unread(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.ffn_up.weight")->type = 16;
}
static void offset_odd(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.ffn_up.weight")->offset += 1;
}
static void offset_far(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.ffn_up.weight")->offset = (uint64_t)1 << 40;
}
static void offset_wraps(bora_gguf_writer *w)
{
    bora_gguf_writer_find(w, "blk.0.ffn_up.weight")->offset = UINT64_MAX - 31;
}
static void tensor_unknown(bora_gguf_writer *w)
{
    const uint64_t dims[] = {32};
    (void)bora_gguf_writer_tensor(w, "blk.0.attn_q.bias", BORA_WRITER_TENSOR_F32, 1, dims);
}

static const content_case contents[] = {
    {"theta NaN", theta_nan, "rope_theta is nan"},
    {"theta 0", theta_zero, "rope_theta is 0"},
    {"theta infinite", theta_infinite, "rope_theta is inf"},
    {"negative epsilon", eps_negative, "norm_eps is -1e-05"},
    {"no heads", no_heads, "head_count"},
    {"3 key heads for 4", odd_heads, "multiple"},
    {"layers without end", many_layers, "llama.block_count"},
    {"a layer more", more_layers, "blk.2"},
    {"dim of 4 billion", huge_dim, "llama.embedding_length"},
    {"dim as text", text_dim, "llama.embedding_length"},
    {"other architecture", other_architecture, "architecture 'mamba'"},
    {"no architecture", no_architecture, "general.architecture"},
    {"no tokenizer", no_tokenizer, "no tokenizer"},
    {"no vocabulary", no_vocabulary, "tokenizer.ggml.tokens"},
    {"vocabulary cut", short_vocabulary, "tokenizer.ggml"},
    {"BOS outside", bad_bos, "tokenizer.ggml.bos_token_id"},
    {"array without end", array_without_end, "tokenizer.ggml.tokens"},
    {"tensor missing", tensor_missing, "tensor 'blk.1.attn_v.weight' is missing"},
    {"tensor twice", tensor_twice, "tensor 'output_norm.weight' is there twice"},
    {"tensor's shape", tensor_shape, "tensor 'blk.0.attn_q.weight' is [16, 32], expected [32, 32]"},
    {"tensor of one dimension", tensor_flat, "blk.0.attn_q.weight"},
    {"tensor without rows", tensor_without_rows, "dimension of 0"},
    {"tensor's size overflows", tensor_overflow, "output.weight"},
    {"tensor without dimensions", tensor_dimensions, "0 dimensions"},
    {"unknown type", tensor_type, "unknown type 99"},
    {"type not read", tensor_type_unread, "cannot read"},
    {"offset not aligned", offset_odd, "multiple of"},
    {"offset past the end", offset_far, "the file's data ends"},
    {"offset that wraps", offset_wraps, "blk.0.ffn_up.weight"},
    {"tensor without place", tensor_unknown, "no place"},
};

static void test_gguf_contents(void **state)
{
    (void)state;
    static bora_gguf_writer writer;
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        char path[BORA_TEMP_PATH_SIZE];
        size_t size = 0;
        bora_gguf_writer_init(&writer);
        bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
        contents[i].damage(&writer);
        uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
        bora_gguf_writer_release(&writer);
        refuse(contents[i].name, bora_temp_folder_write(&folder, "contents.gguf", bytes, size, path), contents[i].why);
        free(bytes);
    }
}

/* ---- Mistral's folder ---- */

static unsigned char *of_test_model(const char *name, size_t *ret_size)
{
    char path[BORA_TEMP_PATH_SIZE];
    (void)snprintf(path, sizeof path, BORA_SOURCE_DIR "/tests/models/bora-tiny/%s", name);
    return bora_temp_read(path, ret_size);
}

/* Writes one file of the folder; text NULL: it is not there. */
static void put(const char *name, const void *bytes, size_t size)
{
    char path[BORA_TEMP_PATH_SIZE], inside[64];
    (void)snprintf(inside, sizeof inside, "native/%.50s", name);
    if (bytes)
        (void)bora_temp_folder_write(&folder, inside, bytes, size, path);
    else
        (void)unlink(bora_temp_folder_path(&folder, inside, path));
}

/* The text with the first from in it exchanged, of the same length or not. In new memory. */
static unsigned char *exchange(const unsigned char *bytes, size_t size, const char *from, const char *to,
                               size_t *ret_size)
{
    const unsigned char *at = memmem(bytes, size, from, strlen(from));
    assert_non_null(at);
    size_t before = (size_t)(at - bytes), after = size - before - strlen(from);
    unsigned char *changed = malloc(before + strlen(to) + after);
    assert_non_null(changed);
    memcpy(changed, bytes, before);
    memcpy(changed + before, to, strlen(to));
    memcpy(changed + before + strlen(to), at + strlen(from), after);
    *ret_size = before + strlen(to) + after;
    return changed;
}

static void test_native(void **state)
{
    (void)state;
    static const struct {
        const char *name, *file, *from, *to; /* from NULL: to is the whole file, or it is not there */
        const char *why;
    } cases[] = {
        {"no params.json", "params.json", NULL, NULL, "params.json"},
        {"params.json is no JSON", "params.json", NULL, "{\"dim\": 256,", "params.json: "},
        {"params.json is a list", "params.json", NULL, "[1, 2]", "params.json: "},
        {"dim missing", "params.json", "\"dim\"", "\"dym\"", "key 'dim'"},
        {"dim negative", "params.json", "\"dim\": ", "\"dim\": -", "key 'dim'"},
        {"heads as text", "params.json", "\"n_heads\": ", "\"n_heads\": \"four\", \"x\": ", "key 'n_heads'"},
        {"theta NaN", "params.json", "\"rope_theta\": ", "\"rope_theta\": NaN, \"x\": ", "params.json: "},
        {"theta negative", "params.json", "\"rope_theta\": ", "\"rope_theta\": -1, \"x\": ", "rope_theta"},
        {"a layer more", "params.json", "\"n_layers\": 4", "\"n_layers\": 5", "layers.4."},
        {"no weights", "consolidated.safetensors", NULL, NULL, "consolidated*.safetensors"},
        {"weights of nothing", "consolidated.safetensors", NULL, "", "consolidated.safetensors"},
        {"weights' header length", "consolidated.safetensors", NULL, "\xff\xff\xff\xff\xff\xff\xff\x7f{}",
         "header length"},
        {"weights' header", "consolidated.safetensors", NULL, "\x02\0\0\0\0\0\0\0[]", "consolidated.safetensors"},
        {"tensor missing", "consolidated.safetensors", "layers.0.attention.wq", "layers.0.attention.wz",
         "layers.0.attention.w"},
        {"tensor's type", "consolidated.safetensors", "BF16", "BF61", "consolidated.safetensors"},
        {"tensor's offsets", "consolidated.safetensors", "\"data_offsets\":[", "\"data_offsets\":[9",
         "consolidated.safetensors"},
        {"no tokenizer", "tokenizer.model.v3", NULL, NULL, "no tokenizer.model"},
        {"tokenizer of nothing", "tokenizer.model.v3", NULL, "", "tokenizer.model.v3"},
        {"tokenizer of text", "tokenizer.model.v3", NULL, "this is no tokenizer\n", "tokenizer.model.v3"},
    };
    static const char *const files[] = {"params.json", "consolidated.safetensors", "tokenizer.model.v3"};
    unsigned char *good[3];
    size_t sizes[3];
    char native[BORA_TEMP_PATH_SIZE];
    assert_int_equal(mkdir(bora_temp_folder_path(&folder, "native", native), 0700), 0);
    for (int f = 0; f < 3; f++) {
        good[f] = of_test_model(files[f], &sizes[f]);
        put(files[f], good[f], sizes[f]);
    }
    accept_model(native);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int f = 0;
        while (strcmp(files[f], cases[i].file) != 0)
            f++;
        if (cases[i].from) {
            size_t size = 0;
            unsigned char *changed = exchange(good[f], sizes[f], cases[i].from, cases[i].to, &size);
            put(files[f], changed, size);
            free(changed);
        } else {
            /* Zero bytes stand in the middle of two of them. */
            size_t size = cases[i].to ? strlen(cases[i].to) : 0;
            put(files[f], cases[i].to, size == 1 && cases[i].to[0] == 2 ? 10 : size);
        }
        refuse(cases[i].name, native, cases[i].why);
        put(files[f], good[f], sizes[f]);
    }
    const size_t cuts[] = {4, 8, 100, sizes[1] / 2, sizes[1] - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        put(files[1], good[1], cuts[i]);
        refuse("weights cut", native, "consolidated.safetensors");
    }
    put(files[1], good[1], sizes[1]);
    const size_t tokenizer_cuts[] = {1, 100, sizes[2] / 2, sizes[2] - 1};
    for (size_t i = 0; i < sizeof tokenizer_cuts / sizeof *tokenizer_cuts; i++) {
        put(files[2], good[2], tokenizer_cuts[i]);
        refuse("tokenizer cut", native, "tokenizer.model.v3");
    }
    put(files[2], good[2], sizes[2]);
    accept_model(native); /* it was the damage each time */
    for (int f = 0; f < 3; f++)
        free(good[f]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_header),
        cmocka_unit_test(test_gguf_truncated),
        cmocka_unit_test(test_gguf_random_damage),
        cmocka_unit_test(test_gguf_contents),
        cmocka_unit_test(test_native),
    };
    return cmocka_run_group_tests_name("bad models", tests, set_up, tear_down);
}
