#include "support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct buffer {
    uint8_t *bytes;
    size_t size, capacity;
} buffer;

static void give_up(const char *what)
{
    fprintf(stderr, "gguf writer: %s\n", what);
    abort();
}

static void put(buffer *to, const void *bytes, size_t size)
{
    if (to->capacity - to->size < size) {
        size_t capacity = 2 * to->capacity + size + 256;
        uint8_t *grown = realloc(to->bytes, capacity);
        if (!grown)
            give_up("no memory");
        to->bytes = grown;
        to->capacity = capacity;
    }
    if (size)
        memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void put_number(buffer *to, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    put(to, bytes, size);
}

static void put_string(buffer *to, const char *text)
{
    put_number(to, strlen(text), 8);
    put(to, text, strlen(text));
}

static void put_zeros_up_to(buffer *to, size_t size)
{
    while (to->size < size)
        put_number(to, 0, 1);
}

void bora_gguf_writer_init(bora_gguf_writer *writer)
{
    memset(writer, 0, sizeof *writer);
    writer->version = 3;
    writer->alignment = 32;
    writer->seed = 1;
}

void bora_gguf_writer_release(bora_gguf_writer *writer)
{
    for (size_t i = 0; i < writer->n_pairs; i++)
        free(writer->pairs[i].value);
    writer->n_pairs = writer->n_tensors = 0;
}

/* ---- metadata -------------------------------------------------------------------------------------------------- */

static bora_writer_pair *pair_find(bora_gguf_writer *writer, const char *key)
{
    for (size_t i = 0; i < writer->n_pairs; i++)
        if (strcmp(writer->pairs[i].key, key) == 0)
            return &writer->pairs[i];
    return NULL;
}

/* Takes over value's bytes. */
static void pair_set(bora_gguf_writer *writer, const char *key, uint32_t type, buffer *value)
{
    bora_writer_pair *pair = pair_find(writer, key);
    if (!pair) {
        if (writer->n_pairs == BORA_WRITER_PAIRS_MAX)
            give_up("too many pairs");
        pair = &writer->pairs[writer->n_pairs++];
        (void)snprintf(pair->key, sizeof pair->key, "%s", key);
        pair->value = NULL;
    }
    free(pair->value);
    pair->type = type;
    pair->value = value->bytes;
    pair->size = value->size;
}

void bora_gguf_writer_raw(bora_gguf_writer *writer, const char *key, uint32_t type, const void *value, size_t size)
{
    buffer bytes = {0};
    put(&bytes, value, size);
    pair_set(writer, key, type, &bytes);
}

void bora_gguf_writer_u32(bora_gguf_writer *writer, const char *key, uint32_t value)
{
    bora_gguf_writer_raw(writer, key, BORA_WRITER_U32, &value, sizeof value);
}

void bora_gguf_writer_f32(bora_gguf_writer *writer, const char *key, float value)
{
    bora_gguf_writer_raw(writer, key, BORA_WRITER_F32, &value, sizeof value);
}

void bora_gguf_writer_bool(bora_gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value;
    bora_gguf_writer_raw(writer, key, BORA_WRITER_BOOL, &byte, 1);
}

void bora_gguf_writer_string(bora_gguf_writer *writer, const char *key, const char *value)
{
    buffer bytes = {0};
    put_string(&bytes, value);
    pair_set(writer, key, BORA_WRITER_STRING, &bytes);
}

void bora_gguf_writer_strings(bora_gguf_writer *writer, const char *key, const char *const *values, uint64_t n)
{
    buffer bytes = {0};
    put_number(&bytes, BORA_WRITER_STRING, 4);
    put_number(&bytes, n, 8);
    for (uint64_t i = 0; i < n; i++)
        put_string(&bytes, values[i]);
    pair_set(writer, key, BORA_WRITER_ARRAY, &bytes);
}

void bora_gguf_writer_array(bora_gguf_writer *writer, const char *key, uint32_t type, const void *data, uint64_t n,
                            size_t element_size)
{
    buffer bytes = {0};
    put_number(&bytes, type, 4);
    put_number(&bytes, n, 8);
    put(&bytes, data, n * element_size);
    pair_set(writer, key, BORA_WRITER_ARRAY, &bytes);
}

void bora_gguf_writer_remove(bora_gguf_writer *writer, const char *key)
{
    bora_writer_pair *pair = pair_find(writer, key);
    if (!pair)
        give_up(key);
    free(pair->value);
    size_t i = (size_t)(pair - writer->pairs);
    memmove(pair, pair + 1, (writer->n_pairs - i - 1) * sizeof *pair);
    writer->n_pairs--;
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

static uint64_t tensor_size(const bora_writer_tensor *tensor)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < tensor->n_dims && i < 4; i++)
        n *= tensor->dims[i];
    switch (tensor->type) {
    case BORA_WRITER_TENSOR_F32:
        return 4 * n;
    case BORA_WRITER_TENSOR_F16:
    case BORA_WRITER_TENSOR_BF16:
        return 2 * n;
    case BORA_WRITER_TENSOR_Q8_0:
        return n / 32 * 34;
    default:
        return 0;
    }
}

bora_writer_tensor *bora_gguf_writer_tensor(bora_gguf_writer *writer, const char *name, uint32_t type, uint32_t n_dims,
                                            const uint64_t *dims)
{
    if (writer->n_tensors == BORA_WRITER_TENSORS_MAX)
        give_up("too many tensors");
    uint64_t offset = 0;
    if (writer->n_tensors) {
        const bora_writer_tensor *last = &writer->tensors[writer->n_tensors - 1];
        offset = last->offset + last->size;
        offset += (writer->alignment - offset % writer->alignment) % writer->alignment;
    }
    bora_writer_tensor *tensor = &writer->tensors[writer->n_tensors++];
    *tensor = (bora_writer_tensor){.n_dims = n_dims, .type = type, .offset = offset, .scale = 0.1f};
    (void)snprintf(tensor->name, sizeof tensor->name, "%s", name);
    memcpy(tensor->dims, dims, (n_dims < 4 ? n_dims : 4) * sizeof *dims);
    tensor->size = tensor_size(tensor);
    return tensor;
}

bora_writer_tensor *bora_gguf_writer_find(bora_gguf_writer *writer, const char *name)
{
    for (size_t i = 0; i < writer->n_tensors; i++)
        if (strcmp(writer->tensors[i].name, name) == 0)
            return &writer->tensors[i];
    give_up(name);
    return NULL;
}

void bora_gguf_writer_remove_tensor(bora_gguf_writer *writer, const char *name)
{
    bora_writer_tensor *tensor = bora_gguf_writer_find(writer, name);
    size_t i = (size_t)(tensor - writer->tensors);
    uint64_t gone = i + 1 < writer->n_tensors ? tensor[1].offset - tensor->offset : 0;
    memmove(tensor, tensor + 1, (writer->n_tensors - i - 1) * sizeof *tensor);
    writer->n_tensors--;
    for (; i < writer->n_tensors; i++) /* the data is written without a gap */
        writer->tensors[i].offset -= gone;
}

/* In -1 .. 1; splitmix64's mixing. */
static float number_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (float)((z ^ (z >> 31)) >> 40) / (float)(1 << 23) - 1.0f;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Cut, not rounded, and small numbers to zero: any f16 will do here. */
static uint16_t half_of(float value)
{
    uint32_t bits = bits_of(value);
    int32_t exponent = (int32_t)(bits >> 23 & 0xff) - 127 + 15;
    uint32_t sign = bits >> 16 & 0x8000;
    return exponent <= 0 ? (uint16_t)sign : (uint16_t)(sign | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

static void put_numbers(buffer *to, const bora_writer_tensor *tensor, uint64_t *state)
{
    size_t end = to->size + tensor->size;
    while (to->size < end) {
        float value = tensor->scale * number_next(state);
        switch (tensor->type) {
        case BORA_WRITER_TENSOR_F32:
            put(to, &value, sizeof value);
            break;
        case BORA_WRITER_TENSOR_F16:
            put_number(to, half_of(value), 2);
            break;
        case BORA_WRITER_TENSOR_BF16:
            put_number(to, bits_of(value) >> 16, 2);
            break;
        default:
            put_number(to, half_of(tensor->scale / 127), 2);
            for (int i = 0; i < 32; i++)
                put_number(to, (uint8_t)(int8_t)(127 * number_next(state)), 1);
            break;
        }
    }
}

uint8_t *bora_gguf_writer_bytes(const bora_gguf_writer *writer, size_t *ret_size)
{
    buffer out = {0};
    put(&out, "GGUF", 4);
    put_number(&out, writer->version, 4);
    put_number(&out, (uint64_t)((int64_t)writer->n_tensors + writer->n_tensors_extra), 8);
    put_number(&out, (uint64_t)((int64_t)writer->n_pairs + writer->n_pairs_extra), 8);
    for (size_t i = 0; i < writer->n_pairs; i++) {
        put_string(&out, writer->pairs[i].key);
        put_number(&out, writer->pairs[i].type, 4);
        put(&out, writer->pairs[i].value, writer->pairs[i].size);
    }
    for (size_t i = 0; i < writer->n_tensors; i++) {
        const bora_writer_tensor *tensor = &writer->tensors[i];
        put_string(&out, tensor->name);
        put_number(&out, tensor->n_dims, 4);
        for (uint32_t d = tensor->n_dims < 4 ? tensor->n_dims : 4; d-- > 0;)
            put_number(&out, tensor->dims[d], 8);
        put_number(&out, tensor->type, 4);
        put_number(&out, tensor->offset, 8);
    }
    put_zeros_up_to(&out, (out.size + writer->alignment - 1) / writer->alignment * writer->alignment);
    size_t begin = out.size, at = 0;
    uint64_t state = writer->seed;
    for (size_t i = 0; i < writer->n_tensors; i++) {
        /* One after the other, wherever the offsets point. */
        put_zeros_up_to(&out, begin + (at + writer->alignment - 1) / writer->alignment * writer->alignment);
        put_numbers(&out, &writer->tensors[i], &state);
        at = out.size - begin;
    }
    *ret_size = out.size;
    return out.bytes;
}

/* ---- a whole model --------------------------------------------------------------------------------------------- */

static void vocabulary_put(bora_gguf_writer *writer, uint32_t n)
{
    static const char *const first[] = {"<unk>", "<s>", "</s>", "[INST]", "[/INST]"};
    static const char *const letters[] = {
        "\xe2\x96\x81", "a", "b", "c", "ab", "abc", "\342\226\201a" /* U+2581, a */, "e", "f", "g", "h"};
    if (n < 261 || n > 1024)
        give_up("a vocabulary has 261 to 1024 pieces");
    char texts[1024][16];
    const char *pieces[1024];
    float scores[1024];
    int32_t types[1024];
    for (uint32_t i = 0; i < n; i++) {
        scores[i] = 0;
        if (i < 5) {
            (void)snprintf(texts[i], sizeof texts[i], "%s", first[i]);
            types[i] = i == 0 ? 2 : 3;
        } else if (i < 261) {
            (void)snprintf(texts[i], sizeof texts[i], "<0x%02X>", i - 5);
            types[i] = 6;
        } else {
            if (i - 261 < sizeof letters / sizeof letters[0])
                (void)snprintf(texts[i], sizeof texts[i], "%s", letters[i - 261]);
            else
                (void)snprintf(texts[i], sizeof texts[i], "w%u", i);
            types[i] = 1;
            scores[i] = -(float)(i - 260);
        }
        pieces[i] = texts[i];
    }
    bora_gguf_writer_string(writer, "tokenizer.ggml.model", "llama");
    bora_gguf_writer_strings(writer, "tokenizer.ggml.tokens", pieces, n);
    bora_gguf_writer_array(writer, "tokenizer.ggml.scores", BORA_WRITER_F32, scores, n, 4);
    bora_gguf_writer_array(writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, types, n, 4);
    bora_gguf_writer_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    bora_gguf_writer_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    bora_gguf_writer_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
}

static void metadata_put(bora_gguf_writer *writer, const bora_tiny_model *shape)
{
    bora_gguf_writer_string(writer, "general.architecture", "llama");
    bora_gguf_writer_string(writer, "general.name", "tiny");
    bora_gguf_writer_u32(writer, "llama.context_length", 512);
    bora_gguf_writer_u32(writer, "llama.embedding_length", shape->dim);
    bora_gguf_writer_u32(writer, "llama.block_count", shape->n_layers);
    bora_gguf_writer_u32(writer, "llama.feed_forward_length", shape->hidden_dim);
    bora_gguf_writer_u32(writer, "llama.attention.head_count", shape->n_heads);
    bora_gguf_writer_u32(writer, "llama.attention.head_count_kv", shape->n_kv_heads);
    bora_gguf_writer_u32(writer, "llama.attention.key_length", shape->head_dim);
    bora_gguf_writer_u32(writer, "llama.attention.value_length", shape->head_dim);
    bora_gguf_writer_u32(writer, "llama.rope.dimension_count", shape->head_dim);
    bora_gguf_writer_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    bora_gguf_writer_f32(writer, "llama.rope.freq_base", 10000);
    if (shape->window)
        bora_gguf_writer_u32(writer, "llama.attention.sliding_window", shape->window);
    if (shape->n_experts > 1) {
        bora_gguf_writer_u32(writer, "llama.expert_count", shape->n_experts);
        bora_gguf_writer_u32(writer, "llama.expert_used_count", shape->n_experts_per_tok);
    }
}

static void vector_put(bora_gguf_writer *writer, const char *name, uint64_t n)
{
    bora_gguf_writer_tensor(writer, name, BORA_WRITER_TENSOR_F32, 1, &n)->scale = 1;
}

static void matrix_put(bora_gguf_writer *writer, const char *name, uint32_t type, uint64_t n_rows, uint64_t n_cols)
{
    bora_gguf_writer_tensor(writer, name, type, 2, (const uint64_t[]){n_rows, n_cols});
}

static void experts_put(bora_gguf_writer *writer, const bora_tiny_model *shape, uint32_t layer, const char *part,
                        uint64_t n_rows, uint64_t n_cols)
{
    char name[128];
    if (shape->n_experts == 1) {
        (void)snprintf(name, sizeof name, "blk.%u.%s.weight", layer, part);
        matrix_put(writer, name, shape->type, n_rows, n_cols);
    } else if (!shape->split_experts) {
        (void)snprintf(name, sizeof name, "blk.%u.%s_exps.weight", layer, part);
        bora_gguf_writer_tensor(writer, name, shape->type, 3, (const uint64_t[]){shape->n_experts, n_rows, n_cols});
    }
    for (uint32_t e = 0; shape->n_experts > 1 && shape->split_experts && e < shape->n_experts; e++) {
        (void)snprintf(name, sizeof name, "blk.%u.%s.%u.weight", layer, part, e);
        matrix_put(writer, name, shape->type, n_rows, n_cols);
    }
}

static void layer_put(bora_gguf_writer *writer, const bora_tiny_model *shape, uint32_t layer)
{
    uint64_t q_dim = (uint64_t)shape->n_heads * shape->head_dim, kv_dim = (uint64_t)shape->n_kv_heads * shape->head_dim;
    const struct {
        const char *part;
        uint64_t n_rows, n_cols;
    } matrices[] = {{"attn_q", q_dim, shape->dim},
                    {"attn_k", kv_dim, shape->dim},
                    {"attn_v", kv_dim, shape->dim},
                    {"attn_output", shape->dim, q_dim}};
    char name[128];
    (void)snprintf(name, sizeof name, "blk.%u.attn_norm.weight", layer);
    vector_put(writer, name, shape->dim);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        (void)snprintf(name, sizeof name, "blk.%u.%s.weight", layer, matrices[i].part);
        matrix_put(writer, name, shape->type, matrices[i].n_rows, matrices[i].n_cols);
    }
    (void)snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", layer);
    vector_put(writer, name, shape->dim);
    if (shape->n_experts > 1) {
        (void)snprintf(name, sizeof name, "blk.%u.ffn_gate_inp.weight", layer);
        matrix_put(writer, name, BORA_WRITER_TENSOR_F32, shape->n_experts, shape->dim);
    }
    experts_put(writer, shape, layer, "ffn_gate", shape->hidden_dim, shape->dim);
    experts_put(writer, shape, layer, "ffn_down", shape->dim, shape->hidden_dim);
    experts_put(writer, shape, layer, "ffn_up", shape->hidden_dim, shape->dim);
}

void bora_gguf_writer_model(bora_gguf_writer *writer, const bora_tiny_model *shape)
{
    metadata_put(writer, shape);
    if (!shape->without_vocabulary)
        vocabulary_put(writer, shape->vocab_size);
    matrix_put(writer, "token_embd.weight", shape->type, shape->vocab_size, shape->dim);
    for (uint32_t layer = 0; layer < shape->n_layers; layer++)
        layer_put(writer, shape, layer);
    vector_put(writer, "output_norm.weight", shape->dim);
    if (!shape->tied)
        matrix_put(writer, "output.weight", shape->type, shape->vocab_size, shape->dim);
}
