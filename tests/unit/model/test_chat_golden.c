/* mistral-common's own token sequences for whole chats, v1, v3 and v7, and its refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/chat/chat.h"
#include "support/skip.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES_MAX 32

static bora_tokenizer *tokenizer_load(const char *data, const char *name)
{
    char *path = bora_format("%s/tokenizers/%s", data, name);
    bora_file file = {0};
    bora_error err = {{0}};
    bora_tokenizer *tokenizer = NULL;
    if (bora_file_map(path, &file, &err) != BORA_OK ||
        bora_tokenizer_parse(file.data, file.size, &tokenizer, &err) != BORA_OK)
        fail_msg("%s: %s", path, err.message);
    bora_file_release(&file);
    bora_free(path);
    return tokenizer;
}

static void messages_read(const json_t *array, bora_chat_message *messages)
{
    assert_true(json_array_size(array) <= MESSAGES_MAX);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *message = json_array_get(array, i);
        const char *content = json_string_value(json_object_get(message, "content"));
        const char *role = json_string_value(json_object_get(message, "role"));
        assert_true(role && content);
        messages[i] = (bora_chat_message){.role = role,
                                          .content = content,
                                          .prefix = json_is_true(json_object_get(message, "prefix"))};
    }
}

static void check_row(bora_chat_layout layout, const bora_tokenizer *tokenizer, const json_t *row,
                      const bora_chat_message *messages)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const json_t *expected = json_object_get(row, "ids");
    const bora_chat chat = {.messages = messages, .n_messages = json_array_size(json_object_get(row, "messages"))};
    bora_tokens ids = {0};
    bora_error err = {{0}};
    bora_status status = bora_chat_encode(layout, tokenizer, &chat, &ids, &err);
    if (!expected) {
        assert_non_null(json_object_get(row, "error"));
        if (status != BORA_E_INVAL)
            fail_msg("%s is not refused", name);
        return;
    }
    if (status != BORA_OK)
        fail_msg("%s: %s", name, err.message);
    bool same = ids.n == json_array_size(expected);
    for (size_t i = 0; same && i < ids.n; i++)
        same = ids.ids[i] == json_integer_value(json_array_get(expected, i));
    if (!same)
        fail_msg("%s: other ids", name);
    bora_tokens_release(&ids);
}

static void check_chats(const char *data, bora_chat_layout layout, const char *tokenizer_name, const char *lines_name)
{
    bora_tokenizer *tokenizer = tokenizer_load(data, tokenizer_name);
    assert_int_equal(bora_chat_layout_choose(tokenizer), layout);
    char *path = bora_format("%s/golden/tokenizer/%s", data, lines_name);
    FILE *lines = fopen(path, "r");
    if (!lines)
        fail_msg("%s", path);
    size_t n_checked = 0;
    json_error_t error;
    for (json_t *row; (row = json_loadf(lines, JSON_DISABLE_EOF_CHECK, &error)); json_decref(row)) {
        bora_chat_message messages[MESSAGES_MAX];
        messages_read(json_object_get(row, "messages"), messages);
        check_row(layout, tokenizer, row, messages);
        n_checked++;
    }
    assert_int_equal(n_checked, 20);
    (void)fclose(lines); /* was only read */
    bora_free(path);
    bora_tokenizer_free(tokenizer);
}

static void test_chat_v1(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_chats(data, BORA_CHAT_V1, "tokenizer.model.v1", "chat_v1.jsonl");
}

static void test_chat_v3(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_chats(data, BORA_CHAT_V3, "tokenizer.model.v3", "chat_v3.jsonl");
}

static void test_chat_v7(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    check_chats(data, BORA_CHAT_V7, "tokenizer.model.v7", "chat_v7.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chat_v1), cmocka_unit_test(test_chat_v3),
                                       cmocka_unit_test(test_chat_v7)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
