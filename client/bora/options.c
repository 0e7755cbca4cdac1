/* Only what a value's type allows is checked here; what a setting may be is the daemon's to say. */
#include "options.h"

#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX   48
#define FORM_SIZE_MAX ((size_t)256 << 10) /* bytes of a schema or grammar; the daemon takes no longer ones */

enum {
    OPTION_SOCKET = 256,
    OPTION_HELP,
    OPTION_JSON,
    OPTION_SESSION,
    OPTION_SYSTEM,
    OPTION_MAX_TOKENS,
    OPTION_TEMP,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_MIN_P,
    OPTION_REPEAT_PENALTY,
    OPTION_REPEAT_WINDOW,
    OPTION_SEED,
    OPTION_STOP,
    OPTION_LOGIT_BIAS,
    OPTION_IGNORE_EOS,
    OPTION_TOKENS,
    OPTION_NO_BOS,
    OPTION_VERBOSE,
    OPTION_ECHO,
    OPTION_BOS,
    OPTION_IDS,
    OPTION_BACKGROUND,
    OPTION_TIMEOUT,
    OPTION_DRAIN,
    OPTION_CHOICES,
    OPTION_JSON_SCHEMA,
    OPTION_GRAMMAR,
    OPTION_TOP_LOGPROBS,
    OPTION_ONCE
};

typedef struct option_spec {
    int id;
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* NULL: takes none */
    uint32_t group;
    const char *help;
} option_spec;

static const option_spec specs[] = {
    {OPTION_SESSION, 's', "session", "NAME", BORA_OPTIONS_SESSION, "the session to go on with; made if there is none"},
    {OPTION_SYSTEM, 0, "system", "TEXT", BORA_OPTIONS_SESSION, "system prompt of a new conversation"},
    {OPTION_TOKENS, 0, "tokens", "IDS", BORA_OPTIONS_RAW, "complete these token ids: 1,2,3"},
    {OPTION_NO_BOS, 0, "no-bos", NULL, BORA_OPTIONS_RAW, "put no beginning-of-text token before TEXT"},
    {OPTION_MAX_TOKENS, 'n', "max-tokens", "N", BORA_OPTIONS_SAMPLING, "at most N new tokens"},
    {OPTION_TEMP, 0, "temp", "T", BORA_OPTIONS_SAMPLING, "temperature; 0 always takes the best token"},
    {OPTION_TOP_K, 0, "top-k", "N", BORA_OPTIONS_SAMPLING, "choose among the N best tokens; 0: among all"},
    {OPTION_TOP_P, 0, "top-p", "P", BORA_OPTIONS_SAMPLING, "choose among the best that make up the share P"},
    {OPTION_MIN_P, 0, "min-p", "P", BORA_OPTIONS_SAMPLING, "leave out what is less likely than P times the best"},
    {OPTION_REPEAT_PENALTY, 0, "repeat-penalty", "R", BORA_OPTIONS_SAMPLING,
     "above 1: make repeated tokens less likely"},
    {OPTION_REPEAT_WINDOW, 0, "repeat-window", "N", BORA_OPTIONS_SAMPLING, "... of the last N tokens"},
    {OPTION_SEED, 0, "seed", "N", BORA_OPTIONS_SAMPLING, "same seed, same answer"},
    {OPTION_STOP, 0, "stop", "TEXT", BORA_OPTIONS_SAMPLING, "end before TEXT; may be given several times"},
    {OPTION_LOGIT_BIAS, 0, "logit-bias", "ID=BIAS", BORA_OPTIONS_SAMPLING,
     "add BIAS to a token's score; may be given several times"},
    {OPTION_IGNORE_EOS, 0, "ignore-eos", NULL, BORA_OPTIONS_SAMPLING, "go on after the end-of-text token"},
    {OPTION_JSON_SCHEMA, 0, "json-schema", "FILE", BORA_OPTIONS_TERMS,
     "answer with JSON as the schema in FILE wants it"},
    {OPTION_GRAMMAR, 0, "grammar", "FILE", BORA_OPTIONS_TERMS, "answer as the grammar in FILE wants it"},
    {OPTION_TOP_LOGPROBS, 0, "top-logprobs", "N", BORA_OPTIONS_CHOICES,
     "with --json: the N likeliest tokens beside each"},
    {OPTION_CHOICES, 0, "choices", "N", BORA_OPTIONS_CHOICES, "N answers, one after another; the prompt is read once"},
    {OPTION_BACKGROUND, 0, "background", NULL, BORA_OPTIONS_TERMS, "leave the others their turn first"},
    {OPTION_TIMEOUT, 0, "timeout", "SECONDS", BORA_OPTIONS_TERMS, "end the answer then, as far as it has come"},
    {OPTION_DRAIN, 0, "timeout", "SECONDS", BORA_OPTIONS_LOAD, "cut answers that run longer; 30 unless given"},
    {OPTION_ONCE, 0, "once", NULL, BORA_OPTIONS_ONCE, "print how it is now, and end"},
    {OPTION_BOS, 0, "bos", NULL, BORA_OPTIONS_BOS, "with the beginning-of-text token"},
    {OPTION_IDS, 0, "ids", NULL, BORA_OPTIONS_IDS, "only the ids, as --tokens and detokenize take them"},
    {OPTION_ECHO, 0, "echo", NULL, BORA_OPTIONS_ECHO, "print the lines read when input is no terminal"},
    {OPTION_VERBOSE, 'v', "verbose", NULL, BORA_OPTIONS_ANSWER, "tell counts and speed after each answer"},
    {OPTION_JSON, 0, "json", NULL, BORA_OPTIONS_JSON, "print JSON"},
    {OPTION_SOCKET, 0, "socket", "PATH", BORA_OPTIONS_COMMON, "where the daemon listens: a path or ZeroMQ endpoint"},
    {OPTION_HELP, 'h', "help", NULL, BORA_OPTIONS_COMMON, "this text"},
    /* what people are used to type; not in --help */
    {OPTION_TEMP, 0, "temperature", "T", BORA_OPTIONS_SAMPLING, NULL},
    {OPTION_REPEAT_PENALTY, 0, "repetition-penalty", "R", BORA_OPTIONS_SAMPLING, NULL},
    {OPTION_REPEAT_WINDOW, 0, "repetition-window", "N", BORA_OPTIONS_SAMPLING, NULL},
};
#define N_SPECS (sizeof specs / sizeof specs[0])
_Static_assert(N_SPECS < OPTIONS_MAX, "getopt's tables have to hold all options");

/* ---- values ---------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool refuse(char (*ret_why)[256], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(*ret_why, sizeof *ret_why, format, args); /* cut off if it is longer */
    va_end(args);
    return false;
}

static bool parse_whole(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[strspn(text, "0123456789")] != '\0' || end == text || errno || value > max)
        return false;
    *ret_value = value;
    return true;
}

static bool parse_number(const char *text, double *ret_value)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return false;
    *ret_value = value;
    return true;
}

/* A bigger array with room for one more. Returns NULL if there is no memory; old stays then. */
static void *grow(const void *old, size_t n_items, size_t item_size)
{
    return realloc((void *)(uintptr_t)old, (n_items + 1) * item_size);
}

static bool add_token(bora_client_generation *g, int32_t token)
{
    /* capacities are powers of two, from 16 on */
    if (g->n_tokens == 0 || (g->n_tokens >= 16 && (g->n_tokens & (g->n_tokens - 1)) == 0)) {
        size_t capacity = g->n_tokens ? 2 * g->n_tokens : 16;
        int32_t *tokens = realloc((void *)(uintptr_t)g->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return false;
        g->tokens = tokens;
    }
    ((int32_t *)(uintptr_t)g->tokens)[g->n_tokens++] = token;
    return true;
}

bool bora_options_add_tokens(bora_options *options, const char *text, char (*ret_why)[256])
{
    static const char separators[] = ", \t\r\n";
    for (const char *at = text + strspn(text, separators); *at; at += strspn(at, separators)) {
        char word[16];
        uint64_t token = 0;
        size_t size = strcspn(at, separators);
        (void)snprintf(word, sizeof word, "%.*s", size < sizeof word ? (int)size : (int)sizeof word, at);
        if (size >= sizeof word || !parse_whole(word, INT32_MAX, &token))
            return refuse(ret_why, "'%.*s' is not a token id", size < 64 ? (int)size : 64, at);
        if (!add_token(&options->generation, (int32_t)token))
            return refuse(ret_why, "no memory for the tokens");
        at += size;
    }
    return true;
}

static bool add_stop(bora_client_generation *g, const char *text, char (*ret_why)[256])
{
    const char **stops = grow(g->stops, g->n_stops, sizeof *stops);
    if (stops)
        g->stops = stops;
    char *copy = stops ? strdup(text) : NULL;
    if (!copy)
        return refuse(ret_why, "no memory for the stop text");
    stops[g->n_stops++] = copy;
    return true;
}

static bool add_bias(bora_client_generation *g, const char *text, char (*ret_why)[256])
{
    char id[16];
    size_t size = strcspn(text, "=");
    uint64_t token = 0;
    double bias = 0;
    (void)snprintf(id, sizeof id, "%.*s", size < sizeof id ? (int)size : 0, text);
    if (text[size] != '=' || !parse_whole(id, INT32_MAX, &token) || !parse_number(text + size + 1, &bias))
        return refuse(ret_why, "--logit-bias takes ID=BIAS, as 42=-100, not '%.100s'", text);
    bora_client_bias *biases = grow(g->biases, g->n_biases, sizeof *biases);
    if (!biases)
        return refuse(ret_why, "no memory for the bias");
    g->biases = biases;
    biases[g->n_biases++] = (bora_client_bias){.token = (int32_t)token, .bias = (float)bias};
    return true;
}

static bool set_whole(bora_client_generation *g, uint32_t flag, uint32_t *target, const option_spec *spec,
                      const char *value, char (*ret_why)[256])
{
    uint64_t whole = 0;
    if (!parse_whole(value, UINT32_MAX, &whole))
        return refuse(ret_why, "--%s takes a whole number from 0, not '%.100s'", spec->name, value);
    *target = (uint32_t)whole;
    g->set |= flag;
    return true;
}

static bool set_number(bora_client_generation *g, uint32_t flag, double *target, const option_spec *spec,
                       const char *value, char (*ret_why)[256])
{
    double number = 0;
    if (!parse_number(value, &number))
        return refuse(ret_why, "--%s takes a number, not '%.100s'", spec->name, value);
    *target = number;
    g->set |= flag;
    return true;
}

static bool set_timeout(bora_client_generation *g, const char *value, char (*ret_why)[256])
{
    double seconds = 0;
    if (!parse_number(value, &seconds) || !(seconds >= 0.001 && seconds <= UINT32_MAX / 1000))
        return refuse(ret_why, "--timeout takes seconds, from 0.001 to %d, not '%.100s'", UINT32_MAX / 1000, value);
    g->timeout_ms = (uint32_t)(seconds * 1000 + 0.5);
    return true;
}

static bool set_choices(bora_client_generation *g, const char *value, char (*ret_why)[256])
{
    uint64_t n = 0;
    if (!parse_whole(value, UINT32_MAX, &n) || n == 0)
        return refuse(ret_why, "--choices takes a whole number from 1, not '%.100s'", value);
    g->n_choices = (uint32_t)n;
    return true;
}

static bool set_top_logprobs(bora_client_generation *g, const char *value, char (*ret_why)[256])
{
    uint64_t n = 0;
    if (!parse_whole(value, UINT32_MAX, &n))
        return refuse(ret_why, "--top-logprobs takes a whole number, not '%.100s'", value);
    g->n_top_logprobs = (uint32_t)n;
    return true;
}

/* The whole file; of one that was given before nothing stays. */
static bool read_form(const char **form, size_t *size, const option_spec *spec, const char *path, char (*ret_why)[256])
{
    bora_text text = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum bora_text_read read = fd < 0 ? BORA_TEXT_READ_FAILED : bora_text_read_all(&text, fd, FORM_SIZE_MAX);
    int code = errno;
    if (fd >= 0)
        (void)close(fd);
    bool good = read == BORA_TEXT_READ_OK && text.size > 0 && !text.failed;
    if (good) {
        free((void *)(uintptr_t)*form);
        *form = text.data;
        *size = text.size;
        return true;
    }
    bora_text_release(&text);
    return refuse(ret_why, "--%s: '%.100s': %s", spec->name, path,
                  read == BORA_TEXT_READ_TOO_LONG  ? "longer than 256 KiB"
                  : read == BORA_TEXT_READ_NO_TEXT ? "not UTF-8"
                  : read == BORA_TEXT_READ_FAILED  ? strerror(code)
                                                   : "empty");
}

static bool set_seed(bora_client_generation *g, const char *value, char (*ret_why)[256])
{
    if (strcmp(value, "random") == 0) { /* as if it had not been given: for a chat that had one */
        g->set &= ~(uint32_t)BORA_CLIENT_SET_SEED;
        return true;
    }
    if (!parse_whole(value, UINT64_MAX, &g->seed))
        return refuse(ret_why, "--seed takes a whole number from 0 or the word random, not '%.100s'", value);
    g->set |= BORA_CLIENT_SET_SEED;
    return true;
}

/* 0: at once. */
static bool set_drain(bora_options *o, const char *value, char (*ret_why)[256])
{
    double seconds = 0;
    if (!parse_number(value, &seconds) || seconds < 0 || seconds > UINT32_MAX / 1000)
        return refuse(ret_why, "--timeout takes seconds, from 0 to %d, not '%.100s'", UINT32_MAX / 1000, value);
    o->drain_ms = (uint32_t)(seconds * 1000 + 0.5);
    o->has_drain_ms = true;
    return true;
}

static bool apply(bora_options *o, const option_spec *spec, const char *value, char (*ret_why)[256])
{
    bora_client_generation *g = &o->generation;
    switch (spec->id) {
    case OPTION_SOCKET:
        o->socket = value;
        return true;
    case OPTION_HELP:
        o->help = true;
        return true;
    case OPTION_JSON:
        o->json = true;
        return true;
    case OPTION_SESSION:
        o->session = value;
        return true;
    case OPTION_SYSTEM:
        o->system = value;
        return true;
    case OPTION_VERBOSE:
        o->verbose = true;
        return true;
    case OPTION_ECHO:
        o->echo = true;
        return true;
    case OPTION_BOS:
        o->bos = true;
        return true;
    case OPTION_IDS:
        o->ids = true;
        return true;
    case OPTION_ONCE:
        o->once = true;
        return true;
    case OPTION_BACKGROUND:
        g->is_background = true;
        return true;
    case OPTION_TIMEOUT:
        return set_timeout(g, value, ret_why);
    case OPTION_DRAIN:
        return set_drain(o, value, ret_why);
    case OPTION_CHOICES:
        return set_choices(g, value, ret_why);
    case OPTION_JSON_SCHEMA:
        return read_form(&g->json_schema, &g->json_schema_size, spec, value, ret_why);
    case OPTION_GRAMMAR:
        return read_form(&g->grammar, &g->grammar_size, spec, value, ret_why);
    case OPTION_TOP_LOGPROBS:
        return set_top_logprobs(g, value, ret_why);
    case OPTION_NO_BOS:
        g->no_bos = true;
        return true;
    case OPTION_IGNORE_EOS:
        g->ignore_eos = true;
        return true;
    case OPTION_TOKENS:
        return bora_options_add_tokens(o, value, ret_why);
    case OPTION_STOP:
        return add_stop(g, value, ret_why);
    case OPTION_LOGIT_BIAS:
        return add_bias(g, value, ret_why);
    case OPTION_SEED:
        return set_seed(g, value, ret_why);
    case OPTION_MAX_TOKENS:
        return set_whole(g, BORA_CLIENT_SET_MAX_TOKENS, &g->max_tokens, spec, value, ret_why);
    case OPTION_TOP_K:
        return set_whole(g, BORA_CLIENT_SET_TOP_K, &g->top_k, spec, value, ret_why);
    case OPTION_REPEAT_WINDOW:
        return set_whole(g, BORA_CLIENT_SET_REPETITION_WINDOW, &g->repetition_window, spec, value, ret_why);
    case OPTION_TEMP:
        return set_number(g, BORA_CLIENT_SET_TEMPERATURE, &g->temperature, spec, value, ret_why);
    case OPTION_TOP_P:
        return set_number(g, BORA_CLIENT_SET_TOP_P, &g->top_p, spec, value, ret_why);
    case OPTION_MIN_P:
        return set_number(g, BORA_CLIENT_SET_MIN_P, &g->min_p, spec, value, ret_why);
    case OPTION_REPEAT_PENALTY:
        return set_number(g, BORA_CLIENT_SET_REPETITION_PENALTY, &g->repetition_penalty, spec, value, ret_why);
    default:
        return refuse(ret_why, "--%s is not known", spec->name);
    }
}

/* ---- the command line ------------------------------------------------------------------------------------------ */

static const option_spec *find_spec(int id)
{
    for (size_t i = 0; i < N_SPECS; i++)
        if (specs[i].id == id || (specs[i].letter && specs[i].letter == id))
            return &specs[i];
    return NULL;
}

static bool parse(bora_options *options, uint32_t groups, const char *mode, int n_arguments, char **arguments,
                  int *ret_first, char (*ret_why)[256])
{
    struct option longs[OPTIONS_MAX] = {0};
    char letters[2 * OPTIONS_MAX + 4];
    size_t n_longs = 0;
    int n_letters = snprintf(letters, sizeof letters, "%s", mode);
    for (size_t i = 0; i < N_SPECS; i++) {
        const option_spec *spec = &specs[i];
        if (!(spec->group & groups))
            continue;
        longs[n_longs++] =
            (struct option){spec->name, spec->argument ? required_argument : no_argument, NULL, spec->id};
        if (spec->letter)
            n_letters += snprintf(letters + n_letters, sizeof letters - (size_t)n_letters, "%c%s", spec->letter,
                                  spec->argument ? ":" : "");
    }
    optind = 0; /* begins anew: a command's options come after the program's */
    opterr = 0;
    int found;
    while ((found = getopt_long(n_arguments, arguments, letters, longs, NULL)) != -1) {
        const char *word = optind > 0 && optind <= n_arguments ? arguments[optind - 1] : "";
        if (found == ':' && optopt < 256)
            return refuse(ret_why, "option -%c takes a value", optopt);
        if (found == ':')
            return refuse(ret_why, "option %.100s takes a value", word);
        if (found == '?' && optopt > 0 && optopt < 256)
            return refuse(ret_why, "unknown option -%c", optopt);
        if (found == '?')
            return refuse(ret_why, optopt ? "option %.100s takes no value" : "unknown option %.100s", word);
        const option_spec *spec = find_spec(found);
        if (!spec || !apply(options, spec, optarg, ret_why))
            return false;
    }
    *ret_first = optind;
    return true;
}

bool bora_options_parse(bora_options *options, uint32_t groups, int n_arguments, char **arguments, int *ret_first,
                        char (*ret_why)[256])
{
    return parse(options, groups, ":", n_arguments, arguments, ret_first, ret_why);
}

bool bora_options_parse_leading(bora_options *options, uint32_t groups, int n_arguments, char **arguments,
                                int *ret_first, char (*ret_why)[256])
{
    return parse(options, groups, "+:", n_arguments, arguments, ret_first, ret_why);
}

bool bora_options_set(bora_options *options, const char *name, const char *value, char (*ret_why)[256])
{
    for (size_t i = 0; i < N_SPECS; i++) {
        if (specs[i].group != BORA_OPTIONS_SAMPLING || strcmp(specs[i].name, name) != 0)
            continue;
        if (specs[i].argument && !*value)
            return refuse(ret_why, "/%s takes a value: %s", name, specs[i].help ? specs[i].help : "");
        return apply(options, &specs[i], value, ret_why);
    }
    return refuse(ret_why, "there is no /%.60s; /help lists the commands", name);
}

void bora_options_release(bora_options *options)
{
    bora_client_generation *g = &options->generation;
    for (size_t i = 0; i < g->n_stops; i++)
        free((void *)(uintptr_t)g->stops[i]);
    free((void *)(uintptr_t)g->stops);
    free((void *)(uintptr_t)g->biases);
    free((void *)(uintptr_t)g->tokens);
    free((void *)(uintptr_t)g->json_schema);
    free((void *)(uintptr_t)g->grammar);
    *options = (bora_options){0};
}

/* ---- for people -------------------------------------------------------------------------------------------------- */

void bora_options_help(FILE *file, uint32_t groups)
{
    for (size_t i = 0; i < N_SPECS; i++) {
        const option_spec *spec = &specs[i];
        if (!(spec->group & groups) || !spec->help)
            continue;
        char left[48], letter[8] = "    ";
        if (spec->letter)
            (void)snprintf(letter, sizeof letter, "-%c, ", spec->letter);
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, spec->name, spec->argument ? " " : "",
                       spec->argument ? spec->argument : "");
        (void)fprintf(file, "  %-26s  %s\n", left, spec->help);
    }
}

void bora_options_show_sampling(const bora_options *options, FILE *file)
{
    const bora_client_generation *g = &options->generation;
    const struct {
        uint32_t flag;
        const char *name;
        double value;
    } numbers[] = {{BORA_CLIENT_SET_MAX_TOKENS, "max-tokens", g->max_tokens},
                   {BORA_CLIENT_SET_TEMPERATURE, "temp", g->temperature},
                   {BORA_CLIENT_SET_TOP_K, "top-k", g->top_k},
                   {BORA_CLIENT_SET_TOP_P, "top-p", g->top_p},
                   {BORA_CLIENT_SET_MIN_P, "min-p", g->min_p},
                   {BORA_CLIENT_SET_REPETITION_PENALTY, "repeat-penalty", g->repetition_penalty},
                   {BORA_CLIENT_SET_REPETITION_WINDOW, "repeat-window", g->repetition_window}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (g->set & numbers[i].flag)
            (void)fprintf(file, "  %-16s %.10g\n", numbers[i].name, numbers[i].value);
    if (g->set & BORA_CLIENT_SET_SEED)
        (void)fprintf(file, "  %-16s %" PRIu64 "\n", "seed", g->seed);
    if (g->ignore_eos)
        (void)fprintf(file, "  %-16s yes\n", "ignore-eos");
    for (size_t i = 0; i < g->n_biases; i++)
        (void)fprintf(file, "  %-16s %" PRId32 "=%g\n", "logit-bias", g->biases[i].token, (double)g->biases[i].bias);
    for (size_t i = 0; i < g->n_stops; i++)
        (void)fprintf(file, "  %-16s \"%s\"\n", "stop", g->stops[i]);
}
