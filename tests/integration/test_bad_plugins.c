/* Plugins that borad must not use, built here with the compiler: it refuses to start, with exit status 1, and says
 * which and why. (How the loader checks each field is tested in tests/unit/plugin.) */
#include "integration/spawn.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"

#include <stdlib.h>
#include <sys/stat.h>

static bora_temp_folder folder;

/* ---- building ---- */

/* The example, with what is wrong put in by the preprocessor. */
static const struct {
    const char *name, *flags;
} variants[] = {
    {"good", ""},
    {"major", "-DMAJOR=2"},
    {"ancient", "-DMAJOR=0"},
    {"size", "-DSIZE=8"},
    {"kind", "-DKIND=BORA_PLUGIN_CACHE"},
    {"operation", "-DATTEND=NULL"},
    {"nameless", "-DNAME=NULL"},
    {"table", "-DOPS=NULL"},
    {"declines", "-DDECLINE"},
    {"refuses", "-DREFUSE"},
    {"not-here", "-DNOT_HERE"},
};

static const char source[] =
    "#include <bora/plugin.h>\n"
    "#ifndef MAJOR\n#define MAJOR 1\n#endif\n"
    "#ifndef SIZE\n#define SIZE sizeof(bora_plugin)\n#endif\n"
    "#ifndef KIND\n#define KIND BORA_PLUGIN_ATTENTION\n#endif\n"
    "#ifndef ATTEND\n#define ATTEND attend\n#endif\n"
    "#ifndef NAME\n#define NAME \"test\"\n#endif\n"
    "#ifndef OPS\n#define OPS &ops\n#endif\n"
    "struct bora_attention { const bora_host *host; };\n"
    "static bora_status create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,\n"
    "                          bora_error *e)\n"
    "{\n"
    "    (void)shape;\n"
    "#ifdef REFUSE\n"
    "    return bora_fail(e, BORA_E_INVAL, \"this plugin wants more heads\");\n"
    "#endif\n"
    "#ifdef NOT_HERE\n"
    "    return bora_fail(e, BORA_E_UNAVAILABLE, \"this plugin needs another processor\");\n"
    "#endif\n"
    "    *ret = host->alloc(host, sizeof **ret);\n"
    "    if (!*ret) return bora_fail(e, BORA_E_NOMEM, \"memory\");\n"
    "    (*ret)->host = host;\n"
    "    return BORA_OK;\n"
    "}\n"
    "static void destroy(bora_attention *self) { if (self) self->host->free(self->host, self); }\n"
    "static bora_status attend(bora_attention *self, uint32_t n, const bora_attention_seq *seqs, bora_error *e)\n"
    "{ (void)self; (void)n; (void)seqs; return bora_fail(e, BORA_E_INTERNAL, \"not for use\"); }\n"
    "bora_status (*keep)(bora_attention *, uint32_t, const bora_attention_seq *, bora_error *) = attend;\n"
    "static const bora_attention_ops ops = {sizeof ops, BORA_DTYPE_BIT(BORA_DTYPE_F32), create, 0, 0, destroy, "
    "ATTEND};\n"
    "static const bora_attention_ops *const used = &ops;\n"
    "static bora_plugin plugin = {SIZE, MAJOR, 0, KIND, 0, NAME, \"1.0\", OPS};\n"
    "const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)\n"
    "{\n"
    "    (void)host; (void)err; (void)used;\n"
    "#ifdef DECLINE\n"
    "    (void)bora_fail(err, BORA_E_UNSUPPORTED, \"this plugin does not like the day\");\n"
    "    return NULL;\n"
    "#endif\n"
    "    return &plugin;\n"
    "}\n";

/* The reference expert, for F32 only. */
static const char narrow_source[] = "#include <bora/plugin.h>\n"
                                    "#undef BORA_DTYPE_BITS_ALL\n"
                                    "#define BORA_DTYPE_BITS_ALL BORA_DTYPE_BIT(BORA_DTYPE_F32)\n"
                                    "#include \"" BORA_SOURCE_DIR "/plugins/expert/reference/reference.c\"\n";

static void compile(const char *from, const char *to, const char *flags)
{
    char command[4 * BORA_TEMP_PATH_SIZE];
    (void)snprintf(command, sizeof command,
                   "cc -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared -I'%s/plugins/include' %s -o '%s' '%s'",
                   BORA_SOURCE_DIR, flags, to, from);
    int code = system(command);
    if (code != 0)
        print_error("%s: %d\n", command, code);
    assert_int_equal(code, 0);
}

static const char *path_of(const char *variant, char path[BORA_TEMP_PATH_SIZE])
{
    char name[64];
    (void)snprintf(name, sizeof name, "attention-%.40s.so", variant);
    return bora_temp_folder_path(&folder, name, path);
}

static int set_up(void **state)
{
    (void)state;
    char from[BORA_TEMP_PATH_SIZE], to[BORA_TEMP_PATH_SIZE];
    bora_temp_folder_make(&folder);
    (void)bora_temp_folder_write(&folder, "plugin.c", source, sizeof source - 1, from);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        compile(from, path_of(variants[i].name, to), variants[i].flags);
    (void)bora_temp_folder_write(&folder, "empty.c", "int nothing;\n", 13, from);
    compile(from, path_of("symbol", to), "");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    bora_temp_folder_remove(&folder);
    return 0;
}

/* ---- the tests ---- */

/* borad --check with one plugin and one setting (which may be NULL). */
static void check(const char *kind, const char *plugin, const char *setting, int code, const char *text)
{
    char choice[BORA_TEMP_PATH_SIZE + 32];
    (void)snprintf(choice, sizeof choice, "%s=%s", kind, plugin);
    const char *argv[] = {BORAD,   "--config", "none", "--check", "--plugin", choice, setting ? "--set" : NULL,
                          setting, NULL};
    spawn_expect(argv, NULL, code, text);
}

static void check_variant(const char *variant, int code, const char *text)
{
    char path[BORA_TEMP_PATH_SIZE];
    check("attention", path_of(variant, path), "cache.type=f32", code, text);
    if (code != 0)
        check("attention", path, "cache.type=f32", code, path); /* which one */
}

static void test_built_wrong(void **state)
{
    (void)state;
    check_variant("good", 0, "are in order");
    check_variant("major", 1, "interface 2.0");
    check_variant("ancient", 1, "interface 0.0");
    check_variant("size", 1, "8 bytes");
    check_variant("kind", 1, "cache");
    check_variant("operation", 1, "attend");
    check_variant("nameless", 1, "name");
    check_variant("table", 1, "operations");
    check_variant("declines", 1, "does not like the day");
    check_variant("symbol", 1, "bora_plugin_entry");
}

static void test_does_not_want(void **state)
{
    (void)state;
    check_variant("refuses", 1, "wants more heads");
    check_variant("not-here", 1, "needs another processor");
}

static void test_file(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    (void)path_of("good", path);
    assert_int_equal(chmod(path, 0666), 0);
    check_variant("good", 1, "may be written by everybody");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(folder.path, 0777), 0);
    check_variant("good", 1, "everybody may write to the folder");
    assert_int_equal(chmod(folder.path, 0700), 0);
    check_variant("good", 0, "are in order");
    (void)bora_temp_folder_write(&folder, "attention-text.so", "not ELF\n", 8, path);
    check_variant("text", 1, "not a shared object");
    (void)bora_temp_folder_write(&folder, "attention-nothing.so", "", 0, path);
    check_variant("nothing", 1, "not a shared object");
    check("attention", folder.path, NULL, 1, "not a regular file");
    check("attention", "/nonexistent/attention-x.so", NULL, 1, "/nonexistent/attention-x.so");
    check("attention", "./attention-good.so", NULL, 1, "must be absolute");
    check("attention", "build/lib/bora/plugins/attention-reference.so", NULL, 1, "must be absolute");
}

static void test_name(void **state)
{
    (void)state;
    check("attention", "telepathy", NULL, 1, "telepathy");
    check("attention", "telepathy", NULL, 1, "reference"); /* what there is */
    check("attention", "..", NULL, 1, "..");
    check("expert", "ring", NULL, 1, "ring");
    check("attention", "", NULL, 2, "plugins.attention is empty");
    check("memory", "ring", NULL, 2, "expected attention=, cache=, expert= or link=");
}

static void test_options(void **state)
{
    (void)state;
    check("expert", "blas", "expert.blas.foo=1", 1, "foo");
    check("expert", "blas", "expert.blas.foo=1", 1, "blas");
    check("cache", "ring", "cache.ring.colour=blue", 1, "colour");
    check("cache", "ring", "cache.paged.colour=blue", 0, "are in order"); /* is not in use */
    check("cache", "ring", "memory.ring.colour=blue", 2, "no section [memory.ring]");
}

static void test_pair_that_cannot_talk(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE];
    check("attention", path_of("good", path), "cache.type=f16", 1, "f16");
    check("attention", path, "cache.type=f16", 1, "attention");
}

/* Types may be mixed in a model: one tensor that an expert cannot use is one too many, wherever it is. */
static void test_weights_that_an_expert_cannot_use(void **state)
{
    (void)state;
    static bora_gguf_writer writer;
    char from[BORA_TEMP_PATH_SIZE], plugin[BORA_TEMP_PATH_SIZE], model[BORA_TEMP_PATH_SIZE];
    (void)bora_temp_folder_write(&folder, "narrow.c", narrow_source, sizeof narrow_source - 1, from);
    compile(from, bora_temp_folder_path(&folder, "expert-narrow.so", plugin), "");
    for (int is_mixed = 0; is_mixed < 2; is_mixed++) {
        char setting[BORA_TEMP_PATH_SIZE + 32];
        size_t size;
        bora_gguf_writer_init(&writer);
        bora_gguf_writer_model(&writer, &BORA_TINY_MODEL);
        if (is_mixed) {
            static const uint64_t dims[2] = {64, 32};
            bora_gguf_writer_remove_tensor(&writer, "blk.1.ffn_up.weight");
            (void)bora_gguf_writer_tensor(&writer, "blk.1.ffn_up.weight", BORA_WRITER_TENSOR_Q8_0, 2, dims);
        }
        uint8_t *bytes = bora_gguf_writer_bytes(&writer, &size);
        bora_gguf_writer_release(&writer);
        (void)bora_temp_folder_write(&folder, "mixed.gguf", bytes, size, model);
        free(bytes);
        (void)snprintf(setting, sizeof setting, "model.path=%s", model);
        if (is_mixed)
            check("expert", plugin, setting, 1, "cannot use q8_0 weights");
        else
            check("expert", plugin, setting, 0, "are in order");
    }
}

/* A daemon that is to serve ends the same way, and has not touched what it would have used. */
static void test_serving(void **state)
{
    (void)state;
    char path[BORA_TEMP_PATH_SIZE], choice[BORA_TEMP_PATH_SIZE + 32], sock[BORA_TEMP_PATH_SIZE],
        database[BORA_TEMP_PATH_SIZE];
    struct stat info;
    (void)snprintf(choice, sizeof choice, "attention=%s", path_of("major", path));
    (void)bora_temp_folder_path(&folder, "s.sock", sock);
    (void)bora_temp_folder_path(&folder, "s.db", database);
    const char *const argv[] = {BORAD,        "--config", "none",     "--socket", sock,
                                "--database", database,   "--plugin", choice,     NULL};
    spawn_expect(argv, NULL, 1, "interface 2.0");
    assert_int_not_equal(stat(sock, &info), 0);
    assert_int_not_equal(stat(database, &info), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built_wrong),
        cmocka_unit_test(test_does_not_want),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_pair_that_cannot_talk),
        cmocka_unit_test(test_weights_that_an_expert_cannot_use),
        cmocka_unit_test(test_serving),
    };
    return cmocka_run_group_tests_name("bad plugins", tests, set_up, tear_down);
}
