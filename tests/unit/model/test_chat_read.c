/* Chats from JSON: every field, every wrong one, memory that runs out; and templates: which layout they stand for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "chat_fixture.h"

static const char whole[] =
    "{\"model\": \"any\", \"messages\": ["
    "{\"role\": \"system\", \"content\": [{\"type\": \"text\", \"text\": \"S\"}, {\"type\": \"text\", \"text\": \"\"}, "
    "{\"text\": \"T\"}]},"
    "{\"role\": \"user\", \"content\": \"a\", \"name\": null},"
    "{\"role\": \"assistant\", \"tool_calls\": [{\"id\": \"123456789\", \"type\": \"function\", \"function\": "
    "{\"name\": "
    "\"f\", \"arguments\": {\"x\": [1, 2.5, \"\\u00e9\"]}}}, {\"function\": {\"name\": \"g\", \"arguments\": "
    "\"{}\"}}]},"
    "{\"role\": \"tool\", \"content\": \"1\", \"tool_call_id\": \"123456789\", \"name\": \"f\"},"
    "{\"role\": \"tool\", \"content\": []},"
    "{\"role\": \"assistant\", \"content\": \"b\", \"prefix\": true, \"tool_calls\": null}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"D\", \"parameters\": "
    "{\"type\": \"object\"}, \"strict\": true}}, {\"function\": {\"name\": \"g\"}}]}";

static void test_whole(void **state)
{
    (void)state;
    bora_chat *chat = NULL;
    bora_error err = {{0}};
    if (bora_chat_read(whole, sizeof whole - 1, &chat, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(chat->n_messages, 6);
    const bora_chat_message *m = chat->messages;
    assert_string_equal(m[0].role, "system");
    assert_string_equal(m[0].content, "S\n\nT");
    assert_string_equal(m[1].content, "a");
    assert_null(m[1].name);
    assert_false(m[1].prefix);
    assert_null(m[2].content);
    assert_int_equal(m[2].n_calls, 2);
    assert_string_equal(m[2].calls[0].id, "123456789");
    assert_string_equal(m[2].calls[0].name, "f");
    assert_string_equal(m[2].calls[0].arguments, "{\"x\": [1, 2.5, \"\xc3\xa9\"]}");
    assert_null(m[2].calls[1].id);
    assert_string_equal(m[2].calls[1].arguments, "{}");
    assert_string_equal(m[3].call_id, "123456789");
    assert_string_equal(m[3].name, "f");
    assert_string_equal(m[4].content, "");
    assert_null(m[4].call_id);
    assert_true(m[5].prefix);
    assert_int_equal(m[5].n_calls, 0);
    assert_int_equal(chat->n_tools, 2);
    assert_string_equal(chat->tools[0].description, "D");
    assert_string_equal(chat->tools[0].parameters, "{\"type\": \"object\"}");
    assert_string_equal(chat->tools[1].name, "g");
    assert_null(chat->tools[1].description);
    assert_null(chat->tools[1].parameters);
    bora_chat_free(chat);
    bora_chat_free(NULL);
    static const char alone[] = "[{\"role\":\"user\",\"content\":\"a\"}]";
    assert_int_equal(bora_chat_read(alone, sizeof alone - 1, &chat, NULL), BORA_OK);
    assert_int_equal(chat->n_messages, 1);
    assert_int_equal(chat->n_tools, 0);
    bora_chat_free(chat);
}

static void test_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bora_status status;
        const char *word;
    } wrong[] = {
        {"", BORA_E_FORMAT, "no JSON"},
        {"[", BORA_E_FORMAT, "no JSON: line 1"},
        {"{}", BORA_E_FORMAT, "messages: expected an array"},
        {"{\"messages\": {}}", BORA_E_FORMAT, "messages: expected an array"},
        {"{\"messages\": [], \"tools\": {}}", BORA_E_FORMAT, "tools: expected an array"},
        {"[1]", BORA_E_FORMAT, "messages[0]: expected an object"},
        {"[{}]", BORA_E_FORMAT, "messages[0].role: expected a text"},
        {"[{\"role\":1}]", BORA_E_FORMAT, "messages[0].role"},
        {"[{\"role\":\"user\",\"content\":1}]", BORA_E_FORMAT, "messages[0].content: expected a text or"},
        {"[{\"role\":\"user\",\"content\":[1]}]", BORA_E_FORMAT, "messages[0].content: expected parts"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", BORA_E_UNSUPPORTED,
         "messages[0].content[0]: a part of type 'image_url'"},
        {"[{\"role\":\"user\",\"prefix\":1}]", BORA_E_FORMAT, "messages[0].prefix: expected true or false"},
        {"[{\"role\":\"user\",\"name\":1}]", BORA_E_FORMAT, "messages[0].name"},
        {"[{\"role\":\"user\",\"tool_call_id\":1}]", BORA_E_FORMAT, "messages[0].tool_call_id"},
        {"[{\"role\":\"user\",\"tool_calls\":{}}]", BORA_E_FORMAT, "messages[0].tool_calls: expected an array"},
        {"[{\"role\":\"user\",\"tool_calls\":[1]}]", BORA_E_FORMAT, "messages[0].tool_calls: expected calls"},
        {"[{\"role\":\"user\",\"tool_calls\":[{\"id\":1,\"function\":{}}]}]", BORA_E_FORMAT, "messages[0].id"},
        {"[{\"role\":\"user\",\"tool_calls\":[{\"function\":{\"name\":1}}]}]", BORA_E_FORMAT, "messages[0].name"},
        {"{\"messages\":[],\"tools\":[1]}", BORA_E_FORMAT, "tools[0].function: expected an object"},
        {"{\"messages\":[],\"tools\":[{\"function\":{\"name\":1}}]}", BORA_E_FORMAT, "tools[0].name"},
        {"{\"messages\":[],\"tools\":[{\"function\":{\"parameters\":\"{}\"}}]}", BORA_E_FORMAT,
         "tools[0].function.parameters: expected an object"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        bora_chat *chat = NULL;
        bora_error err = {{0}};
        bora_status st = bora_chat_read(wrong[i].json, strlen(wrong[i].json), &chat, &err);
        if (st != wrong[i].status || !strstr(err.message, wrong[i].word))
            fail_msg("%s: %d, '%s' does not say '%s'", wrong[i].json, st, err.message, wrong[i].word);
        assert_null(chat);
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st == BORA_E_NOMEM; n++) {
        bora_chat *chat = NULL;
        (void)bora_memory_fail_at(n);
        st = bora_chat_read(whole, sizeof whole - 1, &chat, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK ? n > 6 : st == BORA_E_NOMEM && !chat);
        bora_chat_free(chat);
    }
    assert_int_equal(st, BORA_OK);
}

/* ---- templates ------------------------------------------------------------------------------------------------- */

/* With the shape of those in use: the marks, and what is around them. */
#define V1_TEXT                                                                                                        \
    "{{ bos_token }}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}"
#define V1_OTHER "{{ bos_token + \"[INST] \" }}{{ content | trim + \"[/INST]\" }}"
#define V2_TEXT                                                                                                        \
    "{{ \"[AVAILABLE_TOOLS] [\" }}{{ \"[INST] \" + content + \"[/INST]\" }}{{ \"[TOOL_CALLS] [\" }}"                   \
    "{{ '[TOOL_RESULTS] [' + tool_message }}"
#define V3_TEXT V2_TEXT "{{ ', \"call_id\": \"' + message.tool_call_id }}"
#define V7_TEXT V2_TEXT "{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}{{ '[TOOL_CONTENT]' }}"

static void test_templates(void **state)
{
    (void)state;
    static const size_t n_marks[] = {2, 9, 12}; /* tokenizers like those of v1, v3 and v7 */
    static const struct {
        const char *text;
        bora_chat_layout expected[3];
    } templates[] = {
        {V1_TEXT, {BORA_CHAT_V1, BORA_CHAT_V3, BORA_CHAT_V3}},
        {V1_OTHER, {BORA_CHAT_V1, BORA_CHAT_V3, BORA_CHAT_V3}},
        {V2_TEXT, {BORA_CHAT_UNKNOWN, BORA_CHAT_V2, BORA_CHAT_V2}},
        {V3_TEXT, {BORA_CHAT_UNKNOWN, BORA_CHAT_V3, BORA_CHAT_V3}},
        {V7_TEXT, {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_V7}},
        {V7_TEXT "[ARGS]", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {V7_TEXT "[THINK]", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {"{{ '<|im_start|>' + message['role'] }}", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {V1_TEXT "<|im_start|>", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {V1_TEXT "{{ '<<SYS>>\\n' }}", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {"", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {"[INST", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {"[INST]", {BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN, BORA_CHAT_UNKNOWN}},
        {"[INST][/INST]", {BORA_CHAT_V1, BORA_CHAT_V3, BORA_CHAT_V3}},
    };
    for (size_t t = 0; t < BORA_ARRAY_SIZE(n_marks); t++) {
        bora_tokenizer *tokenizer = fixture_tokenizer(n_marks[t]);
        for (size_t i = 0; i < BORA_ARRAY_SIZE(templates); i++) {
            const char *text = templates[i].text;
            bora_chat_layout layout = bora_chat_layout_of_template(text, strlen(text), tokenizer);
            if (layout != templates[i].expected[t])
                fail_msg("template %zu, %zu marks: %s", i, n_marks[t], bora_chat_layout_name(layout));
        }
        /* Not a byte beyond its end counts. */
        assert_int_equal(bora_chat_layout_of_template("[INST][/INST]", 12, tokenizer), BORA_CHAT_UNKNOWN);
        bora_tokenizer_free(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
