/* What a mask costs per token: documents of three schemas and one notation, as a vocabulary of 32,000 pieces cuts them,
 * each answer with a matcher that knows nothing yet. Prints the mean, the 99th of 100 and the largest time of mask and
 * accept together, the mean when an answer may not have many more tokens than its document has bytes, so that what
 * leads too far is left out, and what is done once: vocabulary and grammar.
 *
 *   bench_grammar [tokenizer.model] [rounds]
 *
 * Without a file the vocabulary is made of syllables. */
#include "base/file.h"
#include "base/memory.h"
#include "grammar/grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_PIECES    32000u
#define SAMPLES_MAX 1000000u

typedef struct example {
    const char *name, *source, *text;
    bool is_notation;
} example;

static const example examples[] = {
    {"person",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,"
     "\"maximum\":130},"
     "\"email\":{\"type\":\"string\",\"format\":\"email\"},\"role\":{\"enum\":[\"admin\",\"editor\",\"reader\"]},"
     "\"born\":{\"type\":\"string\",\"format\":\"date\"},\"notes\":{\"type\":\"string\",\"maxLength\":200}},"
     "\"required\":[\"name\",\"age\",\"email\",\"role\"],\"additionalProperties\":false}",
     "{\"name\": \"Ada Lovelace\", \"age\": 36, \"email\": \"ada@analytical.org\", \"role\": \"admin\", \"born\": "
     "\"1815-12-10\", "
     "\"notes\": \"Wrote the first program for a machine that was never built, and said what it could not do.\"}",
     false},
    {"orders",
     "{\"type\":\"object\",\"properties\":{\"orders\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/order\"}}},"
     "\"required\":[\"orders\"],\"additionalProperties\":false,\"$defs\":{\"order\":{\"type\":\"object\","
     "\"properties\":{\"id\":"
     "{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-[0-9]{4}$\"},\"items\":{\"type\":\"array\",\"minItems\":1,\"items\":"
     "{\"type\":\"object\","
     "\"properties\":{\"what\":{\"type\":\"string\"},\"price\":{\"type\":\"number\",\"minimum\":0},\"gift\":{\"type\":["
     "\"boolean\",\"null\"]}},"
     "\"required\":[\"what\",\"price\",\"gift\"],\"additionalProperties\":false}}},\"required\":[\"id\",\"items\"],"
     "\"additionalProperties\":false}}}",
     "{\"orders\": [{\"id\": \"AB-1234\", \"items\": [{\"what\": \"a lamp for the desk\", \"price\": 24.5, \"gift\": "
     "false}, "
     "{\"what\": \"two chairs\", \"price\": 129, \"gift\": null}]},\n  {\"id\": \"CD-0007\", \"items\": [{\"what\": "
     "\"paper \\\"A4\\\"\", \"price\": 3.99, \"gift\": true}]}]}",
     false},
    {"any JSON", "true",
     "{\"steps\": [{\"explanation\": \"Take 7 from either side.\", \"output\": \"8x = -30\", \"ok\": true, "
     "\"weights\": [0.25, 1e-3, "
     "-12]}, {\"explanation\": \"Divide by 8.\", \"output\": \"x = -15/4\", \"nested\": {\"a\": {\"b\": [[], {}, "
     "null]}}}], "
     "\"answer\": \"x = -3.75\"}",
     false},
    {"list", "root ::= item{1,9}\nitem ::= \"- \" [A-Z] [^\\n]{3,120} \"\\n\"",
     "- Water the plants every second day\n- Feed the cat, morning and evening\n- Take the letters out of the box\n",
     true},
};

/* Of this thread: others on the machine do not count. */
static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- vocabularies ------------------------------------------------------------------------------------------------ */

/* The bytes, single signs, then words of one to four syllables, with a space before them or not; short ones first. */
static bora_status made_up(bora_tokenizer **ret_tokenizer, bora_error *err)
{
    static const char *const syllables[] = {"a",  "e",  "in", "re", "ti", "on", "er", "st", "the", "an",  "al",  "or",
                                            "ch", "de", "la", "is", "ro", "ne", "me", "s",  "t",   "and", "ing", "co"};
    static char store[N_PIECES][24];
    static const char *pieces[N_PIECES];
    static uint32_t sizes[N_PIECES];
    static float scores[N_PIECES];
    static int32_t types[N_PIECES];
    size_t n = 0;
    for (; n < 3; n++) {
        static const char *const names[] = {"<unk>", "<s>", "</s>"};
        (void)snprintf(store[n], sizeof store[n], "%s", names[n]);
        types[n] = n == 0 ? BORA_PIECE_UNKNOWN : BORA_PIECE_CONTROL;
    }
    for (unsigned b = 0; b < 256; b++, n++) {
        (void)snprintf(store[n], sizeof store[n], "<0x%02X>", b);
        types[n] = BORA_PIECE_BYTE;
    }
    for (unsigned c = '!'; c <= '~'; c++, n++) {
        (void)snprintf(store[n], sizeof store[n], "%c", (char)c);
        types[n] = BORA_PIECE_NORMAL;
    }
    (void)snprintf(store[n], sizeof store[n], "\xe2\x96\x81");
    types[n++] = BORA_PIECE_NORMAL;
    for (size_t word = 0; n < N_PIECES; word++) { /* each number is another word, but for single letters */
        char text[24] = "";
        size_t rest = word / 2;
        do {
            size_t used = strlen(text);
            (void)snprintf(text + used, sizeof text - used, "%s", syllables[rest % BORA_ARRAY_SIZE(syllables)]);
            rest /= BORA_ARRAY_SIZE(syllables);
        } while (rest > 0);
        (void)snprintf(store[n], sizeof store[n], "%s%.16s", word % 2 ? "\xe2\x96\x81" : "", text);
        bool is_known = false;
        for (size_t i = 259; i < n && !is_known; i++)
            is_known = strcmp(store[i], store[n]) == 0;
        types[n] = BORA_PIECE_NORMAL;
        n += !is_known;
    }
    for (size_t i = 0; i < n; i++) {
        pieces[i] = store[i];
        sizes[i] = (uint32_t)strlen(store[i]);
        scores[i] = -(float)i;
    }
    bora_vocab vocab = {.pieces = pieces,
                        .piece_sizes = sizes,
                        .scores = scores,
                        .types = types,
                        .n_pieces = n,
                        .bos_id = 1,
                        .eos_id = 2,
                        .unk_id = 0,
                        .add_dummy_prefix = true};
    return bora_tokenizer_new(&vocab, ret_tokenizer, err);
}

static bora_status from_file(const char *path, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    bora_file file = {0};
    bora_status st = bora_file_map(path, &file, err);
    if (st == BORA_OK)
        st = bora_tokenizer_parse(file.data, file.size, ret_tokenizer, err);
    bora_file_release(&file);
    return st;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

typedef struct bench {
    const bora_tokenizer *tokenizer;
    const bora_vocabulary *vocabulary;
    unsigned rounds;
    double *samples; /* [SAMPLES_MAX] seconds */
    size_t n_samples;
} bench;

/* n_most: tokens that the answer may have. */
static bora_status one_answer(bench *b, bora_grammar *grammar, const bora_tokens *tokens, uint32_t n_most,
                              bora_error *err)
{
    bora_matcher *matcher = NULL;
    bora_status st = bora_matcher_new(grammar, b->vocabulary, false, &matcher, err);
    for (size_t i = 0; i <= tokens->n && st == BORA_OK && b->n_samples < SAMPLES_MAX; i++) {
        int32_t token = i < tokens->n ? tokens->ids[i] : bora_tokenizer_eos(b->tokenizer);
        const uint64_t *mask = NULL;
        double begin = now();
        st = bora_matcher_mask(matcher, n_most - (uint32_t)i, &mask, err);
        bool allowed = st == BORA_OK && (mask[token / 64] >> (token % 64) & 1);
        if (allowed)
            st = bora_matcher_accept(matcher, token, err);
        b->samples[b->n_samples++] = now() - begin;
        if (st == BORA_OK && !allowed)
            st = bora_fail(err, BORA_E_INTERNAL, "token %zu is not allowed", i);
    }
    bora_matcher_free(matcher);
    return st;
}

static double mean(const bench *b)
{
    double sum = 0.0;
    for (size_t i = 0; i < b->n_samples; i++)
        sum += b->samples[i];
    return b->n_samples ? sum / (double)b->n_samples : 0.0;
}

static bora_status run(bench *b, const example *e, bora_error *err)
{
    bora_grammar *grammar = NULL;
    bora_tokens tokens = {0};
    double begin = now();
    bora_status st = (e->is_notation ? bora_grammar_from_notation
                                     : bora_grammar_from_schema)(e->source, strlen(e->source), &grammar, err);
    double compiled = now() - begin;
    if (st == BORA_OK)
        st = bora_tokenizer_encode(b->tokenizer, e->text, strlen(e->text), &tokens, err);
    double scarce = 0.0;
    for (int is_ample = 0; is_ample < 2 && st == BORA_OK; is_ample++) {
        uint32_t n_most = is_ample ? BORA_TOKENS_ANY : (uint32_t)strlen(e->text) + 2; /* a token a byte, and the end */
        b->n_samples = 0;
        for (unsigned i = 0; i < b->rounds && st == BORA_OK; i++)
            st = one_answer(b, grammar, &tokens, n_most, err);
        scarce = is_ample ? scarce : mean(b);
    }
    if (st == BORA_OK) {
        qsort(b->samples, b->n_samples, sizeof *b->samples, by_value);
        printf("%-10s %6zu %10.3f %10.3f %10.3f %10.3f %12.3f %10zu\n", e->name, tokens.n + 1, 1e3 * mean(b),
               1e3 * b->samples[b->n_samples * 99 / 100], 1e3 * b->samples[b->n_samples - 1], 1e3 * scarce,
               1e3 * compiled, bora_grammar_size(grammar));
    }
    bora_tokens_release(&tokens);
    bora_grammar_unref(grammar);
    return st;
}

int main(int argc, char **argv)
{
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    bora_vocabulary *vocabulary = NULL;
    bora_status st = argc > 1 ? from_file(argv[1], &tokenizer, &err) : made_up(&tokenizer, &err);
    double begin = now();
    if (st == BORA_OK)
        st = bora_vocabulary_new(tokenizer, &vocabulary, &err);
    double made = now() - begin;
    bench b = {.tokenizer = tokenizer,
               .vocabulary = vocabulary,
               .rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20};
    b.samples = bora_calloc(SAMPLES_MAX, sizeof *b.samples);
    if (st == BORA_OK && b.samples) {
        printf("vocabulary of %zu pieces: %.1f ms, once\n", bora_tokenizer_n_pieces(tokenizer), 1e3 * made);
        printf("%-10s %6s %10s %10s %10s %10s %12s %10s\n", "", "tokens", "mean ms", "p99 ms", "max ms", "scarce ms",
               "compile ms", "bytes");
    }
    for (size_t i = 0; i < BORA_ARRAY_SIZE(examples) && st == BORA_OK && b.samples; i++)
        st = run(&b, &examples[i], &err);
    if (st != BORA_OK)
        fprintf(stderr, "%s\n", err.message);
    bora_free(b.samples);
    bora_vocabulary_free(vocabulary);
    bora_tokenizer_free(tokenizer);
    return st == BORA_OK ? 0 : 1;
}
