/* The loader: what it refuses, each with its reason, and that odd but right plugins are taken. */
#include "support/skip.h"
#include "support/temp_folder.h"

#include "base/memory.h"
#include "plugin/plugin.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_OF(macro) TEXT(macro)
#define TEXT(macro)    #macro
#define MINOR          TEXT_OF(BORA_ABI_MINOR)

#define ODD            BORA_BUILD_DIR "/tests/unit/plugin/bad/"

/* The path is refused with this status and a message of one line that has the word in it. */
static void refused(const char *path, uint32_t kind, bora_status status, const char *word)
{
    bora_plugin_library *library = NULL;
    bora_error err = {""};
    bora_status st = bora_plugin_load(path, kind, NULL, &library, &err);
    if (st != status || !strstr(err.message, word) || strchr(err.message, '\n'))
        fail_msg("%s: status %d (wanted %d), '%s' (wanted '%s')", path ? path : "NULL", st, status, err.message, word);
    assert_null(library);
}

static void accepted(const char *path)
{
    bora_plugin_library *library = NULL;
    bora_error err = {""};
    if (bora_plugin_load(path, BORA_PLUGIN_ATTENTION, NULL, &library, &err) != BORA_OK)
        fail_msg("%s", err.message);
    assert_string_equal(bora_plugin_name(library), "odd");
    bora_plugin_unload(library);
}

/* ---- what a plugin answers ---------------------------------------------------------------------------------- */

static void test_tables_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        bora_status status;
        const char *word;
    } cases[] = {
        {ODD "no_entry.so", BORA_E_FORMAT, "no symbol bora_plugin_entry"},
        {ODD "unresolved.so", BORA_E_IO, "nobody_has_this"},
        {ODD "declines.so", BORA_E_UNSUPPORTED, "the stars are wrong"},
        {ODD "declines_silently.so", BORA_E_UNSUPPORTED, "no reason"},
        {ODD "small_table.so", BORA_E_FORMAT, "bytes"},
        {ODD "other_major.so", BORA_E_UNSUPPORTED, "interface 2." MINOR ", this is 1." MINOR},
        {ODD "other_kind.so", BORA_E_INVAL, "is of kind 'cache', wanted is 'attention'"},
        {ODD "no_such_kind.so", BORA_E_INVAL, "'unknown'"},
        {ODD "bad_name.so", BORA_E_FORMAT, "name must be"},
        {ODD "no_name.so", BORA_E_FORMAT, "has no name"},
        {ODD "no_version.so", BORA_E_FORMAT, "has no version"},
        {ODD "no_table.so", BORA_E_FORMAT, "has no operations"},
        {ODD "tiny_operations.so", BORA_E_FORMAT, "has only 4 bytes"},
        {ODD "fewer_operations.so", BORA_E_FORMAT, "required operation 'attend' is missing"},
        {ODD "half_an_operation.so", BORA_E_FORMAT, "required operation 'attend' is missing"},
        {ODD "no_operation.so", BORA_E_FORMAT, "required operation 'attend' is missing"},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(cases); i++)
        refused(cases[i].file, BORA_PLUGIN_ATTENTION, cases[i].status, cases[i].word);
    refused(ODD "right.so", BORA_PLUGIN_CACHE, BORA_E_INVAL, "kind");
    refused(ODD "right.so", 0, BORA_E_INVAL, "kind 0");
    refused(ODD "right.so", BORA_PLUGIN_LINK + 1, BORA_E_INVAL, "kind 5");
}

static void test_accepted(void **state)
{
    (void)state;
    static const char *const files[] = {ODD "right.so", ODD "more_operations.so"}; /* the second of a newer minor */
    for (size_t i = 0; i < BORA_ARRAY_SIZE(files); i++) {
        bora_plugin_library *library = NULL;
        bora_error err = {""};
        if (bora_plugin_load(files[i], BORA_PLUGIN_ATTENTION, NULL, &library, &err) != BORA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(bora_plugin_kind(library), BORA_PLUGIN_ATTENTION);
        assert_string_equal(bora_plugin_name(library), "odd");
        assert_string_equal(bora_plugin_version(library), "0.7");
        char *real = realpath(files[i], NULL);
        assert_string_equal(bora_plugin_path(library), real);
        free(real);
        assert_int_equal(bora_plugin_flags(library), BORA_PLUGIN_BATCH_INVARIANT);
        assert_int_equal(bora_plugin_dtypes(library), BORA_DTYPE_BIT(BORA_DTYPE_F32));
        const bora_attention_ops *ops = bora_plugin_attention_ops(library);
        assert_int_equal(ops->struct_size, sizeof *ops); /* this build's, whatever the plugin's was */
        assert_non_null(ops->attend);
        assert_null(ops->close); /* optional, and not there */
        assert_null(bora_plugin_cache_ops(library));
        assert_null(bora_plugin_expert_ops(library));
        assert_null(bora_plugin_link_ops(library));
        bora_plugin_unload(library);
    }
    bora_plugin_unload(NULL);
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

static void test_paths(void **state)
{
    (void)state;
    refused(NULL, BORA_PLUGIN_ATTENTION, BORA_E_INVAL, "absolute");
    refused("", BORA_PLUGIN_ATTENTION, BORA_E_INVAL, "absolute");
    refused("right.so", BORA_PLUGIN_ATTENTION, BORA_E_INVAL, "absolute");
    refused("./right.so", BORA_PLUGIN_ATTENTION, BORA_E_INVAL, "absolute");
    refused("../right.so", BORA_PLUGIN_ATTENTION, BORA_E_INVAL, "absolute");
    refused(ODD "there-is-none.so", BORA_PLUGIN_ATTENTION, BORA_E_NOT_FOUND, "there-is-none");
    refused(ODD "right.so/further", BORA_PLUGIN_ATTENTION, BORA_E_NOT_FOUND, "further");
    refused(BORA_BUILD_DIR, BORA_PLUGIN_ATTENTION, BORA_E_FORMAT, "regular file");
}

typedef struct files {
    bora_temp_folder folder;
    unsigned char *bytes; /* of a right plugin */
    size_t size;
    char path[BORA_TEMP_PATH_SIZE]; /* of a copy of it */
} files;

static int files_make(void **state)
{
    static files f;
    bora_temp_folder_make(&f.folder);
    f.bytes = bora_temp_read(ODD "right.so", &f.size);
    bora_temp_folder_write(&f.folder, "copy.so", f.bytes, f.size, f.path);
    *state = &f;
    return 0;
}

static int files_remove(void **state)
{
    files *f = *state;
    free(f->bytes);
    bora_temp_folder_remove(&f->folder);
    return 0;
}

static void test_writable_by_everybody(void **state)
{
    files *f = *state;
    assert_int_equal(chmod(f->path, 0755), 0);
    accepted(f->path);
    assert_int_equal(chmod(f->path, 0757), 0);
    refused(f->path, BORA_PLUGIN_ATTENTION, BORA_E_PERMISSION, "written by everybody");
    assert_int_equal(chmod(f->path, 0755), 0);
    assert_int_equal(chmod(f->folder.path, 0777), 0);
    refused(f->path, BORA_PLUGIN_ATTENTION, BORA_E_PERMISSION, f->folder.path);
    assert_int_equal(chmod(f->folder.path, 01777), 0); /* as /tmp: nobody can swap another's file */
    accepted(f->path);
    assert_int_equal(chmod(f->folder.path, 0700), 0);

    /* A folder further up counts as well, and links are followed before anything is judged. */
    char inner[BORA_TEMP_PATH_SIZE], path[BORA_TEMP_PATH_SIZE + 16], link[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_path(&f->folder, "inner", inner);
    assert_int_equal(mkdir(inner, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/p.so", inner);
    assert_int_equal(rename(f->path, path), 0);
    bora_temp_folder_path(&f->folder, "link.so", link);
    assert_int_equal(symlink(path, link), 0);
    accepted(link);
    assert_int_equal(chmod(inner, 0777), 0);
    refused(link, BORA_PLUGIN_ATTENTION, BORA_E_PERMISSION, inner);
    assert_int_equal(chmod(inner, 0700), 0);
    assert_int_equal(chmod(f->folder.path, 0777), 0);
    refused(path, BORA_PLUGIN_ATTENTION, BORA_E_PERMISSION, f->folder.path);
    assert_int_equal(chmod(f->folder.path, 0700), 0);
}

static void test_of_another_user(void **state)
{
    files *f = *state;
    if (geteuid() != 0)
        BORA_SKIP("only root can give a file away");
    assert_int_equal(chown(f->path, 12345, 12345), 0);
    refused(f->path, BORA_PLUGIN_ATTENTION, BORA_E_PERMISSION, "user 12345");
}

/* Cut anywhere, a plugin is refused; it must not take the process down. */
static void test_cut_off(void **state)
{
    files *f = *state;
    static const size_t few[] = {0, 1, 3, 4, 16, 63, 64, 65, 120, 500, 4095, 4096, 4097, 8192};
    char path[BORA_TEMP_PATH_SIZE];
    for (size_t i = 0; i < BORA_ARRAY_SIZE(few) && few[i] < f->size; i++) {
        bora_temp_folder_write(&f->folder, "cut.so", f->bytes, few[i], path);
        refused(path, BORA_PLUGIN_ATTENTION, BORA_E_FORMAT, few[i] < 4 ? "no ELF file" : "cut off");
    }
}

static void test_not_a_shared_object(void **state)
{
    files *f = *state;
    char path[BORA_TEMP_PATH_SIZE];
    static const char text[] =
        "#!/bin/sh\necho this is no plugin, though it is long enough to be one at a first look\n";
    bora_temp_folder_write(&f->folder, "text.so", text, sizeof text, path);
    refused(path, BORA_PLUGIN_ATTENTION, BORA_E_FORMAT, "no ELF file");
    /* An object file, another word size, program headers of another size, too many of them, somewhere else. */
    static const struct {
        size_t offset;
        unsigned char byte;
        const char *word;
    } damages[] = {{16, 1, "shared object"},   {4, 1, "shared object"}, {54, 1, "make no sense"},
                   {57, 255, "make no sense"}, {39, 255, "cut off"},    {56, 0, "make no sense"}};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(damages); i++) {
        unsigned char before = f->bytes[damages[i].offset];
        f->bytes[damages[i].offset] = damages[i].byte;
        bora_temp_folder_write(&f->folder, "damaged.so", f->bytes, f->size, path);
        refused(path, BORA_PLUGIN_ATTENTION, BORA_E_FORMAT, damages[i].word);
        f->bytes[damages[i].offset] = before;
    }
}

/* ---- no memory, and plugins that are linked in ---------------------------------------------------------------- */

static void test_no_memory(void **state)
{
    (void)state;
    bora_plugin_library *library = NULL;
    bora_status st = BORA_E_NOMEM;
    for (uint64_t n = 1; st != BORA_OK; n++) {
        bora_error err = {""};
        (void)bora_memory_fail_at(n);
        st = bora_plugin_load(ODD "right.so", BORA_PLUGIN_ATTENTION, NULL, &library, &err);
        (void)bora_memory_fail_at(0);
        assert_true(st == BORA_OK || (st == BORA_E_NOMEM && !library && err.message[0]));
    }
    bora_plugin_unload(library);
}

static const bora_plugin *static_entry(const bora_host *host, bora_error *err)
{
    (void)host, (void)err;
    static const bora_link_ops ops = {.struct_size = sizeof ops};
    static const bora_plugin plugin = {sizeof plugin, BORA_ABI_MAJOR, 0, BORA_PLUGIN_LINK, 0, "linked", "1", &ops};
    return &plugin;
}

static void test_linked_in(void **state)
{
    (void)state;
    bora_plugin_library *library = NULL;
    bora_error err = {""};
    assert_int_equal(bora_plugin_load_static(static_entry, BORA_PLUGIN_LINK, NULL, &library, &err), BORA_E_FORMAT);
    assert_non_null(strstr(err.message, "'create'"));
    assert_non_null(strstr(err.message, "linked in"));
    assert_int_equal(bora_plugin_load_static(static_entry, 9, NULL, &library, &err), BORA_E_INVAL);
    assert_null(library);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_refused),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_paths),
        cmocka_unit_test_setup_teardown(test_writable_by_everybody, files_make, files_remove),
        cmocka_unit_test_setup_teardown(test_of_another_user, files_make, files_remove),
        cmocka_unit_test_setup_teardown(test_cut_off, files_make, files_remove),
        cmocka_unit_test_setup_teardown(test_not_a_shared_object, files_make, files_remove),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_linked_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
