/* Tekken's vocabulary in GGUF: the model "gpt2" with the pre-tokenizer "tekken" gives what tekken.json gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_fixture.h"
#include "tekken_fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static char *pieces[SMALL_N_PIECES];
static int32_t types[SMALL_N_PIECES];

/* GPT-2's alphabet once more, from its definition: bytes of Latin-1 that can be seen stand for themselves, the rest
 * are numbered from U+0100 on. */
static size_t byte_spell(uint8_t byte, char *ret_text)
{
    unsigned point = byte;
    if (byte <= ' ')
        point = 0x100u + byte;
    else if (byte >= 0x7f && byte <= 0xa0)
        point = 0x121u + (byte - 0x7fu);
    else if (byte == 0xad)
        point = 0x143;
    if (point < 0x80) {
        ret_text[0] = (char)point;
        return 1;
    }
    ret_text[0] = (char)(0xc0 | point >> 6);
    ret_text[1] = (char)(0x80 | (point & 0x3f));
    return 2;
}

/* The small vocabulary as a converter would write it. */
static void vocabulary_make(void)
{
    bora_tokenizer *tokenizer = tekken_load(TEKKEN_SMALL);
    for (size_t id = 0; id < SMALL_N_PIECES; id++) {
        size_t size = 0, n = 0;
        const char *piece = bora_tokenizer_piece(tokenizer, (int32_t)id, &size);
        types[id] = bora_tokenizer_piece_type(tokenizer, (int32_t)id);
        pieces[id] = malloc(2 * size + 1);
        assert_non_null(pieces[id]);
        for (size_t i = 0; i < size; i++)
            if (types[id] == BORA_PIECE_NORMAL)
                n += byte_spell((uint8_t)piece[i], pieces[id] + n);
            else
                pieces[id][n++] = piece[i];
        pieces[id][n] = '\0';
    }
    bora_tokenizer_free(tokenizer);
}

static void tekken_write(void)
{
    bora_gguf_writer_string(&writer, "tokenizer.ggml.model", "gpt2");
    bora_gguf_writer_string(&writer, "tokenizer.ggml.pre", "tekken");
    bora_gguf_writer_strings(&writer, "tokenizer.ggml.tokens", (const char *const *)pieces, SMALL_N_PIECES);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, types, SMALL_N_PIECES, 4);
    bora_gguf_writer_u32(&writer, "tokenizer.ggml.bos_token_id", 1);
    bora_gguf_writer_u32(&writer, "tokenizer.ggml.eos_token_id", 2);
    bora_gguf_writer_remove(&writer, "tokenizer.ggml.scores");
}

static int tekken_setup(void **state)
{
    bora_tiny_model shape = BORA_TINY_MODEL;
    shape.vocab_size = SMALL_N_PIECES + 8; /* rows that no piece has */
    if (writer_setup(state) != 0)
        return -1;
    writer_again(&shape);
    tekken_write();
    return 0;
}

static void assert_same(const bora_tokenizer *a, const bora_tokenizer *b)
{
    FILE *lines = fopen(TEKKEN_FOLDER "/small-encode.jsonl", "r");
    static char line[1 << 16];
    assert_non_null(lines);
    size_t n = 0;
    for (; fgets(line, sizeof line, lines); n++) {
        json_t *object = json_loads(line, JSON_ALLOW_NUL, NULL);
        const json_t *text = json_object_get(object, "text");
        bora_tokens ids[2] = {{0}};
        bora_text texts[2] = {{0}};
        for (int i = 0; i < 2; i++) {
            const bora_tokenizer *tokenizer = i ? a : b;
            assert_int_equal(bora_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                                                   &ids[i], NULL),
                             BORA_OK);
            assert_int_equal(bora_tokenizer_decode(tokenizer, ids[i].ids, ids[i].n, &texts[i], NULL), BORA_OK);
        }
        assert_int_equal(ids[0].n, ids[1].n);
        if (ids[0].n)
            assert_memory_equal(ids[0].ids, ids[1].ids, ids[0].n * sizeof *ids[0].ids);
        if (ids[0].n)
            assert_string_equal(texts[0].bytes, texts[1].bytes);
        for (int i = 0; i < 2; i++) {
            bora_tokens_release(&ids[i]);
            bora_text_release(&texts[i]);
        }
        json_decref(object);
    }
    (void)fclose(lines); /* was only read */
    assert_int_equal(n, 442);
}

static void gguf_as_json(void **state)
{
    (void)state;
    bora_tokenizer *json = tekken_load(TEKKEN_SMALL);
    bora_model *model = must_open();
    const bora_tokenizer *gguf = bora_model_tokenizer(model);
    assert_int_equal(bora_tokenizer_kind(gguf), BORA_TOKENIZER_TEKKEN);
    assert_int_equal(bora_tokenizer_n_pieces(gguf), SMALL_N_PIECES);
    assert_int_equal(bora_tokenizer_bos(gguf), 1);
    assert_int_equal(bora_tokenizer_control(gguf, "[INST]"), 3);
    assert_int_equal(bora_tokenizer_control(gguf, "<SPECIAL_23>"), 23);
    assert_same(gguf, json);
    bora_model_free(model);
    bora_tokenizer_free(json);
}

/* What a converter may say of pieces that are never made from text. */
static void types_of_gguf(void **state)
{
    (void)state;
    int32_t changed[SMALL_N_PIECES];
    memcpy(changed, types, sizeof changed);
    changed[0] = BORA_PIECE_UNKNOWN;
    changed[20] = BORA_PIECE_UNUSED;
    changed[21] = BORA_PIECE_USER_DEFINED;
    bora_gguf_writer_array(&writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, changed, SMALL_N_PIECES, 4);
    bora_model *model = must_open();
    const bora_tokenizer *tokenizer = bora_model_tokenizer(model);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 0), BORA_PIECE_CONTROL);
    assert_int_equal(bora_tokenizer_piece_type(tokenizer, 20), BORA_PIECE_CONTROL);
    bora_tokens ids = {0};
    assert_int_equal(bora_tokenizer_encode(tokenizer, "<SPECIAL_21>", 12, &ids, NULL), BORA_OK);
    assert_true(ids.n == 1 && ids.ids[0] == 21);
    bora_tokens_release(&ids);
    bora_model_free(model);
}

static void gguf_damage(void **state)
{
    (void)state;
    static const struct {
        size_t id;
        const char *piece;
        int32_t type;
        const char *names;
    } cases[] = {
        {100, "a b", BORA_PIECE_NORMAL, "piece 100 is not spelled in GPT-2's byte alphabet"},
        {100, "\xc5\x84", BORA_PIECE_NORMAL, "piece 100 is not spelled"}, /* U+0144, one too many */
        {100, "\xc2\xad", BORA_PIECE_NORMAL, "piece 100 is not spelled"},
        {100, "\xe6\x97\xa5", BORA_PIECE_NORMAL, "piece 100 is not spelled"},
        {100, "\xc4", BORA_PIECE_NORMAL, "piece 100 is not spelled"},
        {100, "", BORA_PIECE_NORMAL, "piece 100 has 0 bytes"},
        {100, "[X]", BORA_PIECE_CONTROL, "255 of the 256 single bytes"},
        {400, "\xff", BORA_PIECE_CONTROL, "piece 400 is not UTF-8"},
        {400, "", BORA_PIECE_CONTROL, "piece 400 has 0 bytes"},
        {400, "<s>", BORA_PIECE_CONTROL, "pieces 1 and 400 are the same"},
        {400, "<0x41>", BORA_PIECE_BYTE, "piece 400 is of type 6"},
        {400, "x", 7, "piece 400 is of"},
        {400, "A", BORA_PIECE_NORMAL, "are the same"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        const char *changed[SMALL_N_PIECES];
        int32_t changed_types[SMALL_N_PIECES];
        memcpy(changed, pieces, sizeof changed);
        memcpy(changed_types, types, sizeof changed_types);
        changed[cases[i].id] = cases[i].piece;
        changed_types[cases[i].id] = cases[i].type;
        bora_gguf_writer_strings(&writer, "tokenizer.ggml.tokens", changed, SMALL_N_PIECES);
        bora_gguf_writer_array(&writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, changed_types, SMALL_N_PIECES, 4);
        assert_refused(BORA_E_FORMAT, cases[i].names);
    }
    bora_gguf_writer_string(&writer, "tokenizer.ggml.pre", "llama-bpe");
    assert_refused(BORA_E_UNSUPPORTED, "llama-bpe");
    bora_gguf_writer_remove(&writer, "tokenizer.ggml.pre");
    assert_refused(BORA_E_UNSUPPORTED, "this build reads 'tekken'");
}

static void memory_runs_out(void **state)
{
    (void)state;
    uint32_t sizes[SMALL_N_PIECES];
    for (size_t id = 0; id < SMALL_N_PIECES; id++)
        sizes[id] = (uint32_t)strlen(pieces[id]);
    const bora_vocab vocab = {.pieces = (const char *const *)pieces,
                              .piece_sizes = sizes,
                              .types = types,
                              .n_pieces = SMALL_N_PIECES,
                              .bos_id = 1,
                              .eos_id = 2,
                              .unk_id = 0};
    uint64_t n = 0;
    for (bora_status st = BORA_E_NOMEM; st != BORA_OK; n++) {
        bora_tokenizer *tokenizer = NULL;
        (void)bora_memory_fail_at(n + 1);
        st = bora_tokenizer_new_gpt2(&vocab, &tokenizer, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !tokenizer));
        bora_tokenizer_free(tokenizer);
    }
    assert_true(n > 10);
}

static int all_setup(void **state)
{
    vocabulary_make();
    return group_setup(state);
}

static int all_teardown(void **state)
{
    for (size_t id = 0; id < SMALL_N_PIECES; id++)
        free(pieces[id]);
    return group_teardown(state);
}

#define WITH_TEKKEN(test) cmocka_unit_test_setup_teardown(test, tekken_setup, writer_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TEKKEN(gguf_as_json),
        WITH_TEKKEN(types_of_gguf),
        WITH_TEKKEN(gguf_damage),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, all_setup, all_teardown);
}
