/* Models by name. */
#include "base/memory.h"
#include "model/model.h"
#include "support/skip.h"
#include "support/temp_folder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bora_temp_folder folder;
static char search[4 * BORA_TEMP_PATH_SIZE]; /* one, two, and one that is not there */

static const char *in(const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    return bora_temp_folder_path(&folder, name, path);
}

static void put(const char *name)
{
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_write(&folder, name, "x", 1, path);
}

static int setup(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&folder);
    assert_int_equal(mkdir(in("one", path), 0777), 0);
    assert_int_equal(mkdir(in("two", path), 0777), 0);
    (void)snprintf(search, sizeof search, "%s/one:%s/none::%s/two", folder.path, folder.path, folder.path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

static void assert_found(const char *name, const char *expected)
{
    char path[BORA_TEMP_PATH_SIZE];
    char *found = NULL;
    bora_error err = {{0}};
    if (bora_model_find(name, search, &found, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_string_equal(found, expected[0] == '/' ? expected : in(expected, path));
    bora_free(found);
}

static void names_are_found_in_order(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    put("two/a.gguf");
    assert_found("a", "two/a.gguf");
    assert_found("a.gguf", "two/a.gguf");
    assert_int_equal(mkdir(in("one/a", path), 0777), 0);
    assert_found("a", "one/a"); /* the first folder wins, and there the name itself */
    put("one/a.gguf");
    assert_found("a", "one/a");
    put("two/big-00001-of-00002.gguf");
    put("two/big-00002-of-00002.gguf");
    assert_found("big", "two/big-00001-of-00002.gguf");
    put("two/[x]-00001-of-00001.gguf"); /* not a pattern */
    assert_found("[x]", "two/[x]-00001-of-00001.gguf");
    assert_found("/some/where", "/some/where"); /* a path is a path, there or not */
}

static void what_is_not_there_is_told_with_the_folders(void **state)
{
    (void)state;
    put("two/a.gguf");
    static const char *const names[] = {"b", "", "A", "*", "a-00001-of-00001"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        char *found = NULL;
        bora_error err = {{0}};
        assert_int_equal(bora_model_find(names[i], search, &found, &err), BORA_E_NOT_FOUND);
        assert_null(found);
        assert_non_null(strstr(err.message, "/one:"));
        assert_non_null(strstr(err.message, "/two"));
    }
    put("two/c-00001-of-00002.gguf");
    put("two/c-00001-of-00003.gguf");
    char *found = NULL;
    bora_error err = {{0}};
    assert_int_equal(bora_model_find("c", search, &found, &err), BORA_E_INVAL);
    assert_non_null(strstr(err.message, "c-00001-of-00003.gguf"));
}

static void default_folders(void **state)
{
    (void)state;
    static const struct {
        const char *xdg, *home, *base, *expected;
    } cases[] = {
        {"/x", "/h", "/opt", "/x/bora/models:/opt/share/bora/models:/usr/share/bora/models"},
        {NULL, "/h", "/usr", "/h/.local/share/bora/models:/usr/share/bora/models"},
        {"relative", NULL, NULL, "/usr/share/bora/models"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        if (cases[i].xdg)
            assert_int_equal(setenv("XDG_DATA_HOME", cases[i].xdg, 1), 0);
        else
            assert_int_equal(unsetenv("XDG_DATA_HOME"), 0);
        if (cases[i].home)
            assert_int_equal(setenv("HOME", cases[i].home, 1), 0);
        else
            assert_int_equal(unsetenv("HOME"), 0);
        char *text = bora_model_search_default(cases[i].base);
        assert_string_equal(text, cases[i].expected);
        bora_free(text);
    }
}

static void memory_runs_out(void **state)
{
    (void)state;
    put("two/big-00001-of-00002.gguf");
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st != BORA_OK && n < 100; n++) {
        char *found = NULL;
        (void)bora_memory_fail_at(n);
        st = bora_model_find("big", search, &found, NULL);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || st == BORA_E_NOMEM);
        bora_free(found);
    }
    assert_int_equal(st, BORA_OK);
}

#define WITH_FOLDERS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDERS(names_are_found_in_order),
        WITH_FOLDERS(what_is_not_there_is_told_with_the_folders),
        WITH_FOLDERS(memory_runs_out),
        cmocka_unit_test(default_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
