/* What happens to the files of a model that is served: a session under another window, a file cut short in use, a
 * model by name. */
#include "support/chat.h"
#include "support/daemon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bora_test_daemon house;
static char model[BORA_TEMP_PATH_SIZE]; /* a copy of the embedded one, in <folder>/data/bora/models */

static int folder_setup(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    size_t size = 0;
    if (!bora_test_daemon_init(&house))
        return -1;
    static const char *const folders[] = {"data", "data/bora", "data/bora/models"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (mkdir(bora_temp_folder_path(&house.folder, folders[i], path), 0700) != 0)
            return -1;
    unsigned char *bytes = bora_temp_read(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", &size);
    bora_temp_folder_write(&house.folder, "data/bora/models/tiny.gguf", bytes, size, model);
    free(bytes);
    return setenv("XDG_DATA_HOME", bora_temp_folder_path(&house.folder, "data", path), 1);
}

static int folder_teardown(void **state)
{
    (void)state;
    bora_test_daemon_release(&house);
    return 0;
}

static bora_client *serve(const char *name, const char *window)
{
    char set[64];
    (void)snprintf(set, sizeof set, "model.window=%s", window);
    const char *const arguments[] = {"--model", name, "--set", set, NULL};
    int code = 0;
    if (!bora_test_daemon_start(&house, arguments, &code))
        fail_msg("borad ended with %d", code);
    bora_client *client = bora_test_connect(house.socket);
    assert_non_null(client);
    return client;
}

static void end(bora_client *client)
{
    bora_client_close(client);
    assert_int_equal(bora_test_daemon_end(&house, SIGTERM), 0);
}

/* A turn in the session "kept". Its code is "" if it went well. */
static void say(bora_client *client, const char *text, const char *code)
{
    bora_client_generation generation = {
        .text = text,
        .text_size = strlen(text),
        .session = "kept",
        .set = BORA_CLIENT_SET_MAX_TOKENS,
        .max_tokens = 4,
    };
    bora_test_answer answer = {0};
    (void)bora_test_answer_get(client, &generation, &answer);
    if (strcmp(answer.error.code, code) != 0 || (*code == '\0') != (answer.status == BORA_CLIENT_OK))
        fail_msg("'%s': %d %s '%s'", text, answer.status, answer.error.code, answer.error.message);
    bora_test_answer_release(&answer);
}

/* What `model` says of the window of the first layer and where it is from. */
static void assert_window(bora_client *client, uint64_t window, const char *source)
{
    bora_client_result *result = NULL;
    bora_client_error err = {0};
    assert_int_equal(bora_client_model(client, &result, &err), BORA_CLIENT_OK);
    const bora_client_value *value = bora_client_result_value(result);
    const bora_client_value *windows = bora_client_value_get(value, "windows");
    assert_int_equal(bora_client_value_uint(bora_client_value_at(windows, 0), UINT64_MAX), window);
    assert_true(bora_test_text_is(bora_client_value_get(value, "window_source"), source));
    assert_true(bora_test_text_is(bora_client_value_get(value, "tensor_types"), "q8_0 30, f32 13"));
    assert_true(bora_client_value_uint(bora_client_value_get(value, "memory_bytes"), 0) >
                bora_client_value_uint(bora_client_value_get(value, "weight_bytes"), 0));
    bora_client_result_free(result);
}

/* Pages made under one window are never used under another. */
static void sessions_belong_to_a_window(void **state)
{
    (void)state;
    bora_client *client = serve("tiny", "auto");
    assert_window(client, 256, "llama.attention.sliding_window");
    assert_true(bora_test_daemon_logged(&house, "window 256 from llama.attention.sliding_window"));
    say(client, "Hello!", "");
    end(client);
    client = serve("tiny", "64");
    assert_window(client, 64, "set by model.window");
    say(client, "And again.", "unsupported");
    end(client);
    client = serve("tiny", "256"); /* what the file states anyway */
    say(client, "And again.", "");
    end(client);
    client = serve("tiny", "none");
    assert_window(client, 0, "set by model.window");
    say(client, "And again.", "unsupported");
    end(client);
}

/* Nothing is generated from a file with a hole; what is kept stays, and goes on when the file is whole again. */
static void a_file_cut_short_in_use(void **state)
{
    (void)state;
    bora_client *client = serve(model, "auto");
    say(client, "Hello!", "");
    size_t size = 0, n_tokens = 0, n_later = 0;
    unsigned char *bytes = bora_temp_read(model, &size);
    free(bora_test_session_tokens(client, "kept", &n_tokens, NULL));
    assert_true(n_tokens > 0);
    assert_int_equal(truncate(model, 65536), 0);
    say(client, "Are you there?", "io");
    say(client, "Are you there?", "io");
    assert_true(bora_test_daemon_logged(&house, "cut short"));
    assert_true(bora_test_number(client, "status", "n_steps") > 0); /* it answers */
    free(bora_test_session_tokens(client, "kept", &n_later, NULL));
    assert_int_equal(n_later, n_tokens);
    end(client);
    bora_temp_folder_write(&house.folder, "data/bora/models/tiny.gguf", bytes, size, model);
    free(bytes);
    client = serve(model, "auto");
    say(client, "Are you there?", "");
    end(client);
}

static void names_that_nobody_has(void **state)
{
    (void)state;
    const char *const arguments[] = {"--model", "nobody", NULL};
    int code = 0;
    assert_false(bora_test_daemon_start(&house, arguments, &code));
    assert_int_equal(code, 1);
    assert_true(bora_test_daemon_logged(&house, "no model 'nobody' in "));
    assert_true(bora_test_daemon_logged(&house, "/data/bora/models:"));
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(sessions_belong_to_a_window),
        WITH_FOLDER(a_file_cut_short_in_use),
        WITH_FOLDER(names_that_nobody_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
