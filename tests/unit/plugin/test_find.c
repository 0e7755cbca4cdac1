/* From a kind and a name to a file: search paths, listings, and what the messages say. */
#include "support/skip.h"
#include "support/temp_folder.h"

#include "base/memory.h"
#include "plugin/plugin.h"

#include <string.h>
#include <unistd.h>

static void test_kinds(void **state)
{
    (void)state;
    static const char *const names[] = {"attention", "cache", "expert", "link"};
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++) {
        assert_string_equal(bora_plugin_kind_name(kind), names[kind - 1]);
        assert_int_equal(bora_plugin_kind_parse(names[kind - 1]), kind);
    }
    assert_null(bora_plugin_kind_name(0));
    assert_null(bora_plugin_kind_name(BORA_PLUGIN_KINDS + 1));
    assert_null(bora_plugin_kind_name(UINT32_MAX));
    static const char *const wrong[] = {"", "Cache", "caches", "cach", "attention ", NULL};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(wrong); i++)
        assert_int_equal(bora_plugin_kind_parse(wrong[i]), 0);
}

/* Two folders with plugins by name; what is in the files does not matter to finding. */
typedef struct folders {
    bora_temp_folder a, b;
    char *path; /* "a:b" with empty parts and one that is not there */
} folders;

static int folders_make(void **state)
{
    static folders f;
    static const char *const in_a[] = {"cache-ring.so", "cache-paged.so",    "expert-blas.so", "cache-.so",
                                       "cachering.so",  "cache-ring.so.bak", "caches-x.so",    "README"},
                             *const in_b[] = {"cache-ring.so", "cache-abc.so", "link-thread.so"};
    char path[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&f.a);
    bora_temp_folder_make(&f.b);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(in_a); i++)
        bora_temp_folder_write(&f.a, in_a[i], "", 0, path);
    for (size_t i = 0; i < BORA_ARRAY_SIZE(in_b); i++)
        bora_temp_folder_write(&f.b, in_b[i], "", 0, path);
    f.path = bora_format("::%s:/there/is/no/such/folder:%s:", f.a.path, f.b.path);
    *state = &f;
    return f.path ? 0 : 1;
}

static int folders_remove(void **state)
{
    folders *f = *state;
    bora_temp_folder_remove(&f->a);
    bora_temp_folder_remove(&f->b);
    bora_free(f->path);
    return 0;
}

static void names_are(uint32_t kind, const char *path, const char *should)
{
    char **names = NULL, text[256] = "";
    assert_int_equal(bora_plugin_names(kind, path, &names, NULL), BORA_OK);
    for (size_t i = 0, n = 0; names[i]; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i ? " " : "", names[i]);
    assert_string_equal(text, should);
    bora_plugin_names_free(names);
}

static void test_names(void **state)
{
    folders *f = *state;
    names_are(BORA_PLUGIN_CACHE, f->path, "abc paged ring"); /* sorted, each once */
    names_are(BORA_PLUGIN_EXPERT, f->path, "blas");
    names_are(BORA_PLUGIN_LINK, f->path, "thread");
    names_are(BORA_PLUGIN_ATTENTION, f->path, "");
    names_are(BORA_PLUGIN_CACHE, f->b.path, "abc ring");
    names_are(BORA_PLUGIN_CACHE, "/there/is/no/such/folder", "");
    names_are(BORA_PLUGIN_CACHE, ":::", "");
    names_are(BORA_PLUGIN_CACHE, "", "");
    names_are(BORA_PLUGIN_CACHE, NULL, "");
    char **names = NULL;
    bora_error err = {""};
    assert_int_equal(bora_plugin_names(0, f->path, &names, &err), BORA_E_INVAL);
    assert_int_equal(bora_plugin_names(5, f->path, &names, &err), BORA_E_INVAL);
    assert_non_null(strstr(err.message, "5"));
    assert_null(names);
    bora_plugin_names_free(NULL);
}

static void found(uint32_t kind, const char *name, const char *path, const char *folder, const char *file)
{
    char *is = NULL;
    bora_error err = {""};
    if (bora_plugin_find(kind, name, path, &is, &err) != BORA_OK)
        fail_msg("%s", err.message);
    char *should = bora_format("%s/%s", folder, file);
    assert_string_equal(is, should);
    bora_free(is);
    bora_free(should);
}

static void test_find(void **state)
{
    folders *f = *state;
    found(BORA_PLUGIN_CACHE, "ring", f->path, f->a.path, "cache-ring.so"); /* the first folder that has it */
    found(BORA_PLUGIN_CACHE, "abc", f->path, f->b.path, "cache-abc.so");
    found(BORA_PLUGIN_CACHE, "ring", f->b.path, f->b.path, "cache-ring.so");
    char *absolute = bora_format("%s/README", f->a.path); /* a path is taken as it is: the loader judges it */
    found(BORA_PLUGIN_CACHE, absolute, NULL, f->a.path, "README");
    bora_free(absolute);

    /* A relative folder gives an absolute path all the same. */
    char *before = getcwd(NULL, 0), *real = realpath(f->a.path, NULL);
    assert_int_equal(chdir(f->a.path), 0);
    found(BORA_PLUGIN_CACHE, "ring", ".", real, "cache-ring.so");
    assert_int_equal(chdir(before), 0);
    free(before);
    free(real);
}

static void test_not_found(void **state)
{
    folders *f = *state;
    static const struct {
        const char *name;
        bora_status status;
        const char *word;
    } cases[] = {
        {"rings", BORA_E_NOT_FOUND, "no cache plugin 'rings'"},
        {"rings", BORA_E_NOT_FOUND, "abc, paged, ring"},
        {"rings", BORA_E_NOT_FOUND, "/there/is/no/such/folder"},
        {NULL, BORA_E_INVAL, "no name"},
        {"", BORA_E_INVAL, "no name"},
        {"./cache-ring.so", BORA_E_INVAL, "absolute"},
        {"../ring", BORA_E_INVAL, "absolute"},
        {"/no/such/file.so", BORA_E_NOT_FOUND, "No such file"},
        {"ring.so", BORA_E_NOT_FOUND, "ring.so"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++) {
        char *path = NULL;
        bora_error err = {""};
        assert_int_equal(bora_plugin_find(BORA_PLUGIN_CACHE, cases[i].name, f->path, &path, &err), cases[i].status);
        if (!strstr(err.message, cases[i].word))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].word);
        assert_null(path);
    }
    char *path = NULL;
    bora_error err = {""};
    assert_int_equal(bora_plugin_find(BORA_PLUGIN_ATTENTION, "x", f->path, &path, &err), BORA_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "(there: none)"));
    assert_int_equal(bora_plugin_find(BORA_PLUGIN_ATTENTION, "x", NULL, &path, &err), BORA_E_NOT_FOUND);
    assert_int_equal(bora_plugin_find(8, "x", f->path, &path, &err), BORA_E_INVAL);
}

static void test_no_memory(void **state)
{
    folders *f = *state;
    static const char *const names[] = {"ring", "nothing"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(names); i++) {
        bora_status st = BORA_E_NOMEM;
        char *path = NULL;
        for (uint64_t n = 1; st == BORA_E_NOMEM; n++) {
            (void)bora_memory_fail_at(n);
            st = bora_plugin_find(BORA_PLUGIN_CACHE, names[i], f->path, &path, NULL);
            (void)bora_memory_fail_at(0);
            assert_true((st == BORA_OK) == (path != NULL));
        }
        assert_int_equal(st, i ? BORA_E_NOT_FOUND : BORA_OK);
        bora_free(path);
    }
    bora_status st = BORA_E_NOMEM;
    char **list = NULL;
    for (uint64_t n = 1; st == BORA_E_NOMEM; n++) {
        (void)bora_memory_fail_at(n);
        st = bora_plugin_names(BORA_PLUGIN_CACHE, f->path, &list, NULL);
        (void)bora_memory_fail_at(0);
    }
    assert_int_equal(st, BORA_OK);
    bora_plugin_names_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test_setup_teardown(test_names, folders_make, folders_remove),
        cmocka_unit_test_setup_teardown(test_find, folders_make, folders_remove),
        cmocka_unit_test_setup_teardown(test_not_found, folders_make, folders_remove),
        cmocka_unit_test_setup_teardown(test_no_memory, folders_make, folders_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
