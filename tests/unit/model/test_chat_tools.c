/* Tool messages, v2, v3 and v7: what stands where, against texts put together by mistral-common's rules (the ones of
 * its own tests among them), and its ids for the real vocabularies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "chat_fixture.h"
#include "support/skip.h"

#define ID "a1B2c3D4e"

static bora_tokenizer *tokenizer; /* with all marks */

static int set_up(void **state)
{
    (void)state;
    tokenizer = fixture_tokenizer(BORA_ARRAY_SIZE(fixture_marks));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bora_tokenizer_free(tokenizer);
    return 0;
}

/* json: with ' for a quotation mark and ` for one inside a text. */
static bora_chat *chat_of(const char *json)
{
    bora_text text = {0};
    for (const char *c = json; *c; c++)
        assert_int_equal(bora_text_append(&text,
                                          *c == '\''  ? "\""
                                          : *c == '`' ? "\\\""
                                                      : c,
                                          *c == '`' ? 2 : 1, NULL),
                         BORA_OK);
    bora_chat *chat = NULL;
    bora_error err = {{0}};
    if (bora_chat_read(text.bytes, text.size, &chat, &err) != BORA_OK)
        fail_msg("%s: %s", json, err.message);
    bora_text_release(&text);
    return chat;
}

/* expected: with ' for a quotation mark. */
static void assert_laid_out(bora_chat_layout layout, const char *json, const char *expected)
{
    bora_chat *chat = chat_of(json);
    bora_tokens ids = {0};
    bora_text text = {0};
    bora_error err = {{0}};
    if (bora_chat_encode(layout, tokenizer, chat, &ids, &err) != BORA_OK)
        fail_msg("%s: %s", json, err.message);
    fixture_write(tokenizer, &ids, &text);
    for (size_t i = 0; i < text.size; i++)
        if (text.bytes[i] == '"')
            text.bytes[i] = '\'';
    assert_string_equal(text.bytes, expected);
    bora_text_release(&text);
    bora_tokens_release(&ids);
    bora_chat_free(chat);
}

static void assert_refused(bora_chat_layout layout, const char *json, bora_status expected, const char *word)
{
    bora_chat *chat = chat_of(json);
    bora_tokens ids = {0};
    bora_error err = {{0}};
    bora_status st = bora_chat_encode(layout, tokenizer, chat, &ids, &err);
    if (st != expected || !strstr(err.message, word))
        fail_msg("%s: %d, '%s' does not say '%s'", json, st, err.message, word);
    assert_int_equal(ids.n, 0);
    bora_tokens_release(&ids);
    bora_chat_free(chat);
}

#define TOOL_T                                                                                                         \
    "{'type':'function','function':{'name':'t','parameters':{'type':'object','properties':{'g':{'type':'string'},"     \
    "'h':{'type':'string'}}}}}"
#define TOOL_T_SPELLED                                                                                                 \
    "[AVAILABLE_TOOLS] [{'type': 'function', 'function': {'name': 't', 'description': '', 'parameters': {'type': "     \
    "'object', 'properties': {'g': {'type': 'string'}, 'h': {'type': 'string'}}}}}][/AVAILABLE_TOOLS]"
#define USER(text)          "{'role':'user','content':'" text "'}"
#define SYSTEM(text)        "{'role':'system','content':'" text "'}"
#define ASSISTANT(text)     "{'role':'assistant','content':'" text "'}"
#define CALL(arguments, id) "{'id':" id ",'type':'function','function':{'name':'t','arguments':" arguments "}}"
#define CALLS(calls)        "{'role':'assistant','content':null,'tool_calls':[" calls "]}"
#define RESULT(content, id) "{'role':'tool','name':'t','content':'" content "','tool_call_id':'" id "'}"
#define CHAT(messages)      "{'tools':[" TOOL_T "],'messages':[" messages "]}"

/* One call answered, the user asks again, two more calls answered. */
static const char two_rounds[] =
    CHAT(SYSTEM("S") "," USER("a") "," CALLS(CALL("{'g':'h'}", "'" ID "'")) "," RESULT("22", ID) "," ASSISTANT(
        "b ") "," USER("c") "," CALLS(CALL("'{}'", "'" ID "'") "," CALL("{'x':1.50}",
                                                                        "'null'")) "," RESULT("no json",
                                                                                              ID) "," RESULT("[`x`,2]",
                                                                                                             ID));

static void test_v2(void **state)
{
    (void)state;
    /* Calls and results before the last instruction are left out, ids too. */
    assert_laid_out(BORA_CHAT_V2, two_rounds,
                    "<s>[INST] a[/INST] b</s>" TOOL_T_SPELLED "[INST] S\n\nc[/INST]"
                    "[TOOL_CALLS] [{'name': 't', 'arguments': {}}, {'name': 't', 'arguments': {'x': 1.5}}]</s>"
                    "[TOOL_RESULTS] [{'name': 't', 'content': 'no json'}][/TOOL_RESULTS]"
                    "[TOOL_RESULTS] [{'name': 't', 'content': ['x', 2]}][/TOOL_RESULTS]");
    /* It needs no id, nor a name. */
    assert_laid_out(BORA_CHAT_V2, "[" USER("a") "," CALLS(CALL("''", "null")) ",{'role':'tool','content':''}]",
                    "<s>[INST] a[/INST][TOOL_CALLS] [{'name': 't', 'arguments': {}}]</s>"
                    "[TOOL_RESULTS] [{'name': null, 'content': {}}][/TOOL_RESULTS]");
    assert_laid_out(BORA_CHAT_V2, "[" SYSTEM("S") "," USER("a") "," ASSISTANT("b  ") "," USER("c") "]",
                    "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]");
}

static void test_v3(void **state)
{
    (void)state;
    assert_laid_out(BORA_CHAT_V3, two_rounds,
                    "<s>[INST] a[/INST][TOOL_CALLS] [{'name': 't', 'arguments': {'g': 'h'}, 'id': '" ID "'}]</s>"
                    "[TOOL_RESULTS] {'content': 22, 'call_id': '" ID "'}[/TOOL_RESULTS] b</s>" TOOL_T_SPELLED
                    "[INST] S\n\nc[/INST][TOOL_CALLS] [{'name': 't', 'arguments': {}, 'id': '" ID "'}, "
                    "{'name': 't', 'arguments': {'x': 1.5}}]</s>"
                    "[TOOL_RESULTS] {'content': 'no json', 'call_id': '" ID "'}[/TOOL_RESULTS]"
                    "[TOOL_RESULTS] {'content': ['x', 2], 'call_id': '" ID "'}[/TOOL_RESULTS]");
    /* Calls in a row are one list; a prefix has no EOS. */
    assert_laid_out(BORA_CHAT_V3,
                    "[" USER("a") "," CALLS(CALL("null", "'null'")) "," RESULT(
                        "", ID) ","
                                "{'role':'assistant','tool_calls':[" CALL("'x'", "null") "],'prefix':true}]",
                    "<s>[INST] a[/INST][TOOL_CALLS] [{'name': 't', 'arguments': {}}]</s>"
                    "[TOOL_RESULTS] {'content': {}, 'call_id': '" ID "'}[/TOOL_RESULTS]"
                    "[TOOL_CALLS] [{'name': 't', 'arguments': 'x'}]");
    /* Tools without a message of the user go to the empty instruction. */
    assert_laid_out(BORA_CHAT_V3, CHAT(SYSTEM("S")), "<s>" TOOL_T_SPELLED "[INST] S\n\n[/INST]");
}

static void test_v7(void **state)
{
    (void)state;
    /* Each system prompt stands where it is; results are not respelled. */
    assert_laid_out(BORA_CHAT_V7, two_rounds,
                    "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] a[/INST]"
                    "[TOOL_CALLS] [{'name': 't', 'arguments': {'g': 'h'}, 'id': '" ID "'}]</s>"
                    "[TOOL_RESULTS] " ID "[TOOL_CONTENT] 22[/TOOL_RESULTS] b</s>" TOOL_T_SPELLED
                    "[INST] c[/INST][TOOL_CALLS] [{'name': 't', 'arguments': {}, 'id': '" ID "'}, "
                    "{'name': 't', 'arguments': {'x': 1.5}}]</s>"
                    "[TOOL_RESULTS] " ID "[TOOL_CONTENT] no json[/TOOL_RESULTS]"
                    "[TOOL_RESULTS] " ID "[TOOL_CONTENT] ['x',2][/TOOL_RESULTS]");
    /* Text and calls in one message, as in mistral-common's test; there may be no result yet. */
    assert_laid_out(BORA_CHAT_V7,
                    CHAT(SYSTEM("a") "," USER("a") ",{'role':'assistant','content':'b','tool_calls':[" CALL(
                        "'{`g`: `h`}'", "null") "]}," RESULT("", ID)),
                    "<s>[SYSTEM_PROMPT] a[/SYSTEM_PROMPT]" TOOL_T_SPELLED
                    "[INST] a[/INST] b[TOOL_CALLS] [{'name': 't', 'arguments': {'g': 'h'}}]</s>"
                    "[TOOL_RESULTS] " ID "[TOOL_CONTENT][/TOOL_RESULTS]");
    assert_laid_out(BORA_CHAT_V7, CHAT(SYSTEM("a")), "<s>[SYSTEM_PROMPT] a[/SYSTEM_PROMPT]");
    assert_laid_out(BORA_CHAT_V7, "[" SYSTEM("a") "," ASSISTANT("b") "," ASSISTANT("") "," USER("c") "," SYSTEM("") "]",
                    "<s>[SYSTEM_PROMPT] a[/SYSTEM_PROMPT] b</s>[INST] c[/INST][SYSTEM_PROMPT][/SYSTEM_PROMPT]");
    assert_laid_out(BORA_CHAT_V7, "[" USER("a") "," SYSTEM("S") "," USER("b") "]",
                    "<s>[INST] a[/INST][SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] b[/INST]");
}

/* v1 leaves tools out and has no messages of theirs. */
static void test_v1(void **state)
{
    (void)state;
    assert_laid_out(BORA_CHAT_V1, CHAT(SYSTEM("S") "," USER("a")), "<s> [INST] S\n\na [/INST]");
    const char *calls = "[" USER("a") "," CALLS(CALL("''", "null")) "," RESULT("", ID) "]";
    assert_refused(BORA_CHAT_V1, calls, BORA_E_UNSUPPORTED, "message 1: chat layout v1 has no tool calls");
    assert_refused(BORA_CHAT_V1, "[" USER("a") "," ASSISTANT("b") "," RESULT("", ID) "]", BORA_E_UNSUPPORTED,
                   "message 2: chat layout v1 has no tool results");
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *word;
    } wrong[] = {
        {USER("a") "," CALLS(CALL("''", "'123'")) "," RESULT("", ID), "message 1: '123' is no id"},
        {USER("a") "," CALLS(CALL("''", "''")) "," RESULT("", ID), "message 1: '' is no id"},
        {USER("a") "," CALLS(CALL("''", "'12345678_'")) "," RESULT("", ID), "is no id"},
        {USER("a") "," CALLS(CALL("''", "null")) "," RESULT("", "1234567890"), "message 2: '1234567890' is no id"},
        {USER("a") "," CALLS(CALL("''", "null")) ",{'role':'tool','content':'x'}", "message 2: '' is no id"},
        {USER("a") "," CALLS("{'function':{'name':'t t','arguments':''}}") "," RESULT("", ID),
         "message 1: 't t' is no name"},
        {USER("a") "," CALLS("{'function':{}}") "," RESULT("", ID), "message 1: '' is no name"},
        {USER("a") "," CALLS(CALL("''", "null")) ",{'role':'tool','name':'','content':'','tool_call_id':'" ID "'}",
         "message 2: '' is no name"},
        {USER("a") "," CALLS(CALL("''", "null")) "," USER("b") "," ASSISTANT("c") "," USER("d"),
         "message 3: 0 tool results before it for 1 tool calls"},
        {USER("a") "," ASSISTANT("b") "," RESULT("", ID) "," ASSISTANT("c") "," USER("d"),
         "message 3: 1 tool results before it for 0 tool calls"},
        {USER("a") "," CALLS(CALL("''", "null")) "," RESULT("", ID) "," USER("b"),
         "message 3: a user message after one of role 'tool'"},
        {SYSTEM("S") "," RESULT("", ID), "message 1: a tool message after one of role 'system'"},
        {USER("a") "," CALLS(CALL("''", "null")), "not a prefix"},
        {"{'role':'user','content':'a','tool_calls':[" CALL("''", "null") "]}", "message 0: tool calls are for"},
        {USER("a") "," CALLS(CALL("'[`\\\\ud800`]'", "null")) "," RESULT("", ID), "surrogate"},
    };
    static const bora_chat_layout layouts[] = {BORA_CHAT_V3, BORA_CHAT_V7};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++) {
        for (size_t l = 0; l < BORA_ARRAY_SIZE(layouts); l++) {
            char *json = bora_format("[%s]", wrong[i].messages);
            assert_refused(layouts[l], json, BORA_E_INVAL, wrong[i].word);
            bora_free(json);
        }
    }
    /* What v7 can and v3 cannot. */
    const char *both =
        "[" USER("a") ",{'role':'assistant','content':'b','tool_calls':[" CALL("''", "null") "]}," RESULT("", ID) "]";
    const char *in_a_row = "[" USER("a") "," ASSISTANT("b") "," CALLS(CALL("''", "null")) "," RESULT("", ID) "]";
    assert_refused(BORA_CHAT_V3, both, BORA_E_INVAL, "message 1: both text and tool calls");
    assert_refused(BORA_CHAT_V2, in_a_row, BORA_E_INVAL, "messages 1 to 2: both text and tool calls");
    assert_refused(BORA_CHAT_V7, "[" USER("a") "," ASSISTANT("") "," USER("b") "]", BORA_E_INVAL,
                   "message 1: an empty");
    assert_refused(BORA_CHAT_V3, "{'tools':[{'function':{'name':'no name'}}],'messages':[" USER("a") "]}", BORA_E_INVAL,
                   "tool 0: 'no name'");
}

/* Marks that only some messages need are missed only there. */
static void test_missing_marks(void **state)
{
    (void)state;
    bora_tokenizer *whole = tokenizer;
    tokenizer = fixture_tokenizer(4);
    assert_int_equal(bora_chat_layout_choose(tokenizer), BORA_CHAT_V3);
    assert_laid_out(BORA_CHAT_V3, "[" USER("a") "]", "<s>[INST] a[/INST]");
    assert_refused(BORA_CHAT_V3, CHAT(USER("a")), BORA_E_UNSUPPORTED, "has no [AVAILABLE_TOOLS]");
    assert_refused(BORA_CHAT_V3, "[" USER("a") "," CALLS(CALL("''", "null")) "," RESULT("", ID) "]", BORA_E_UNSUPPORTED,
                   "has no [TOOL_CALLS]");
    bora_tokenizer_free(tokenizer);
    tokenizer = fixture_tokenizer(BORA_ARRAY_SIZE(fixture_marks) - 1);
    assert_int_equal(bora_chat_layout_choose(tokenizer), BORA_CHAT_V7);
    assert_refused(BORA_CHAT_V7, "[" USER("a") "," CALLS(CALL("''", "null")) "," RESULT("", ID) "]", BORA_E_UNSUPPORTED,
                   "has no [TOOL_CONTENT]");
    bora_tokenizer_free(tokenizer);
    tokenizer = whole;
}

static void test_turns_v7(void **state)
{
    (void)state;
    bora_tokens ids = {0};
    bora_text text = {0};
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V7, tokenizer, true, false, "S", "a", &ids, NULL), BORA_OK);
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V7, tokenizer, false, true, NULL, "b", &ids, NULL), BORA_OK);
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V7, tokenizer, false, false, "T", "b", &ids, NULL), BORA_E_INVAL);
    fixture_write(tokenizer, &ids, &text);
    assert_string_equal(text.bytes, "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] a[/INST]</s>[INST] b[/INST]");
    bora_text_release(&text);
    bora_tokens_release(&ids);
}

/* ---- ids of mistral-common ------------------------------------------------------------------------------------- */

static void assert_ids(const bora_tokenizer *real, bora_chat_layout layout, const char *json, const int32_t *expected,
                       size_t n)
{
    bora_chat *chat = chat_of(json);
    bora_tokens ids = {0};
    bora_error err = {{0}};
    if (bora_chat_encode(layout, real, chat, &ids, &err) != BORA_OK)
        fail_msg("%s: %s", json, err.message);
    assert_int_equal(ids.n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ids.ids[i], expected[i]);
    bora_tokens_release(&ids);
    bora_chat_free(chat);
}

static bora_tokenizer *real_tokenizer(const char *data, const char *name)
{
    char *path = bora_format("%s/tokenizers/%s", data, name);
    bora_file file = {0};
    bora_error err = {{0}};
    bora_tokenizer *real = NULL;
    if (bora_file_map(path, &file, &err) != BORA_OK ||
        bora_tokenizer_parse(file.data, file.size, &real, &err) != BORA_OK)
        fail_msg("%s: %s", path, err.message);
    bora_file_release(&file);
    bora_free(path);
    return real;
}

/* Of its samples: a user who asks for the weather, a call and a result; each part by itself. */
#define PARIS        3, 1083, 29510, 29487, 1065, 6233, 29493, 5611, 29491, 4
#define ONE_TO_NINE  29508, 29518, 29538, 29549, 29550, 29552, 29555, 29551, 29542
#define CURRENT_NAME 1295, 29498, 3790, 29498, 1537, 1991
#define N_DAYS_NAME  1295, 29498, 29479, 29498, 2234, 29498, 1537, 1991, 29498, 1762, 3635
#define ARGUMENTS                                                                                                      \
    1316, 1113, 17452, 2032, 10598, 3501, 2032, 1113, 4684, 1046, 29493, 5611, 1316, 1113, 4530, 2032, 1113, 29485,    \
        1958, 3938

static void test_ids_v3(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    bora_tokenizer *real = real_tokenizer(data, "tokenizer.model.v3");
    static const int32_t expected[] = {1,         PARIS, 5,     1501, 7567, 1629,  2032,        1113,  CURRENT_NAME,
                                       ARGUMENTS, 8474,  1113,  1081, 2032, 1113,  ONE_TO_NINE, 29507, 10925,
                                       2,         8,     10598, 4557, 2032, 29473, 29518,       29518, 29493,
                                       1113,      3613,  29498, 1081, 2032, 1113,  ONE_TO_NINE, 18163, 9};
    assert_ids(real, BORA_CHAT_V3,
               "[{'role':'user','content':'I\\u0027m in Paris, France.'},"
               "{'role':'assistant','tool_calls':[{'id':'123456789','function':{'name':'get_current_weather',"
               "'arguments':'{`location`: `Paris, France`, `format`: `celsius`}'}}]},"
               "{'role':'tool','tool_call_id':'123456789','name':'get_current_weather','content':'22'}]",
               expected, BORA_ARRAY_SIZE(expected));
    static const int32_t expected_v2[] = {1,           PARIS, 5,     1501,  7567,  1629,  2032,  1113,  N_DAYS_NAME,
                                          ARGUMENTS,   1316,  1113,  3343,  29498, 14066, 2032,  29473, 29550,
                                          1743,        29561, 2,     8,     1501,  7567,  1629,  2032,  1113,
                                          N_DAYS_NAME, 1316,  1113,  4557,  2032,  10598, 29518, 29502, 29518,
                                          29549,       29501, 29502, 29550, 29501, 29518, 29518, 2032,  1113,
                                          29518,       29518, 1316,  1113,  29518, 29502, 29518, 29549, 29501,
                                          29502,       29550, 29501, 29518, 29538, 2032,  1113,  29518, 29538,
                                          29507,       1743,  29561, 9};
    assert_ids(real, BORA_CHAT_V2,
               "[{'role':'user','content':'I\\u0027m in Paris, France.'},"
               "{'role':'assistant','tool_calls':[{'id':'123456789','function':{'name':'get_n_day_weather_forecast',"
               "'arguments':{'location': 'Paris, France','format':'celsius','num_days':5}}}]},"
               "{'role':'tool','name':'get_n_day_weather_forecast','content':"
               "'{`2024-05-22`: `22`,`2024-05-23`:`23`}'}]",
               expected_v2, BORA_ARRAY_SIZE(expected_v2));
    bora_tokenizer_free(real);
}

static void test_ids_v7(void **state)
{
    (void)state;
    const char *data;
    BORA_TEST_DATA_OR_SKIP(&data);
    bora_tokenizer *real = real_tokenizer(data, "tokenizer.model.v7");
    static const int32_t expected[] = {1,    3,     1032,  4,    5,     1501,        7567,  1629, 2032,
                                       1113, 2381,  29498, 6410, 1316,  1113,        17452, 2032, 1139,
                                       1743, 29561, 2,     8,    29473, ONE_TO_NINE, 18,    1053, 9};
    assert_ids(real, BORA_CHAT_V7,
               "[{'role':'user','content':'a'},{'role':'assistant','tool_calls':[{'function':{'name':'test_fn',"
               "'arguments':'{}'}}]},{'role':'tool','tool_call_id':'123456789','content':'f'}]",
               expected, BORA_ARRAY_SIZE(expected));
    bora_tokenizer_free(real);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const bora_chat_layout layouts[] = {BORA_CHAT_V2, BORA_CHAT_V3, BORA_CHAT_V7};
    bora_chat *chat = chat_of(two_rounds);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        bora_status st = BORA_E_NOMEM;
        for (uint64_t n = 1; st == BORA_E_NOMEM; n++) {
            bora_tokens ids = {0};
            (void)bora_memory_fail_at(n);
            st = bora_chat_encode(layouts[i], tokenizer, chat, &ids, NULL);
            (void)bora_memory_fail_at(0);
            assert_true(st == BORA_OK || ids.n == 0);
            assert_true(st != BORA_OK || n > 10);
            bora_tokens_release(&ids);
        }
        assert_int_equal(st, BORA_OK);
    }
    bora_chat_free(chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v2),       cmocka_unit_test(test_v3),
        cmocka_unit_test(test_v7),       cmocka_unit_test(test_v1),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_missing_marks),
        cmocka_unit_test(test_turns_v7), cmocka_unit_test(test_ids_v3),
        cmocka_unit_test(test_ids_v7),   cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
