/* JSON as Python's json spells it: pairs of what json.loads takes and what json.dumps(..., ensure_ascii=False) makes of
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/chat/json.h"

#include <stdlib.h>
#include <string.h>

static void assert_spelled(const char *json, const char *expected)
{
    bora_text out = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_text_append(&out, "x", 1, NULL), BORA_OK);
    if (bora_chat_json_respell(json, strlen(json), &out, &err) != BORA_OK)
        fail_msg("%s: %s", json, err.message);
    assert_string_equal(out.bytes + 1, expected);
    bora_text_release(&out);
}

static void assert_refused(const char *json, bora_status expected)
{
    bora_text out = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_text_append(&out, "x", 1, NULL), BORA_OK);
    bora_status st = bora_chat_json_respell(json, strlen(json), &out, &err);
    if (st != expected)
        fail_msg("%.60s: %d, not %d (%s)", json, st, expected, out.bytes);
    assert_string_equal(out.bytes, "x");
    assert_true(*err.message);
    bora_text_release(&out);
}

static void test_structure(void **state)
{
    (void)state;
    assert_spelled("{}", "{}");
    assert_spelled(" [ ] ", "[]");
    assert_spelled("{\"b\":1,\"a\":[1,2,{\"c\":null}],\"d\":{ }}",
                   "{\"b\": 1, \"a\": [1, 2, {\"c\": null}], \"d\": {}}");
    assert_spelled("\t[\n1 ,\r2 ]\n", "[1, 2]");
    assert_spelled("[true,false,null]", "[true, false, null]");
    assert_spelled("\"text\"", "\"text\"");
    assert_spelled("22", "22");
    assert_spelled("[NaN,Infinity,-Infinity]", "[NaN, Infinity, -Infinity]");
}

static void test_repeated_keys(void **state)
{
    (void)state;
    assert_spelled("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}");
    assert_spelled("{\"a\":1,\"a\":2,\"a\":{\"x\":[1]}}", "{\"a\": {\"x\": [1]}}");
    assert_spelled("[0,{\"b\":0,\"a\":1,\"\\u0061\":2,\"c\":{\"d\":1,\"d\":2},\"b\":9},7]",
                   "[0, {\"b\": 9, \"a\": 2, \"c\": {\"d\": 2}}, 7]");
    assert_spelled("{\"a\":1,\"ab\":2,\"\":3,\"\":4}", "{\"a\": 1, \"ab\": 2, \"\": 4}");
    /* More members than the first allocation holds. */
    assert_spelled(
        "{\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"0\":1}",
        "{\"0\": 1, \"1\": 0, \"2\": 0, \"3\": 0, \"4\": 0, \"5\": 0, \"6\": 0, \"7\": 0, \"8\": 0, \"9\": 0}");
}

static void test_strings(void **state)
{
    (void)state;
    assert_spelled("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    assert_spelled("\"\\u0000\\u001F\\u007f\\u0041\"", "\"\\u0000\\u001f\x7f"
                                                       "A\"");
    assert_spelled("\"\\u00e9\\u4F60\\ud83d\\ude00\"", "\"\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80\"");
    assert_spelled("\"\xc3\xa9 </s> \xff\"", "\"\xc3\xa9 </s> \xff\""); /* bad UTF-8 is the tokenizer's affair */
    assert_refused("\"\\ud83d\"", BORA_E_INVAL);
    assert_refused("\"\\ud83d\\u0041\"", BORA_E_INVAL);
    assert_refused("\"\\ude00\\ud83d\"", BORA_E_INVAL);
    assert_refused("\"\\ud83d\\u00\"", BORA_E_FORMAT);
    assert_refused("\"\n\"", BORA_E_FORMAT);
    assert_refused("\"\\x41\"", BORA_E_FORMAT);
    assert_refused("\"\\u004g\"", BORA_E_FORMAT);
    assert_refused("\"open", BORA_E_FORMAT);
    assert_refused("\"open\\", BORA_E_FORMAT);
    assert_refused("'a'", BORA_E_FORMAT);
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"-17", "-17"},
        {"1.0", "1.0"},
        {"1.50", "1.5"},
        {"0.1", "0.1"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"1e2", "100.0"},
        {"1E+2", "100.0"},
        {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},
        {"123456789012345680", "123456789012345680"},
        {"123456789012345680.0", "1.2345678901234568e+17"},
        {"9007199254740993.0", "9007199254740992.0"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"0.000012345", "1.2345e-05"},
        {"0.00012345678901234567", "0.00012345678901234567"},
        {"-2.5e-7", "-2.5e-07"},
        {"5e-324", "5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"1e400", "Infinity"},
        {"-1e400", "-Infinity"},
        {"1e-400", "0.0"},
        {"3.14159265358979323846264338327950288", "3.141592653589793"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(pairs); i++)
        assert_spelled(pairs[i][0], pairs[i][1]);
    static const char *const wrong[] = {"01", "-", "1.", ".5", "+1", "1e", "1e+", "0x10", "1_000", "--1", "nan", "1 2"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++)
        assert_refused(wrong[i], BORA_E_FORMAT);
    char digits[4302];
    memset(digits, '7', sizeof digits - 1);
    digits[4301] = '\0';
    assert_refused(digits, BORA_E_INVAL);
    digits[4300] = '\0';
    assert_spelled(digits, digits);
}

static void test_no_json(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",    " ",   "{",         "[",    "[1,]",    "[1 2]", "{\"a\"}",        "{a: 1}", "{\"a\":1,}", "{,}",
        "tru", "[]]", "{\"a\" 1}", "None", "{\"a\":", "{1:2}", "\xef\xbb\xbf{}", "a wind", "[\"a]",      "// x"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++)
        assert_refused(wrong[i], BORA_E_FORMAT);
}

static void test_depth(void **state)
{
    (void)state;
    char deep[2 * 513 + 1];
    memset(deep, '[', 512);
    memset(deep + 512, ']', 512);
    deep[1024] = '\0';
    assert_spelled(deep, deep);
    memset(deep, '[', 513);
    assert_refused(deep, BORA_E_INVAL);
}

static void assert_embedded(const char *text, const char *expected)
{
    bora_text out = {0};
    assert_int_equal(bora_chat_json_embed(text, strlen(text), &out, NULL), BORA_OK);
    assert_string_equal(out.bytes, expected);
    bora_text_release(&out);
}

static void test_embed(void **state)
{
    (void)state;
    assert_embedded("", "{}");
    assert_embedded(" ", "\" \"");
    assert_embedded("{\"a\":1}", "{\"a\": 1}");
    assert_embedded("22", "22");
    assert_embedded("\"quoted\"", "\"quoted\"");
    assert_embedded("plain \"text\"\n\\ \x01", "\"plain \\\"text\\\"\\n\\\\ \\u0001\"");
    assert_embedded("[1, 2", "\"[1, 2\"");
    bora_text out = {0};
    assert_int_equal(bora_chat_json_embed("\"\\ud800\"", 8, &out, NULL), BORA_E_INVAL);
    assert_int_equal(out.size, 0);
    bora_text_release(&out);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char json[] =
        "{\"a\": [1.5, {\"b\": \"text that is longer than a first block of memory\"}], \"c\": 1, "
        "\"c\": \"and another text that is longer than that\", \"d\": 0, \"e\": 0, \"f\": 0, "
        "\"g\": 0, \"h\": 0, \"i\": 0, \"j\": 0}";
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st == BORA_E_NOMEM; n++) {
        bora_text out = {0};
        (void)bora_memory_fail_at(n);
        st = bora_chat_json_respell(json, sizeof json - 1, &out, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && out.size == 0));
        assert_true(st != BORA_OK || n > 6);
        bora_text_release(&out);
    }
    assert_int_equal(st, BORA_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure), cmocka_unit_test(test_repeated_keys),
        cmocka_unit_test(test_strings),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_no_json),   cmocka_unit_test(test_depth),
        cmocka_unit_test(test_embed),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
