/* A look into a model's folder, and which layout it is in. Mistral publishes both in one folder: then its own files
 * are read. */
#include "model/folder.h"

#include "base/memory.h"
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE_MAX ((size_t)16 << 20) /* bytes of params.json, config.json, an index */

void bora_folder_release(bora_folder *found)
{
    bora_names_free(found->native, found->n_native);
    bora_free(found->tokenizer);
    *found = (bora_folder){0};
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

static bora_status native_add(bora_folder *found, const char *name, bora_error *err)
{
    if (found->n_native == BORA_MODEL_FILES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "more than %u consolidated*.safetensors", BORA_MODEL_FILES_MAX);
    char **native = bora_realloc(found->native, found->n_native + 1, sizeof *native);
    if (!native)
        return bora_fail(err, BORA_E_NOMEM, "list of weight files");
    found->native = native;
    char *copy = bora_strdup(name);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "list of weight files");
    native[found->n_native++] = copy;
    return BORA_OK;
}

static bora_status tokenizer_add(bora_folder *found, const char *name, bora_error *err)
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

static bora_status take_note(bora_folder *found, const char *name, bora_error *err)
{
    const struct {
        const char *start, *end;
        bool *is_there;
    } files[] = {
        {"params.json", "params.json", &found->has_params},
        {"config.json", "config.json", &found->has_config},
        {"model.safetensors", "model.safetensors", &found->has_single},
        {"model.safetensors.index.json", "model.safetensors.index.json", &found->has_index},
        {"model-", ".safetensors", &found->has_shards},
        {"consolidated", ".pth", &found->has_native_pickle},
        {"pytorch_model", ".bin", &found->has_hf_pickle},
        {"tekken.json", "tekken.json", &found->has_tekken},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(files); i++)
        *files[i].is_there |= starts_with(name, files[i].start) && ends_with(name, files[i].end);
    if (starts_with(name, "consolidated") && ends_with(name, ".safetensors"))
        return native_add(found, name, err);
    if (starts_with(name, "tokenizer.model"))
        return tokenizer_add(found, name, err);
    return BORA_OK;
}

bora_status bora_folder_read(const char *path, bora_folder *ret_folder, bora_error *err)
{
    BORA_CLEANUP(bora_folder_release) bora_folder found = {.path = path};
    BORA_CLEANUP(dir_closep) DIR *dir = opendir(path);
    if (!dir)
        return bora_fail(err, errno == ENOENT ? BORA_E_NOT_FOUND : BORA_E_IO, "open '%s': %s", path, strerror(errno));
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        bora_status st = take_note(&found, entry->d_name, err);
        if (st != BORA_OK)
            return st;
    }
    if (errno)
        return bora_fail(err, BORA_E_IO, "read folder '%s': %s", path, strerror(errno));
    if (found.n_native)
        qsort(found.native, found.n_native, sizeof *found.native, by_text);
    *ret_folder = found;
    found = (bora_folder){0}; /* the caller's now */
    return BORA_OK;
}

/* Puts the name of the file in front of a message that has only what is wrong in it. */
bora_status bora_folder_in_file(bora_status status, const char *name, bora_error *err)
{
    if (status == BORA_OK || !err)
        return status;
    bora_error inner = *err;
    return bora_fail(err, status, "%.80s: %s", name, inner.message);
}

bora_status bora_folder_text(const bora_folder *folder, const char *name, char **ret_text, size_t *ret_size,
                             bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *file = bora_format("%s/%s", folder->path, name);
    if (!file)
        return bora_fail(err, BORA_E_NOMEM, "%s", name);
    return bora_file_read(file, TEXT_SIZE_MAX, ret_text, ret_size, err);
}

bora_status bora_folder_weights(bora_model *model, const bora_folder *folder, const char *name, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *file = bora_format("%s/%s", folder->path, name);
    if (!file)
        return bora_fail(err, BORA_E_NOMEM, "'%s'", name);
    const bora_file *mapped = NULL;
    bora_status st = bora_model_map(model, file, &mapped, err);
    if (st != BORA_OK)
        return st;
    return bora_folder_in_file(bora_safetensors_read(model, mapped->data, mapped->size, err), name, err);
}

bora_status bora_folder_tokenizer(bora_model *model, const bora_folder *found, const bora_model_options *options,
                                  bora_error *err)
{
    const char *name = found->has_tekken ? "tekken.json" : found->tokenizer; /* as the reference does */
    if (!name && options && options->without_tokenizer)
        return BORA_OK;
    if (!name)
        return bora_fail(err, BORA_E_NOT_FOUND,
                         "'%s' has no tekken.json and no tokenizer.model (nor tokenizer.model.v1, .v2, .v3, .v7)",
                         found->path);
    BORA_CLEANUP(bora_freep) char *file = bora_format("%s/%s", found->path, name);
    if (!file)
        return bora_fail(err, BORA_E_NOMEM, "'%s'", name);
    BORA_CLEANUP(bora_file_release) bora_file mapped = {0}; /* the tokenizer copies what it keeps */
    bora_status st = bora_file_map(file, &mapped, err);
    if (st != BORA_OK)
        return st;
    bora_model_vocab_hash_bytes(model, mapped.data, mapped.size);
    if (!found->has_tekken && found->tokenizer_version == 2) /* its pieces are v3's */
        model->template_layout = BORA_CHAT_V2;
    st = found->has_tekken ? bora_tokenizer_parse_tekken(mapped.data, mapped.size, &model->tokenizer, err)
                           : bora_tokenizer_parse(mapped.data, mapped.size, &model->tokenizer, err);
    return bora_folder_in_file(st, name, err);
}

/* What is there decides: weights first, as both descriptions may be there for one set of them. */
bora_status bora_folder_load(bora_model *model, const char *path, const bora_model_options *options, bora_error *err)
{
    BORA_CLEANUP(bora_folder_release) bora_folder found = {0};
    bora_status st = bora_folder_read(path, &found, err);
    if (st != BORA_OK)
        return st;
    bool has_hf = found.has_single || found.has_index || found.has_shards || found.has_hf_pickle;
    if (!found.has_params && !found.has_config)
        return bora_fail(err, BORA_E_NOT_FOUND,
                         "'%s' has neither params.json (Mistral's layout) nor config.json "
                         "(Hugging Face's)",
                         path);
    bool native = found.has_params && (found.n_native || !found.has_config || !has_hf);
    if (native)
        st = bora_native_load(model, &found, err);
    else if (found.has_config && (!found.n_native || has_hf))
        st = bora_huggingface_load(model, &found, options, err);
    else
        st = bora_fail(err, BORA_E_NOT_FOUND, "'%s' has consolidated*.safetensors but no params.json", path);
    if (st == BORA_OK)
        st = bora_folder_tokenizer(model, &found, options, err);
    return st == BORA_OK && !native ? bora_folder_template(model, &found, err) : st;
}
