#include "config.h"

#include "base/file.h"
#include "base/memory.h"
#include "model/blocks.h"
#include "model/hparams.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE_MAX 190 /* bytes; libinih has room for 200 */

/* How a key's text becomes a value. */
typedef enum value_type {
    TEXT,
    PATH,
    SEARCH,
    COUNT,
    COUNT64,
    NUMBER,
    LAYOUT,
    WINDOW,
    DTYPE,
    PRODUCTS,
    MEMORY,
    LEVEL
} value_type;

typedef struct config_key {
    const char *section, *name;
    value_type type;
    size_t offset;   /* in bora_config */
    double min, max; /* of COUNT, COUNT64, NUMBER */
} config_key;

/* Of a limit in bytes; what the program itself needs is more than the least, and the log then says so. */
#define MEMORY_MIN 1048576.0          /* 1 MiB */
#define MEMORY_MAX 1125899906842624.0 /* 1 PiB */

#define AT(field)  offsetof(bora_config, field)

static const config_key keys[] = {
    {"model", "path", PATH, AT(model), 0, 0},
    {"model", "search", SEARCH, AT(model_search), 0, 0},
    {"model", "window", WINDOW, AT(window), 1, BORA_POSITIONS_MAX},
    {"model", "layout", LAYOUT, AT(layout), 0, 0},
    {"server", "socket", PATH, AT(socket), 0, 0},
    {"sessions", "database", PATH, AT(database), 0, 0},
    {"sessions", "live_max", COUNT, AT(n_live_max), 1, 100000},
    {"sessions", "open_max", COUNT, AT(n_open_max), 1, 100000},
    {"sessions", "open_per_owner", COUNT, AT(n_owner_max), 1, 100000},
    {"sessions", "left_max", COUNT, AT(n_left_max), 0, 100000},
    {"engine", "threads", COUNT, AT(n_threads), 0, 1024},
    {"engine", "products", PRODUCTS, AT(rounding), 0, 0},
    {"engine", "chunk", COUNT, AT(chunk), 1, 65536},
    {"engine", "batch_tokens", COUNT, AT(batch_tokens), 1, 65536},
    {"engine", "running_max", COUNT, AT(n_running_max), 1, 4096},
    {"engine", "max_step_ms", COUNT, AT(max_step_ms), 0, 3600000},
    {"engine", "context", COUNT64, AT(context), 0, BORA_POSITIONS_MAX},
    {"pipeline", "stages", COUNT, AT(n_stages), 1, 64},
    {"cache", "type", DTYPE, AT(kv_dtype), 0, 0},
    {"cache", "slack", COUNT, AT(slack), 1, 65536},
    {"memory", "limit", MEMORY, AT(memory_limit), MEMORY_MIN, MEMORY_MAX},
    {"plugins", "path", TEXT, AT(plugin_path), 0, 0},
    {"plugins", "attention", TEXT, AT(plugins[BORA_PLUGIN_ATTENTION]), 0, 0},
    {"plugins", "cache", TEXT, AT(plugins[BORA_PLUGIN_CACHE]), 0, 0},
    {"plugins", "expert", TEXT, AT(plugins[BORA_PLUGIN_EXPERT]), 0, 0},
    {"plugins", "link", TEXT, AT(plugins[BORA_PLUGIN_LINK]), 0, 0},
    {"generate", "max_tokens", COUNT, AT(max_tokens), 1, BORA_POSITIONS_MAX},
    {"generate", "temperature", NUMBER, AT(sampling.temperature), 0, 100},
    {"generate", "top_k", COUNT, AT(sampling.top_k), 0, UINT32_MAX},
    {"generate", "top_p", NUMBER, AT(sampling.top_p), 0, 1},
    {"generate", "min_p", NUMBER, AT(sampling.min_p), 0, 1},
    {"generate", "repetition_penalty", NUMBER, AT(sampling.repetition_penalty), 0.01, 10},
    {"generate", "repetition_window", COUNT, AT(sampling.repetition_window), 0, 4096},
    {"log", "level", LEVEL, AT(log_level), 0, 0},
    {"log", "slow_step_ms", COUNT, AT(slow_step_ms), 0, 3600000},
};

/* ---- values -------------------------------------------------------------------------------------------- */

static bora_status replace_text(char **slot, const char *text, bora_error *err)
{
    char *copy = bora_strdup(text);
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "configuration");
    bora_free(*slot);
    *slot = copy;
    return BORA_OK;
}

/* "~/" stands for the home folder. */
static bora_status set_path(char **slot, const char *text, bora_error *err)
{
    const char *home = getenv("HOME");
    if (text[0] != '~' || text[1] != '/' || !home)
        return replace_text(slot, text, err);
    BORA_CLEANUP(bora_freep) char *whole = bora_format("%s%s", home, text + 1);
    return whole ? replace_text(slot, whole, err) : bora_fail(err, BORA_E_NOMEM, "configuration");
}

/* "~/" at the start of each folder of "dir:dir". */
static bora_status set_search(char **slot, const char *text, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *whole = NULL;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, ":");
        BORA_CLEANUP(bora_freep) char *folder = bora_strndup(at, n), *expanded = NULL;
        if (!folder)
            return bora_fail(err, BORA_E_NOMEM, "configuration");
        bora_status st = set_path(&expanded, folder, err);
        if (st != BORA_OK)
            return st;
        char *longer = bora_format("%s%s%s", whole ? whole : "", whole ? ":" : "", expanded);
        if (!longer)
            return bora_fail(err, BORA_E_NOMEM, "configuration");
        bora_free(whole);
        whole = longer;
        at += n + (at[n] == ':');
    }
    return replace_text(slot, whole ? whole : "", err);
}

static bora_status read_count(const config_key *key, const char *text, uint64_t *ret_count, bora_error *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long count = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || (double)count < key->min || (double)count > key->max)
        return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected a whole number from %.0f to %.0f", key->section,
                         key->name, text, key->min, key->max);
    *ret_count = count;
    return BORA_OK;
}

static bora_status set_window(const config_key *key, const char *text, uint32_t *slot, bora_error *err)
{
    uint64_t count = 0;
    if (strcmp(text, "auto") == 0)
        *slot = BORA_WINDOW_AUTO;
    else if (strcmp(text, "none") == 0)
        *slot = BORA_WINDOW_NONE;
    else if (read_count(key, text, &count, NULL) == BORA_OK)
        *slot = (uint32_t)count;
    else
        return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected auto, none or a number from %.0f to %.0f",
                         key->section, key->name, text, key->min, key->max);
    return BORA_OK;
}

/* Behind the number of a size: what it is to be multiplied with; 0: no such unit. */
static uint64_t size_unit(const char *unit)
{
    static const char letters[] = "KMGT";
    unit += strspn(unit, " ");
    if (!*unit)
        return 1;
    const char *letter = strchr(letters, *unit & ~0x20); /* k is K */
    if (!letter || !*letter || (unit[1] && strcmp(unit + 1, "iB") != 0))
        return 0;
    return UINT64_C(1) << 10 * (letter - letters + 1);
}

static bora_status set_memory(const config_key *key, const char *text, bora_config_size *slot, bora_error *err)
{
    bora_config_size memory = {0};
    if (strcmp(text, "auto") == 0) {
        *slot = memory;
        return BORA_OK;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long count = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    bool is_right = end && !errno;
    if (is_right && strcmp(end, "%") == 0) {
        is_right = count >= 1 && count <= 100;
        memory.percent = (uint32_t)count;
    } else if (is_right) {
        is_right = !__builtin_mul_overflow((uint64_t)count, size_unit(end), &memory.size) &&
                   (double)memory.size >= key->min && (double)memory.size <= key->max;
    }
    if (!is_right)
        return bora_fail(
            err, BORA_E_INVAL,
            "%s.%s is '%.60s', expected auto, a size from 1M to 1024T such as 20G or 512 MiB, or a share of "
            "the machine from 1%% to 100%%",
            key->section, key->name, text);
    *slot = memory;
    return BORA_OK;
}

static bora_status read_number(const config_key *key, const char *text, float *ret_number, bora_error *err)
{
    char *end = NULL;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= key->min && number <= key->max)) /* NaN is in no range */
        return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected a number from %g to %g", key->section,
                         key->name, text, key->min, key->max);
    *ret_number = (float)number;
    return BORA_OK;
}

static bora_status set_key(bora_config *config, const config_key *key, const char *text, bora_error *err)
{
    void *slot = (char *)config + key->offset;
    uint64_t count = 0;
    bora_status st = BORA_OK;
    switch (key->type) {
    case TEXT:
    case PATH:
    case SEARCH:
        if (!*text)
            return bora_fail(err, BORA_E_INVAL, "%s.%s is empty", key->section, key->name);
        return key->type == PATH     ? set_path(slot, text, err)
               : key->type == SEARCH ? set_search(slot, text, err)
                                     : replace_text(slot, text, err);
    case WINDOW:
        return set_window(key, text, slot, err);
    case COUNT:
        st = read_count(key, text, &count, err);
        if (st == BORA_OK)
            *(uint32_t *)slot = (uint32_t)count;
        return st;
    case COUNT64:
        st = read_count(key, text, &count, err);
        if (st == BORA_OK)
            *(uint64_t *)slot = count;
        return st;
    case NUMBER:
        return read_number(key, text, slot, err);
    case LAYOUT:
        if (!bora_chat_layout_parse(text, slot))
            return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected " BORA_CHAT_LAYOUTS, key->section,
                             key->name, text);
        return BORA_OK;
    case DTYPE:
        if (!bora_kv_type_parse(text, slot))
            return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected " BORA_KV_TYPES, key->section, key->name,
                             text);
        return BORA_OK;
    case PRODUCTS:
        if (!bora_rounding_parse(text, slot))
            return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected " BORA_ROUNDINGS, key->section, key->name,
                             text);
        return BORA_OK;
    case MEMORY:
        return set_memory(key, text, slot, err);
    case LEVEL:
        if (bora_log_level_parse(text) < 0)
            return bora_fail(err, BORA_E_INVAL, "%s.%s is '%.60s', expected error, warn, info or debug", key->section,
                             key->name, text);
        *(int *)slot = bora_log_level_parse(text);
        return BORA_OK;
    }
    return bora_fail(err, BORA_E_INTERNAL, "%s.%s has no type", key->section, key->name);
}

/* ---- plugin options --------------------------------------------------------------------------------------- */

static void option_release(bora_config_option *option)
{
    bora_free(option->plugin);
    bora_free(option->key);
    bora_free(option->value);
}

/* section is "kind.name": whether the plugin knows the key is asked when it is created. */
static bora_status set_option(bora_config *config, uint32_t kind, const char *plugin, const char *name,
                              const char *text, bora_error *err)
{
    for (size_t i = 0; i < config->n_options; i++) {
        bora_config_option *option = &config->options[i];
        if (option->kind == kind && strcmp(option->plugin, plugin) == 0 && strcmp(option->key, name) == 0)
            return replace_text(&option->value, text, err);
    }
    if (config->n_options == BORA_PLUGIN_OPTIONS_MAX)
        return bora_fail(err, BORA_E_LIMIT, "more than %u plugin options", BORA_PLUGIN_OPTIONS_MAX);
    bora_config_option option = {kind, bora_strdup(plugin), bora_strdup(name), bora_strdup(text)};
    bora_config_option *grown = bora_realloc(config->options, config->n_options + 1, sizeof *grown);
    if (grown)
        config->options = grown;
    if (!grown || !option.plugin || !option.key || !option.value) {
        option_release(&option);
        return bora_fail(err, BORA_E_NOMEM, "configuration");
    }
    config->options[config->n_options++] = option;
    return BORA_OK;
}

bora_plugin_options bora_config_plugin_options(const bora_config *config, uint32_t kind, const char *plugin,
                                               bora_plugin_option *items)
{
    bora_plugin_options options = {.items = items};
    for (size_t i = 0; i < config->n_options; i++)
        if (config->options[i].kind == kind && strcmp(config->options[i].plugin, plugin) == 0)
            items[options.n++] = (bora_plugin_option){config->options[i].key, config->options[i].value};
    return options;
}

/* ---- setting ------------------------------------------------------------------------------------------------ */

bora_status bora_config_set(bora_config *config, const char *section, const char *name, const char *value,
                            bora_error *err)
{
    bool section_known = false;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(keys); i++) {
        if (strcmp(keys[i].section, section) != 0)
            continue;
        section_known = true;
        if (strcmp(keys[i].name, name) == 0)
            return set_key(config, &keys[i], value, err);
    }
    if (section_known)
        return bora_fail(err, BORA_E_INVAL, "section [%.60s] has no key '%.60s'", section, name);
    const char *dot = strchr(section, '.');
    BORA_CLEANUP(bora_freep) char *kind_name = dot ? bora_strndup(section, (size_t)(dot - section)) : NULL;
    if (dot && !kind_name)
        return bora_fail(err, BORA_E_NOMEM, "configuration");
    uint32_t kind = bora_plugin_kind_parse(kind_name);
    if (!*section)
        return bora_fail(err, BORA_E_INVAL, "'%.60s' stands before any [section]", name);
    if (kind == 0 || !dot[1])
        return bora_fail(err, BORA_E_INVAL, "there is no section [%.60s]", section);
    return set_option(config, kind, dot + 1, name, value, err);
}

bora_status bora_config_set_pair(bora_config *config, const char *pair, bora_error *err)
{
    const char *equals = strchr(pair, '=');
    BORA_CLEANUP(bora_freep) char *left = equals ? bora_strndup(pair, (size_t)(equals - pair)) : NULL;
    if (equals && !left)
        return bora_fail(err, BORA_E_NOMEM, "configuration");
    char *dot = left ? strrchr(left, '.') : NULL;
    if (!dot)
        return bora_fail(err, BORA_E_INVAL, "'%.100s' is not section.key=value", pair);
    *dot = '\0';
    return bora_config_set(config, left, dot + 1, equals + 1, err);
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

typedef struct reading {
    bora_config *config;
    bora_status status;
    bora_error why;
} reading;

static int on_line(void *user, const char *section, const char *name, const char *value)
{
    reading *r = user;
    if (r->status != BORA_OK)
        return 0; /* only the first fault is told */
    r->status = bora_config_set(r->config, section, name, value ? value : "", &r->why);
    return r->status == BORA_OK;
}

/* What libinih would take for something else, or cut without a word: long lines, and indented ones (it continues the
 * value before). And what is no line of a configuration: libinih goes on behind it, and would tell of a later fault. */
static bora_status check_lines(const char *name, const char *text, bora_error *err)
{
    int number = 1;
    text += strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark, as some editors write it */
    for (const char *line = text; *line; number++) {
        size_t size = strcspn(line, "\n");
        if (size > LINE_SIZE_MAX)
            return bora_fail(err, BORA_E_INVAL, "%s:%d: longer than %d bytes", name, number, LINE_SIZE_MAX);
        size_t indent = strspn(line, " \t\r\v\f");
        if (indent > 0 && indent < size && line[indent] != ';' && line[indent] != '#')
            return bora_fail(err, BORA_E_INVAL, "%s:%d: a line must not begin with a space", name, number);
        bool is_comment = line[0] == ';' || line[0] == '#';
        bool is_line =
            line[0] == '[' ? memchr(line, ']', size) != NULL : memchr(line, '=', size) || memchr(line, ':', size);
        if (indent == 0 && size > 0 && !is_comment && !is_line)
            return bora_fail(err, BORA_E_INVAL, "%s:%d: neither [section] nor key = value", name, number);
        line += size + (line[size] == '\n');
    }
    return BORA_OK;
}

bora_status bora_config_parse(bora_config *config, const char *name, const char *text, size_t size, bora_error *err)
{
    if (size > BORA_CONFIG_SIZE_MAX)
        return bora_fail(err, BORA_E_LIMIT, "%s: larger than %zu bytes", name, BORA_CONFIG_SIZE_MAX);
    if (memchr(text, '\0', size))
        return bora_fail(err, BORA_E_INVAL, "%s: has zero bytes: not a text", name);
    BORA_CLEANUP(bora_freep) char *copy = bora_strndup(text, size); /* libinih wants an end */
    if (!copy)
        return bora_fail(err, BORA_E_NOMEM, "%s", name);
    bora_status st = check_lines(name, copy, err);
    if (st != BORA_OK)
        return st;
    reading r = {.config = config};
    int line = ini_parse_string(copy, on_line, &r);
    if (r.status != BORA_OK && r.status != BORA_E_INVAL)
        return bora_fail(err, r.status, "%s: %.400s", name, r.why.message);
    if (line > 0)
        return bora_fail(err, BORA_E_INVAL, "%s:%d: %.400s", name, line,
                         r.status == BORA_OK ? "neither [section] nor key = value" : r.why.message);
    if (line < 0)
        return bora_fail(err, BORA_E_NOMEM, "%s", name);
    return BORA_OK;
}

static bora_status load_file(bora_config *config, const char *path, bora_error *err)
{
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    bora_status st = bora_file_read(path, BORA_CONFIG_SIZE_MAX, &text, &size, err);
    return st == BORA_OK ? bora_config_parse(config, path, text, size, err) : st;
}

bora_status bora_config_load(bora_config *config, const char *path, bora_error *err)
{
    if (path)
        return load_file(config, path, err);
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    BORA_CLEANUP(bora_freep)
    char *own = xdg && *xdg == '/'     ? bora_format("%s/bora/borad.conf", xdg)
                : home && *home == '/' ? bora_format("%s/.config/bora/borad.conf", home)
                                       : NULL;
    const char *const places[] = {own, "/etc/bora/borad.conf"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(places); i++)
        if (places[i] && access(places[i], F_OK) == 0)
            return load_file(config, places[i], err);
    return BORA_OK;
}

/* ---- life --------------------------------------------------------------------------------------------------- */

bora_status bora_config_init(bora_config *config, bora_error *err)
{
    *config = (bora_config){
        .layout = BORA_CHAT_AUTO,
        .n_live_max = 64,
        .n_open_max = 256,
        .n_owner_max = 64,
        .n_left_max = 16,
        .n_stages = 1,
        .chunk = 256,
        .batch_tokens = 512,
        .n_running_max = 16,
        .kv_dtype = BORA_DTYPE_F16,
        .slack = 512,
        .max_tokens = 512,
        .sampling = BORA_SAMPLING_DEFAULT,
        .log_level = BORA_LOG_INFO,
        .slow_step_ms = 5000,
    };
    static const char *const plugins[BORA_PLUGIN_KINDS + 1] = {NULL, "flash", "ring", "quant", "thread"};
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++) {
        config->plugins[kind] = bora_strdup(plugins[kind]);
        if (!config->plugins[kind]) {
            bora_config_release(config);
            return bora_fail(err, BORA_E_NOMEM, "configuration");
        }
    }
    return BORA_OK;
}

void bora_config_release(bora_config *config)
{
    bora_free(config->model);
    bora_free(config->model_search);
    bora_free(config->socket);
    bora_free(config->database);
    bora_free(config->plugin_path);
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++)
        bora_free(config->plugins[kind]);
    for (size_t i = 0; i < config->n_options; i++)
        option_release(&config->options[i]);
    bora_free(config->options);
    *config = (bora_config){0};
}

bora_status bora_config_check(const bora_config *config, bora_error *err)
{
    if (config->chunk > config->slack)
        return bora_fail(err, BORA_E_INVAL, "engine.chunk (%u) must not be larger than cache.slack (%u)", config->chunk,
                         config->slack);
    if (config->n_running_max > config->batch_tokens)
        return bora_fail(err, BORA_E_INVAL, "engine.running_max (%u) must not be larger than engine.batch_tokens (%u)",
                         config->n_running_max, config->batch_tokens);
    return BORA_OK;
}
