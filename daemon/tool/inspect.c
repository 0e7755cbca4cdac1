/* bora-model inspect: what a user wants to know before loading a model. */
#include "tool/tool.h"

#include "model/blocks.h"

#include <inttypes.h>
#include <stdio.h>

/* Where neither file nor user says how long a session may get. */
#define CONTEXT_DEFAULT 32768u
#define SLACK_DEFAULT   512u

static void modelp(bora_model **model)
{
    bora_model_free(*model);
}

static void print_size(const char *what, uint64_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)size;
    size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < BORA_ARRAY_SIZE(units)) {
        value /= 1024.0;
        unit++;
    }
    printf("%-24s %.*f %s\n", what, unit ? 1 : 0, value, units[unit]);
}

static void print_count(const char *what, uint64_t n)
{
    if (n >= 1000000000)
        printf("%-24s %.2f billion\n", what, (double)n / 1e9);
    else if (n >= 1000000)
        printf("%-24s %.2f million\n", what, (double)n / 1e6);
    else
        printf("%-24s %" PRIu64 "\n", what, n);
}

static void print_windows(const bora_model *model)
{
    char text[256];
    bora_hparams_windows_text(bora_model_hparams(model), text, sizeof text);
    printf("%-24s %s; %s\n", "window", text, bora_model_window_source(model));
}

/* The most positions of KV cache that one session can hold, over all layers: of a layer with a window no more than it,
 * what can be taken back, and one page. */
static uint64_t kv_positions(const bora_hparams *hp, uint64_t context)
{
    uint64_t positions = 0;
    for (uint32_t l = 0; l < hp->n_layers; l++) {
        uint64_t window = bora_hparams_window(hp, l), capacity = window + SLACK_DEFAULT + BORA_PAGE_POSITIONS;
        positions += window && capacity < context ? capacity : context;
    }
    return positions;
}

static void print_tensors(const bora_model *model)
{
    printf("\n%-48s %-6s %-24s %12s\n", "tensor", "type", "shape", "bytes");
    for (size_t i = 0; i < bora_model_n_tensors(model); i++) {
        const bora_tensor_info *info = bora_model_tensor(model, i);
        const bora_block *block = bora_block_of(info->dtype);
        char shape[96] = "";
        size_t n = 0;
        for (uint32_t d = 0; d < info->n_dims && n < sizeof shape; d++)
            n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%" PRIu64, d ? " x " : "", info->shape[d]);
        printf("%-48s %-6s %-24s %12" PRIu64 "\n", info->name, block ? block->name : "?", shape, info->size);
    }
}

bora_status bora_tool_inspect(const char *path, bool tensors, const bora_tool_options *options, bora_error *err)
{
    BORA_CLEANUP(modelp) bora_model *model = NULL;
    bora_model_options model_options = {.layout = options->layout, .without_tokenizer = true, .description_only = true};
    bora_status st = bora_tool_open(path, &model_options, options, &model, err);
    if (st != BORA_OK)
        return st;
    const bora_hparams *hp = bora_model_hparams(model);
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    uint64_t context = options->pipeline.max_positions ? options->pipeline.max_positions
                       : hp->context_length            ? hp->context_length
                                                       : CONTEXT_DEFAULT;
    size_t kv_head;
    if (!bora_block_row_size(options->pipeline.kv_dtype, hp->head_dim, &kv_head))
        return bora_fail(err, BORA_E_UNSUPPORTED, "keys of %" PRIu32 " elements are not whole blocks of %s",
                         hp->head_dim, bora_block_of(options->pipeline.kv_dtype)->name);
    uint64_t kv_row = 2 * (uint64_t)hp->n_kv_heads * kv_head;

    printf("%-24s %s\n", "name", bora_model_name(model));
    printf("%-24s %s\n", "path", bora_model_path(model));
    printf("%-24s %s\n", "format", bora_model_format(model));
    printf("%-24s %s\n", "fingerprint", bora_model_fingerprint(model));
    printf("%-24s %" PRIu32 "\n", "layers", hp->n_layers);
    printf("%-24s %" PRIu32 "\n", "width", hp->dim);
    printf("%-24s %" PRIu32 "\n", "feed-forward width", hp->hidden_dim);
    printf("%-24s %" PRIu32 " query, %" PRIu32 " key/value, %" PRIu32 " wide\n", "heads", hp->n_heads, hp->n_kv_heads,
           hp->head_dim);
    if (hp->n_experts > 1)
        printf("%-24s %" PRIu32 ", %" PRIu32 " per token\n", "experts", hp->n_experts, hp->n_experts_per_tok);
    else
        printf("%-24s none (dense)\n", "experts");
    printf("%-24s %" PRIu32 "\n", "vocabulary", hp->vocab_size);
    printf("%-24s %g\n", "rope theta", (double)hp->rope_theta);
    printf("%-24s %g\n", "norm eps", (double)hp->norm_eps);
    print_windows(model);
    if (hp->context_length)
        printf("%-24s %" PRIu32 "\n", "context", hp->context_length);
    else
        printf("%-24s not stated\n", "context");
    printf("%-24s %s\n", "chat layout", bora_chat_layout_name(bora_model_layout(model)));
    if (tokenizer)
        printf("%-24s %s, %zu pieces\n", "tokenizer",
               bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN ? "Tekken" : "SentencePiece",
               bora_tokenizer_n_pieces(tokenizer));
    else
        printf("%-24s none\n", "tokenizer");
    print_count("parameters", bora_model_n_parameters(model));
    print_count("active per token", bora_model_n_active(model));
    print_size("weights", bora_model_size(model));
    char types[256];
    bora_model_types_text(model, types, sizeof types);
    printf("%-24s %s\n", "tensor types", types);
    printf("%-24s %s\n", "KV element type", bora_block_of(options->pipeline.kv_dtype)->name);
    print_size("KV per token", kv_row * hp->n_layers);
    printf("%-24s %" PRIu64 " positions\n", "session may reach", context);
    print_size("KV per session, at most", kv_row * kv_positions(hp, context));
    print_size("memory with one session",
               bora_model_size(model) + bora_model_copied_size(model) + kv_row * kv_positions(hp, context));
    if (tensors)
        print_tensors(model);
    return BORA_OK;
}
