/* Mistral's native folder: params.json, consolidated*.safetensors (one file or several shards) and the tokenizer:
 * tekken.json, or tokenizer.model with a version at its end in newer releases. A folder with both is read as the
 * reference does: tekken.json goes first. */
#include "base/memory.h"
#include "model/model_private.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARAMS_SIZE_MAX ((size_t)1 << 20)

static const bora_tensor_names native_names = {
    .embeddings = "tok_embeddings.weight",
    .norm = "norm.weight",
    .output = "output.weight",
    .layer_prefix = "layers.",
    .attention_norm = "attention_norm.weight",
    .wq = "attention.wq.weight",
    .wk = "attention.wk.weight",
    .wv = "attention.wv.weight",
    .wo = "attention.wo.weight",
    .ffn_norm = "ffn_norm.weight",
    .dense = {"feed_forward.w1.weight", "feed_forward.w2.weight", "feed_forward.w3.weight"},
    .mixture = {{.router = "feed_forward.gate.weight",
                 .expert_prefix = {"feed_forward.experts.", "feed_forward.experts.", "feed_forward.experts."},
                 .expert_suffix = {".w1.weight", ".w2.weight", ".w3.weight"}},
                {.router = "block_sparse_moe.gate.weight",
                 .expert_prefix = {"block_sparse_moe.experts.", "block_sparse_moe.experts.",
                                   "block_sparse_moe.experts."},
                 .expert_suffix = {".w1.weight", ".w2.weight", ".w3.weight"}}},
    .ignored = {"rope.freqs"}, /* follow from rope_theta */
};

/* What a look into the folder found. */
typedef struct folder {
    char **weights; /* [n_weights] names of consolidated*.safetensors, sorted */
    size_t n_weights;
    char *tokenizer; /* name of the one with the highest version; NULL: none */
    int tokenizer_version;
    bool has_pickle, has_tekken;
} folder;

static void folder_release(folder *found)
{
    for (size_t i = 0; i < found->n_weights; i++)
        bora_free(found->weights[i]);
    bora_free(found->weights);
    bora_free(found->tokenizer);
}

static void dir_closep(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir); /* only read from */
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* "tokenizer.model" is 0, "tokenizer.model.v3" 3; anything else -1. */
static int tokenizer_version(const char *name)
{
    if (!starts_with(name, "tokenizer.model"))
        return -1;
    const char *rest = name + strlen("tokenizer.model");
    if (*rest == '\0')
        return 0;
    if (rest[0] != '.' || rest[1] != 'v')
        return -1;
    int version = 0;
    size_t n = 0;
    for (rest += 2; *rest >= '0' && *rest <= '9' && n < 4; rest++, n++)
        version = version * 10 + (*rest - '0');
    return n > 0 && *rest == '\0' ? version : -1;
}

static bora_status weights_add(folder *found, const char *name, bora_error *err)
{
    if (found->n_weights == BORA_MODEL_FILES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "more than %u consolidated*.safetensors", BORA_MODEL_FILES_MAX);
    char **weights = bora_realloc(found->weights, found->n_weights + 1, sizeof *weights);
    if (!weights)
        return bora_fail(err, BORA_E_NOMEM, "list of weight files");
    found->weights = weights;
    char *copy = bora_strdup(name);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "list of weight files");
    weights[found->n_weights++] = copy;
    return BORA_OK;
}

static bora_status tokenizer_add(folder *found, const char *name, bora_error *err)
{
    int version = tokenizer_version(name);
    if (version < 0 || (found->tokenizer && version <= found->tokenizer_version))
        return BORA_OK;
    char *copy = bora_strdup(name);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "name of the tokenizer");
    bora_free(found->tokenizer);
    found->tokenizer = copy;
    found->tokenizer_version = version;
    return BORA_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bora_status folder_read(const char *path, folder *found, bora_error *err)
{
    BORA_CLEANUP(dir_closep) DIR *dir = opendir(path);
    if (!dir)
        return bora_fail(err, errno == ENOENT ? BORA_E_NOT_FOUND : BORA_E_IO, "open '%s': %s", path, strerror(errno));
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        const char *name = entry->d_name;
        bora_status st = BORA_OK;
        if (starts_with(name, "consolidated") && ends_with(name, ".safetensors"))
            st = weights_add(found, name, err);
        else if (starts_with(name, "tokenizer.model"))
            st = tokenizer_add(found, name, err);
        found->has_pickle |= starts_with(name, "consolidated") && ends_with(name, ".pth");
        found->has_tekken |= strcmp(name, "tekken.json") == 0;
        if (st != BORA_OK)
            return st;
    }
    if (errno)
        return bora_fail(err, BORA_E_IO, "read folder '%s': %s", path, strerror(errno));
    if (found->n_weights)
        qsort(found->weights, found->n_weights, sizeof *found->weights, by_text);
    return BORA_OK;
}

/* Puts the name of the file in front of a message that has only what is wrong in it. */
static bora_status in_file(bora_status status, const char *name, bora_error *err)
{
    if (status == BORA_OK || !err)
        return status;
    bora_error inner = *err;
    return bora_fail(err, status, "%.80s: %s", name, inner.message);
}

static bora_status load_params(bora_model *model, const char *path, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *file = bora_format("%s/params.json", path);
    if (!file)
        return bora_fail(err, BORA_E_NOMEM, "params.json");
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    bora_status st = bora_file_read(file, PARAMS_SIZE_MAX, &text, &size, err);
    if (st != BORA_OK)
        return st;
    return in_file(bora_native_params(text, size, &model->hparams, err), "params.json", err);
}

static bora_status load_weights(bora_model *model, const char *path, const folder *found, bora_error *err)
{
    if (!found->n_weights && found->has_pickle)
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "'%s' has pickled weights (consolidated*.pth), this build reads consolidated*.safetensors",
                         path);
    if (!found->n_weights)
        return bora_fail(err, BORA_E_NOT_FOUND, "'%s' has no consolidated*.safetensors", path);
    for (size_t i = 0; i < found->n_weights; i++) {
        BORA_CLEANUP(bora_freep) char *file = bora_format("%s/%s", path, found->weights[i]);
        if (!file)
            return bora_fail(err, BORA_E_NOMEM, "'%s'", found->weights[i]);
        const bora_file *mapped = NULL;
        bora_status st = bora_model_map(model, file, &mapped, err);
        if (st != BORA_OK)
            return st;
        st = in_file(bora_safetensors_read(model, mapped->data, mapped->size, err), found->weights[i], err);
        if (st != BORA_OK)
            return st;
    }
    bora_status st = bora_model_entries_seal(model, err);
    return st == BORA_OK ? bora_model_weights(model, &native_names, err) : st;
}

static bora_status load_tokenizer(bora_model *model, const char *path, const folder *found,
                                  const bora_model_options *options, bora_error *err)
{
    const char *name = found->has_tekken ? "tekken.json" : found->tokenizer;
    if (!name && options && options->without_tokenizer)
        return BORA_OK;
    if (!name)
        return bora_fail(err, BORA_E_NOT_FOUND,
                         "'%s' has no tekken.json and no tokenizer.model (nor tokenizer.model.v1, .v2, .v3, .v7)",
                         path);
    BORA_CLEANUP(bora_freep) char *file = bora_format("%s/%s", path, name);
    if (!file)
        return bora_fail(err, BORA_E_NOMEM, "'%s'", name);
    BORA_CLEANUP(bora_file_release) bora_file mapped = {0}; /* the tokenizer copies what it keeps */
    bora_status st = bora_file_map(file, &mapped, err);
    if (st != BORA_OK)
        return st;
    bora_model_vocab_hash_bytes(model, mapped.data, mapped.size);
    st = found->has_tekken ? bora_tokenizer_parse_tekken(mapped.data, mapped.size, &model->tokenizer, err)
                           : bora_tokenizer_parse(mapped.data, mapped.size, &model->tokenizer, err);
    return in_file(st, name, err);
}

bora_status bora_native_load(bora_model *model, const char *path, const bora_model_options *options, bora_error *err)
{
    model->format = "mistral";
    BORA_CLEANUP(folder_release) folder found = {0};
    bora_status st;
    if ((st = load_params(model, path, err)) != BORA_OK || (st = folder_read(path, &found, err)) != BORA_OK ||
        (st = load_weights(model, path, &found, err)) != BORA_OK)
        return st;
    return load_tokenizer(model, path, &found, options, err);
}
