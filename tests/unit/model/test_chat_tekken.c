/* The Tekken layouts: v3's and v7's rules, without the space that SentencePiece puts before each text. On a vocabulary
 * of marks and single bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "chat_fixture.h"

#define N_MARKS BORA_ARRAY_SIZE(fixture_marks)
#define ID      "a1B2c3D4e"

static bora_tokenizer *tekken_tokenizer(size_t n_marks, uint32_t version)
{
    static const char pattern[] = "[\\s\\S]+";
    static char bytes[256];
    const char *pieces[1 + N_MARKS + 256];
    uint32_t sizes[BORA_ARRAY_SIZE(pieces)];
    int32_t types[BORA_ARRAY_SIZE(pieces)];
    size_t n = 0;
    pieces[n] = "<unk>";
    types[n++] = BORA_PIECE_CONTROL;
    for (size_t i = 0; i < n_marks; i++) {
        pieces[n] = fixture_marks[i];
        types[n++] = BORA_PIECE_CONTROL;
    }
    for (size_t i = 0; i < n; i++)
        sizes[i] = (uint32_t)strlen(pieces[i]);
    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[n] = &bytes[i];
        sizes[n] = 1;
        types[n++] = BORA_PIECE_NORMAL;
    }
    const bora_vocab vocab = {.pieces = pieces,
                              .piece_sizes = sizes,
                              .types = types,
                              .n_pieces = n,
                              .bos_id = 1,
                              .eos_id = 2,
                              .unk_id = -1,
                              .pattern = pattern,
                              .pattern_size = sizeof pattern - 1,
                              .version = version};
    bora_tokenizer *made = NULL;
    bora_error err = {{0}};
    if (bora_tokenizer_new(&vocab, &made, &err) != BORA_OK)
        fail_msg("%s", err.message);
    return made;
}

static void assert_laid_out(bora_chat_layout layout, const char *json, const char *expected)
{
    bora_tokenizer *tokenizer = tekken_tokenizer(N_MARKS, 0);
    bora_chat *chat = NULL;
    bora_tokens ids = {0};
    bora_text text = {0};
    bora_error err = {{0}};
    if (bora_chat_read(json, strlen(json), &chat, &err) != BORA_OK ||
        bora_chat_encode(layout, tokenizer, chat, &ids, &err) != BORA_OK)
        fail_msg("%s: %s", json, err.message);
    fixture_write(tokenizer, &ids, &text);
    assert_string_equal(text.bytes, expected);
    bora_text_release(&text);
    bora_tokens_release(&ids);
    bora_chat_free(chat);
    bora_tokenizer_free(tokenizer);
}

static const char chat[] =
    "{\"tools\": [{\"function\": {\"name\": \"t\"}}], \"messages\": [{\"role\": \"system\", \"content\": \"S\"},"
    "{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b \"},"
    "{\"role\": \"user\", \"content\": \" c\"}, {\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"" ID "\", "
    "\"function\": {\"name\": \"t\", \"arguments\": \"{}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"" ID "\", "
    "\"content\": \"22\"}]}";
#define TOOLS                                                                                                          \
    "[AVAILABLE_TOOLS][{\"type\": \"function\", \"function\": {\"name\": \"t\", \"description\": \"\", "               \
    "\"parameters\": {}}}][/AVAILABLE_TOOLS]"
#define CALLS "[TOOL_CALLS][{\"name\": \"t\", \"arguments\": {}, \"id\": \"" ID "\"}]</s>"

static void test_v3(void **state)
{
    (void)state;
    assert_laid_out(BORA_CHAT_V3_TEKKEN, chat,
                    "<s>[INST]a[/INST]b</s>" TOOLS "[INST]S\n\n c[/INST]" CALLS
                    "[TOOL_RESULTS]{\"content\": 22, \"call_id\": \"" ID "\"}[/TOOL_RESULTS]");
}

static void test_v7(void **state)
{
    (void)state;
    assert_laid_out(BORA_CHAT_V7_TEKKEN, chat,
                    "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]a[/INST]b</s>" TOOLS "[INST] c[/INST]" CALLS
                    "[TOOL_RESULTS]" ID "[TOOL_CONTENT]22[/TOOL_RESULTS]");
}

/* The version that the file states goes before the pieces: tekken.json of v3 has those of v7, too. */
static void test_choose(void **state)
{
    (void)state;
    static const struct {
        size_t n_marks;
        uint32_t version;
        bora_chat_layout expected;
    } rows[] = {
        {N_MARKS, 0, BORA_CHAT_V7_TEKKEN}, {N_MARKS, 3, BORA_CHAT_V3_TEKKEN},  {N_MARKS, 7, BORA_CHAT_V7_TEKKEN},
        {9, 0, BORA_CHAT_V3_TEKKEN},       {N_MARKS, 13, BORA_CHAT_V7_TEKKEN}, {2, 0, BORA_CHAT_NONE},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(rows); i++) {
        bora_tokenizer *tokenizer = tekken_tokenizer(rows[i].n_marks, rows[i].version);
        assert_int_equal(bora_chat_layout_choose(tokenizer), rows[i].expected);
        bora_error err = {{0}};
        assert_int_equal(bora_chat_layout_check(BORA_CHAT_V3, tokenizer, &err), BORA_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, "not for a Tekken tokenizer"));
        bora_tokenizer_free(tokenizer);
    }
}

static void test_templates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bora_chat_layout expected;
    } rows[] = {
        {"'[INST]' + content + '[/INST]'", BORA_CHAT_V3_TEKKEN},
        {"'[INST]' '[/INST]' '[AVAILABLE_TOOLS]' '[TOOL_RESULTS]' \"call_id\"", BORA_CHAT_V3_TEKKEN},
        {"'[INST]' '[/INST]' '[SYSTEM_PROMPT]' '[TOOL_CONTENT]'", BORA_CHAT_V7_TEKKEN},
        {"<|im_start|>", BORA_CHAT_UNKNOWN},
    };
    bora_tokenizer *tokenizer = tekken_tokenizer(N_MARKS, 0);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(rows); i++)
        assert_int_equal(bora_chat_layout_of_template(rows[i].text, strlen(rows[i].text), tokenizer), rows[i].expected);
    bora_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v3),
        cmocka_unit_test(test_v7),
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
