/* Writes a GGUF file of a given geometry with random weights, for measurements of speed and memory at true size.
 *
 *   make-model OUT.gguf --preset mistral-7b|mistral-nemo|mixtral-8x7b|small [--type T] [--layers N] [--vocab N]
 *              [--window N] [--seed N] [--threads N] [--force]
 *
 * Weights are normal with a deviation of 1/sqrt(columns), so that activations keep their size through the layers and
 * logits stay sane. Drawing billions of normal numbers would take longer than writing them: some thousand runs of 256
 * weights are drawn and put into the type, and rows are made of these at random. The file depends on the options and
 * the seed, not on the number of threads. The vocabulary is SentencePiece's in form: control pieces, byte pieces, then
 * all strings of one, two, three ... letters. */
#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "kernels/quantize.h"
#include "model/blocks.h"
#include "model/gguf_export.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIT       256u /* weights drawn together; whole blocks of every type */
#define N_POOLS    16u
#define POOL_UNITS 8192u /* different ones per deviation */
#define SLICE_SIZE ((size_t)16 << 20)
#define PIECE_SIZE 16u
#define PI         3.14159265358979323846

typedef struct preset {
    const char *name;
    bora_hparams h;
    bool controls; /* [INST] and [/INST] as pieces of their own: layout v3 */
} preset;

static const preset presets[] = {
    {"mistral-7b",
     {.n_layers = 32,
      .dim = 4096,
      .hidden_dim = 14336,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 128,
      .vocab_size = 32768,
      .n_experts = 1,
      .n_experts_per_tok = 1,
      .context_length = 32768,
      .norm_eps = 1e-5f,
      .rope_theta = 1e6f,
      .n_windows = 1},
     true},
    {"mistral-nemo",
     {.n_layers = 40,
      .dim = 5120,
      .hidden_dim = 14336,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 128,
      .vocab_size = 131072,
      .n_experts = 1,
      .n_experts_per_tok = 1,
      .context_length = 131072,
      .norm_eps = 1e-5f,
      .rope_theta = 1e6f,
      .n_windows = 1},
     true},
    {"mixtral-8x7b",
     {.n_layers = 32,
      .dim = 4096,
      .hidden_dim = 14336,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 128,
      .vocab_size = 32000,
      .n_experts = 8,
      .n_experts_per_tok = 2,
      .context_length = 32768,
      .norm_eps = 1e-5f,
      .rope_theta = 1e6f,
      .n_windows = 1},
     false},
    {"small",
     {.n_layers = 2,
      .dim = 256,
      .hidden_dim = 512,
      .n_heads = 8,
      .n_kv_heads = 2,
      .head_dim = 32,
      .vocab_size = 2048,
      .n_experts = 4,
      .n_experts_per_tok = 2,
      .context_length = 4096,
      .norm_eps = 1e-5f,
      .rope_theta = 1e4f,
      .n_windows = 1},
     true},
};

/* ---- random numbers: a counter through a mixer, so that every row can be made alone -------------------------- */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static float normal(uint64_t key)
{
    double u = ((double)(mix(key) >> 11) + 0.5) / 9007199254740992.0;
    double v = (double)(mix(key ^ UINT64_C(0xa5a5a5a5a5a5a5a5)) >> 11) / 9007199254740992.0;
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * PI * v));
}

/* ---- vocabulary ---------------------------------------------------------------------------------------------- */

/* String number i of those over "_abc..z" ("_" a space at the front only), shortest first. */
static uint32_t piece_text(uint32_t i, char *text)
{
    uint32_t n_letters = 1, n = 0;
    uint64_t of_length = 52; /* with a space before it, and without */
    while (i >= of_length) {
        i -= (uint32_t)of_length;
        n_letters++;
        of_length *= 26;
    }
    uint32_t word = i / 2;
    if (i % 2 == 0) {
        memcpy(text, "\xe2\x96\x81", 3);
        n = 3;
    }
    for (uint32_t k = 0; k < n_letters; k++, word /= 26)
        text[n + n_letters - 1 - k] = (char)('a' + word % 26);
    return n + n_letters;
}

static bora_status set_vocab(const preset *p, bora_gguf_out *writer, bora_error *err)
{
    static const char *const v1[] = {"<unk>", "<s>", "</s>"}, *const v3[] = {"<unk>", "<s>", "</s>", "[INST]",
                                                                             "[/INST]"};
    const char *const *fixed = p->controls ? v3 : v1;
    const uint32_t n = p->h.vocab_size, n_fixed = p->controls ? 5 : 3;
    if (n < n_fixed + 256 + 1)
        return bora_fail(err, BORA_E_INVAL, "a vocabulary of %u pieces: at least %u are needed", n, n_fixed + 257);
    BORA_CLEANUP(bora_freep) char *texts = bora_calloc(n, PIECE_SIZE);
    BORA_CLEANUP(bora_freep) const char **pieces = bora_calloc(n, sizeof *pieces);
    BORA_CLEANUP(bora_freep) uint32_t *sizes = bora_calloc(n, sizeof *sizes);
    BORA_CLEANUP(bora_freep) float *scores = bora_calloc(n, sizeof *scores);
    BORA_CLEANUP(bora_freep) int32_t *types = bora_calloc(n, sizeof *types);
    if (!texts || !pieces || !sizes || !scores || !types)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary");
    for (uint32_t i = 0; i < n; i++) {
        char *text = texts + (size_t)i * PIECE_SIZE;
        pieces[i] = text;
        if (i < n_fixed) {
            sizes[i] = (uint32_t)snprintf(text, PIECE_SIZE, "%s", fixed[i]);
            types[i] = i ? BORA_PIECE_CONTROL : BORA_PIECE_UNKNOWN;
        } else if (i < n_fixed + 256) {
            sizes[i] = (uint32_t)snprintf(text, PIECE_SIZE, "<0x%02X>", i - n_fixed);
            types[i] = BORA_PIECE_BYTE;
        } else if (i == n_fixed + 256) {
            memcpy(text, "\xe2\x96\x81", 3);
            sizes[i] = 3;
            types[i] = BORA_PIECE_NORMAL;
        } else {
            sizes[i] = piece_text(i - n_fixed - 257, text);
            types[i] = BORA_PIECE_NORMAL;
            scores[i] = -(float)(i - n_fixed - 257);
        }
    }
    bora_gguf_set_text(writer, "tokenizer.ggml.model", "llama", 5);
    bora_gguf_set_texts(writer, "tokenizer.ggml.tokens", pieces, sizes, n);
    bora_gguf_set_array(writer, "tokenizer.ggml.scores", BORA_GGUF_F32, scores, n);
    bora_gguf_set_array(writer, "tokenizer.ggml.token_type", BORA_GGUF_I32, types, n);
    bora_gguf_set_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    bora_gguf_set_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    bora_gguf_set_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
    bora_gguf_set_bool(writer, "tokenizer.ggml.add_bos_token", true);
    bora_gguf_set_bool(writer, "tokenizer.ggml.add_space_prefix", true);
    return BORA_OK;
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

/* Drawn units; a model needs few kinds of them. */
typedef struct unit_pool {
    uint8_t *bytes; /* [POOL_UNITS, size of a unit] */
    uint32_t type;
    float deviation;
} unit_pool;

typedef struct maker {
    bora_pool *pool;
    uint64_t seed;
    unit_pool pools[N_POOLS];
    const unit_pool *units; /* of the present tensor */
    uint8_t *rows;          /* a slice */
    size_t unit_size, row_size;
    uint64_t key; /* of the tensor's part */
    uint64_t first_row;
} maker;

static void make_units(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    maker *m = arg;
    float values[UNIT];
    for (uint32_t u = begin; u < end; u++) {
        uint64_t key = mix(m->seed ^ (uint64_t)(m->units - m->pools) << 32) + (uint64_t)u * UNIT;
        for (uint32_t i = 0; i < UNIT; i++)
            values[i] = m->units->deviation * normal(key + i);
        /* Finite values of unit size and whole blocks: it cannot fail. */
        (void)bora_quantize_row(m->units->type, UNIT, values, NULL, m->units->bytes + u * m->unit_size, NULL);
    }
}

static void make_rows(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)worker;
    maker *m = arg;
    for (uint32_t r = begin; r < end; r++) {
        uint64_t key = mix(m->key + m->first_row + r);
        uint8_t *row = m->rows + r * m->row_size;
        for (size_t at = 0, u = 0; at < m->row_size; at += m->unit_size, u++) {
            size_t n = m->row_size - at < m->unit_size ? m->row_size - at : m->unit_size;
            memcpy(row + at, m->units->bytes + (mix(key + u) % POOL_UNITS) * m->unit_size, n);
        }
    }
}

static bora_status write_vector(bora_gguf_out *writer, uint64_t n, bora_error *err)
{
    bora_status st = BORA_OK;
    const float one = 1;
    for (uint64_t i = 0; st == BORA_OK && i < n; i++)
        st = bora_gguf_out_write(writer, &one, sizeof one, err);
    return st;
}

/* Makes m->units the pool of that type and deviation. */
static bora_status draw_units(maker *m, uint32_t type, float deviation, bora_error *err)
{
    unit_pool *units = m->pools;
    while (units->bytes && (units->type != type || units->deviation != deviation))
        if (++units == m->pools + N_POOLS)
            return bora_fail(err, BORA_E_INTERNAL, "more than %u kinds of tensors", N_POOLS);
    m->units = units;
    if (units->bytes)
        return BORA_OK;
    units->bytes = bora_calloc(POOL_UNITS, m->unit_size);
    units->type = type;
    units->deviation = deviation;
    if (!units->bytes)
        return bora_fail(err, BORA_E_NOMEM, "room for weights");
    bora_pool_parallel_for(m->pool, POOL_UNITS, make_units, m);
    return BORA_OK;
}

static void maker_release(maker *m)
{
    for (size_t i = 0; i < N_POOLS; i++)
        bora_free(m->pools[i].bytes);
}

static bora_status write_slot(maker *m, const preset *p, const bora_gguf_slot *slot, uint32_t type, size_t number,
                              bora_gguf_out *writer, bora_error *err)
{
    if (slot->vector)
        return write_vector(writer, slot->n_cols, err);
    float deviation = slot->role == BORA_GGUF_ROLE_EMBED ? 1 : 1 / sqrtf((float)slot->n_cols);
    /* What is added to the residual stream, so that it grows little over the layers. */
    if (slot->role == BORA_GGUF_ROLE_DOWN || strstr(slot->name, "attn_output"))
        deviation /= sqrtf(2 * (float)p->h.n_layers);
    if (!bora_block_row_size(type, UNIT, &m->unit_size) || !bora_block_row_size(type, slot->n_cols, &m->row_size))
        return bora_fail(err, BORA_E_INTERNAL, "rows of '%s'", slot->name);
    bora_status made = draw_units(m, type, deviation, err);
    if (made != BORA_OK)
        return made;
    size_t rows_max = SLICE_SIZE / m->row_size ? SLICE_SIZE / m->row_size : 1;
    for (uint32_t part = 0; part < slot->n_parts; part++) {
        m->key = mix(m->seed + ((uint64_t)number << 40) + ((uint64_t)part << 30));
        for (m->first_row = 0; m->first_row < slot->n_rows; m->first_row += rows_max) {
            uint64_t rest = slot->n_rows - m->first_row;
            uint32_t n = (uint32_t)(rest < rows_max ? rest : rows_max);
            bora_pool_parallel_for(m->pool, n, make_rows, m);
            bora_status st = bora_gguf_out_write(writer, m->rows, n * m->row_size, err);
            if (st != BORA_OK)
                return st;
        }
    }
    return BORA_OK;
}

typedef struct request {
    preset shape;
    const char *out;
    const bora_gguf_mix *mix;
    uint64_t seed;
    uint32_t n_threads;
    bool force;
} request;

static void poolp(bora_pool **pool)
{
    bora_pool_free(*pool);
}

static void writerp(bora_gguf_out **writer)
{
    bora_gguf_out_free(*writer);
}

static bora_status make(const request *r, bora_error *err)
{
    const bora_hparams *h = &r->shape.h;
    BORA_CLEANUP(poolp) bora_pool *pool = NULL;
    BORA_CLEANUP(writerp) bora_gguf_out *writer = NULL;
    const size_t widest = ((size_t)h->hidden_dim + h->dim + (size_t)h->n_heads * h->head_dim) * sizeof(float);
    BORA_CLEANUP(bora_freep) uint8_t *rows = bora_alloc(SLICE_SIZE > widest ? SLICE_SIZE : widest);
    if (!rows)
        return bora_fail(err, BORA_E_NOMEM, "room for weights");
    bora_status st;
    if ((st = bora_hparams_check(h, err)) != BORA_OK || (st = bora_pool_new(r->n_threads, &pool, err)) != BORA_OK ||
        (st = bora_gguf_out_new(&writer, err)) != BORA_OK)
        return st;
    bora_gguf_set_text(writer, "general.architecture", "llama", 5);
    bora_gguf_set_text(writer, "general.name", r->shape.name, strlen(r->shape.name));
    bora_gguf_set_u32(writer, "general.quantization_version", 2);
    bora_gguf_set_u32(writer, "general.file_type", r->mix->file_type);
    bora_gguf_export_hparams(h, writer);
    if ((st = set_vocab(&r->shape, writer, err)) != BORA_OK)
        return st;
    const size_t n = bora_gguf_n_slots(h, false);
    bora_gguf_slot slot;
    uint32_t wanted;
    for (size_t i = 0; i < n; i++) {
        bora_gguf_slot_at(h, false, i, &slot);
        bora_gguf_slot_add(&slot, bora_gguf_mix_type(r->mix, &slot, &wanted), writer);
    }
    if ((st = bora_gguf_out_create(writer, r->out, r->force, err)) != BORA_OK)
        return st;
    BORA_CLEANUP(maker_release) maker m = {.pool = pool, .seed = r->seed, .rows = rows};
    for (size_t i = 0; st == BORA_OK && i < n; i++) {
        bora_gguf_slot_at(h, false, i, &slot);
        st = write_slot(&m, &r->shape, &slot, bora_gguf_mix_type(r->mix, &slot, &wanted), i, writer, err);
    }
    return st == BORA_OK ? bora_gguf_out_finish(writer, err) : st;
}

/* ---- command line -------------------------------------------------------------------------------------------- */

static bool number(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end || text[0] == '-' || value > max)
        return false;
    *ret_value = value;
    return true;
}

static bool parse_option(int opt, request *r)
{
    uint64_t value = 0;
    switch (opt) {
    case 'p':
        for (size_t i = 0; i < BORA_ARRAY_SIZE(presets); i++)
            if (strcmp(presets[i].name, optarg) == 0) {
                r->shape = presets[i];
                return true;
            }
        return false;
    case 't':
        return (r->mix = bora_gguf_mix_find(optarg)) != NULL;
    case 'f':
        return r->force = true;
    case 's':
        return number(optarg, UINT64_MAX, &r->seed);
    default:
        break;
    }
    if (!strchr("lvwn", opt) || !number(optarg, INT32_MAX, &value))
        return false;
    uint32_t *targets[] = {&r->shape.h.n_layers, &r->shape.h.vocab_size, &r->shape.h.windows[0], &r->n_threads};
    *targets[strchr("lvwn", opt) - "lvwn"] = (uint32_t)value;
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"preset", required_argument, NULL, 'p'},
        {"type", required_argument, NULL, 't'},
        {"layers", required_argument, NULL, 'l'},
        {"vocab", required_argument, NULL, 'v'},
        {"window", required_argument, NULL, 'w'},
        {"seed", required_argument, NULL, 's'},
        {"threads", required_argument, NULL, 'n'},
        {"force", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    bora_cpu cpu;
    bora_cpu_detect(&cpu);
    request r = {.mix = bora_gguf_mix_find("q4_k"), .seed = 1, .n_threads = cpu.n_cores};
    int opt;
    bool good = true;
    while (good && (opt = getopt_long(argc, argv, "", options, NULL)) != -1)
        good = parse_option(opt, &r);
    if (!good || optind + 1 != argc || !r.shape.name) {
        fprintf(stderr,
                "usage: make-model OUT.gguf --preset mistral-7b|mistral-nemo|mixtral-8x7b|small [--type T]\n"
                "       [--layers N] [--vocab N] [--window N] [--seed N] [--threads N] [--force]\n"
                "--preset comes before what changes it; T: as bora-model convert's --type, q4_k unless given\n");
        return 2;
    }
    r.out = argv[optind];
    bora_error err = {{0}};
    if (make(&r, &err) != BORA_OK) {
        fprintf(stderr, "make-model: %s\n", err.message);
        return 1;
    }
    return 0;
}
