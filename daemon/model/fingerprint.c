/* The fingerprint: which model is this, whatever its path. It keys stored KV caches, so it covers all that decides
 * an answer: hyper-parameters, vocabulary, every tensor's name, shape, type and (all or samples of its) bytes. */
#include "model/model_private.h"

#define XXH_STATIC_LINKING_ONLY /* for a hash state that needs no allocation */
#include <xxhash.h>

#include <stdio.h>
#include <string.h>

#define WHOLE_MAX   ((uint64_t)64 << 20) /* bytes; larger models are sampled */
#define N_SAMPLES   16u                  /* per tensor: the first block, the last, and evenly spaced ones between */
#define SAMPLE_SIZE ((uint64_t)4096)

/* Counted, so that no two sequences of texts look alike. */
static void hash_bytes(XXH3_state_t *hash, const void *data, size_t size)
{
    uint64_t n = size;
    (void)XXH3_128bits_update(hash, &n, sizeof n); /* fails for NULL only */
    if (size)
        (void)XXH3_128bits_update(hash, data, size);
}

static void hash_end(const XXH3_state_t *hash, uint8_t ret_digest[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash));
    memcpy(ret_digest, canonical.digest, 16);
}

void bora_model_vocab_hash_bytes(bora_model *model, const void *data, size_t size)
{
    XXH3_state_t hash;
    (void)XXH3_128bits_reset(&hash);
    hash_bytes(&hash, data, size);
    hash_end(&hash, model->vocab_hash);
}

void bora_model_vocab_hash(bora_model *model, const bora_vocab *vocab)
{
    XXH3_state_t hash;
    (void)XXH3_128bits_reset(&hash);
    for (size_t i = 0; i < vocab->n_pieces; i++)
        hash_bytes(&hash, vocab->pieces[i], vocab->piece_sizes[i]);
    hash_bytes(&hash, vocab->scores, vocab->n_pieces * sizeof *vocab->scores);
    hash_bytes(&hash, vocab->types, vocab->n_pieces * sizeof *vocab->types);
    const int32_t rest[] = {vocab->bos_id, vocab->eos_id, vocab->unk_id, vocab->add_dummy_prefix,
                            vocab->remove_extra_whitespaces};
    hash_bytes(&hash, rest, sizeof rest);
    hash_end(&hash, model->vocab_hash);
}

static void hash_hparams(XXH3_state_t *hash, const bora_hparams *h)
{
    uint32_t eps, theta;
    memcpy(&eps, &h->norm_eps, sizeof eps);
    memcpy(&theta, &h->rope_theta, sizeof theta);
    const uint32_t words[] = {h->n_layers, h->dim,        h->hidden_dim, h->n_heads,           h->n_kv_heads,
                              h->head_dim, h->vocab_size, h->n_experts,  h->n_experts_per_tok, h->context_length,
                              eps,         theta,         h->n_windows};
    hash_bytes(hash, words, sizeof words);
    hash_bytes(hash, h->windows, h->n_windows * sizeof *h->windows);
}

/* Where sample i of a large tensor begins. */
static uint64_t sample_at(uint64_t size, uint64_t i)
{
    const uint64_t last = size - SAMPLE_SIZE, step = last / (N_SAMPLES - 1), rest = last % (N_SAMPLES - 1);
    return step * i + rest * i / (N_SAMPLES - 1);
}

static bool is_sampled(const bora_model *model, const bora_model_entry *entry)
{
    return model->size > WHOLE_MAX && entry->info.size > N_SAMPLES * SAMPLE_SIZE;
}

static void hash_samples(XXH3_state_t *hash, const uint8_t *data, uint64_t size)
{
    for (uint64_t i = 0; i < N_SAMPLES; i++)
        hash_bytes(hash, data + sample_at(size, i), SAMPLE_SIZE);
}

/* Thousands of small reads, all over the file: a disk has many of them under way at once if it is told. */
static void read_samples_ahead(const bora_model *model)
{
    for (size_t i = 0; i < model->n_entries; i++) {
        const bora_model_entry *entry = model->by_name[i];
        for (uint64_t k = 0; is_sampled(model, entry) && k < N_SAMPLES; k++)
            bora_model_read_ahead(model, entry->data + sample_at(entry->info.size, k), SAMPLE_SIZE);
    }
}

void bora_model_fingerprint_make(bora_model *model)
{
    XXH3_state_t hash;
    (void)XXH3_128bits_reset(&hash);
    read_samples_ahead(model);
    hash_hparams(&hash, &model->hparams);
    hash_bytes(&hash, model->vocab_hash, sizeof model->vocab_hash);
    for (size_t i = 0; i < model->n_entries; i++) {
        const bora_model_entry *entry = model->by_name[i]; /* the order in the file does not matter */
        hash_bytes(&hash, entry->info.name, strlen(entry->info.name));
        hash_bytes(&hash, entry->info.shape, sizeof entry->info.shape);
        hash_bytes(&hash, &entry->info.dtype, sizeof entry->info.dtype);
        if (is_sampled(model, entry))
            hash_samples(&hash, entry->data, entry->info.size);
        else
            hash_bytes(&hash, entry->data, (size_t)entry->info.size);
    }
    uint8_t digest[16];
    hash_end(&hash, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        (void)snprintf(model->fingerprint + 2 * i, 3, "%02x", digest[i]);
}
