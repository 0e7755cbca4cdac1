/* bora-model bench on the embedded model: what it prints is whole and finite, and counts what the model's shape says.
 * How fast it is, is not looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "integration/spawn.h"

#include <jansson.h>
#include <math.h>

#define TOOL BORA_BUILD_DIR "/bin/bora-model"
#define TINY BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf"

static spawn_result result;

static json_t *bench(const char *const *argv)
{
    json_error_t where;
    spawn(argv, NULL, &result);
    if (result.code != 0)
        fail_msg("ended with %d: %s", result.code, result.output);
    json_t *root = json_loads(result.output, 0, &where);
    if (!root)
        fail_msg("line %d: %s in:\n%s", where.line, where.text, result.output);
    return root;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("'%s' is no number", key);
    return json_number_value(value);
}

static void expect_positive(const json_t *object, const char *keys)
{
    char copy[256], *save = NULL;
    (void)snprintf(copy, sizeof copy, "%s", keys);
    for (const char *key = strtok_r(copy, " ", &save); key; key = strtok_r(NULL, " ", &save)) {
        double value = number(object, key);
        if (!isfinite(value) || value <= 0)
            fail_msg("'%s' is %g", key, value);
    }
}

/* A profile: shares between nothing and the whole. */
static void expect_profile(const json_t *profile)
{
    const char *kind;
    json_t *value;
    double sum = 0;
    assert_int_equal(json_object_size(profile), 10);
    json_object_foreach((json_t *)(uintptr_t)profile, kind, value)
    {
        assert_true(json_is_real(value) && isfinite(json_real_value(value)) && json_real_value(value) >= 0);
        sum += json_real_value(value);
    }
    assert_true(sum <= 1.05); /* two clocks */
}

static void figures_are_whole(void **state)
{
    (void)state;
    const char *const argv[] = {TOOL,  "bench",     TINY,    "--json", "-p", "40",       "-n", "3",         "--batch",
                                "1,5", "--context", "0,100", "-t",     "2",  "--rounds", "2",  "--profile", NULL};
    json_t *root = bench(argv);
    assert_int_equal(number(root, "format"), 1);
    assert_int_equal(number(json_object_get(root, "machine"), "threads"), 2);
    expect_positive(json_object_get(root, "limits"), "read_bytes_per_second int8_macs_per_second read_size cpu_share");
    expect_positive(json_object_get(root, "start"), "model_seconds pipeline_seconds first_prompt_seconds");
    const json_t *model = json_object_get(root, "model"), *prefill = json_object_get(root, "prefill");
    expect_positive(prefill, "tokens_per_second seconds macs_per_second int8_share");
    assert_int_equal(number(prefill, "tokens"), 40);
    expect_profile(json_object_get(prefill, "profile"));
    /* An expert is chosen or not: the bytes of one token are those of two of four experts. */
    double token_bytes = number(model, "token_weight_bytes"), size = number(model, "size");
    assert_true(token_bytes > 0.3 * size && token_bytes < 0.8 * size);

    const json_t *decode = json_object_get(root, "decode"), *d;
    size_t i;
    static const struct {
        int context, batch;
    } expected[] = {{0, 1}, {0, 5}, {100, 1}, {100, 5}};
    assert_int_equal(json_array_size(decode), 4);
    double kv[4], row = 0;
    json_array_foreach(decode, i, d)
    {
        assert_int_equal(number(d, "context"), expected[i].context);
        assert_int_equal(number(d, "batch"), expected[i].batch);
        expect_positive(d, "tokens_per_second step_seconds weight_bytes kv_bytes sequence_bytes experts_per_layer "
                           "bytes_per_second read_share macs_per_second int8_share read_bytes_per_second");
        expect_profile(json_object_get(d, "profile"));
        kv[i] = number(d, "kv_bytes");
        if (expected[i].batch == 1) { /* two experts a layer, no more and no less */
            assert_true(fabs(number(d, "experts_per_layer") - 2) < 1e-9);
            assert_true(fabs(number(d, "weight_bytes") - token_bytes) < 1);
        } else {
            assert_true(number(d, "experts_per_layer") > 2 && number(d, "experts_per_layer") <= 4);
        }
    }
    row = kv[0] / 2; /* steps at 0, 1, 2 see 1, 2, 3 positions */
    assert_true(fabs(kv[1] - 5 * kv[0]) < 1);
    assert_true(fabs(kv[2] - 102 * row) < 1);
    assert_true(fabs(kv[3] - 5 * 102 * row) < 1);
    json_decref(root);
}

/* The window bounds what a step reads; a context past the model's is left out, with a word. */
static void windows_and_ends(void **state)
{
    (void)state;
    const char *const argv[] = {TOOL,       "bench", TINY,        "--json", "-p",        "8",
                                "-n",       "2",     "--batch",   "1",      "--context", "64,300,700,32767",
                                "--rounds", "1",     "--kv-type", "f32",    "--plugin",  "expert=reference",
                                "--window", "200",   NULL};
    json_t *root = bench(argv);
    const json_t *decode = json_object_get(root, "decode");
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "engine"), "expert")), "reference");
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "engine"), "kv_type")), "f32");
    double short_bytes = number(json_array_get(decode, 0), "kv_bytes"); /* steps see 65 and 66 positions */
    assert_true(fabs(number(json_array_get(decode, 1), "kv_bytes") - short_bytes / 65.5 * 200) < 1);
    assert_true(fabs(number(json_array_get(decode, 2), "kv_bytes") - short_bytes / 65.5 * 200) < 1);
    assert_non_null(strstr(json_string_value(json_object_get(json_array_get(decode, 3), "skipped")), "32768"));
    assert_null(json_object_get(json_array_get(decode, 3), "tokens_per_second"));
    json_decref(root);
}

static void tables_and_lists(void **state)
{
    (void)state;
    const char *const table[] = {TOOL, "bench",     TINY, "-p",       "8", "-n",       "1", "--batch",
                                 "2",  "--context", "0",  "--rounds", "1", "--stages", "2", NULL};
    const char *const csv[] = {TOOL, "bench",     TINY, "-p",       "8", "-n",    "1", "--batch",
                               "2",  "--context", "9",  "--rounds", "1", "--csv", NULL};
    spawn_expect(table, NULL, 0, "\nprefill  ");
    spawn_expect(table, NULL, 0, "\ndecode  ");
    spawn_expect(csv, NULL, 0, "window,context,batch,tokens_per_second,");
    spawn_expect(csv, NULL, 0, "\n256,9,2,");
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {{"--batch", "0"},       {"--batch", "1,,2"}, {"--batch", "65"},
                                           {"--batch", "1,"},      {"--context", "-1"}, {"-p", "0"},
                                           {"-n", "many"},         {"--rounds", "102"}, {"--plugin", "wing=x"},
                                           {"--plugin", "expert"}, {"--context", "x"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *const argv[] = {TOOL, "bench", TINY, wrong[i][0], wrong[i][1], NULL};
        spawn_expect(argv, NULL, 2, "is no value for");
    }
    const char *const both[] = {TOOL, "bench", TINY, "--json", "--csv", NULL};
    const char *const elsewhere[] = {TOOL, "inspect", TINY, "--batch", "2", NULL};
    const char *const missing[] = {TOOL, "bench", NULL};
    const char *const longer[] = {TOOL, "bench", TINY, "-p", "40000", NULL};
    const char *const nothing[] = {TOOL, "bench", "/nonexistent/model.gguf", NULL};
    spawn_expect(both, NULL, 2, "not both");
    spawn_expect(elsewhere, NULL, 2, "is for bench");
    spawn_expect(missing, NULL, 2, "missing");
    spawn_expect(longer, NULL, 1, "longer than the model's context");
    spawn_expect(nothing, NULL, 1, "nonexistent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures_are_whole), cmocka_unit_test(windows_and_ends),
                                       cmocka_unit_test(tables_and_lists), cmocka_unit_test(nonsense_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
