/* From a kind and a name to a file: the folders of the search path, and what is in them. */
#include "plugin/plugin.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kind_names[BORA_PLUGIN_KINDS + 1] = {
    [BORA_PLUGIN_ATTENTION] = "attention",
    [BORA_PLUGIN_CACHE] = "cache",
    [BORA_PLUGIN_EXPERT] = "expert",
    [BORA_PLUGIN_LINK] = "link",
};

const char *bora_plugin_kind_name(uint32_t kind)
{
    return kind <= BORA_PLUGIN_KINDS ? kind_names[kind] : NULL;
}

uint32_t bora_plugin_kind_parse(const char *name)
{
    for (uint32_t kind = 1; name && kind <= BORA_PLUGIN_KINDS; kind++)
        if (strcmp(kind_names[kind], name) == 0)
            return kind;
    return 0;
}

/* The next non-empty folder of "dir1:dir2"; *ret_size is 0 at the end. */
static const char *next_folder(const char **rest, size_t *ret_size)
{
    while (**rest == ':')
        (*rest)++;
    const char *folder = *rest;
    *ret_size = strcspn(folder, ":");
    *rest += *ret_size;
    return folder;
}

static void namesp(char ***names)
{
    bora_plugin_names_free(*names);
}

static void closedirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* A list of names that grows; always ends with NULL. */
typedef struct name_list {
    char **names; /* [n + 1] */
    size_t n;
} name_list;

static bora_status list_add(name_list *list, const char *name, size_t size, bora_error *err)
{
    for (size_t i = 0; i < list->n; i++)
        if (strlen(list->names[i]) == size && memcmp(list->names[i], name, size) == 0)
            return BORA_OK;
    char **names = bora_realloc(list->names, list->n + 2, sizeof *names);
    if (!names)
        return bora_fail(err, BORA_E_NOMEM, "plugin names");
    list->names = names;
    names[list->n] = bora_strndup(name, size);
    if (!names[list->n])
        return bora_fail(err, BORA_E_NOMEM, "plugin names");
    names[++list->n] = NULL;
    return BORA_OK;
}

static bora_status list_folder(name_list *list, const char *folder, const char *kind, bora_error *err)
{
    BORA_CLEANUP(closedirp) DIR *dir = opendir(folder);
    if (!dir)
        return BORA_OK; /* a folder that is not there has no plugins */
    size_t kind_size = strlen(kind);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const char *file = entry->d_name;
        size_t size = strlen(file);
        if (size <= kind_size + 1 + 3 || strncmp(file, kind, kind_size) != 0 || file[kind_size] != '-' ||
            strcmp(file + size - 3, ".so") != 0)
            continue;
        bora_status status = list_add(list, file + kind_size + 1, size - kind_size - 1 - 3, err);
        if (status != BORA_OK)
            return status;
    }
    return BORA_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bora_status bora_plugin_names(uint32_t kind, const char *search_path, char ***ret_names, bora_error *err)
{
    const char *kind_name = bora_plugin_kind_name(kind);
    if (!kind_name)
        return bora_fail(err, BORA_E_INVAL, "there is no plugin kind %u", kind);
    name_list list = {.names = bora_calloc(1, sizeof *list.names)};
    bora_status status = list.names ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "plugin names");
    const char *rest = search_path ? search_path : "";
    size_t size;
    while (status == BORA_OK) {
        const char *folder = next_folder(&rest, &size);
        if (size == 0)
            break;
        BORA_CLEANUP(bora_freep) char *path = bora_strndup(folder, size);
        status = path ? list_folder(&list, path, kind_name, err) : bora_fail(err, BORA_E_NOMEM, "plugin names");
    }
    if (status != BORA_OK) {
        bora_plugin_names_free(list.names);
        return status;
    }
    qsort(list.names, list.n, sizeof *list.names, compare_names);
    *ret_names = list.names;
    return BORA_OK;
}

void bora_plugin_names_free(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        bora_free(names[i]);
    bora_free(names);
}

/* Names joined by ", " in new memory, "none" when there are none. */
static char *join_names(char *const *names)
{
    char *text = bora_strdup(names[0] ? names[0] : "none");
    for (size_t i = 1; text && names[0] && names[i]; i++) {
        char *longer = bora_format("%s, %s", text, names[i]);
        bora_free(text);
        text = longer;
    }
    return text;
}

static bora_status not_found(uint32_t kind, const char *name, const char *search_path, bora_error *err)
{
    BORA_CLEANUP(namesp) char **names = NULL;
    bora_status status = bora_plugin_names(kind, search_path, &names, err);
    if (status != BORA_OK)
        return status;
    BORA_CLEANUP(bora_freep) char *known = join_names(names);
    if (!known)
        return bora_fail(err, BORA_E_NOMEM, "plugin names");
    return bora_fail(err, BORA_E_NOT_FOUND, "no %s plugin '%s' in '%s' (there: %s)", bora_plugin_kind_name(kind), name,
                     search_path ? search_path : "", known);
}

/* The path made absolute, in our own memory. */
static bora_status absolute(const char *path, char **ret_path, bora_error *err)
{
    if (path[0] == '/') {
        *ret_path = bora_strdup(path);
    } else {
        char *real = realpath(path, NULL);
        if (!real)
            return bora_fail(err, errno == ENOMEM ? BORA_E_NOMEM : BORA_E_IO, "plugin '%s': %s", path, strerror(errno));
        *ret_path = bora_strdup(real);
        free(real); /* realpath's own memory: libc's, not base/memory.h's */
    }
    return *ret_path ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "plugin '%s'", path);
}

bora_status bora_plugin_find(uint32_t kind, const char *name, const char *search_path, char **ret_path, bora_error *err)
{
    const char *kind_name = bora_plugin_kind_name(kind);
    if (!kind_name)
        return bora_fail(err, BORA_E_INVAL, "there is no plugin kind %u", kind);
    if (!name || !*name)
        return bora_fail(err, BORA_E_INVAL, "no name given for the %s plugin", kind_name);
    if (strchr(name, '/')) {
        if (name[0] != '/')
            return bora_fail(err, BORA_E_INVAL, "%s plugin '%s': a path must be absolute", kind_name, name);
        if (access(name, F_OK) != 0)
            return bora_fail(err, BORA_E_NOT_FOUND, "%s plugin '%s': %s", kind_name, name, strerror(errno));
        return absolute(name, ret_path, err);
    }
    const char *rest = search_path ? search_path : "";
    for (;;) {
        size_t size;
        const char *folder = next_folder(&rest, &size);
        if (size == 0)
            return not_found(kind, name, search_path, err);
        BORA_CLEANUP(bora_freep) char *path = bora_format("%.*s/%s-%s.so", (int)size, folder, kind_name, name);
        if (!path)
            return bora_fail(err, BORA_E_NOMEM, "%s plugin '%s'", kind_name, name);
        if (access(path, F_OK) == 0)
            return absolute(path, ret_path, err);
    }
}
