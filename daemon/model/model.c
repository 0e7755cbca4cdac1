/* Opening a model: which format the path is, the format's reader, then what all formats share (chat layout, sizes,
 * fingerprint). And the getters. */
#include "base/memory.h"
#include "base/size.h"
#include "model/blocks.h"
#include "model/model_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void bora_model_free(bora_model *model)
{
    if (!model)
        return;
    bora_tokenizer_free(model->tokenizer);
    bora_free(model->entries);
    bora_arena_release(&model->arena);
    bora_counted_free(model->copied);
    for (size_t i = 0; i < model->n_files; i++) {
        bora_file_release(&model->files[i]);
        bora_free(model->file_paths[i]);
    }
    bora_free(model->files);
    bora_free(model->file_paths);
    bora_free(model->path);
    bora_free(model->name);
    bora_ledger_give(model->ledger, BORA_LEDGER_PROGRAM, model->tables_taken);
    bora_free(model);
}

void bora_model_freep(bora_model **model)
{
    bora_model_free(*model);
}

bora_status bora_model_map(bora_model *model, const char *path, const bora_file **ret_file, bora_error *err)
{
    if (model->n_files == BORA_MODEL_FILES_MAX)
        return bora_fail(err, BORA_E_LIMIT, "a model of more than %u files", BORA_MODEL_FILES_MAX);
    bora_file *files = bora_realloc(model->files, model->n_files + 1, sizeof *files);
    if (!files)
        return bora_fail(err, BORA_E_NOMEM, "list of files");
    model->files = files;
    char **paths = bora_realloc(model->file_paths, model->n_files + 1, sizeof *paths);
    if (!paths)
        return bora_fail(err, BORA_E_NOMEM, "list of files");
    model->file_paths = paths;
    BORA_CLEANUP(bora_freep) char *copy = bora_strdup(path);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "list of files");
    bora_status st = bora_file_map(path, &files[model->n_files], err);
    if (st != BORA_OK)
        return st;
    paths[model->n_files] = bora_steal(&copy);
    *ret_file = &files[model->n_files++];
    return BORA_OK;
}

/* ---- the name ---- */

/* Bytes of the UTF-8 character at text; 0 if it is damaged or a control character. */
static size_t character_size(const uint8_t *text, size_t n)
{
    const uint8_t lead = text[0];
    if (lead < 0x80)
        return lead < ' ' || lead == 0x7f ? 0 : 1;
    const size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || size > n)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, C1 controls, surrogates, beyond U+10FFFF. */
    if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90) || (lead == 0xc2 && text[1] < 0xa0) ||
        (lead == 0xed && text[1] >= 0xa0) || (lead == 0xf4 && text[1] >= 0x90))
        return 0;
    return size;
}

bora_status bora_model_name_set(bora_model *model, const char *name, size_t size, bora_error *err)
{
    size_t n = 0;
    while (n < size) {
        size_t step = character_size((const uint8_t *)name + n, size - n);
        if (step == 0)
            return BORA_OK; /* not a name to show; the path's last part will do */
        if (n + step > BORA_MODEL_NAME_MAX)
            break;
        n += step;
    }
    if (n == 0)
        return BORA_OK;
    char *copy = bora_strndup(name, n);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "name of the model");
    bora_free(model->name);
    model->name = copy;
    return BORA_OK;
}

static char *last_part(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return bora_strndup(path + begin, end - begin);
}

/* ---- what all formats share ---- */

static bora_status choose_layout(bora_model *model, const bora_model_options *options, bora_error *err)
{
    bora_chat_layout asked = options ? options->layout : BORA_CHAT_AUTO;
    const bora_tokenizer *tokenizer = model->tokenizer;
    if (!tokenizer)
        model->layout = BORA_CHAT_NONE;
    else if (asked != BORA_CHAT_AUTO)
        model->layout = asked;
    else if (model->template_layout > BORA_CHAT_NONE)
        model->layout = model->template_layout;
    else
        model->layout = bora_chat_layout_choose(tokenizer);
    if (model->layout == BORA_CHAT_NONE)
        return BORA_OK;
    bora_error why = {{0}};
    bora_status st = bora_chat_layout_check(model->layout, tokenizer, &why);
    return st == BORA_OK ? BORA_OK : bora_fail(err, BORA_E_INVAL, "%s", why.message);
}

static uint64_t n_elements(const bora_tensor *tensor)
{
    return tensor->n_rows * tensor->n_cols;
}

/* Bytes and parameters of everything; hparams bound each product, the number of tensors the sum. */
static bora_status count(bora_model *model, bora_error *err)
{
    size_t size = 0;
    for (size_t i = 0; i < model->n_entries; i++)
        if (!bora_size_add(size, (size_t)model->entries[i].info.size, &size))
            return bora_fail(err, BORA_E_FORMAT, "the tensors are larger than any file");
    model->size = size;
    const bora_hparams *h = &model->hparams;
    uint64_t layers_all = 0, layers_active = 0;
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        const bora_layer_weights *w = &model->layers[layer];
        uint64_t shared = n_elements(&w->attention_norm) + n_elements(&w->wq) + n_elements(&w->wk) +
                          n_elements(&w->wv) + n_elements(&w->wo) + n_elements(&w->ffn_norm) + n_elements(&w->router);
        uint64_t expert = n_elements(&w->w1[0]) + n_elements(&w->w2[0]) + n_elements(&w->w3[0]);
        layers_all += shared + expert * h->n_experts;
        layers_active += shared + expert * h->n_experts_per_tok;
    }
    bool tied = model->output.data == model->embeddings.data;
    model->n_active = layers_active + n_elements(&model->norm) + n_elements(&model->output);
    model->n_parameters = layers_all + n_elements(&model->norm) + n_elements(&model->embeddings) +
                          (tied ? 0 : n_elements(&model->output));
    return BORA_OK;
}

/* The user's choice goes over what the files state; hparams then say what is used. */
static void choose_window(bora_model *model, const bora_model_options *options)
{
    bora_hparams *h = &model->hparams;
    uint32_t asked = options ? options->window : BORA_WINDOW_AUTO;
    if (asked != BORA_WINDOW_AUTO) {
        h->n_windows = 1;
        h->windows[0] = asked == BORA_WINDOW_NONE ? 0 : asked;
        model->window_set = true;
    }
    bora_hparams_windows_shorten(h);
}

bora_status bora_model_finish(bora_model *model, const bora_model_options *options, bora_error *err)
{
    size_t n_pieces = model->tokenizer ? bora_tokenizer_n_pieces(model->tokenizer) : 0;
    if (n_pieces > model->hparams.vocab_size)
        return bora_fail(err, BORA_E_FORMAT, "the tokenizer has %zu pieces, more than vocab_size (%u)", n_pieces,
                         model->hparams.vocab_size);
    choose_window(model, options);
    bora_status st;
    if ((st = choose_layout(model, options, err)) != BORA_OK || (st = count(model, err)) != BORA_OK)
        return st;
    bora_model_fingerprint_make(model);
    if (bora_model_is_damaged(model))
        return bora_fail(err, BORA_E_IO, "a file was cut short while it was read");
    return BORA_OK;
}

/* ---- opening ---- */

static bora_status load(bora_model *model, const bora_model_options *options, bora_error *err)
{
    struct stat info;
    if (stat(model->path, &info) != 0)
        return bora_fail(err, errno == ENOENT || errno == ENOTDIR ? BORA_E_NOT_FOUND : BORA_E_IO, "open '%s': %s",
                         model->path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return bora_folder_load(model, model->path, options, err);
    const bora_file *file = NULL;
    bora_status st = bora_model_map(model, model->path, &file, err);
    if (st != BORA_OK)
        return st;
    return bora_gguf_load(model, file->data, file->size, options, err);
}

/* Where the layout is a guess. */
static void log_layout(const bora_model *model, const bora_log *log)
{
    uint32_t version = model->tokenizer ? bora_tokenizer_version(model->tokenizer) : 0;
    if (model->template_layout == BORA_CHAT_UNKNOWN)
        bora_logf(log, BORA_LOG_WARN,
                  "model '%s': its chat template is of no known layout, taking %s from its tokenizer", model->name,
                  bora_chat_layout_name(model->layout));
    else if (version > 7)
        bora_logf(log, BORA_LOG_WARN, "model '%s': tokenizer version %u, laying chats out as %s: tool messages differ",
                  model->name, version, bora_chat_layout_name(model->layout));
}

static void log_window(const bora_model *model, const bora_log *log)
{
    const bora_hparams *h = &model->hparams;
    const char *stated = h->window_source;
    char text[128];
    bora_hparams_windows_text(h, text, sizeof text);
    bool any = bora_hparams_any_window(h);
    const char *what = any ? "window " : "no window";
    if (model->window_set)
        bora_logf(log, BORA_LOG_INFO, "%s%s: set by model.window (%s)", what, any ? text : "",
                  stated ? stated : "the file states none");
    else if (stated)
        bora_logf(log, BORA_LOG_INFO, "%s%s from %s", what, any ? text : "", stated);
    else
        bora_logf(log, BORA_LOG_INFO, "no window: the file states none (set model.window to override)");
}

static void log_opened(const bora_model *model, const bora_log *log)
{
    const bora_hparams *h = &model->hparams;
    bora_logf(log, BORA_LOG_INFO,
              "model '%s': %s, %u layers, dim %u, %u of %u experts, %llu parameters, %llu MiB, fingerprint %s",
              model->name, model->format, h->n_layers, h->dim, h->n_experts_per_tok, h->n_experts,
              (unsigned long long)model->n_parameters, (unsigned long long)(model->size >> 20), model->fingerprint);
}

uint64_t bora_model_tables_size(const bora_model *model)
{
    return sizeof *model + bora_arena_size(&model->arena) + model->entries_capacity * sizeof *model->entries +
           (model->tokenizer ? bora_tokenizer_size(model->tokenizer) : 0);
}

/* Afterwards, because only then it is known how large they are; which is no more than the files' headers. */
static bora_status take_tables(bora_model *model, bora_error *err)
{
    const uint64_t size = bora_model_tables_size(model);
    if (!bora_ledger_take(model->ledger, BORA_LEDGER_PROGRAM, size))
        return bora_ledger_fail(model->ledger, "tables of the model", size, err);
    model->tables_taken = size;
    return BORA_OK;
}

bora_status bora_model_open(const char *path, const bora_model_options *options, const bora_log *log,
                            bora_model **ret_model, bora_error *err)
{
    BORA_CLEANUP(bora_model_freep) bora_model *model = bora_calloc(1, sizeof *model);
    if (!model || !(model->path = bora_strdup(path)) || !(model->name = last_part(path)))
        return bora_fail(err, BORA_E_NOMEM, "model '%s'", path);
    model->ledger = options ? options->ledger : NULL;
    bora_error inner = {{0}};
    bora_status st = load(model, options, &inner);
    if (st == BORA_OK)
        st = bora_model_finish(model, options, &inner);
    if (st == BORA_OK)
        st = take_tables(model, &inner);
    if (st != BORA_OK && strstr(inner.message, path))
        return bora_fail(err, st, "%s", inner.message);
    if (st != BORA_OK) {
        size_t n = strlen(path), cut = n > 160 ? n - 160 : 0; /* leave room for what is wrong */
        return bora_fail(err, st, "'%s%s': %s", cut ? "..." : "", path + cut, inner.message);
    }
    log_opened(model, log);
    log_window(model, log);
    if (!options || options->layout == BORA_CHAT_AUTO)
        log_layout(model, log);
    *ret_model = bora_steal(&model);
    return BORA_OK;
}

/* ---- getters ---- */

const bora_hparams *bora_model_hparams(const bora_model *model)
{
    return &model->hparams;
}

const char *bora_model_path(const bora_model *model)
{
    return model->path;
}

const char *bora_model_name(const bora_model *model)
{
    return model->name;
}

const char *bora_model_format(const bora_model *model)
{
    return model->format;
}

const char *bora_model_fingerprint(const bora_model *model)
{
    return model->fingerprint;
}

const bora_tensor *bora_model_embeddings(const bora_model *model)
{
    return &model->embeddings;
}

const bora_tensor *bora_model_norm(const bora_model *model)
{
    return &model->norm;
}

const bora_tensor *bora_model_output(const bora_model *model)
{
    return &model->output;
}

const bora_layer_weights *bora_model_layer(const bora_model *model, uint32_t layer)
{
    return layer < model->hparams.n_layers ? &model->layers[layer] : NULL;
}

const bora_tokenizer *bora_model_tokenizer(const bora_model *model)
{
    return model->tokenizer;
}

bora_chat_layout bora_model_layout(const bora_model *model)
{
    return model->layout;
}

size_t bora_model_n_tensors(const bora_model *model)
{
    return model->n_entries;
}

const bora_tensor_info *bora_model_tensor(const bora_model *model, size_t i)
{
    return i < model->n_entries ? &model->entries[i].info : NULL;
}

uint64_t bora_model_size(const bora_model *model)
{
    return model->size;
}

uint64_t bora_model_n_parameters(const bora_model *model)
{
    return model->n_parameters;
}

uint64_t bora_model_n_active(const bora_model *model)
{
    return model->n_active;
}

uint64_t bora_model_copied_size(const bora_model *model)
{
    return model->copied_size;
}

const char *bora_model_window_source(const bora_model *model)
{
    if (model->window_set)
        return "set by model.window";
    return model->hparams.window_source ? model->hparams.window_source : "not stated";
}

bool bora_model_is_damaged(const bora_model *model)
{
    bool is_damaged = false;
    for (size_t i = 0; i < model->n_files; i++)
        is_damaged |= bora_file_is_damaged(&model->files[i]);
    return is_damaged;
}

void bora_model_types_text(const bora_model *model, char *text, size_t size)
{
    size_t counts[BORA_DTYPE_COUNT] = {0}, n = 0;
    for (size_t i = 0; i < model->n_entries; i++)
        counts[model->entries[i].info.dtype]++;
    text[0] = '\0';
    for (;;) {
        uint32_t most = 0;
        for (uint32_t dtype = 1; dtype < BORA_DTYPE_COUNT; dtype++)
            most = counts[dtype] > counts[most] ? dtype : most;
        if (counts[most] == 0 || n >= size)
            return;
        int got = snprintf(text + n, size - n, "%s%s %zu", n ? ", " : "", bora_block_of(most)->name, counts[most]);
        n += got > 0 ? (size_t)got : size;
        counts[most] = 0;
    }
}
