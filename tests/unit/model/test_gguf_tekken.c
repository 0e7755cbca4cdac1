/* Tekken's vocabulary written as GGUF: read again it encodes the same, and its merges, which other programs need, make
 * every piece. */
#include "tekken_fixture.h"

#include "model/gguf_export.h"
#include "model/gguf_reader.h"
#include "support/temp_folder.h"

#include <stdlib.h>
#include <string.h>

#define N_ROWS_MORE 7u /* of vocab_size than there are pieces */

typedef struct written {
    bora_temp_folder folder;
    unsigned char *bytes;
    bora_gguf gguf;
} written;

static void write_and_read(written *w, const bora_tokenizer *tokenizer)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_gguf_out *out = NULL;
    size_t size = 0;
    bora_temp_folder_make(&w->folder);
    bora_temp_folder_path(&w->folder, "tekken.gguf", path);
    assert_int_equal(bora_gguf_out_new(&out, NULL), BORA_OK);
    uint32_t n = (uint32_t)bora_tokenizer_n_pieces(tokenizer) + N_ROWS_MORE;
    assert_int_equal(bora_gguf_export_tokenizer(tokenizer, n, out, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_create(out, path, false, NULL), BORA_OK);
    assert_int_equal(bora_gguf_out_finish(out, NULL), BORA_OK);
    bora_gguf_out_free(out);
    w->bytes = bora_temp_read(path, &size);
    w->gguf = (bora_gguf){0};
    assert_int_equal(bora_gguf_read(w->bytes, size, &w->gguf, NULL), BORA_OK);
}

static void written_release(written *w)
{
    bora_gguf_release(&w->gguf);
    free(w->bytes);
    bora_temp_folder_remove(&w->folder);
}

static const bora_gguf_value *array_of(const written *w, const char *key)
{
    const bora_gguf_value *value = bora_gguf_find(&w->gguf, key);
    assert_non_null(value);
    assert_int_equal(value->type, BORA_GGUF_ARRAY);
    return value;
}

static bora_tokenizer *tokenizer_of(const written *w)
{
    const bora_gguf_value *tokens = array_of(w, "tokenizer.ggml.tokens"),
                          *kinds = array_of(w, "tokenizer.ggml.token_type");
    const size_t n = tokens->n;
    assert_int_equal(kinds->n, n);
    const char **pieces = calloc(n, sizeof *pieces);
    uint32_t *sizes = calloc(n, sizeof *sizes), bos = 0, eos = 0;
    int32_t *types = calloc(n, sizeof *types);
    const uint8_t *at = tokens->data;
    for (size_t i = 0; i < n; i++) {
        bora_gguf_text text = bora_gguf_element_text(&at);
        pieces[i] = text.bytes;
        sizes[i] = (uint32_t)text.size;
    }
    memcpy(types, kinds->data, n * sizeof *types);
    assert_int_equal(bora_gguf_u32(&w->gguf, "tokenizer.ggml.bos_token_id", "bos", true, 0, 1000, &bos, NULL), BORA_OK);
    assert_int_equal(bora_gguf_u32(&w->gguf, "tokenizer.ggml.eos_token_id", "eos", true, 0, 1000, &eos, NULL), BORA_OK);
    const bora_vocab vocab = {.pieces = pieces,
                              .piece_sizes = sizes,
                              .types = types,
                              .n_pieces = n,
                              .bos_id = (int32_t)bos,
                              .eos_id = (int32_t)eos,
                              .unk_id = 0};
    bora_tokenizer *tokenizer = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new_gpt2(&vocab, &tokenizer, &err) != BORA_OK)
        fail_msg("%s", err.message);
    free(pieces);
    free(sizes);
    free(types);
    return tokenizer;
}

static void assert_encodes_alike(const bora_tokenizer *a, const bora_tokenizer *b, const char *text, size_t size)
{
    bora_tokens a_ids = {0}, b_ids = {0};
    assert_int_equal(bora_tokenizer_encode(a, text, size, &a_ids, NULL), BORA_OK);
    assert_int_equal(bora_tokenizer_encode(b, text, size, &b_ids, NULL), BORA_OK);
    assert_int_equal(a_ids.n, b_ids.n);
    assert_memory_equal(a_ids.ids, b_ids.ids, a_ids.n * sizeof *a_ids.ids);
    bora_tokens_release(&a_ids);
    bora_tokens_release(&b_ids);
}

static void tekken_survives_gguf(void **state)
{
    (void)state;
    bora_tokenizer *json = tekken_load(TEKKEN_SMALL);
    written w;
    write_and_read(&w, json);
    bora_gguf_text kind = {0};
    assert_int_equal(bora_gguf_string(&w.gguf, "tokenizer.ggml.model", true, &kind, NULL), BORA_OK);
    assert_true(bora_gguf_text_equal(kind, "gpt2"));
    bora_tokenizer *gguf = tokenizer_of(&w);
    const size_t n = bora_tokenizer_n_pieces(json);
    assert_int_equal(bora_tokenizer_n_pieces(gguf), n + N_ROWS_MORE);
    for (size_t id = 0; id < n; id++) {
        size_t is_size = 0, should_size = 0;
        const char *is = bora_tokenizer_piece(gguf, (int32_t)id, &is_size);
        const char *should = bora_tokenizer_piece(json, (int32_t)id, &should_size);
        assert_int_equal(is_size, should_size);
        assert_memory_equal(is, should, is_size);
        assert_int_equal(bora_tokenizer_piece_type(gguf, (int32_t)id), bora_tokenizer_piece_type(json, (int32_t)id));
    }
    size_t size = 0;
    unsigned char *text = bora_temp_read(BORA_SOURCE_DIR "/README.md", &size);
    assert_encodes_alike(gguf, json, (const char *)text, size);
    free(text);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    assert_encodes_alike(gguf, json, all, sizeof all);
    bora_tokenizer_free(gguf);
    bora_tokenizer_free(json);
    written_release(&w);
}

/* A merge's two parts, put together, are the piece; and there is one for every piece of more than a byte, in the order
 * of the pieces. */
static void merges_make_the_pieces(void **state)
{
    (void)state;
    bora_tokenizer *json = tekken_load(TEKKEN_SMALL);
    written w;
    write_and_read(&w, json);
    const bora_gguf_value *tokens = array_of(&w, "tokenizer.ggml.tokens"),
                          *merges = array_of(&w, "tokenizer.ggml.merges");
    const uint8_t *token_at = tokens->data, *merge_at = merges->data;
    size_t n_merges = 0;
    for (size_t id = 0; id < bora_tokenizer_n_pieces(json); id++) {
        size_t size = 0;
        bora_gguf_text token = bora_gguf_element_text(&token_at);
        (void)bora_tokenizer_piece(json, (int32_t)id, &size);
        if (bora_tokenizer_piece_type(json, (int32_t)id) != BORA_PIECE_NORMAL || size < 2)
            continue;
        assert_true(n_merges++ < merges->n);
        bora_gguf_text merge = bora_gguf_element_text(&merge_at);
        const char *space = memchr(merge.bytes, ' ', merge.size);
        assert_non_null(space);
        size_t n_left = (size_t)(space - merge.bytes);
        assert_int_equal(merge.size, token.size + 1);
        assert_memory_equal(merge.bytes, token.bytes, n_left);
        assert_memory_equal(space + 1, token.bytes + n_left, token.size - n_left);
        assert_true(n_left > 0 && n_left < token.size);
    }
    assert_int_equal(n_merges, merges->n);
    assert_true(n_merges > 100);
    bora_tokenizer_free(json);
    written_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tekken_survives_gguf),
                                       cmocka_unit_test(merges_make_the_pieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
