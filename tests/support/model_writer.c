#include "support/model_writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENSORS_MAX 512
#define N_SHARDS    3
#define ROW_MAX     8192

/* A tensor under its three names. Experts of one part stand together, so that they can be merged. */
typedef struct tensor {
    char native[96], hf[96], gguf[96], gguf_merged[96]; /* gguf_merged: "" if it is no expert */
    uint64_t n_rows, n_cols;                            /* n_rows 0: a vector */
    uint32_t head_dim;                                  /* of query and key rows, which HF has in another order */
} tensor;

typedef struct list {
    tensor tensors[TENSORS_MAX];
    size_t n;
    const bora_model_writing *writing;
} list;

static void give_up(const char *what)
{
    fprintf(stderr, "model writer: %s\n", what);
    abort();
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

static tensor *add(list *to, uint64_t n_rows, uint64_t n_cols)
{
    if (to->n == TENSORS_MAX || n_cols > ROW_MAX)
        give_up("too large a model");
    tensor *added = &to->tensors[to->n++];
    *added = (tensor){.n_rows = n_rows, .n_cols = n_cols};
    return added;
}

static void add_named(list *to, uint64_t n_rows, uint64_t n_cols, uint32_t head_dim, uint32_t layer, const char *native,
                      const char *hf, const char *gguf)
{
    tensor *added = add(to, n_rows, n_cols);
    added->head_dim = head_dim;
    (void)snprintf(added->native, sizeof added->native, "layers.%u.%s.weight", layer, native);
    (void)snprintf(added->hf, sizeof added->hf, "model.layers.%u.%s.weight", layer, hf);
    (void)snprintf(added->gguf, sizeof added->gguf, "blk.%u.%s.weight", layer, gguf);
}

static void add_whole(list *to, uint64_t n_rows, uint64_t n_cols, const char *native, const char *hf, const char *gguf)
{
    tensor *added = add(to, n_rows, n_cols);
    (void)snprintf(added->native, sizeof added->native, "%s", native);
    (void)snprintf(added->hf, sizeof added->hf, "%s", hf);
    (void)snprintf(added->gguf, sizeof added->gguf, "%s", gguf);
}

static void add_feed_forward(list *to, const bora_tiny_model *shape, uint32_t layer)
{
    static const struct {
        const char *native, *hf, *gguf;
    } parts[] = {{"w1", "gate_proj", "ffn_gate"}, {"w2", "down_proj", "ffn_down"}, {"w3", "up_proj", "ffn_up"}};
    for (uint32_t p = 0; p < 3; p++) {
        uint64_t n_rows = p == 1 ? shape->dim : shape->hidden_dim, n_cols = p == 1 ? shape->hidden_dim : shape->dim;
        for (uint32_t e = 0; e < shape->n_experts; e++) {
            char native[64], hf[64], gguf[64];
            bool is_dense = shape->n_experts == 1;
            if (is_dense) {
                (void)snprintf(native, sizeof native, "feed_forward.%s", parts[p].native);
                (void)snprintf(hf, sizeof hf, "mlp.%s", parts[p].hf);
                (void)snprintf(gguf, sizeof gguf, "%s", parts[p].gguf);
            } else {
                (void)snprintf(native, sizeof native, "feed_forward.experts.%u.%s", e, parts[p].native);
                (void)snprintf(hf, sizeof hf, "block_sparse_moe.experts.%u.%s", e, parts[p].native);
                (void)snprintf(gguf, sizeof gguf, "%s.%u", parts[p].gguf, e);
            }
            add_named(to, n_rows, n_cols, 0, layer, native, hf, gguf);
            tensor *added = &to->tensors[to->n - 1];
            if (!is_dense)
                (void)snprintf(added->gguf_merged, sizeof added->gguf_merged, "blk.%u.%s_exps.weight", layer,
                               parts[p].gguf);
        }
    }
}

static void enumerate(list *to, const bora_model_writing *writing)
{
    const bora_tiny_model *shape = &writing->shape;
    const uint64_t q_dim = (uint64_t)shape->n_heads * shape->head_dim;
    const uint64_t kv_dim = (uint64_t)shape->n_kv_heads * shape->head_dim;
    to->n = 0;
    to->writing = writing;
    add_whole(to, shape->vocab_size, shape->dim, "tok_embeddings.weight", "model.embed_tokens.weight",
              "token_embd.weight");
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        add_named(to, 0, shape->dim, 0, layer, "attention_norm", "input_layernorm", "attn_norm");
        add_named(to, q_dim, shape->dim, shape->head_dim, layer, "attention.wq", "self_attn.q_proj", "attn_q");
        add_named(to, kv_dim, shape->dim, shape->head_dim, layer, "attention.wk", "self_attn.k_proj", "attn_k");
        add_named(to, kv_dim, shape->dim, 0, layer, "attention.wv", "self_attn.v_proj", "attn_v");
        add_named(to, shape->dim, q_dim, 0, layer, "attention.wo", "self_attn.o_proj", "attn_output");
        add_named(to, 0, shape->dim, 0, layer, "ffn_norm", "post_attention_layernorm", "ffn_norm");
        if (shape->n_experts > 1)
            add_named(to, shape->n_experts, shape->dim, 0, layer, "feed_forward.gate", "block_sparse_moe.gate",
                      "ffn_gate_inp");
        add_feed_forward(to, shape, layer);
    }
    add_whole(to, 0, shape->dim, "norm.weight", "model.norm.weight", "output_norm.weight");
    if (!shape->tied)
        add_whole(to, shape->vocab_size, shape->dim, "output.weight", "lm_head.weight", "output.weight");
}

/* A number is a function of seed, native name and place. */
static uint64_t start_of(const list *of, const tensor *t)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ of->writing->seed;
    for (const char *at = t->native; *at; at++)
        hash = (hash ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
    return hash;
}

static float number_at(uint64_t start, uint64_t i)
{
    uint64_t z = start + (i + 1) * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (float)((z ^ (z >> 31)) >> 40) / (float)(1 << 23) - 1.0f;
}

static void row_of(const list *of, const tensor *t, uint64_t row, float *numbers)
{
    uint64_t start = start_of(of, t);
    /* Products of unit variance: no step blows a small difference up. Norms lie around 1. */
    const float scale = sqrtf(3.0f / (float)t->n_cols);
    for (uint64_t i = 0; i < t->n_cols; i++) {
        float number = number_at(start, row * t->n_cols + i);
        numbers[i] = t->n_rows ? scale * number : 1 + 0.2f * number;
    }
}

/* ---- safetensors ------------------------------------------------------------------------------------------------ */

static FILE *create(const bora_temp_folder *folder, const char *name)
{
    char path[BORA_TEMP_PATH_SIZE];
    FILE *out = fopen(bora_temp_folder_path(folder, name, path), "wb");
    if (!out)
        give_up(name);
    return out;
}

static void done(FILE *out)
{
    if (ferror(out) || fclose(out) != 0)
        give_up("writing");
}

static void put(FILE *out, const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, out) != size)
        give_up("writing");
}

static void put_number(FILE *out, uint64_t value, size_t size)
{
    put(out, &value, size); /* little-endian, as the machine is */
}

/* The row that Hugging Face has at this place: first the even ones of each head, then the odd ones. */
static uint64_t hf_row(const tensor *t, uint64_t row)
{
    if (!t->head_dim)
        return row;
    uint64_t in_head = row % t->head_dim, half = t->head_dim / 2;
    return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static void write_safetensors(const list *of, FILE *out, size_t first, size_t end, bool is_hf)
{
    char *header = NULL;
    size_t header_size = 0, offset = 0;
    FILE *text = open_memstream(&header, &header_size);
    if (!text)
        give_up("header");
    for (size_t i = first; i < end; i++) {
        const tensor *t = &of->tensors[i];
        size_t next = offset + (t->n_rows ? t->n_rows : 1) * t->n_cols * sizeof(float);
        fprintf(text, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[", i == first ? '{' : ',', is_hf ? t->hf : t->native);
        if (t->n_rows)
            fprintf(text, "%" PRIu64 ",", t->n_rows);
        fprintf(text, "%" PRIu64 "],\"data_offsets\":[%zu,%zu]}", t->n_cols, offset, next);
        offset = next;
    }
    fprintf(text, "}");
    done(text);
    while (header_size % 8) /* so that the numbers are aligned */
        header = realloc(header, header_size + 1), header[header_size++] = ' ';
    put_number(out, header_size, 8);
    put(out, header, header_size);
    free(header);
    for (size_t i = first; i < end; i++) {
        const tensor *t = &of->tensors[i];
        for (uint64_t row = 0; row < (t->n_rows ? t->n_rows : 1); row++) {
            float numbers[ROW_MAX];
            row_of(of, t, is_hf ? hf_row(t, row) : row, numbers);
            put(out, numbers, t->n_cols * sizeof *numbers);
        }
    }
    done(out);
}

static void write_native(const list *of, const bora_temp_folder *folder)
{
    const bora_tiny_model *shape = &of->writing->shape;
    FILE *out = create(folder, "params.json");
    fprintf(out,
            "{\"dim\": %u, \"n_layers\": %u, \"head_dim\": %u, \"hidden_dim\": %u, \"n_heads\": %u, \"n_kv_heads\": %u,"
            " \"norm_eps\": 1e-05, \"vocab_size\": %u, \"rope_theta\": 10000, \"max_seq_len\": 512",
            shape->dim, shape->n_layers, shape->head_dim, shape->hidden_dim, shape->n_heads, shape->n_kv_heads,
            shape->vocab_size);
    if (shape->window)
        fprintf(out, ", \"sliding_window\": %u", shape->window);
    if (shape->n_experts > 1)
        fprintf(out, ", \"moe\": {\"num_experts\": %u, \"num_experts_per_tok\": %u}", shape->n_experts,
                shape->n_experts_per_tok);
    fprintf(out, "}");
    done(out);
    write_safetensors(of, create(folder, "consolidated.safetensors"), 0, of->n, false);
}

static void write_config(const list *of, const bora_temp_folder *folder)
{
    const bora_tiny_model *shape = &of->writing->shape;
    FILE *out = create(folder, "config.json");
    fprintf(out,
            "{\"architectures\": [\"%s\"], \"hidden_size\": %u, \"num_hidden_layers\": %u, \"head_dim\": %u, "
            "\"intermediate_size\": %u, \"num_attention_heads\": %u, \"num_key_value_heads\": %u, \"rms_norm_eps\": "
            "1e-05, \"vocab_size\": %u, \"rope_theta\": 10000.0, \"max_position_embeddings\": 512, \"hidden_act\": "
            "\"silu\", \"tie_word_embeddings\": %s, \"sliding_window\": ",
            shape->n_experts > 1 ? "MixtralForCausalLM" : "MistralForCausalLM", shape->dim, shape->n_layers,
            shape->head_dim, shape->hidden_dim, shape->n_heads, shape->n_kv_heads, shape->vocab_size,
            shape->tied ? "true" : "false");
    fprintf(out, shape->window ? "%u" : "null", shape->window);
    if (shape->n_experts > 1)
        fprintf(out, ", \"num_local_experts\": %u, \"num_experts_per_tok\": %u", shape->n_experts,
                shape->n_experts_per_tok);
    fprintf(out, "%s}", of->writing->config_extra ? of->writing->config_extra : "");
    done(out);
}

static void write_hf(const list *of, const bora_temp_folder *folder, size_t n_files)
{
    write_config(of, folder);
    if (n_files == 1) {
        write_safetensors(of, create(folder, "model.safetensors"), 0, of->n, true);
        return;
    }
    FILE *index = create(folder, "model.safetensors.index.json");
    fprintf(index, "{\"metadata\": {\"total_size\": 0}, \"weight_map\": {");
    for (size_t file = 0; file < n_files; file++) {
        char name[64];
        size_t first = of->n * file / n_files, end = of->n * (file + 1) / n_files;
        (void)snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", file + 1, n_files);
        for (size_t i = first; i < end; i++)
            fprintf(index, "%s\"%s\": \"%s\"", i ? ", " : "", of->tensors[i].hf, name);
        write_safetensors(of, create(folder, name), first, end, true);
    }
    fprintf(index, "}}");
    done(index);
}

/* ---- gguf -------------------------------------------------------------------------------------------------------- */

static void put_text(FILE *out, const char *text)
{
    put_number(out, strlen(text), 8);
    put(out, text, strlen(text));
}

/* A key of a fixed-size value. */
static void put_key(FILE *out, const char *key, uint32_t type, const void *value, size_t size)
{
    put_text(out, key);
    put_number(out, type, 4);
    put(out, value, size);
}

static void put_u32(FILE *out, const char *key, uint32_t value)
{
    put_key(out, key, BORA_WRITER_U32, &value, sizeof value);
}

static uint64_t write_metadata(const list *of, FILE *out)
{
    const bora_tiny_model *shape = &of->writing->shape;
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {
        {"llama.context_length", 512},
        {"llama.embedding_length", shape->dim},
        {"llama.block_count", shape->n_layers},
        {"llama.feed_forward_length", shape->hidden_dim},
        {"llama.attention.head_count", shape->n_heads},
        {"llama.attention.head_count_kv", shape->n_kv_heads},
        {"llama.attention.key_length", shape->head_dim},
        {"llama.attention.value_length", shape->head_dim},
        {"llama.rope.dimension_count", shape->head_dim},
        {"llama.vocab_size", shape->vocab_size},
        {"llama.attention.sliding_window", shape->window},
        {"llama.expert_count", shape->n_experts > 1 ? shape->n_experts : 0},
        {"llama.expert_used_count", shape->n_experts_per_tok},
    };
    const size_t n = sizeof counts / sizeof counts[0];
    const float eps = 1e-5f, theta = 10000;
    put_text(out, "general.architecture");
    put_number(out, BORA_WRITER_STRING, 4);
    put_text(out, "llama");
    for (size_t i = 0; i < n; i++)
        put_u32(out, counts[i].key, counts[i].value);
    put_key(out, "llama.attention.layer_norm_rms_epsilon", BORA_WRITER_F32, &eps, sizeof eps);
    put_key(out, "llama.rope.freq_base", BORA_WRITER_F32, &theta, sizeof theta);
    return n + 3;
}

static void pad(FILE *out)
{
    while (ftell(out) % 32)
        put_number(out, 0, 1);
}

/* How many list entries the tensor that begins at i takes: all experts of a part, if they are merged. */
static size_t n_in(const list *of, size_t i, bool is_merged)
{
    return is_merged && of->tensors[i].gguf_merged[0] ? of->writing->shape.n_experts : 1;
}

static bool is_matrix_type(const list *of, const tensor *t)
{
    /* As converters do it: vectors and the router stay f32. */
    return of->writing->encoder && t->n_rows && !strstr(t->gguf, "ffn_gate_inp");
}

static size_t encode_row(const list *of, const tensor *t, uint64_t row, uint8_t *bytes)
{
    float numbers[ROW_MAX];
    row_of(of, t, row, numbers);
    if (is_matrix_type(of, t))
        return of->writing->encoder(of->writing->type, numbers, t->n_cols, bytes);
    memcpy(bytes, numbers, t->n_cols * sizeof *numbers);
    return t->n_cols * sizeof *numbers;
}

static void write_infos(const list *of, FILE *out, size_t first, size_t end, bool is_merged)
{
    uint64_t offset = 0;
    for (size_t i = first; i < end; i += n_in(of, i, is_merged)) {
        const tensor *t = &of->tensors[i];
        uint8_t bytes[ROW_MAX * sizeof(float)];
        bool is_whole = is_merged && t->gguf_merged[0];
        put_text(out, is_whole ? t->gguf_merged : t->gguf);
        put_number(out, 1 + (t->n_rows > 0) + is_whole, 4);
        put_number(out, t->n_cols, 8);
        if (t->n_rows)
            put_number(out, t->n_rows, 8);
        if (is_whole)
            put_number(out, of->writing->shape.n_experts, 8);
        put_number(out, is_matrix_type(of, t) ? of->writing->type : BORA_WRITER_TENSOR_F32, 4);
        put_number(out, offset, 8);
        offset += encode_row(of, t, 0, bytes) * (t->n_rows ? t->n_rows : 1) * n_in(of, i, is_merged);
        offset = (offset + 31) / 32 * 32;
    }
}

/* File number of n_files: list entries first to end. */
static void write_gguf_file(const list *of, FILE *out, size_t first, size_t end, bool is_merged, uint16_t number,
                            uint16_t n_files)
{
    uint64_t n_tensors = 0, n_all = 0;
    for (size_t i = 0; i < of->n; i += n_in(of, i, is_merged)) {
        n_tensors += i >= first && i < end;
        n_all++;
    }
    /* The count of keys is not known yet: it is written once more. */
    put(out, "GGUF", 4);
    put_number(out, 3, 4);
    put_number(out, n_tensors, 8);
    put_number(out, 0, 8);
    uint64_t n_keys = number == 0 ? write_metadata(of, out) : 0;
    if (n_files > 1) {
        int32_t count = (int32_t)n_all;
        put_key(out, "split.no", 2, &number, sizeof number);
        put_key(out, "split.count", 2, &n_files, sizeof n_files);
        put_key(out, "split.tensors.count", BORA_WRITER_I32, &count, sizeof count);
        n_keys += 3;
    }
    write_infos(of, out, first, end, is_merged);
    pad(out);
    for (size_t i = first; i < end; i++) {
        const tensor *t = &of->tensors[i];
        for (uint64_t row = 0; row < (t->n_rows ? t->n_rows : 1); row++) {
            uint8_t bytes[ROW_MAX * sizeof(float)];
            put(out, bytes, encode_row(of, t, row, bytes));
        }
        if (!is_merged || !t->gguf_merged[0] || i + 1 == end ||
            strcmp(t->gguf_merged, of->tensors[i + 1].gguf_merged) != 0)
            pad(out);
    }
    if (fseek(out, 16, SEEK_SET) != 0)
        give_up("writing");
    put_number(out, n_keys, 8);
    done(out);
}

static void write_gguf(const list *of, const bora_temp_folder *folder, bool is_merged, uint16_t n_files, char *ret_name,
                       size_t name_size)
{
    size_t first = 0;
    for (uint16_t file = 0; file < n_files; file++) {
        size_t end = first, goal = of->n * (file + 1u) / n_files;
        while (end < goal)
            end += n_in(of, end, is_merged);
        char name[64] = "model.gguf";
        if (n_files > 1)
            (void)snprintf(name, sizeof name, "model-%05u-of-%05u.gguf", file + 1u, n_files);
        write_gguf_file(of, create(folder, name), first, end, is_merged, file, n_files);
        if (file == 0)
            (void)snprintf(ret_name, name_size, "%s", name);
        first = end;
    }
}

void bora_model_write(const bora_temp_folder *folder, const bora_model_writing *writing, bora_written_layout layout,
                      char path[BORA_TEMP_PATH_SIZE])
{
    list *of = malloc(sizeof *of);
    if (!of)
        give_up("no memory");
    enumerate(of, writing);
    char name[64] = ""; /* the folder itself */
    switch (layout) {
    case BORA_MODEL_NATIVE:
        write_native(of, folder);
        break;
    case BORA_MODEL_HF:
        write_hf(of, folder, 1);
        break;
    case BORA_MODEL_HF_SHARDED:
        write_hf(of, folder, N_SHARDS);
        break;
    case BORA_MODEL_GGUF:
    case BORA_MODEL_GGUF_EXPERTS:
        write_gguf(of, folder, layout == BORA_MODEL_GGUF, 1, name, sizeof name);
        break;
    case BORA_MODEL_GGUF_SPLIT:
        write_gguf(of, folder, true, N_SHARDS, name, sizeof name);
        break;
    case BORA_MODEL_LAYOUTS:
        give_up("no such layout");
    }
    bora_temp_folder_path(folder, name, path);
    free(of);
}
