/* How well bora-tiny foresees dialogues that it was not trained on: the native weights as the reference says, and every
 * type that convert writes within a bound of them. Figures of all types are in docs/quantisation.md. Prints one line a
 * case. */
#include "support/temp_folder.h"

#include "base/cpu.h"
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

#define NATIVE  BORA_SOURCE_DIR "/tests/models/bora-tiny"
#define HELDOUT BORA_SOURCE_DIR "/tests/golden/heldout"

/* All 198 dialogues take a sanitizer minutes; there the types' share of them must do. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define WITH_ALL false
#define N_SOME   2
#else
#define WITH_ALL true
#define N_SOME   8
#endif

static bora_temp_folder folder;

static bool report(bool good, const char *what, const char *why)
{
    printf("%s - nll %s%s%s\n", good ? "ok" : "not ok", what, *why ? ": " : "", why);
    return good;
}

/* Runs bora-model; what it prints on standard output, in new memory, or NULL if it failed. */
static char *run_tool(const char *const *words)
{
    char out[BORA_TEMP_PATH_SIZE], *text = NULL;
    const char *argv[16] = {"bora-model"};
    size_t n = 1;
    for (; *words && n < 15; words++)
        argv[n++] = *words;
    bora_temp_folder_path(&folder, "output", out);
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(out, "w", stdout))
            _exit(126);
        execv(BORA_BUILD_DIR "/bin/bora-model", (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return NULL;
    return bora_file_read(out, 1 << 20, &text, NULL, NULL) == BORA_OK ? text : NULL;
}

/* What perplexity says of the model and the dialogues; NULL if it failed. */
static json_t *perplexity(const char *model, const char *dialogues)
{
    char *text = run_tool((const char *const[]){"perplexity", model, dialogues, "--json", "--expert", "blas", NULL});
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    bora_free(text);
    return json;
}

static double number(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool as_the_reference(void)
{
    json_t *should = json_load_file(HELDOUT "/heldout-reference.json", 0, NULL);
    json_t *is = perplexity(NATIVE, HELDOUT "/heldout.jsonl");
    static const char *const counts[] = {"dialogues", "tokens", "answer_tokens"}, *const means[] = {"nll_all",
                                                                                                    "nll_answers"};
    bool good = should && is;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(counts); i++)
        good = good && number(is, counts[i]) == number(should, counts[i]);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(means); i++)
        good = good && fabs(number(is, means[i]) - number(should, means[i])) <= 1e-4;
    char text[128];
    (void)snprintf(text, sizeof text, "all %.6f, answers %.6f", number(is, "nll_all"), number(is, "nll_answers"));
    json_decref(is);
    json_decref(should);
    return report(good, "of the native weights is the reference's", text);
}

/* The first dialogues, for the types. */
static bool write_some(char path[BORA_TEMP_PATH_SIZE])
{
    char *text = NULL;
    if (bora_file_read(HELDOUT "/heldout.jsonl", 1 << 20, &text, NULL, NULL) != BORA_OK)
        return false;
    char *end = text;
    for (int i = 0; i < N_SOME && end; i++)
        end = strchr(end + (i > 0), '\n');
    if (end)
        bora_temp_folder_write(&folder, "some.jsonl", text, (size_t)(end - text), path);
    bora_free(text);
    return end != NULL;
}

static bool type_is_close(const char *type, double bound, const char *dialogues, const json_t *native)
{
    char path[BORA_TEMP_PATH_SIZE], text[128], what[32];
    bora_temp_folder_path(&folder, "model.gguf", path);
    char *said = run_tool((const char *const[]){"convert", NATIVE, path, "--type", type, "--force", NULL});
    json_t *is = said ? perplexity(path, dialogues) : NULL;
    double all = number(is, "nll_all") - number(native, "nll_all");
    double answers = number(is, "nll_answers") - number(native, "nll_answers");
    bool good = fabs(all) <= bound && fabs(answers) <= bound;
    (void)snprintf(text, sizeof text, "all %+.5f, answers %+.5f, at most %g", all, answers, bound);
    (void)snprintf(what, sizeof what, "of %s", type);
    bora_free(said);
    json_decref(is);
    return report(good, what, text);
}

/* Activations of bfloat16, experts' included: the tokens of some dialogues are foreseen as well. On processors that
 * cannot multiply such nothing changes at all. */
static bool rounded_is_close(const char *dialogues)
{
    static const char *const products[] = {"f32", "bf16"};
    json_t *is[2];
    for (size_t i = 0; i < 2; i++) {
        char *said = run_tool((const char *const[]){"perplexity", NATIVE, dialogues, "--json", "--expert", "quant",
                                                    "--products", products[i], NULL});
        is[i] = said ? json_loads(said, 0, NULL) : NULL;
        bora_free(said);
    }
    const double all = number(is[1], "nll_all") - number(is[0], "nll_all");
    const double answers = number(is[1], "nll_answers") - number(is[0], "nll_answers");
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    const bool good = fabs(all) <= 1e-3 && fabs(answers) <= 1e-3 && (all != 0 || !cpu.avx512_bf16);
    char text[128];
    (void)snprintf(text, sizeof text, "all %+.6f, answers %+.6f", all, answers);
    json_decref(is[0]);
    json_decref(is[1]);
    return report(good, "with activations of bf16", text);
}

/* A plain text: every token once, whatever the window; a wider one foresees better or the same within noise. */
static bool texts_are_scored_once(void)
{
    char path[BORA_TEMP_PATH_SIZE], text[4096] = "";
    for (int i = 0; i < 12; i++)
        strncat(text, "My name is Anna. What is the capital of France? The capital of France is Paris. ",
                sizeof text - strlen(text) - 1);
    bora_temp_folder_write(&folder, "text.txt", text, strlen(text), path);
    static const char *const contexts[] = {"64", "65", "1000"};
    double n[3], nll[3];
    for (size_t i = 0; i < 3; i++) {
        char *said =
            run_tool((const char *const[]){"perplexity", NATIVE, path, "--context", contexts[i], "--json", NULL});
        json_t *is = said ? json_loads(said, 0, NULL) : NULL;
        n[i] = number(is, "tokens");
        nll[i] = number(is, "nll");
        json_decref(is);
        bora_free(said);
    }
    bool good = n[0] > 100 && n[0] == n[1] && n[1] == n[2] && nll[2] < nll[0] && nll[0] < 4;
    char why[128];
    (void)snprintf(why, sizeof why, "%g tokens, %.4f in windows of 64, %.4f in one", n[0], nll[0], nll[2]);
    return report(good, "of a text", why);
}

int main(void)
{
    static const struct {
        const char *type;
        double bound; /* of the difference in mean NLL, all and answers */
    } types[] = {{"bf16", 1e-6},  {"f16", 1e-5},    {"q8_0", 0.002}, {"q6_k", 0.005},
                 {"q5_k", 0.008}, {"mixed", 0.012}, {"q4_k", 0.015}, {"q4_0", 0.03}};
    bora_temp_folder_make(&folder);
    char some[BORA_TEMP_PATH_SIZE];
    bool good = texts_are_scored_once();
    if (WITH_ALL)
        good &= as_the_reference();
    json_t *native = write_some(some) ? perplexity(NATIVE, some) : NULL;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(types); i++)
        good &= type_is_close(types[i].type, types[i].bound, some, native);
    good &= rounded_is_close(some);
    json_decref(native);
    bora_temp_folder_remove(&folder);
    return good ? 0 : 1;
}
