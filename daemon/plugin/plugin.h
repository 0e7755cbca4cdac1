/* Plugins as the daemon sees them: finding, checking and loading them, and the host table they are given.
 *
 * A library is the code, loaded once; its operations are a host-side copy of the plugin's table, so that tables of
 * older and newer minors look alike. A host is one instance's view of the daemon: its options, the thread pool it
 * may use, the log; and what the instance has the daemon keep for it, its matrices. */
#ifndef BORA_PLUGIN_PLUGIN_H
#define BORA_PLUGIN_PLUGIN_H

#include "base/cpu.h"
#include "base/ledger.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"

#define BORA_PLUGIN_KINDS 4u /* BORA_PLUGIN_ATTENTION .. BORA_PLUGIN_LINK are 1 .. 4 */

typedef struct bora_plugin_library bora_plugin_library;
typedef struct bora_plugin_host bora_plugin_host;

/* "attention", "cache", "expert", "link"; NULL for any other number. Any thread. */
const char *bora_plugin_kind_name(uint32_t kind);
/* The reverse; 0 for any other text (or NULL). Any thread. */
uint32_t bora_plugin_kind_parse(const char *name);

/* ---- finding ---------------------------------------------------------------------------------------- */

/* The file of a plugin: <dir>/<kind>-<name>.so, dir from search_path "dir1:dir2" (empty parts are skipped), the first
 * that has it. A name with a '/' in it is a path and must be absolute. ret_path is absolute and the caller's
 * (bora_free). Any thread. Errors: NOT_FOUND (the message lists folders and names), INVAL, NOMEM. */
bora_status bora_plugin_find(uint32_t kind, const char *name, const char *search_path, char **ret_path,
                             bora_error *err);
/* Names of one kind in all folders of search_path, sorted, each once; ends with NULL. Folders that cannot be read count
 * as empty. The caller's: bora_plugin_names_free. Any thread. Errors: INVAL, NOMEM. */
bora_status bora_plugin_names(uint32_t kind, const char *search_path, char ***ret_names, bora_error *err);
void bora_plugin_names_free(char **names); /* NULL is a no-op */

/* ---- loading ---------------------------------------------------------------------------------------- */

/* Loads the file and checks that it is a plugin of this kind that this daemon can use. log is given to the plugin's
 * entry and is not kept. Refuses: INVAL (path not absolute, wrong kind), NOT_FOUND, PERMISSION (writable by everybody,
 * or in a folder that is, or owned by someone else than root or us), IO (does not load), FORMAT (no entry, damaged
 * tables, a required operation missing), UNSUPPORTED (other major, or the entry declined), NOMEM. */
bora_status bora_plugin_load(const char *path, uint32_t kind, const bora_log *log, bora_plugin_library **ret_library,
                             bora_error *err);
/* The same checks for a plugin that is linked in (built with BORA_PLUGIN_STATIC and a name of its own for the entry).
 */
bora_status bora_plugin_load_static(bora_plugin_entry_fn entry, uint32_t kind, const bora_log *log,
                                    bora_plugin_library **ret_library, bora_error *err);
/* Frees the record. The code stays mapped: a plugin may have left thread-local or exit handlers behind. NULL is a
 * no-op. */
void bora_plugin_unload(bora_plugin_library *library);

/* What the plugin says of itself; valid until bora_plugin_unload. Any thread. */
uint32_t bora_plugin_kind(const bora_plugin_library *library);
const char *bora_plugin_name(const bora_plugin_library *library);
const char *bora_plugin_version(const bora_plugin_library *library);
const char *bora_plugin_path(const bora_plugin_library *library); /* links resolved; "" when linked in */
uint32_t bora_plugin_flags(const bora_plugin_library *library);   /* BORA_PLUGIN_BATCH_INVARIANT ... */
uint32_t bora_plugin_dtypes(const bora_plugin_library *library);  /* BORA_DTYPE_BITs; 0 for a link */

/* All of it, for when the library may go. */
typedef struct bora_plugin_info {
    uint32_t kind, flags, dtypes;
    uint16_t abi_major, abi_minor; /* as compiled */
    const char *name, *version;    /* of the plugin's code, which is never unmapped */
    char path[4096];               /* PATH_MAX; "" when linked in */
} bora_plugin_info;
void bora_plugin_info_of(const bora_plugin_library *library, bora_plugin_info *ret_info);

/* The operations; NULL if the library is of another kind. Required ones are there, optional ones may be NULL. Valid
 * until bora_plugin_unload. */
const bora_attention_ops *bora_plugin_attention_ops(const bora_plugin_library *library);
const bora_cache_ops *bora_plugin_cache_ops(const bora_plugin_library *library);
const bora_expert_ops *bora_plugin_expert_ops(const bora_plugin_library *library);
const bora_link_ops *bora_plugin_link_ops(const bora_plugin_library *library);

/* ---- host ------------------------------------------------------------------------------------------- */

typedef struct bora_plugin_option {
    const char *key, *value;
} bora_plugin_option;

typedef struct bora_plugin_options {
    const bora_plugin_option *items; /* [n] */
    size_t n;
} bora_plugin_options;

/* One per instance. log, pool, kernels, cpu and ledger are borrowed and outlive the host; pool NULL: parallel_for runs
 * on the caller alone; kernels (working on the same pool) NULL: matrix_new answers UNSUPPORTED; options are copied,
 * NULL is none. What the instance allocates is taken from the account of the ledger (NULL: of none): alloc answers NULL
 * when that says no; packed matrices are taken from its weights. Errors: NOMEM. */
bora_status bora_plugin_host_new(const bora_log *log, bora_pool *pool, bora_kernels *kernels, const bora_cpu *cpu,
                                 const bora_plugin_options *options, bora_ledger *ledger, uint32_t account,
                                 bora_plugin_host **ret_host, bora_error *err);
/* After the instance's destroy: the matrices it made go with the host. NULL is a no-op. */
void bora_plugin_host_free(bora_plugin_host *host);
/* The table to give to create; valid until bora_plugin_host_free. */
const bora_host *bora_plugin_host_table(const bora_plugin_host *host);
/* The first configured key that the plugin has never asked for, or NULL. Valid until bora_plugin_host_free. */
const char *bora_plugin_host_unknown_option(const bora_plugin_host *host);
/* After an instance's create, which gave st and err: the same with the plugin's path (or name) before the message,
 * where NOMEM because the ledger said no becomes LIMIT and says so; if all went well, INVAL for a configured key that
 * the plugin has never asked for. */
bora_status bora_plugin_created(const bora_plugin_library *library, const bora_plugin_host *host, bora_status st,
                                bora_error *err);

#endif
