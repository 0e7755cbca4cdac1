/* Models by name. */
#include "base/memory.h"
#include "model/model.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* What glob would read as a pattern is written out. */
static char *escaped(const char *text)
{
    char *out = bora_alloc(2 * strlen(text) + 1), *at = out;
    for (; out && *text; text++) {
        if (strchr("\\*?[", *text))
            *at++ = '\\';
        *at++ = *text;
    }
    if (out)
        *at = '\0';
    return out;
}

/* The first part of a split file, whatever the number of parts. */
static bora_status find_split(const char *folder, const char *name, char **ret_path, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *plain = bora_format("%s/%s", folder, name);
    BORA_CLEANUP(bora_freep) char *start = plain ? escaped(plain) : NULL;
    BORA_CLEANUP(bora_freep)
    char *pattern = start ? bora_format("%s-00001-of-[0-9][0-9][0-9][0-9][0-9].gguf", start) : NULL;
    if (!pattern)
        return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    glob_t found = {0};
    int failed = glob(pattern, 0, NULL, &found);
    bora_status st = BORA_OK;
    if (failed == GLOB_NOSPACE)
        st = bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    else if (!failed && found.gl_pathc > 1)
        st = bora_fail(err, BORA_E_INVAL, "'%s' is '%s' as well as '%s': give the whole name", name, found.gl_pathv[0],
                       found.gl_pathv[1]);
    else if (!failed && !(*ret_path = bora_strdup(found.gl_pathv[0])))
        st = bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    globfree(&found);
    return st;
}

static bora_status find_in(const char *folder, const char *name, char **ret_path, bora_error *err)
{
    static const char *const endings[] = {"", ".gguf"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(endings); i++) {
        BORA_CLEANUP(bora_freep) char *path = bora_format("%s/%s%s", folder, name, endings[i]);
        if (!path)
            return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
        if (!is_there(path))
            continue;
        *ret_path = bora_steal(&path);
        return BORA_OK;
    }
    return find_split(folder, name, ret_path, err);
}

bora_status bora_model_find(const char *name, const char *search, char **ret_path, bora_error *err)
{
    char *path = NULL;
    if (strchr(name, '/') || is_there(name)) {
        path = bora_strdup(name);
        if (!path)
            return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
    }
    for (const char *at = search; !path && *at;) {
        size_t n = strcspn(at, ":");
        BORA_CLEANUP(bora_freep) char *folder = bora_strndup(at, n);
        if (!folder)
            return bora_fail(err, BORA_E_NOMEM, "model '%s'", name);
        bora_status st = n > 0 && *name ? find_in(folder, name, &path, err) : BORA_OK;
        if (st != BORA_OK)
            return st;
        at += n + (at[n] == ':');
    }
    if (!path)
        return bora_fail(err, BORA_E_NOT_FOUND,
                         "no model '%s' in %s (a path has a '/' in it; a name is NAME, NAME.gguf, "
                         "NAME-00001-of-N.gguf or a folder)",
                         name, *search ? search : "any folder: model.search is empty");
    *ret_path = path;
    return BORA_OK;
}

char *bora_model_search_default(const char *base)
{
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    BORA_CLEANUP(bora_freep)
    char *own = xdg && *xdg == '/'     ? bora_format("%s/bora/models:", xdg)
                : home && *home == '/' ? bora_format("%s/.local/share/bora/models:", home)
                                       : bora_strdup("");
    if (!own)
        return NULL;
    bool is_usr = base && strcmp(base, "/usr") == 0;
    return base && !is_usr ? bora_format("%s%s/share/bora/models:/usr/share/bora/models", own, base)
                           : bora_format("%s/usr/share/bora/models", own);
}
