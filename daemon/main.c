/* borad: reads the configuration, puts the house together, serves until a signal, takes it apart again.
 *
 *   config -> log -> memory ledger -> house (model, pipeline) -> store (store thread) -> house (scheduler, which is the
 *          engine thread, and sessions) -> server (this thread)
 *
 * Of model and pipeline only the headers, options and plugins are looked at before the socket is there, which is quick;
 * the weights are made ready behind it, on a thread of the scheduler's. The server may put another house in the place
 * of the first. */
#include "config.h"

#include "base/file.h"
#include "base/guard.h"
#include "base/ledger.h"
#include "base/machine_memory.h"
#include "base/memory.h"
#include "base/program.h"
#include "endpoint.h"
#include "server/server.h"

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define EXIT_FAILED     1
#define EXIT_USAGE      2
#define CONTEXT_DEFAULT 32768u

/* What the program takes beside what is counted piece by piece: code and libraries, stacks, ZeroMQ's and SQLite's
 * buffers, what malloc keeps. An idle daemon on bora-tiny has 13 MiB of that, half of it files that others share; after
 * long use 16. The rest is room for plugins' libraries and for the unused ends of huge pages. */
#define PROGRAM_SIZE    (UINT64_C(32) << 20)
/* Larger pieces are maps of their own, which go back to the system when they are freed: memory that was given back to
 * the ledger is not held. (malloc would raise this by itself, up to 32 MiB.) */
#define MAP_THRESHOLD   (256 << 10)
#define HEAPS_MAX       4 /* of malloc; it would make eight per core, and what one has free helps no other */

static const char usage[] =
    "usage: borad [OPTION...]\n"
    "\n"
    "The language-model daemon. Without options it serves the embedded model on the default socket.\n"
    "\n"
    "  -m, --model MODEL         a .gguf file, a folder with params.json or config.json, or a name to look for\n"
    "  -s, --socket PATH         where to listen (default: $BORA_SOCKET, or $XDG_RUNTIME_DIR/bora/bora.sock)\n"
    "  -d, --database PATH       where sessions are kept (default: ~/.local/state/bora/sessions.db)\n"
    "  -c, --config FILE         instead of ~/.config/bora/borad.conf or /etc/bora/borad.conf; none: no file\n"
    "  -p, --plugin KIND=NAME    attention, cache, expert or link plugin: a name or an absolute path\n"
    "  -t, --threads N           compute threads (default: one per core)\n"
    "      --memory-limit SIZE   what the daemon may take in all: 20G, 80% of the machine, or auto (default: 90%)\n"
    "      --stages N            pipeline stages (default: 1)\n"
    "      --set SECTION.KEY=VALUE   any key of the configuration file\n"
    "      --check               read configuration, model and plugins, say so, and end\n"
    "      --log-level LEVEL     error, warn, info or debug\n"
    "      --help, --version\n"
    "\n"
    "borad(8) and borad.conf(5) have the details. Talk to it with bora(1).\n";

enum { OPT_SET = 256, OPT_STAGES, OPT_MEMORY_LIMIT, OPT_CHECK, OPT_LOG_LEVEL, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
    {"model", required_argument, NULL, 'm'},
    {"socket", required_argument, NULL, 's'},
    {"database", required_argument, NULL, 'd'},
    {"config", required_argument, NULL, 'c'},
    {"plugin", required_argument, NULL, 'p'},
    {"threads", required_argument, NULL, 't'},
    {"stages", required_argument, NULL, OPT_STAGES},
    {"memory-limit", required_argument, NULL, OPT_MEMORY_LIMIT},
    {"set", required_argument, NULL, OPT_SET},
    {"check", no_argument, NULL, OPT_CHECK},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

/* The house, from the ground up. */
typedef struct borad {
    bora_config config;
    bora_log log;
    char *base;                                           /* folder above that of the program: <base>/bin/borad */
    char *model_path, *plugin_path, *endpoint, *database; /* as resolved; endpoint: libc's memory */
    char *model_search;                                   /* where models are looked for by name */
    bora_plugin_option *option_items;                     /* of one plugin, as asked for last */
    bora_ledger *ledger;
    bool has_program; /* the program's allowance is taken */
    bora_house_options house_options;
    bora_house *house; /* the server's, as long as there is one */
    bora_mailbox *replies;
    bora_store *store;
    bora_server *server;
    int listen_fd; /* from the service manager; -1: none */
    bool private_dir;
} borad;

/* ---- command line ------------------------------------------------------------------------------------------ */

typedef struct command_line {
    const char *config;
    bool check, help, version;
} command_line;

static bora_status set_plugin(bora_config *config, const char *text, bora_error *err)
{
    const char *equals = strchr(text, '=');
    BORA_CLEANUP(bora_freep) char *kind = equals ? bora_strndup(text, (size_t)(equals - text)) : NULL;
    if (!kind || !bora_plugin_kind_parse(kind))
        return bora_fail(err, BORA_E_INVAL, "--plugin %s: expected attention=, cache=, expert= or link= and a name",
                         text);
    return bora_config_set(config, "plugins", kind, equals + 1, err);
}

static bora_status set_option(bora_config *config, int option, const char *value, bora_error *err)
{
    switch (option) {
    case 'm':
        return bora_config_set(config, "model", "path", value, err);
    case 's':
        return bora_config_set(config, "server", "socket", value, err);
    case 'd':
        return bora_config_set(config, "sessions", "database", value, err);
    case 'p':
        return set_plugin(config, value, err);
    case 't':
        return bora_config_set(config, "engine", "threads", value, err);
    case OPT_STAGES:
        return bora_config_set(config, "pipeline", "stages", value, err);
    case OPT_MEMORY_LIMIT:
        return bora_config_set(config, "memory", "limit", value, err);
    case OPT_LOG_LEVEL:
        return bora_config_set(config, "log", "level", value, err);
    case OPT_SET:
        return bora_config_set_pair(config, value, err);
    default:
        return BORA_OK;
    }
}

/* Twice over the arguments: --config must be known before the others are laid over the file. False: usage. */
static bool read_arguments(int argc, char **argv, command_line *ret_line)
{
    int option;
    while ((option = getopt_long(argc, argv, "m:s:d:c:p:t:", long_options, NULL)) != -1) {
        if (option == '?')
            return false; /* getopt has said why */
        if (option == 'c')
            ret_line->config = optarg;
        ret_line->check |= option == OPT_CHECK;
        ret_line->help |= option == OPT_HELP;
        ret_line->version |= option == OPT_VERSION;
    }
    if (optind < argc)
        fprintf(stderr, "borad: '%s' is no option\n", argv[optind]);
    return optind == argc;
}

static bora_status configure(borad *self, int argc, char **argv, const command_line *line, bora_error *err)
{
    bora_status st = bora_config_init(&self->config, err);
    if (st == BORA_OK && !(line->config && strcmp(line->config, "none") == 0))
        st = bora_config_load(&self->config, line->config, err);
    optind = 1;
    int option;
    while (st == BORA_OK && (option = getopt_long(argc, argv, "m:s:d:c:p:t:", long_options, NULL)) != -1)
        st = set_option(&self->config, option, optarg, err);
    return st == BORA_OK ? bora_config_check(&self->config, err) : st;
}

/* ---- places ------------------------------------------------------------------------------------------------- */

/* What is configured, by path or by name. */
static bora_status find_configured_model(borad *self, bora_error *err)
{
    return bora_model_find(self->config.model, self->model_search, &self->model_path, err);
}

/* Else the embedded default: as installed, or from the build tree (<tree>/build/bin/borad). */
static bora_status find_model(borad *self, bora_error *err)
{
    self->model_search =
        self->config.model_search ? bora_strdup(self->config.model_search) : bora_model_search_default(self->base);
    if (!self->model_search)
        return bora_fail(err, BORA_E_NOMEM, "model");
    if (self->config.model)
        return find_configured_model(self, err);
    BORA_CLEANUP(bora_freep) char *installed = bora_format("%s/share/bora/models/bora-tiny-q8_0.gguf", self->base);
    const char *slash = strrchr(self->base, '/');
    BORA_CLEANUP(bora_freep)
    char *in_tree =
        bora_format("%.*s/models/bora-tiny/bora-tiny-q8_0.gguf", slash ? (int)(slash - self->base) : 0, self->base);
    if (!installed || !in_tree)
        return bora_fail(err, BORA_E_NOMEM, "model");
    if (access(installed, R_OK) == 0)
        self->model_path = bora_steal(&installed);
    else if (access(in_tree, R_OK) == 0)
        self->model_path = bora_steal(&in_tree);
    if (self->model_path)
        return BORA_OK;
    return bora_fail(err, BORA_E_NOT_FOUND,
                     "no model is configured, and the embedded one is not in %s/share/bora/models", self->base);
}

static bora_status find_database(borad *self, bora_error *err)
{
    const char *systemd = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (self->config.database)
        self->database = bora_strdup(self->config.database);
    else if (systemd && *systemd == '/' && !strchr(systemd, ':'))
        self->database = bora_format("%s/sessions.db", systemd);
    else if (xdg && *xdg == '/')
        self->database = bora_format("%s/bora/sessions.db", xdg);
    else if (home && *home == '/')
        self->database = bora_format("%s/.local/state/bora/sessions.db", home);
    else
        return bora_fail(err, BORA_E_INVAL, "no place for the session database: HOME is not set; use --database");
    if (!self->database)
        return bora_fail(err, BORA_E_NOMEM, "session database");
    const char *slash = strrchr(self->database, '/');
    if (!slash || slash == self->database)
        return BORA_OK;
    BORA_CLEANUP(bora_freep) char *folder = bora_strndup(self->database, (size_t)(slash - self->database));
    return folder ? bora_dir_make(folder, 0700, err) : bora_fail(err, BORA_E_NOMEM, "session database");
}

/* Where to listen: what the service manager passes goes before what is configured. */
static bora_status find_socket(borad *self, bora_error *err)
{
    int n = sd_listen_fds(1);
    if (n < 0)
        return bora_fail(err, BORA_E_IO, "sockets passed in: %s", strerror(-n));
    if (n > 1)
        return bora_fail(err, BORA_E_INVAL, "%d sockets were passed in, expected one", n);
    if (n == 1) {
        if (sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0)
            return bora_fail(err, BORA_E_INVAL, "the descriptor passed in is no listening Unix stream socket");
        self->listen_fd = SD_LISTEN_FDS_START;
        return bora_server_endpoint_of(self->listen_fd, &self->endpoint, err);
    }
    const char *given = self->config.socket ? self->config.socket : getenv("BORA_SOCKET");
    self->private_dir = !given || !*given;
    self->endpoint = bora_endpoint_resolve(self->config.socket);
    return self->endpoint ? BORA_OK : bora_fail(err, BORA_E_NOMEM, "socket");
}

/* ---- building and taking apart --------------------------------------------------------------------------------- */

static bora_plugin_options plugin_options_of(void *arg, uint32_t kind, const char *name)
{
    borad *self = arg;
    return bora_config_plugin_options(&self->config, kind, name, self->option_items);
}

/* What is the same for every model. */
static void fill_house_options(borad *self)
{
    const bora_config *config = &self->config;
    self->house_options = (bora_house_options){
        .search = self->model_search,
        .model = {.layout = config->layout, .window = config->window, .ledger = self->ledger},
        .pipeline = {.n_threads = config->n_threads,
                     .n_stages = config->n_stages,
                     .max_tokens = config->batch_tokens,
                     .max_logits = config->n_running_max,
                     .slack = config->slack,
                     .max_positions = config->context,
                     .kv_dtype = config->kv_dtype,
                     .rounding = config->rounding,
                     .plugin_path = self->plugin_path,
                     .ledger = self->ledger},
        .context = CONTEXT_DEFAULT,
        .scheduler = {.chunk = config->chunk,
                      .batch_tokens = config->batch_tokens,
                      .max_running = config->n_running_max,
                      .max_step_ms = config->max_step_ms,
                      .slow_step_ms = config->slow_step_ms,
                      .n_left_max = config->n_left_max},
        .sessions = {.n_live_max = config->n_live_max,
                     .n_open_max = config->n_open_max,
                     .n_owner_max = config->n_owner_max,
                     .replies = self->replies},
        .plugin_options = plugin_options_of,
        .plugin_options_arg = self,
    };
}

static bora_status make_ledger(borad *self, bora_error *err)
{
    const bora_config_size *asked = &self->config.memory_limit;
    uint64_t limit = asked->size      ? asked->size
                     : asked->percent ? bora_machine_memory() / 100 * asked->percent
                                      : bora_ledger_default_limit();
    bora_status st = bora_ledger_new(limit, &self->ledger, err);
    if (st != BORA_OK)
        return st;
    bora_logf(&self->log, BORA_LOG_INFO, "memory limit %s%s", bora_show_size(limit).text,
              asked->size || asked->percent ? "" : ", nine tenths of what the machine allows");
    self->has_program = bora_ledger_take(self->ledger, BORA_LEDGER_PROGRAM, PROGRAM_SIZE);
    if (!self->has_program)
        return bora_fail(err, BORA_E_LIMIT,
                         "memory limit: %s are not even enough for the program (%s): raise memory.limit",
                         bora_show_size(limit).text, bora_show_size(PROGRAM_SIZE).text);
    return BORA_OK;
}

static bora_status build(borad *self, bora_error *err)
{
    const char *plugins[BORA_PLUGIN_KINDS + 1] = {0};
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++)
        plugins[kind] = self->config.plugins[kind];
    self->option_items = bora_calloc(self->config.n_options, sizeof *self->option_items);
    if (!self->option_items)
        return bora_fail(err, BORA_E_NOMEM, "plugin options");
    bora_status st = bora_mailbox_new(&self->replies, err);
    if (st != BORA_OK)
        return st;
    fill_house_options(self);
    st = bora_house_new(self->model_path, plugins, &self->house_options, &self->log, &self->house, err);
    return st == BORA_OK ? bora_house_open(self->house, err) : st;
}

static bora_status start(borad *self, bora_error *err)
{
    const bora_config *config = &self->config;
    bora_status st = bora_store_open(self->database, &self->log, self->replies, &self->store, err);
    if (st == BORA_OK)
        st = bora_house_start(self->house, self->store, err);
    bora_server_options server_options = {
        .endpoint = self->endpoint,
        .listen_fd = self->listen_fd,
        .private_dir = self->private_dir,
        .max_tokens = config->max_tokens,
        .sampling = config->sampling,
        .plugin_path = self->plugin_path,
        .plugin_options = plugin_options_of,
        .plugin_options_arg = self,
        .ledger = self->ledger,
        .store = self->store,
        .house = self->house,
        .replies = self->replies,
    };
    if (st == BORA_OK)
        st = bora_server_new(&server_options, &self->log, &self->server, err);
    return st;
}

/* What is still in the mailbox has nobody waiting for it, but owns memory. */
static void empty_replies(borad *self)
{
    bora_sessions *sessions = self->house ? bora_house_sessions(self->house) : NULL;
    bora_mail *mail;
    while (sessions && self->replies && (mail = bora_mailbox_take(self->replies)))
        ((bora_store_job *)mail)->done((bora_store_job *)mail, sessions);
}

/* All have given back by now what they took. */
static void free_ledger(borad *self)
{
    bora_ledger_state books;
    if (self->has_program)
        bora_ledger_give(self->ledger, BORA_LEDGER_PROGRAM, PROGRAM_SIZE);
    bora_ledger_get(self->ledger, &books);
    for (uint32_t account = 0; account < BORA_LEDGER_COUNT; account++)
        if (books.accounts[account])
            bora_logf(&self->log, BORA_LOG_WARN, "%s of memory for %s were never given back",
                      bora_show_size(books.accounts[account]).text, bora_ledger_name(account));
    bora_ledger_free(self->ledger);
}

/* The server goes after the store: jobs that come back from it still answer its requests. */
static void take_apart(borad *self)
{
    if (self->server)
        self->house = bora_server_house(self->server);
    if (self->house) {
        bora_house_stop(self->house);
        bora_house_leave(self->house);
    }
    bora_store_close(self->store);
    empty_replies(self);
    bora_server_free(self->server);
    bora_house_free(self->house);
    free_ledger(self);
    bora_mailbox_free(self->replies);
    bora_free(self->option_items);
    bora_free(self->base);
    bora_free(self->model_path);
    bora_free(self->model_search);
    bora_free(self->plugin_path);
    bora_free(self->database);
    free(self->endpoint);
    bora_config_release(&self->config);
}

static bora_status serve(borad *self, bora_error *err)
{
    bora_status st = find_database(self, err);
    if (st == BORA_OK)
        st = find_socket(self, err);
    if (st == BORA_OK)
        st = start(self, err);
    if (st != BORA_OK)
        return st;
    bora_logf(&self->log, BORA_LOG_INFO, "sessions in %s", self->database);
    bora_logf(&self->log, BORA_LOG_INFO, "listening on %s", self->endpoint);
    return bora_server_run(self->server, err);
}

static bora_status run(borad *self, bool check_only, bora_error *err)
{
    bora_status st = bora_program_base(&self->base, err);
    if (st == BORA_OK)
        st = find_model(self, err);
    if (st != BORA_OK)
        return st;
    self->plugin_path = self->config.plugin_path ? bora_strdup(self->config.plugin_path)
                                                 : bora_format("%s/lib/bora/plugins", self->base);
    if (!self->plugin_path)
        return bora_fail(err, BORA_E_NOMEM, "plugins");
    st = make_ledger(self, err);
    if (st == BORA_OK)
        st = build(self, err);
    if (st != BORA_OK)
        return st;
    const bora_pipeline *pipeline = bora_house_pipeline(self->house);
    const bora_pipeline_options *options = bora_pipeline_options_of(pipeline);
    bora_logf(&self->log, BORA_LOG_INFO, "bora %s, model %s (%s), %u threads, %u %s, %s", BORA_VERSION,
              bora_model_name(bora_house_model(self->house)), self->model_path, options->n_threads, options->n_stages,
              options->n_stages == 1 ? "stage" : "stages", bora_cpu_name(bora_pipeline_cpu(pipeline)));
    if (!check_only)
        return serve(self, err);
    if ((st = bora_house_load(self->house, err)) != BORA_OK)
        return st;
    return puts("configuration, model and plugins are in order") < 0 ? bora_fail(err, BORA_E_IO, "writing") : BORA_OK;
}

/* The process as a whole: signals that the loop reads, libraries that must not make threads of their own. */
static void prepare_process(void)
{
    sigset_t signals;
    (void)sigemptyset(&signals); /* these cannot fail: the numbers are valid */
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of the store, not our end */
    /* OpenBLAS reads this when a plugin loads it; the host owns the threads. */
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1); /* only fails without memory: then nothing else works either */
#if defined(__GLIBC__)
    (void)mallopt(M_MMAP_THRESHOLD, MAP_THRESHOLD); /* hints: without them more is held than is in use */
    (void)mallopt(M_ARENA_MAX, HEAPS_MAX);
#endif
}

int main(int argc, char **argv)
{
    command_line line = {0};
    if (!read_arguments(argc, argv, &line)) {
        fputs("try: borad --help\n", stderr);
        return EXIT_USAGE;
    }
    if (line.help)
        return fputs(usage, stdout) < 0 ? EXIT_FAILED : 0;
    if (line.version)
        return puts("borad " BORA_VERSION) < 0 ? EXIT_FAILED : 0;
    prepare_process();
    borad self = {.listen_fd = -1};
    bora_error err = {{0}};
    bora_log_init(&self.log, BORA_LOG_INFO);
    bora_status st = configure(&self, argc, argv, &line, &err);
    if (st != BORA_OK) {
        bora_logf(&self.log, BORA_LOG_ERROR, "%s", err.message);
        take_apart(&self);
        return EXIT_USAGE;
    }
    self.log.level = self.config.log_level;
    st = bora_guard_install(&err);
    if (st == BORA_OK)
        st = run(&self, line.check, &err);
    if (st != BORA_OK)
        bora_logf(&self.log, BORA_LOG_ERROR, "%s", err.message);
    take_apart(&self);
    if (st == BORA_OK && !line.check)
        bora_logf(&self.log, BORA_LOG_INFO, "ended");
    return st == BORA_OK ? 0 : EXIT_FAILED;
}
