/* bora-model eval against the recorded runs of the reference implementation: every golden model and the trained model's
 * chats, with 1, 2 and 3 stages and each plain expert plugin. Every tensor within the tolerances of
 * tests/golden/README.md; tokens, experts and texts exactly. Prints one line a case. */
#include "support/temp_folder.h"

#include "base/file.h"
#include "base/memory.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The trained model's chats take a sanitizer minutes, and its code is what the small models run too: once is enough. */
#if defined(__SANITIZE_THREAD__)
#define CHATS_FIRST 3
#elif defined(__SANITIZE_ADDRESS__)
#define CHATS_FIRST 2
#else
#define CHATS_FIRST 0
#endif

#define GOLDEN_MAX ((size_t)1 << 28)

typedef struct outcome {
    char why[512]; /* the first thing that is wrong; "" while all is well */
    size_t n_tensors, n_tokens, n_texts;
} outcome;

__attribute__((format(printf, 2, 3))) static void wrong(outcome *out, const char *format, ...)
{
    if (out->why[0])
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out->why, sizeof out->why, format, args); /* cut if too long */
    va_end(args);
}

/* The contents of "<folder>/<name>"; NULL, and a word about it in out, if that cannot be. */
static char *read_file(outcome *out, const char *folder, const char *name, size_t *ret_size)
{
    char *path = bora_format("%s/%s", folder, name), *data = NULL;
    bora_error err = {""};
    if (!path || bora_file_read(path, GOLDEN_MAX, &data, ret_size, &err) != BORA_OK)
        wrong(out, "%s", err.message);
    bora_free(path);
    return data;
}

static json_t *read_json(outcome *out, const char *folder, const char *name)
{
    size_t size = 0;
    json_error_t where = {.line = 0};
    char *text = read_file(out, folder, name, &size);
    json_t *json = text ? json_loadb(text, size, 0, &where) : NULL;
    if (text && !json)
        wrong(out, "%s/%s: line %d: %s", folder, name, where.line, where.text);
    bora_free(text);
    return json;
}

static void tolerance(const char *kind, const char *tensor, float *ret_atol, float *ret_rtol)
{
    *ret_rtol = 1e-4f;
    if (strstr(tensor, "logits") && !strstr(tensor, "gate_logits"))
        *ret_atol = 5e-4f;
    else
        *ret_atol = strcmp(kind, "score") == 0 ? 1e-3f : 3e-4f;
}

static void compare_floats(outcome *out, const char *what, const float *is, const float *should, size_t n, float atol,
                           float rtol)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - should[i]) <= atol + rtol * fabsf(should[i]))) {
            wrong(out, "%s: value %zu of %zu is %.9g, should be %.9g", what, i, n, (double)is[i], (double)should[i]);
            return;
        }
}

static void compare_tensor(outcome *out, const char *golden, const char *results, json_t *run, const char *name,
                           json_t *tensor)
{
    const char *kind = json_string_value(json_object_get(run, "kind"));
    char *file = bora_format("%s.%s.bin", json_string_value(json_object_get(run, "name")), name);
    size_t is_size = 0, should_size = 0, n = 1, i;
    json_t *extent;
    char *is = read_file(out, results, file, &is_size);
    char *should = read_file(out, golden, json_string_value(json_object_get(tensor, "file")), &should_size);
    json_array_foreach(json_object_get(tensor, "shape"), i, extent) n *= (size_t)json_integer_value(extent);
    if (is && should) {
        float atol, rtol;
        tolerance(kind, name, &atol, &rtol);
        if (is_size != n * 4 || should_size != n * 4)
            wrong(out, "%s has %zu bytes, recorded are %zu", file, is_size, n * 4);
        else if (strcmp(json_string_value(json_object_get(tensor, "dtype")), "f32") == 0)
            compare_floats(out, file, (const float *)(void *)is, (const float *)(void *)should, n, atol, rtol);
        else if (memcmp(is, should, is_size) != 0)
            wrong(out, "%s differs", file);
        if (strcmp(name, "token_logprobs") == 0) {
            double sum = 0.0, nll = json_real_value(json_object_get(run, "mean_nll"));
            for (i = 0; i < n; i++)
                sum -= (double)((const float *)(void *)is)[i];
            if (!(fabs(sum / (double)n - nll) <= 1e-3))
                wrong(out, "%s: mean negative log-likelihood %.6f, recorded %.6f", file, sum / (double)n, nll);
        }
        out->n_tensors++;
    }
    bora_free(is);
    bora_free(should);
    bora_free(file);
}

/* Ids of every sequence, exactly; and the texts, where they were recorded of prompt and continuation. */
static void compare_generated(outcome *out, const char *results, json_t *run, bool texts)
{
    const char *name = json_string_value(json_object_get(run, "name"));
    char *tokens_file = bora_format("%s.tokens.json", name), *text_file = bora_format("%s.text.json", name);
    json_t *should = json_object_get(run, "tokens"), *is = read_json(out, results, tokens_file);
    if (!is || !json_equal(is, should))
        wrong(out, "%s differs", tokens_file);
    out->n_tokens += json_array_size(json_array_get(is, 0));
    json_decref(is);
    if (texts) {
        json_t *recorded = json_object_get(run, "text");
        should = json_is_array(recorded) ? json_incref(recorded) : json_pack("[O]", recorded);
        is = read_json(out, results, text_file);
        if (!is || !json_equal(is, should))
            wrong(out, "%s differs", text_file);
        out->n_texts += json_array_size(is);
        json_decref(is);
        json_decref(should);
    }
    bora_free(text_file);
    bora_free(tokens_file);
}

static void compare(outcome *out, const char *golden_folder, const char *results, bool texts)
{
    json_t *golden = read_json(out, golden_folder, "golden.json"), *run, *tensor;
    size_t r;
    const char *name;
    json_array_foreach(json_object_get(golden, "runs"), r, run)
    {
        json_object_foreach(json_object_get(run, "tensors"), name, tensor)
            compare_tensor(out, golden_folder, results, run, name, tensor);
        if (json_object_get(run, "tokens"))
            compare_generated(out, results, run, texts);
    }
    if (out->n_tensors + out->n_tokens == 0)
        wrong(out, "nothing was compared");
    json_decref(golden);
}

/* Runs bora-model in a folder of its own choosing: what it says goes to the test's own output. */
static void run_tool(outcome *out, const char *cwd, const char *golden, const char *results, const char *stages,
                     const char *expert)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (chdir(cwd) != 0 || !freopen("/dev/null", "w", stdout))
            _exit(126);
        execl(BORA_BUILD_DIR "/bin/bora-model", "bora-model", "eval", golden, "--out", results, "--attention",
              "reference", "--cache", "ring", "--kv-type", "f32", "--stages", stages, "--expert", expert, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        wrong(out, "bora-model ended with status 0x%x", (unsigned)status);
}

static bool report(const char *label, const char *stages, const char *expert, const outcome *out)
{
    if (out->why[0])
        printf("not ok - eval %s, stages %s, expert/%s: %s\n", label, stages, expert, out->why);
    else
        printf("ok - eval %s, stages %s, expert/%s (%zu tensors, %zu tokens, %zu texts)\n", label, stages, expert,
               out->n_tensors, out->n_tokens, out->n_texts);
    return !out->why[0];
}

static bool check(const char *folder, const char *label, const char *stages, const char *expert, bool texts)
{
    outcome out = {.why = ""};
    bora_temp_folder results;
    bora_temp_folder_make(&results);
    char *golden = bora_format("%s/golden.json", folder);
    run_tool(&out, "/", golden, results.path, stages, expert);
    if (!out.why[0])
        compare(&out, folder, results.path, texts);
    bora_free(golden);
    bora_temp_folder_remove(&results);
    return report(label, stages, expert, &out);
}

/* Paths are relative to where the user stands, the model's to its description. */
static bool check_relative(void)
{
    outcome out = {.why = ""};
    bora_temp_folder work;
    bora_temp_folder_make(&work);
    const char *golden = BORA_SOURCE_DIR "/tests/golden/models/moe-gqa";
    char *link = bora_format("%s/golden.json", work.path), *model = bora_format("%s/model", work.path),
         *results = bora_format("%s/a/b", work.path), *source = bora_format("%s/golden.json", golden),
         *source_model = bora_format("%s/model", golden);
    if (symlink(source, link) != 0 || symlink(source_model, model) != 0)
        wrong(&out, "symlink");
    run_tool(&out, work.path, "golden.json", "a/b", "1", "reference");
    if (!out.why[0])
        compare(&out, golden, results, false);
    bora_free(link);
    bora_free(model);
    bora_free(results);
    bora_free(source);
    bora_free(source_model);
    bora_temp_folder_remove(&work);
    return report("with relative paths", "1", "reference", &out);
}

int main(void)
{
    static const char *const models[] = {"dense-mha",          "dense-gqa-swa",   "moe-gqa",
                                         "moe-gqa-swa",        "dense-oddshapes", "dense-perlayer",
                                         "dense-theta-default"};
    static const char *const stages[] = {"1", "2", "3"}, *const experts[] = {"reference", "blas", "quant"};
    bool good = check_relative();
    for (size_t m = 0; m < BORA_ARRAY_SIZE(models); m++) {
        char *folder = bora_format("%s/tests/golden/models/%s", BORA_SOURCE_DIR, models[m]);
        for (size_t s = 0; s < BORA_ARRAY_SIZE(stages); s++)
            for (size_t e = 0; e < BORA_ARRAY_SIZE(experts); e++)
                good &= check(folder, models[m], stages[s], experts[e], false);
        bora_free(folder);
    }
    for (size_t s = CHATS_FIRST; s < BORA_ARRAY_SIZE(stages); s++) /* the longest by far: each plugin at least once */
        good &= check(BORA_SOURCE_DIR "/tests/golden/bora-tiny", "bora-tiny", stages[s], experts[s % 3], false);
    const char *data = getenv("BORA_TEST_DATA");
    if (!data || !*data) {
        printf("skip - stories260K: BORA_TEST_DATA is not set\n");
    } else {
        char *folder = bora_format("%s/golden/stories260K", data);
        for (size_t e = 0; e < BORA_ARRAY_SIZE(experts); e++)
            good &= check(folder, "stories260K", stages[e], experts[e], true);
        bora_free(folder);
    }
    return good ? 0 : 1;
}
