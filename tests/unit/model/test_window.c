/* Which window a model gets: what its files state, in all the ways they have to state it, and what the user says
 * instead. */
#include "gguf_fixture.h"

#include "model/model_private.h"

#include <sys/mman.h>
#include <unistd.h>

static char logged[4096];

static bora_model *open_with(uint32_t window)
{
    char path[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
    bora_temp_folder_write(&folder, "model.gguf", bytes, size, path);
    free(bytes);
    bora_model *model = NULL;
    bora_error err = {{0}};
    bora_model_options options = {.window = window};
    bora_log log;
    bora_log_init(&log, BORA_LOG_INFO);
    log.fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(log.fd >= 0);
    bora_status st = bora_model_open(path, &options, &log, &model, &err);
    ssize_t n = pread(log.fd, logged, sizeof logged - 1, 0);
    assert_true(n >= 0);
    logged[n] = '\0';
    (void)close(log.fd); /* memory only */
    if (st != BORA_OK)
        fail_msg("%s", err.message);
    return model;
}

/* Opens what is written, compares window text, source and log line, and gives the fingerprint. */
static void assert_window(uint32_t asked, const char *text, const char *source, const char *line, char fingerprint[33])
{
    bora_model *model = open_with(asked);
    char shown[256];
    bora_hparams_windows_text(bora_model_hparams(model), shown, sizeof shown);
    assert_string_equal(shown, text);
    assert_string_equal(bora_model_window_source(model), source);
    if (!strstr(logged, line))
        fail_msg("'%s' is not in '%s'", line, logged);
    memcpy(fingerprint, bora_model_fingerprint(model), 33);
    bora_model_free(model);
}

static void stated_or_not(void **state)
{
    (void)state;
    char plain[33], windowed[33], other[33];
    assert_window(BORA_WINDOW_AUTO, "none", "not stated", "no window: the file states none", plain);
    assert_window(BORA_WINDOW_NONE, "none", "set by model.window", "no window: set by model.window", other);
    assert_string_equal(other, plain); /* the same model, whoever said it */
    assert_window(64, "64", "set by model.window", "window 64: set by model.window (the file states none)", other);
    assert_string_not_equal(other, plain);

    bora_gguf_writer_u32(&writer, "llama.attention.sliding_window", 64);
    assert_window(BORA_WINDOW_AUTO, "64", "llama.attention.sliding_window",
                  "window 64 from llama.attention.sliding_window", windowed);
    assert_string_equal(windowed, other);
    assert_window(BORA_WINDOW_NONE, "none", "set by model.window",
                  "no window: set by model.window (llama.attention.sliding_window)", other);
    assert_string_equal(other, plain);
    assert_window(32, "32", "set by model.window", "window 32", other);
    assert_string_not_equal(other, windowed);
}

static void lists_and_patterns(void **state)
{
    (void)state;
    static const char key[] = "llama.attention.sliding_window", pattern[] = "llama.attention.sliding_window_pattern";
    char list[33], by_bools[33], by_number[33], same[33], number[33];
    bora_gguf_writer_array(&writer, key, BORA_WRITER_U32, (const uint32_t[]){64, 0}, 2, 4);
    assert_window(BORA_WINDOW_AUTO, "64, none (repeated over the layers)", key,
                  "window 64, none (repeated over the layers) from", list);
    assert_window(BORA_WINDOW_NONE, "none", "set by model.window", "no window", same);
    bora_gguf_writer_array(&writer, key, BORA_WRITER_U32, (const uint32_t[]){64, 64}, 2, 4);
    assert_window(BORA_WINDOW_AUTO, "64", key, "window 64", same);
    bora_gguf_writer_u32(&writer, key, 64);
    assert_window(BORA_WINDOW_AUTO, "64", key, "window 64", number);
    assert_string_equal(same, number);

    bora_gguf_writer_array(&writer, pattern, BORA_WRITER_BOOL, "\1\0", 2, 1);
    assert_window(BORA_WINDOW_AUTO, "64, none (repeated over the layers)",
                  "llama.attention.sliding_window and its pattern", "pattern", by_bools);
    assert_string_equal(by_bools, list);
    bora_gguf_writer_u32(&writer, pattern, 2); /* every second one without */
    assert_window(BORA_WINDOW_AUTO, "64, none (repeated over the layers)",
                  "llama.attention.sliding_window and its pattern", "pattern", by_number);
    assert_string_equal(by_number, list);
    bora_gguf_writer_u32(&writer, pattern, 0);
    assert_window(BORA_WINDOW_AUTO, "64", "llama.attention.sliding_window and its pattern", "window 64", same);
    assert_string_equal(same, number);
    bora_gguf_writer_u32(&writer, pattern, 1);
    assert_window(BORA_WINDOW_AUTO, "none", "llama.attention.sliding_window and its pattern", "no window", same);
}

static void patterns_that_fit_nothing(void **state)
{
    (void)state;
    static const char key[] = "llama.attention.sliding_window", pattern[] = "llama.attention.sliding_window_pattern";
    bora_gguf_writer_u32(&writer, pattern, 2);
    assert_refused(BORA_E_FORMAT, pattern); /* no window */
    bora_gguf_writer_array(&writer, key, BORA_WRITER_U32, (const uint32_t[]){64, 0}, 2, 4);
    assert_refused(BORA_E_FORMAT, pattern); /* two ways at once */
    bora_gguf_writer_u32(&writer, key, 64);
    bora_gguf_writer_u32(&writer, pattern, 1025);
    assert_refused(BORA_E_FORMAT, pattern);
    bora_gguf_writer_array(&writer, pattern, BORA_WRITER_BOOL, "\1\0\1", 3, 1);
    assert_refused(BORA_E_FORMAT, pattern);
    bora_gguf_writer_array(&writer, pattern, BORA_WRITER_U32, (const uint32_t[]){1, 0}, 2, 4);
    assert_refused(BORA_E_FORMAT, pattern);
    bora_gguf_writer_string(&writer, pattern, "x");
    assert_refused(BORA_E_FORMAT, pattern);
}

static void theta_of_params_without_one(void **state)
{
    (void)state;
    static const struct {
        const char *window;
        float theta;
    } cases[] = {{"", 1e6f},
                 {", \"sliding_window\": null", 1e6f},
                 {", \"sliding_window\": 4096", 1e4f},
                 {", \"_sliding_window\": [null, 8]", 1e4f},
                 {", \"sliding_window\": 4096, \"rope_theta\": 5.0", 5}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        char text[256];
        int n =
            snprintf(text, sizeof text,
                     "{\"dim\":8,\"n_layers\":2,\"hidden_dim\":8,\"n_heads\":2,\"vocab_size\":8,\"norm_eps\":1e-5%s}",
                     cases[i].window);
        bora_hparams h;
        assert_int_equal(bora_native_params(text, (size_t)n, &h, NULL), BORA_OK);
        assert_float_equal(h.rope_theta, cases[i].theta, 0);
    }
}

static void long_patterns_in_short_texts(void **state)
{
    (void)state;
    bora_hparams h = {.n_windows = BORA_LAYERS_MAX};
    for (uint32_t i = 0; i < BORA_LAYERS_MAX; i++)
        h.windows[i] = i;
    for (size_t size = 1; size < 300; size++) {
        char text[300];
        memset(text, 'x', sizeof text);
        bora_hparams_windows_text(&h, text, size);
        assert_true(strlen(text) < size);
    }
    bora_hparams_windows_shorten(&h);
    assert_int_equal(h.n_windows, BORA_LAYERS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WRITER(stated_or_not),
        WITH_WRITER(lists_and_patterns),
        WITH_WRITER(patterns_that_fit_nothing),
        cmocka_unit_test(theta_of_params_without_one),
        cmocka_unit_test(long_patterns_in_short_texts),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
