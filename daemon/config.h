/* borad's configuration: an INI file and the command line, checked as a whole before anything starts.
 *
 *   defaults  <  the file (--config, else $XDG_CONFIG_HOME/bora/borad.conf, else /etc/bora/borad.conf)
 *             <  the command line
 *
 * Every key of the file can be given on the command line as --set section.key=value; the common ones have options of
 * their own. Unknown sections, keys and values are errors, with file and line. */
#ifndef BORA_CONFIG_H
#define BORA_CONFIG_H

#include "engine/sampler.h"
#include "kernels/matrix.h"
#include "model/chat/chat.h"
#include "model/model.h"
#include "plugin/plugin.h"

#include <stdbool.h>

#define BORA_CONFIG_SIZE_MAX    ((size_t)1 << 20) /* bytes of the file */
#define BORA_PLUGIN_OPTIONS_MAX 256u              /* "[kind.name] key" lines in all */

/* One "[kind.name] key = value". */
typedef struct bora_config_option {
    uint32_t kind;
    char *plugin, *key, *value;
} bora_config_option;

/* A limit in bytes, or in per cent of the machine; both 0: the default rule (base/ledger.h). */
typedef struct bora_config_size {
    uint64_t size;
    uint32_t percent;
} bora_config_size;

/* Caller-owned; strings are the config's. */
typedef struct bora_config {
    /* [model] */
    char *model;             /* path or name; NULL: the embedded default */
    char *model_search;      /* "dir:dir" where names are looked for; NULL: the default rule (model/model.h) */
    uint32_t window;         /* BORA_WINDOW_AUTO, _NONE or a number */
    bora_chat_layout layout; /* AUTO: the model's own */
    /* [server] */
    char *socket; /* path or endpoint; NULL: the default rule (proto/endpoint.h) */
    /* [sessions] */
    char *database; /* path; NULL: the default rule */
    uint32_t n_live_max, n_open_max, n_owner_max;
    uint32_t n_left_max; /* sequences of finished requests outside sessions, kept as beginnings of later ones */
    /* [engine] */
    uint32_t n_threads; /* 0: one per core */
    uint32_t n_stages;
    uint32_t chunk, batch_tokens, n_running_max;
    uint32_t max_step_ms; /* 0: by what a step without prompts takes */
    uint64_t context;     /* positions; 0: what the model states, else 32768 */
    /* [cache] */
    bora_rounding rounding; /* [engine] products: what they round activations to */
    uint32_t kv_dtype;      /* BORA_DTYPE_F32, _F16 or _Q8_0 */
    uint32_t slack;         /* positions that can be taken back */
    /* [memory] */
    bora_config_size memory_limit;
    /* [plugins] */
    char *plugin_path;                    /* "dir:dir"; NULL: beside the program */
    char *plugins[BORA_PLUGIN_KINDS + 1]; /* by kind; [0] unused */
    bora_config_option *options;          /* [n_options] */
    size_t n_options;
    /* [generate] */
    uint32_t max_tokens;
    bora_sampling sampling; /* seed unused */
    /* [log] */
    int log_level;         /* BORA_LOG_* */
    uint32_t slow_step_ms; /* 0: slow steps are not logged */
} bora_config;

/* The defaults. Errors: NOMEM. */
bora_status bora_config_init(bora_config *config, bora_error *err);
void bora_config_release(bora_config *config);

/* Reads an INI text of size bytes over what is set already. name: for messages. Errors: INVAL with "name:line: why",
 * LIMIT, NOMEM; config is then half-read and only fit for release. */
bora_status bora_config_parse(bora_config *config, const char *name, const char *text, size_t size, bora_error *err);
/* The file given, or the first of the default places that is there (none: nothing happens). */
bora_status bora_config_load(bora_config *config, const char *path, bora_error *err);
/* "section.key=value", as --set has it; or section and key apart. Errors: INVAL, NOMEM. */
bora_status bora_config_set_pair(bora_config *config, const char *pair, bora_error *err);
bora_status bora_config_set(bora_config *config, const char *section, const char *key, const char *value,
                            bora_error *err);
/* What only shows when everything is read: that the limits fit each other. Errors: INVAL. */
bora_status bora_config_check(const bora_config *config, bora_error *err);

/* The options of one plugin as the loader wants them; items has room for n_options. */
bora_plugin_options bora_config_plugin_options(const bora_config *config, uint32_t kind, const char *plugin,
                                               bora_plugin_option *items);

#endif
