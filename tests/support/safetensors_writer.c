#include "support/safetensors_writer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    FILE *out;
    size_t offset; /* of the next tensor */
    bool any;
} text;

static void give_up(const char *what)
{
    perror(what);
    abort();
}

uint8_t *bora_safetensors_bytes(const char *header, size_t data_size, size_t *ret_size)
{
    size_t header_size = strlen(header);
    uint8_t *bytes = calloc(1, 8 + header_size + data_size + 4);
    if (!bytes)
        give_up("safetensors");
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)header_size >> (8 * i));
    memcpy(bytes + 8, header, header_size);
    uint32_t state = 1;
    for (size_t i = 0; i + 4 <= data_size; i += 4) {
        state = state * 1664525u + 1013904223u;
        float value = 0.1f * ((float)(state >> 8) / (float)(1 << 23) - 1.0f);
        memcpy(bytes + 8 + header_size + i, &value, sizeof value);
    }
    *ret_size = 8 + header_size + data_size;
    return bytes;
}

__attribute__((format(printf, 4, 5))) static void tensor_put(text *to, uint64_t n_rows, uint64_t n_cols,
                                                             const char *name, ...)
{
    fprintf(to->out, "%s\"", to->any ? "," : "");
    to->any = true;
    va_list args;
    va_start(args, name);
    vfprintf(to->out, name, args);
    va_end(args);
    size_t end = to->offset + (n_rows ? n_rows : 1) * n_cols * 4;
    if (n_rows)
        fprintf(to->out, "\":{\"dtype\":\"F32\",\"shape\":[%" PRIu64 ",%" PRIu64 "]", n_rows, n_cols);
    else
        fprintf(to->out, "\":{\"dtype\":\"F32\",\"shape\":[%" PRIu64 "]", n_cols);
    fprintf(to->out, ",\"data_offsets\":[%zu,%zu]}", to->offset, end);
    to->offset = end;
}

static void layer_put(text *to, const bora_tiny_model *shape, uint32_t layer)
{
    uint64_t q_dim = (uint64_t)shape->n_heads * shape->head_dim, kv_dim = (uint64_t)shape->n_kv_heads * shape->head_dim;
    uint64_t dim = shape->dim, hidden_dim = shape->hidden_dim;
    tensor_put(to, 0, dim, "layers.%u.attention_norm.weight", layer);
    tensor_put(to, q_dim, dim, "layers.%u.attention.wq.weight", layer);
    tensor_put(to, kv_dim, dim, "layers.%u.attention.wk.weight", layer);
    tensor_put(to, kv_dim, dim, "layers.%u.attention.wv.weight", layer);
    tensor_put(to, dim, q_dim, "layers.%u.attention.wo.weight", layer);
    tensor_put(to, 0, dim, "layers.%u.ffn_norm.weight", layer);
    if (shape->n_experts == 1) {
        tensor_put(to, hidden_dim, dim, "layers.%u.feed_forward.w1.weight", layer);
        tensor_put(to, dim, hidden_dim, "layers.%u.feed_forward.w2.weight", layer);
        tensor_put(to, hidden_dim, dim, "layers.%u.feed_forward.w3.weight", layer);
        return;
    }
    tensor_put(to, shape->n_experts, dim, "layers.%u.feed_forward.gate.weight", layer);
    for (uint32_t e = 0; e < shape->n_experts; e++) {
        tensor_put(to, hidden_dim, dim, "layers.%u.feed_forward.experts.%u.w1.weight", layer, e);
        tensor_put(to, dim, hidden_dim, "layers.%u.feed_forward.experts.%u.w2.weight", layer, e);
        tensor_put(to, hidden_dim, dim, "layers.%u.feed_forward.experts.%u.w3.weight", layer, e);
    }
}

char *bora_writer_native_header(const bora_tiny_model *shape, const char *extra, uint32_t first, uint32_t n,
                                bool with_rest, size_t *ret_data_size)
{
    char *header = NULL;
    size_t header_size = 0;
    text to = {.out = open_memstream(&header, &header_size)};
    if (!to.out)
        give_up("header");
    fprintf(to.out, "{%s", extra ? extra : "");
    if (with_rest)
        tensor_put(&to, shape->vocab_size, shape->dim, "tok_embeddings.weight");
    for (uint32_t layer = first; layer < first + n; layer++)
        layer_put(&to, shape, layer);
    if (with_rest)
        tensor_put(&to, 0, shape->dim, "norm.weight");
    if (with_rest && !shape->tied)
        tensor_put(&to, shape->vocab_size, shape->dim, "output.weight");
    fprintf(to.out, "}");
    if (fclose(to.out) != 0)
        give_up("header");
    *ret_data_size = to.offset;
    return header;
}

char *bora_writer_native_params(const bora_tiny_model *shape, const char *extra)
{
    char *params = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&params, &size);
    if (!out)
        give_up("params");
    fprintf(out,
            "{\"dim\": %u, \"n_layers\": %u, \"head_dim\": %u, \"hidden_dim\": %u, \"n_heads\": %u, \"n_kv_heads\": %u,"
            " \"norm_eps\": 1e-05, \"vocab_size\": %u",
            shape->dim, shape->n_layers, shape->head_dim, shape->hidden_dim, shape->n_heads, shape->n_kv_heads,
            shape->vocab_size);
    if (shape->window)
        fprintf(out, ", \"sliding_window\": %u", shape->window);
    if (shape->n_experts > 1)
        fprintf(out, ", \"moe\": {\"num_experts\": %u, \"num_experts_per_tok\": %u}", shape->n_experts,
                shape->n_experts_per_tok);
    fprintf(out, "%s}", extra ? extra : "");
    if (fclose(out) != 0)
        give_up("params");
    return params;
}
