/* bora-model: the offline tool on the engine library. Reads the command line, picks the command. */
#include "tool/tool.h"

#include "base/guard.h"
#include "base/memory.h"
#include "base/program.h"
#include "model/blocks.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_FAILED 1
#define EXIT_USAGE  2

static const char usage[] =
    "usage: bora-model COMMAND [OPTION...]\n"
    "\n"
    "commands; MODEL is a .gguf file, a folder with params.json or config.json, or a name to look for:\n"
    "  inspect MODEL [--tensors] [--context N] [--kv-type TYPE] [--window auto|none|N]\n"
    "        hyper-parameters, windows, sizes, KV cache of a session; with --tensors the list of tensors too\n"
    "  tokenize MODEL [TEXT] | tokenize MODEL --chat FILE.json|- [--layout NAME]\n"
    "        ids and pieces of a text, one token a line; without TEXT, of standard input; with --chat, of a\n"
    "        conversation (an array of messages, or an object with messages and tools), ready to be answered\n"
    "  eval GOLDEN.json --out DIR [--model MODEL] [PLUGINS] [--stages N] [--threads N] [--kv-type TYPE]\n"
    "        runs recorded runs through the engine; writes each tensor as DIR/RUN.TENSOR.bin, generated ids as\n"
    "        DIR/RUN.tokens.json\n"
    "  convert MODEL OUT.gguf --type f32|f16|bf16|q8_0|q4_0|q4_k|q5_k|q6_k|mixed [--force] [--threads N] [--verbose]\n"
    "        writes the model as one GGUF file; mixed: q4_k, with values, down projections and output in q6_k\n"
    "  perplexity MODEL FILE [--context N] [--json] [PLUGINS] [--stages N] [--threads N] [--kv-type TYPE]\n"
    "        how well the model foresees a text (in windows of N tokens), or dialogues (FILE.jsonl)\n"
    "  bench MODEL [-p N] [-n N] [--batch N,N...] [--context N,N...] [--rounds N] [--profile] [--json|--csv] "
    "[PLUGINS]\n"
    "        [-t N] [--stages N] [--kv-type TYPE] [--window auto|none|N]\n"
    "        speed of prefill and decoding, beside what the machine can read and multiply at most\n"
    "\n"
    "plugins, by name or absolute path:\n"
    "  --attention NAME   flash            --cache NAME    ring\n"
    "  --expert NAME      quant            --link NAME     thread (with more than one stage)\n"
    "  --plugin KIND=NAME the same: attention, cache, expert or link\n"
    "  --plugins DIR:DIR  where they are; beside the program unless given\n"
    "\n"
    "other options:\n"
    "  --stages N         pipeline stages, 1 to 64; 1 unless given\n"
    "  -t, --threads N    compute threads; one per core unless given\n"
    "  --kv-type TYPE     element type of the KV cache, f32, f16 or q8_0; inspect, bench: f16, others: f32 unless "
    "given\n"
    "  --products HOW     what activations are rounded to: int8 (with quantised weights), bf16 (and with BF16\n"
    "                     weights to bf16) or f32 (nothing); int8 unless given\n"
    "  --context N        inspect: positions that a session may reach; the model's own number unless given;\n"
    "                     bench: where decoding is measured, a list; 0,4096,16384 unless given\n"
    "  -p, --prompt N     bench: tokens of the prompt; 256 unless given\n"
    "  -n, --steps N      bench: decode steps of one measurement; 16 unless given\n"
    "  --batch N,N...     bench: sequences that decode together; 1,4,8,16 unless given\n"
    "  --rounds N         bench: measurements of each kind, of which medians are printed; 3 unless given\n"
    "  --layout NAME      how chats become tokens: " BORA_CHAT_LAYOUTS "\n"
    "  --window WINDOW    auto (what the model states), none, or a number of positions for every layer\n"
    "  --verbose          log what is loaded; convert: a line per tensor\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong\n";

enum {
    OPT_OUT = 256,
    OPT_ATTENTION,
    OPT_CACHE,
    OPT_EXPERT,
    OPT_LINK,
    OPT_PLUGINS,
    OPT_PLUGIN,
    OPT_STAGES,
    OPT_PROMPT,
    OPT_STEPS,
    OPT_BATCH,
    OPT_ROUNDS,
    OPT_PROFILE,
    OPT_CSV,
    OPT_THREADS,
    OPT_KV_TYPE,
    OPT_PRODUCTS,
    OPT_CONTEXT,
    OPT_MODEL,
    OPT_TENSORS,
    OPT_TYPE,
    OPT_FORCE,
    OPT_JSON,
    OPT_CHAT,
    OPT_LAYOUT,
    OPT_WINDOW,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"out", required_argument, NULL, OPT_OUT},
    {"attention", required_argument, NULL, OPT_ATTENTION},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"expert", required_argument, NULL, OPT_EXPERT},
    {"link", required_argument, NULL, OPT_LINK},
    {"plugins", required_argument, NULL, OPT_PLUGINS},
    {"plugin", required_argument, NULL, OPT_PLUGIN},
    {"prompt", required_argument, NULL, OPT_PROMPT},
    {"steps", required_argument, NULL, OPT_STEPS},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"profile", no_argument, NULL, OPT_PROFILE},
    {"csv", no_argument, NULL, OPT_CSV},
    {"stages", required_argument, NULL, OPT_STAGES},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"kv-type", required_argument, NULL, OPT_KV_TYPE},
    {"products", required_argument, NULL, OPT_PRODUCTS},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"tensors", no_argument, NULL, OPT_TENSORS},
    {"type", required_argument, NULL, OPT_TYPE},
    {"force", no_argument, NULL, OPT_FORCE},
    {"json", no_argument, NULL, OPT_JSON},
    {"chat", required_argument, NULL, OPT_CHAT},
    {"layout", required_argument, NULL, OPT_LAYOUT},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"model", required_argument, NULL, OPT_MODEL},
    {NULL, 0, NULL, 0},
};

typedef struct arguments {
    bora_tool_options options;
    bora_tool_convert_options convert;
    bora_tool_bench_options bench;
    const char *out, *chat;
    const char *context;                             /* a number or a list of them: the command decides */
    const char *for_bench;                           /* an option that only bench has */
    bool tensors, json, csv, kv_type, help, version; /* kv_type: it was given */
} arguments;

static bool parse_count(const char *text, unsigned long max, unsigned long *ret_value)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value < 1 || value > max)
        return false;
    *ret_value = value;
    return true;
}

static bool wrong(const char *option, const char *value)
{
    fprintf(stderr, "bora-model: '%s' is no value for %s\n", value, option);
    return false;
}

/* "N,N...", each min .. max, at most BORA_BENCH_LIST_MAX of them. */
static bool parse_list(const char *text, unsigned long min, unsigned long max, uint32_t *ret_values, size_t *ret_n)
{
    uint32_t values[BORA_BENCH_LIST_MAX];
    size_t n = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        errno = 0;
        unsigned long value = strtoul(at, &end, 10);
        if (errno || *at < '0' || *at > '9' || value < min || value > max || n == BORA_BENCH_LIST_MAX)
            return false;
        values[n++] = (uint32_t)value;
        at = end;
        if (*at != ',')
            break;
    }
    const char *rest = text + strspn(text, "0123456789,");
    if (*rest)
        return false;
    memcpy(ret_values, values, n * sizeof *values);
    *ret_n = n;
    return true;
}

/* KIND=NAME. */
static bool parse_plugin(const char *text, arguments *args)
{
    const char *name = strchr(text, '=');
    BORA_CLEANUP(bora_freep) char *word = bora_strndup(text, name ? (size_t)(name - text) : 0);
    uint32_t kind = word ? bora_plugin_kind_parse(word) : 0;
    if (!kind || !name[1])
        return wrong("--plugin", text);
    args->options.pipeline.plugins[kind] = name + 1;
    return true;
}

static bool parse_bench_option(int opt, arguments *args)
{
    bora_tool_bench_options *bench = &args->bench;
    unsigned long count = 0;
    switch (opt) {
    case OPT_PROMPT:
    case 'p':
        args->for_bench = "--prompt";
        if (!parse_count(optarg, 65536, &count))
            return wrong("--prompt", optarg);
        bench->n_prompt = (uint32_t)count;
        return true;
    case OPT_STEPS:
    case 'n':
        args->for_bench = "--steps";
        if (!parse_count(optarg, 65536, &count))
            return wrong("--steps", optarg);
        bench->n_steps = (uint32_t)count;
        return true;
    case OPT_ROUNDS:
        args->for_bench = "--rounds";
        if (!parse_count(optarg, BORA_BENCH_ROUNDS_MAX, &count))
            return wrong("--rounds", optarg);
        bench->n_rounds = (uint32_t)count;
        return true;
    case OPT_BATCH:
        args->for_bench = "--batch";
        return parse_list(optarg, 1, BORA_BENCH_BATCH_MAX, bench->batches, &bench->n_batches) ||
               wrong("--batch", optarg);
    case OPT_PROFILE:
        args->for_bench = "--profile";
        bench->profile = true;
        return true;
    case OPT_CSV:
        args->for_bench = "--csv";
        args->csv = true;
        return true;
    default:
        return false; /* getopt has said why */
    }
}

static bool parse_option(int opt, arguments *args)
{
    bora_pipeline_options *pipeline = &args->options.pipeline;
    unsigned long count = 0;
    switch (opt) {
    case OPT_OUT:
        args->out = optarg;
        return true;
    case OPT_ATTENTION:
        pipeline->plugins[BORA_PLUGIN_ATTENTION] = optarg;
        return true;
    case OPT_CACHE:
        pipeline->plugins[BORA_PLUGIN_CACHE] = optarg;
        return true;
    case OPT_EXPERT:
        pipeline->plugins[BORA_PLUGIN_EXPERT] = optarg;
        return true;
    case OPT_LINK:
        pipeline->plugins[BORA_PLUGIN_LINK] = optarg;
        return true;
    case OPT_PLUGIN:
        return parse_plugin(optarg, args);
    case OPT_PLUGINS:
        pipeline->plugin_path = optarg;
        return true;
    case OPT_STAGES:
        if (!parse_count(optarg, 64, &count))
            return wrong("--stages", optarg);
        pipeline->n_stages = (uint32_t)count;
        return true;
    case OPT_THREADS:
    case 't':
        if (!parse_count(optarg, 1024, &count))
            return wrong("--threads", optarg);
        pipeline->n_threads = (uint32_t)count;
        return true;
    case OPT_CONTEXT:
        args->context = optarg;
        return true;
    case OPT_WINDOW:
        if (strcmp(optarg, "auto") == 0)
            count = BORA_WINDOW_AUTO;
        else if (strcmp(optarg, "none") == 0)
            count = BORA_WINDOW_NONE;
        else if (!parse_count(optarg, BORA_POSITIONS_MAX, &count))
            return wrong("--window", optarg);
        args->options.window = (uint32_t)count;
        return true;
    case OPT_KV_TYPE:
        if (!bora_kv_type_parse(optarg, &pipeline->kv_dtype))
            return wrong("--kv-type", optarg);
        args->kv_type = true;
        return true;
    case OPT_PRODUCTS:
        if (!bora_rounding_parse(optarg, &pipeline->rounding))
            return wrong("--products", optarg);
        return true;
    case OPT_MODEL:
        args->options.model = optarg;
        return true;
    case OPT_TENSORS:
        args->tensors = true;
        return true;
    case OPT_TYPE:
        args->convert.type = optarg;
        return true;
    case OPT_FORCE:
        args->convert.force = true;
        return true;
    case OPT_JSON:
        args->json = true;
        return true;
    case OPT_CHAT:
        args->chat = optarg;
        return true;
    case OPT_LAYOUT:
        return bora_chat_layout_parse(optarg, &args->options.layout) || wrong("--layout", optarg);
    case OPT_VERBOSE:
        args->convert.table = true;
        ((bora_log *)(uintptr_t)args->options.log)->level = BORA_LOG_DEBUG; /* main's own */
        return true;
    case OPT_HELP:
        args->help = true;
        return true;
    case OPT_VERSION:
        args->version = true;
        return true;
    default:
        return parse_bench_option(opt, args);
    }
}

static char *default_plugin_path(void)
{
    BORA_CLEANUP(bora_freep) char *base = NULL;
    return bora_program_base(&base, NULL) == BORA_OK ? bora_format("%s/lib/bora/plugins", base) : NULL;
}

static bora_status read_all(FILE *stream, const char *name, bora_text *text, bora_error *err)
{
    char bytes[65536];
    size_t n;
    bora_status empty = bora_text_reserve(text, 0, err);
    if (empty != BORA_OK)
        return empty;
    while ((n = fread(bytes, 1, sizeof bytes, stream)) > 0) {
        bora_status st = bora_text_append(text, bytes, n, err);
        if (st != BORA_OK)
            return st;
    }
    return ferror(stream) ? bora_fail(err, BORA_E_IO, "reading %s: %s", name, strerror(errno)) : BORA_OK;
}

/* text: the word of the command line; NULL: from the file of --chat, or from standard input. */
static bora_status tokenize(const char *model, const char *text, const char *chat, const bora_tool_options *options,
                            bora_error *err)
{
    if (text)
        return bora_tool_tokenize(model, text, strlen(text), false, options, err);
    BORA_CLEANUP(bora_text_release) bora_text input = {0};
    bool from_stdin = !chat || strcmp(chat, "-") == 0;
    const char *name = from_stdin ? "standard input" : chat;
    FILE *stream = from_stdin ? stdin : fopen(chat, "rbe");
    if (!stream)
        return bora_fail(err, errno == ENOENT ? BORA_E_NOT_FOUND : BORA_E_IO, "open '%s': %s", chat, strerror(errno));
    bora_status st = read_all(stream, name, &input, err);
    if (!from_stdin)
        (void)fclose(stream); /* was only read */
    return st == BORA_OK ? bora_tool_tokenize(model, input.bytes, input.size, chat != NULL, options, err) : st;
}

__attribute__((format(printf, 1, 2))) static int misused(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bora-model: ");
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; 'bora-model --help' shows how it is used\n");
    return EXIT_USAGE;
}

/* Set by the first signal; the second ends the program as signals do. */
static atomic_bool stop;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

/* For commands that look at it and have something to put away. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    (void)sigaction(SIGINT, &action, NULL); /* known signals: cannot fail */
    (void)sigaction(SIGTERM, &action, NULL);
}

/* The commands, with the words that they take. */
static const struct {
    const char *name;
    int n_min, n_max;
    const char *words[3];
    const char *hint; /* to one word too many */
} commands[] = {
    {"inspect", 1, 1, {"model"}, ""},
    {"tokenize", 1, 2, {"model", "text"}, " (quote the text)"},
    {"eval", 1, 1, {"golden.json"}, ""},
    {"convert", 2, 2, {"model", "name of the new file"}, ""},
    {"perplexity", 2, 2, {"model", "file"}, ""},
    {"bench", 1, 1, {"model"}, ""},
};
enum { INSPECT, TOKENIZE, EVAL, CONVERT, PERPLEXITY, BENCH, N_COMMANDS };

/* The value of --context, by command. */
static bool parse_context(int command, arguments *args)
{
    unsigned long count = 0;
    if (!args->context)
        return true;
    if (command == BENCH)
        return parse_list(args->context, 0, 1UL << 24, args->bench.contexts, &args->bench.n_contexts);
    if (!parse_count(args->context, 1UL << 24, &count))
        return false;
    args->options.pipeline.max_positions = count;
    return true;
}

static bora_status run_one(int command, arguments *args, char **words, bora_error *err)
{
    switch (command) {
    case INSPECT:
        if (!args->kv_type)
            args->options.pipeline.kv_dtype = BORA_DTYPE_F16; /* as borad keeps it */
        return bora_tool_inspect(words[0], args->tensors, &args->options, err);
    case TOKENIZE:
        return tokenize(words[0], words[1], args->chat, &args->options, err);
    case CONVERT:
        catch_signals();
        return bora_tool_convert(words[0], words[1], &args->convert, &args->options, err);
    case PERPLEXITY:
        catch_signals();
        return bora_tool_perplexity(words[0], words[1], args->json, &args->options, err);
    case BENCH: /* as borad has it */
        if (!args->kv_type)
            args->options.pipeline.kv_dtype = BORA_DTYPE_F16;
        args->bench.format = args->json ? BORA_BENCH_JSON : args->csv ? BORA_BENCH_CSV : BORA_BENCH_TABLE;
        catch_signals();
        return bora_tool_bench(words[0], &args->bench, &args->options, err);
    default:
        return bora_tool_eval(words[0], args->out, &args->options, err);
    }
}

static int run_command(arguments *args, char **words, int n_words)
{
    bora_error err = {{0}};
    const char *name = words[0];
    if (!name) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    int command = 0;
    while (command < N_COMMANDS && strcmp(commands[command].name, name) != 0)
        command++;
    if (command == N_COMMANDS)
        return misused("there is no command '%s'", name);
    words++;
    n_words--;
    if (n_words < commands[command].n_min)
        return misused("%s: the %s is missing", name, commands[command].words[n_words]);
    if (args->chat && command != TOKENIZE)
        return misused("%s: --chat is for tokenize", name);
    const int n_max = args->chat ? 1 : commands[command].n_max; /* a chat or a text */
    if (n_words > n_max)
        return misused("%s: '%s' is one word too many%s", name, words[n_max], args->chat ? "" : commands[command].hint);
    if (command == EVAL && !args->out)
        return misused("%s: --out DIR is missing", name);
    if (command == CONVERT && !args->convert.type)
        return misused("%s: --type TYPE is missing", name);
    if (args->for_bench && command != BENCH)
        return misused("%s: %s is for bench", name, args->for_bench);
    if (args->json && args->csv)
        return misused("%s: --json or --csv, not both", name);
    if (!parse_context(command, args))
        return misused("%s: '%s' is no value for --context", name, args->context);
    bora_status st = run_one(command, args, words, &err);
    if (fflush(stdout) != 0 && st == BORA_OK)
        st = bora_fail(&err, BORA_E_IO, "writing: %s", strerror(errno));
    if (st != BORA_OK) {
        fprintf(stderr, "bora-model: %s\n", err.message);
        return EXIT_FAILED;
    }
    return 0;
}

int main(int argc, char **argv)
{
    /* OpenBLAS reads this when a plugin loads it; the host owns the threads. */
    (void)setenv("OPENBLAS_NUM_THREADS", "1", 1); /* only fails without memory: then nothing else works either */
    bora_log log;
    bora_log_init(&log, BORA_LOG_WARN);
    BORA_CLEANUP(bora_freep) char *plugin_path = default_plugin_path();
    arguments args = {
        .bench = {.n_prompt = 256,
                  .n_steps = 16,
                  .n_rounds = 3,
                  .batches = {1, 4, 8, 16},
                  .n_batches = 4,
                  .contexts = {0, 4096, 16384},
                  .n_contexts = 3},
        .options =
            {
                .log = &log,
                .stop = &stop,
                .layout = BORA_CHAT_AUTO,
                .pipeline =
                    {
                        .n_stages = 1,
                        .kv_dtype = BORA_DTYPE_F32,
                        .plugin_path = plugin_path ? plugin_path : BORA_PREFIX "/lib/bora/plugins",
                        .plugins = {[BORA_PLUGIN_ATTENTION] = "flash",
                                    [BORA_PLUGIN_CACHE] = "ring",
                                    [BORA_PLUGIN_EXPERT] = "quant",
                                    [BORA_PLUGIN_LINK] = "thread"},
                    },
            },
    };
    (void)bora_guard_install(NULL); /* without it a file cut short ends the program, as it does any other */
    int opt;
    while ((opt = getopt_long(argc, argv, "t:p:n:", long_options, NULL)) != -1)
        if (!parse_option(opt, &args))
            return EXIT_USAGE;
    if (args.help)
        return fputs(usage, stdout) < 0 ? EXIT_FAILED : 0;
    if (args.version)
        return puts("bora-model " BORA_VERSION) < 0 ? EXIT_FAILED : 0;
    return run_command(&args, argv + optind, argc - optind);
}
