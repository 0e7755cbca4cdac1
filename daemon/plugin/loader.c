/* From a file to checked operations.
 *
 * A plugin is code with all of the daemon's rights, so the file is judged before it is mapped: who could have written
 * it, and who could have put it there. What it answers is then judged before it is used: sizes, version, kind, and that
 * every required operation is there. The operations are copied into a zeroed table of this build's size, which is how
 * shorter (older) and longer (newer) tables come to look alike. */
#include "plugin/plugin.h"

#include "base/memory.h"
#include "plugin/image.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SIZE_MAX 63u

struct bora_plugin_library {
    const bora_plugin *plugin; /* the plugin's own static table; only the fields of minor 0 are read */
    char *path;                /* links resolved; "" when linked in */
    union {
        bora_attention_ops attention;
        bora_cache_ops cache;
        bora_expert_ops expert;
        bora_link_ops link;
    } ops; /* by plugin->kind; zero where the plugin's table is shorter */
};

/* ---- what each kind's table consists of -------------------------------------------------------------- */

typedef void (*any_op)(void);

typedef struct op {
    const char *name;
    size_t offset;
    bool required;
} op;

typedef struct table {
    const op *ops;
    size_t n_ops;
    size_t size;  /* of this build's table */
    size_t first; /* offset of the first operation: what precedes it is mandatory */
} table;

#define REQUIRED(kind, op)                                                                                             \
    {                                                                                                                  \
#op, offsetof(bora_##kind##_ops, op), true                                                                     \
    }
#define OPTIONAL(kind, op)                                                                                             \
    {                                                                                                                  \
#op, offsetof(bora_##kind##_ops, op), false                                                                    \
    }

static const op attention_ops[] = {
    REQUIRED(attention, create),  OPTIONAL(attention, close),  OPTIONAL(attention, stop),
    REQUIRED(attention, destroy), REQUIRED(attention, attend),
};
static const op cache_ops[] = {
    REQUIRED(cache, create),      OPTIONAL(cache, close),     OPTIONAL(cache, stop),     REQUIRED(cache, destroy),
    REQUIRED(cache, seq_open),    REQUIRED(cache, seq_close), OPTIONAL(cache, seq_fork), REQUIRED(cache, reserve),
    REQUIRED(cache, append),      REQUIRED(cache, spans),     REQUIRED(cache, truncate), REQUIRED(cache, export_page),
    REQUIRED(cache, import_page), REQUIRED(cache, bytes),
};
static const op expert_ops[] = {
    REQUIRED(expert, create),  OPTIONAL(expert, close),   OPTIONAL(expert, stop),
    REQUIRED(expert, destroy), REQUIRED(expert, prepare), REQUIRED(expert, forward),
};
static const op link_ops[] = {
    REQUIRED(link, create),  REQUIRED(link, close), OPTIONAL(link, stop),
    REQUIRED(link, destroy), REQUIRED(link, send),  REQUIRED(link, recv),
};

#define TABLE(kind)                                                                                                    \
    {                                                                                                                  \
        .ops = kind##_ops, .n_ops = BORA_ARRAY_SIZE(kind##_ops), .size = sizeof(bora_##kind##_ops),                    \
        .first = offsetof(bora_##kind##_ops, create)                                                                   \
    }

static const table tables[BORA_PLUGIN_KINDS + 1] = {
    [BORA_PLUGIN_ATTENTION] = TABLE(attention),
    [BORA_PLUGIN_CACHE] = TABLE(cache),
    [BORA_PLUGIN_EXPERT] = TABLE(expert),
    [BORA_PLUGIN_LINK] = TABLE(link),
};

/* ---- the file ------------------------------------------------------------------------------------------ */

static bool anyone_may_write(const struct stat *st)
{
    return (st->st_mode & S_IWOTH) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX));
}

/* path has no links in it. Every folder above the file counts: whoever may write to one can swap what is below. */
static bora_status check_file(const char *path, bora_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return bora_fail(err, BORA_E_IO, "plugin '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' is not a regular file", path);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return bora_fail(err, BORA_E_PERMISSION, "plugin '%s' belongs to user %u, neither to root nor to us", path,
                         (unsigned)st.st_uid);
    if (anyone_may_write(&st))
        return bora_fail(err, BORA_E_PERMISSION, "plugin '%s' may be written by everybody", path);
    BORA_CLEANUP(bora_freep) char *folder = bora_strdup(path);
    if (!folder)
        return bora_fail(err, BORA_E_NOMEM, "plugin '%s'", path);
    for (char *slash = strrchr(folder, '/'); slash; slash = strrchr(folder, '/')) {
        slash[slash == folder ? 1 : 0] = '\0';
        if (stat(folder, &st) != 0)
            return bora_fail(err, BORA_E_IO, "plugin folder '%s': %s", folder, strerror(errno));
        if (anyone_may_write(&st))
            return bora_fail(err, BORA_E_PERMISSION, "plugin '%s': everybody may write to the folder '%s'", path,
                             folder);
        if (slash == folder)
            break;
    }
    return BORA_OK;
}

/* ---- what the plugin answered -------------------------------------------------------------------------- */

static bool name_is_sound(const char *name)
{
    size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return size > 0 && size <= NAME_SIZE_MAX && name[size] == '\0';
}

static bora_status check_plugin(const bora_plugin *plugin, uint32_t kind, const char *label, bora_error *err)
{
    const size_t mandatory = offsetof(bora_plugin, ops) + sizeof plugin->ops;
    if (plugin->struct_size < mandatory)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s': its table has %u bytes, at least %zu are needed", label,
                         plugin->struct_size, mandatory);
    if (plugin->abi_major != BORA_ABI_MAJOR)
        return bora_fail(err, BORA_E_UNSUPPORTED, "plugin '%s' was built for plugin interface %u.%u, this is %u.%u",
                         label, plugin->abi_major, plugin->abi_minor, BORA_ABI_MAJOR, BORA_ABI_MINOR);
    if (!plugin->name || !*plugin->name)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' has no name", label);
    if (!name_is_sound(plugin->name))
        return bora_fail(err, BORA_E_FORMAT,
                         "plugin '%s': its name must be 1 to %u lower-case letters, digits, '-' and '_'", label,
                         NAME_SIZE_MAX);
    if (!plugin->version)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' has no version", label);
    if (plugin->kind != kind) {
        const char *is = bora_plugin_kind_name(plugin->kind);
        return bora_fail(err, BORA_E_INVAL, "plugin '%s' is of kind '%s', wanted is '%s'", label, is ? is : "unknown",
                         bora_plugin_kind_name(kind));
    }
    if (!plugin->ops)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' has no operations", label);
    return BORA_OK;
}

/* Copies the operations that both sides know; the rest of the copy stays zero. */
static bora_status copy_ops(const bora_plugin *plugin, bora_plugin_library *library, const char *label, bora_error *err)
{
    const table *known = &tables[plugin->kind];
    uint32_t size; /* every table begins with it */
    memcpy(&size, plugin->ops, sizeof size);
    if (size < known->first)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s': its table of operations has only %u bytes", label, size);
    size_t n = size < known->size ? size : known->size;
    n -= (n - known->first) % sizeof(any_op); /* half a pointer is none */
    unsigned char *copy = (unsigned char *)&library->ops;
    memcpy(copy, plugin->ops, n);
    uint32_t own_size = (uint32_t)known->size;
    memcpy(copy, &own_size, sizeof own_size);
    for (size_t i = 0; i < known->n_ops; i++) {
        any_op function;
        memcpy(&function, copy + known->ops[i].offset, sizeof function);
        if (known->ops[i].required && !function)
            return bora_fail(err, BORA_E_FORMAT, "plugin '%s': required operation '%s' is missing", label,
                             known->ops[i].name);
    }
    return BORA_OK;
}

static void libraryp(bora_plugin_library **library)
{
    bora_plugin_unload(*library);
}

/* Calls the entry and builds the record. label names the plugin in messages. */
static bora_status adopt(bora_plugin_entry_fn entry, uint32_t kind, const char *path, const char *label,
                         const bora_log *log, bora_plugin_library **ret_library, bora_error *err)
{
    BORA_CLEANUP(libraryp) bora_plugin_library *library = bora_calloc(1, sizeof *library);
    if (!library)
        return bora_fail(err, BORA_E_NOMEM, "plugin '%s'", label);
    library->path = bora_strdup(path);
    if (!library->path)
        return bora_fail(err, BORA_E_NOMEM, "plugin '%s'", label);
    bora_plugin_host *host = NULL;
    bora_status status = bora_plugin_host_new(log, NULL, NULL, NULL, NULL, NULL, 0, &host, err);
    if (status != BORA_OK)
        return status;
    const bora_host *all = bora_plugin_host_table(host);
    const bora_host log_only = {
        .struct_size = all->struct_size,
        .abi_major = all->abi_major,
        .abi_minor = all->abi_minor,
        .self = all->self,
        .log = all->log,
    };
    bora_error refusal = {""};
    library->plugin = entry(&log_only, &refusal);
    bora_plugin_host_free(host);
    if (!library->plugin)
        return bora_fail(err, BORA_E_UNSUPPORTED, "plugin '%s' declined: %.400s", label,
                         refusal.message[0] ? refusal.message : "it gave no reason");
    status = check_plugin(library->plugin, kind, label, err);
    if (status == BORA_OK)
        status = copy_ops(library->plugin, library, label, err);
    if (status != BORA_OK)
        return status;
    *ret_library = bora_steal(&library);
    return BORA_OK;
}

static void dlclosep(void **handle)
{
    if (*handle)
        (void)dlclose(*handle);
}

static void free_real_path(char **path)
{
    free(*path); /* realpath's own memory */
}

bora_status bora_plugin_load(const char *path, uint32_t kind, const bora_log *log, bora_plugin_library **ret_library,
                             bora_error *err)
{
    if (!bora_plugin_kind_name(kind))
        return bora_fail(err, BORA_E_INVAL, "there is no plugin kind %u", kind);
    if (!path || path[0] != '/')
        return bora_fail(err, BORA_E_INVAL, "plugin '%s': the path must be absolute", path ? path : "");
    BORA_CLEANUP(free_real_path) char *real = realpath(path, NULL);
    if (!real) {
        bora_status why = errno == ENOENT || errno == ENOTDIR ? BORA_E_NOT_FOUND : BORA_E_IO;
        return bora_fail(err, why, "plugin '%s': %s", path, strerror(errno));
    }
    bora_status status = check_file(real, err);
    if (status == BORA_OK)
        status = bora_image_check(real, err);
    if (status != BORA_OK)
        return status;
    /* A plugin that is refused is closed again, so that a corrected file can be loaded; one that is used stays. */
    BORA_CLEANUP(dlclosep) void *handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return bora_fail(err, BORA_E_IO, "plugin '%s' does not load: %s", real, why ? why : "no reason given");
    }
    void *symbol = dlsym(handle, BORA_PLUGIN_ENTRY);
    if (!symbol)
        return bora_fail(err, BORA_E_FORMAT, "plugin '%s' has no symbol " BORA_PLUGIN_ENTRY, real);
    bora_plugin_entry_fn entry; /* ISO C has no cast from void * to a function; POSIX makes the bits good */
    memcpy(&entry, &symbol, sizeof entry);
    status = adopt(entry, kind, real, real, log, ret_library, err);
    if (status != BORA_OK)
        return status;
    handle = NULL;
    return BORA_OK;
}

bora_status bora_plugin_load_static(bora_plugin_entry_fn entry, uint32_t kind, const bora_log *log,
                                    bora_plugin_library **ret_library, bora_error *err)
{
    if (!bora_plugin_kind_name(kind))
        return bora_fail(err, BORA_E_INVAL, "there is no plugin kind %u", kind);
    return adopt(entry, kind, "", "(linked in)", log, ret_library, err);
}

void bora_plugin_unload(bora_plugin_library *library)
{
    if (!library)
        return;
    bora_free(library->path);
    bora_free(library);
}

/* ---- accessors ----------------------------------------------------------------------------------------- */

uint32_t bora_plugin_kind(const bora_plugin_library *library)
{
    return library->plugin->kind;
}

const char *bora_plugin_name(const bora_plugin_library *library)
{
    return library->plugin->name;
}

const char *bora_plugin_version(const bora_plugin_library *library)
{
    return library->plugin->version;
}

const char *bora_plugin_path(const bora_plugin_library *library)
{
    return library->path;
}

uint32_t bora_plugin_flags(const bora_plugin_library *library)
{
    return library->plugin->flags;
}

uint32_t bora_plugin_dtypes(const bora_plugin_library *library)
{
    switch (library->plugin->kind) {
    case BORA_PLUGIN_ATTENTION:
        return library->ops.attention.dtypes;
    case BORA_PLUGIN_CACHE:
        return library->ops.cache.dtypes;
    case BORA_PLUGIN_EXPERT:
        return library->ops.expert.dtypes;
    default:
        return 0;
    }
}

void bora_plugin_info_of(const bora_plugin_library *library, bora_plugin_info *ret_info)
{
    const bora_plugin *plugin = library->plugin;
    ret_info->kind = plugin->kind;
    ret_info->flags = plugin->flags;
    ret_info->dtypes = bora_plugin_dtypes(library);
    ret_info->abi_major = plugin->abi_major;
    ret_info->abi_minor = plugin->abi_minor;
    ret_info->name = plugin->name;
    ret_info->version = plugin->version;
    (void)snprintf(ret_info->path, sizeof ret_info->path, "%s", library->path); /* realpath's: fits */
}

const bora_attention_ops *bora_plugin_attention_ops(const bora_plugin_library *library)
{
    return library->plugin->kind == BORA_PLUGIN_ATTENTION ? &library->ops.attention : NULL;
}

const bora_cache_ops *bora_plugin_cache_ops(const bora_plugin_library *library)
{
    return library->plugin->kind == BORA_PLUGIN_CACHE ? &library->ops.cache : NULL;
}

const bora_expert_ops *bora_plugin_expert_ops(const bora_plugin_library *library)
{
    return library->plugin->kind == BORA_PLUGIN_EXPERT ? &library->ops.expert : NULL;
}

const bora_link_ops *bora_plugin_link_ops(const bora_plugin_library *library)
{
    return library->plugin->kind == BORA_PLUGIN_LINK ? &library->ops.link : NULL;
}
