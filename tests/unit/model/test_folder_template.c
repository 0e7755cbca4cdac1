/* The chat template of a folder: where it is looked for, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "chat_fixture.h"
#include "model/folder.h"
#include "support/temp_folder.h"

#define V2_TEXT "[INST][/INST][TOOL_RESULTS]"

/* Files of the folder, NULL: not there. */
typedef struct files {
    const char *jinja, *config;
} files;

static bora_status read_template(const files *given, bora_tokenizer *tokenizer, bora_chat_layout *ret_layout,
                                 bora_error *err)
{
    bora_temp_folder temp;
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&temp);
    if (given->jinja)
        bora_temp_folder_write(&temp, "chat_template.jinja", given->jinja, strlen(given->jinja), path);
    if (given->config)
        bora_temp_folder_write(&temp, "tokenizer_config.json", given->config, strlen(given->config), path);
    bora_model model = {.tokenizer = tokenizer};
    const bora_folder folder = {.path = temp.path};
    bora_status st = bora_folder_template(&model, &folder, err);
    *ret_layout = model.template_layout;
    bora_temp_folder_remove(&temp);
    return st;
}

static void test_templates(void **state)
{
    (void)state;
    static const struct {
        files given;
        bora_chat_layout expected;
    } rows[] = {
        {{NULL, NULL}, BORA_CHAT_NONE},
        {{NULL, "{}"}, BORA_CHAT_NONE},
        {{NULL, "{\"chat_template\": null}"}, BORA_CHAT_NONE},
        {{NULL, "{\"chat_template\": \"" V2_TEXT "\"}"}, BORA_CHAT_V2},
        {{NULL, "{\"chat_template\": \"<|im_start|>\"}"}, BORA_CHAT_UNKNOWN},
        {{NULL, "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": "
                "\"" V2_TEXT "\"}]}"},
         BORA_CHAT_V2},
        {{NULL, "{\"chat_template\": [1, {\"name\": \"rag\", \"template\": \"" V2_TEXT "\"}]}"}, BORA_CHAT_NONE},
        {{V2_TEXT, "{\"chat_template\": \"<|im_start|>\"}"}, BORA_CHAT_V2},
        {{"", NULL}, BORA_CHAT_NONE},
    };
    bora_tokenizer *tokenizer = fixture_tokenizer(9);
    bora_chat_layout layout;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(rows); i++) {
        bora_error err = {{0}};
        if (read_template(&rows[i].given, tokenizer, &layout, &err) != BORA_OK)
            fail_msg("%zu: %s", i, err.message);
        assert_int_equal(layout, rows[i].expected);
    }
    bora_error err = {{0}};
    const files broken = {NULL, "{"};
    assert_int_equal(read_template(&broken, tokenizer, &layout, &err), BORA_E_FORMAT);
    assert_non_null(strstr(err.message, "tokenizer_config.json: "));
    /* Without a tokenizer nothing is looked at. */
    assert_int_equal(read_template(&broken, NULL, &layout, &err), BORA_OK);
    bora_tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_templates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
