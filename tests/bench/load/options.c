#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char bora_load_usage[] =
    "usage: load [OPTION...]\n"
    "\n"
    "Many clients of several owners at one borad: how long they wait, how fair it is, and whether each gets what is "
    "its\n"
    "own. The same options and seed make the same requests.\n"
    "\n"
    "  -S, --socket SOCKET       where the daemon listens: a path or ZeroMQ endpoint\n"
    "      --clients N           in all (16)\n"
    "      --owners N            each with a uid of its own; only root can be several (1)\n"
    "      --split A,B,...       clients of each owner; instead of the two above\n"
    "      --uid-first UID       owner i is uid UID + i; they need not exist (61000)\n"
    "      --seconds T           begin requests for so long (10)\n"
    "      --requests N          per client, instead of --seconds\n"
    "      --think MIN,MAX       ms between an answer and the next request (0,100)\n"
    "      --prompt-mix MIX      lengths in words and their weights: short (12), medium (60), long (300) or a number;\n"
    "                            short:70,medium:25,long:5 unless given\n"
    "      --max-tokens MIN,MAX  length of answers (8,32)\n"
    "      --sessions SHARE      of the requests, in named sessions; 0 to 1 (0.5)\n"
    "      --churn LIST          connect:5,cancel:5,vanish:5,slow:1 per cent of the requests; none unless given\n"
    "      --background SHARE    of the requests, with priority background (0)\n"
    "      --timeout-ms MS       deadline of each request, told to the daemon\n"
    "      --seed N              of all choices (1)\n"
    "      --check-solo          greedy answers must be what the same request gets alone\n"
    "      --canary              nothing that an owner gets may hold another's secret\n"
    "      --falsify WHAT        solo or canary: expect something wrong once, to see that it is noticed\n"
    "      --json[=FILE]         print JSON; or print the report, and write JSON into a file\n"
    "  -h, --help                this text\n"
    "\n"
    "exit status:\n"
    "  0    done\n"
    "  1    an error that was not asked for, a different answer, or a secret in the wrong hands\n"
    "  2    the command line is wrong\n"
    "  3    there was nothing to measure: no daemon, no permission\n";

enum {
    OPT_CLIENTS = 256,
    OPT_OWNERS,
    OPT_SPLIT,
    OPT_UID_FIRST,
    OPT_SECONDS,
    OPT_REQUESTS,
    OPT_THINK,
    OPT_PROMPT_MIX,
    OPT_MAX_TOKENS,
    OPT_SESSIONS,
    OPT_CHURN,
    OPT_BACKGROUND,
    OPT_TIMEOUT,
    OPT_SEED,
    OPT_CHECK_SOLO,
    OPT_CANARY,
    OPT_FALSIFY,
    OPT_JSON
};

static const struct option table[] = {{"socket", required_argument, NULL, 'S'},
                                      {"clients", required_argument, NULL, OPT_CLIENTS},
                                      {"owners", required_argument, NULL, OPT_OWNERS},
                                      {"split", required_argument, NULL, OPT_SPLIT},
                                      {"uid-first", required_argument, NULL, OPT_UID_FIRST},
                                      {"seconds", required_argument, NULL, OPT_SECONDS},
                                      {"requests", required_argument, NULL, OPT_REQUESTS},
                                      {"think", required_argument, NULL, OPT_THINK},
                                      {"prompt-mix", required_argument, NULL, OPT_PROMPT_MIX},
                                      {"max-tokens", required_argument, NULL, OPT_MAX_TOKENS},
                                      {"sessions", required_argument, NULL, OPT_SESSIONS},
                                      {"churn", required_argument, NULL, OPT_CHURN},
                                      {"background", required_argument, NULL, OPT_BACKGROUND},
                                      {"timeout-ms", required_argument, NULL, OPT_TIMEOUT},
                                      {"seed", required_argument, NULL, OPT_SEED},
                                      {"check-solo", no_argument, NULL, OPT_CHECK_SOLO},
                                      {"canary", no_argument, NULL, OPT_CANARY},
                                      {"falsify", required_argument, NULL, OPT_FALSIFY},
                                      {"json", optional_argument, NULL, OPT_JSON},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

__attribute__((format(printf, 2, 3))) static bool wrong(char why[200], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, 200, format, arguments);
    va_end(arguments);
    return false;
}

/* A whole number at *text, which is moved behind it. */
static bool take_number(const char **text, uint64_t max, uint64_t *ret)
{
    char *end = NULL;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(*text, &end, 10);
    if (errno != 0 || value > max)
        return false;
    *text = end;
    *ret = value;
    return true;
}

static bool read_number(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *ret, char why[200])
{
    const char *rest = text;
    uint64_t value = 0;
    if (!take_number(&rest, max, &value) || *rest || value < min)
        return wrong(why, "%s must be a whole number from %u to %u, not '%.40s'", name, min, max, text);
    *ret = (uint32_t)value;
    return true;
}

static bool read_pair(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *ret_first,
                      uint32_t *ret_last, char why[200])
{
    const char *rest = text;
    uint64_t first = 0, last = 0;
    bool good = take_number(&rest, max, &first) && *rest++ == ',' && take_number(&rest, max, &last) && !*rest;
    if (!good || first < min || first > last)
        return wrong(why, "%s must be MIN,MAX with whole numbers from %u to %u, not '%.40s'", name, min, max, text);
    *ret_first = (uint32_t)first;
    *ret_last = (uint32_t)last;
    return true;
}

static bool take_share(const char **text, double whole, double *ret)
{
    char *end = NULL;
    if (**text != '.' && (**text < '0' || **text > '9'))
        return false;
    double value = strtod(*text, &end) / whole;
    if (!isfinite(value) || value < 0 || value > 1)
        return false;
    *text = end;
    *ret = value;
    return true;
}

static bool read_share(const char *name, const char *text, double *ret, char why[200])
{
    const char *rest = text;
    if (!take_share(&rest, 1, ret) || *rest)
        return wrong(why, "%s must be a number from 0 to 1, not '%.40s'", name, text);
    return true;
}

static bool read_split(const char *text, bora_load_options *o, char why[200])
{
    const char *rest = text;
    o->n_owners = 0;
    o->n_clients = 0;
    do {
        uint64_t n = 0;
        if (o->n_owners == BORA_LOAD_OWNERS_MAX || !take_number(&rest, BORA_LOAD_CLIENTS_MAX, &n) || n == 0)
            return wrong(why, "--split must be the clients of 1 to %u owners, not '%.40s'", BORA_LOAD_OWNERS_MAX, text);
        o->n_clients_of[o->n_owners++] = (uint32_t)n;
        o->n_clients += (uint32_t)n;
    } while (*rest == ',' && *++rest);
    if (*rest || o->n_clients > BORA_LOAD_CLIENTS_MAX)
        return wrong(why, "--split: at most %u clients, not '%.40s'", BORA_LOAD_CLIENTS_MAX, text);
    return true;
}

static bool has_name(const char **text, const char *name)
{
    size_t size = strlen(name);
    if (strncmp(*text, name, size) != 0 || (*text)[size] != ':')
        return false;
    *text += size;
    return true;
}

static bool read_mix(const char *text, bora_load_options *o, char why[200])
{
    const char *rest = text;
    uint32_t sum = 0;
    o->n_lengths = 0;
    do {
        uint64_t n_words = 0, weight = 0;
        if (has_name(&rest, "short"))
            n_words = 12;
        else if (has_name(&rest, "medium"))
            n_words = 60;
        else if (has_name(&rest, "long"))
            n_words = 300;
        else if (!take_number(&rest, BORA_LOAD_WORDS_MAX, &n_words) || n_words == 0)
            return wrong(why, "--prompt-mix: '%.40s' does not begin with short, medium, long or 1 to %u words", rest,
                         BORA_LOAD_WORDS_MAX);
        if (*rest++ != ':' || !take_number(&rest, 1000, &weight) || (*rest && *rest != ','))
            return wrong(why, "--prompt-mix must be LENGTH:WEIGHT,... with weights up to 1000, not '%.40s'", text);
        if (o->n_lengths == BORA_LOAD_LENGTHS_MAX)
            return wrong(why, "--prompt-mix: at most %u lengths", BORA_LOAD_LENGTHS_MAX);
        o->lengths[o->n_lengths].n_words = (uint32_t)n_words;
        o->lengths[o->n_lengths++].weight = (uint32_t)weight;
        sum += (uint32_t)weight;
    } while (*rest == ',' && *++rest);
    return sum > 0 || wrong(why, "--prompt-mix: some weight must be above 0");
}

static bool read_churn(const char *text, bora_load_options *o, char why[200])
{
    static const char *const names[BORA_LOAD_CHURN_NONE] = {"connect", "cancel", "vanish", "slow"};
    const char *rest = text;
    double sum = 0;
    do {
        int kind = 0;
        while (kind < BORA_LOAD_CHURN_NONE && !has_name(&rest, names[kind]))
            kind++;
        if (kind == BORA_LOAD_CHURN_NONE || *rest++ != ':' || !take_share(&rest, 100, &o->churn[kind]) ||
            (*rest && *rest != ','))
            return wrong(why, "--churn must be like connect:5,cancel:5,vanish:5,slow:1, not '%.40s'", text);
    } while (*rest == ',' && *++rest);
    for (int kind = 0; kind < BORA_LOAD_CHURN_NONE; kind++)
        sum += o->churn[kind];
    return sum <= 1 || wrong(why, "--churn: more than 100 per cent");
}

static bool read_seed(const char *text, uint64_t *ret, char why[200])
{
    const char *rest = text;
    if (!take_number(&rest, UINT64_MAX, ret) || *rest)
        return wrong(why, "--seed must be a whole number, not '%.40s'", text);
    return true;
}

static bool read_falsify(const char *text, int *ret, char why[200])
{
    if (strcmp(text, "solo") == 0)
        *ret = BORA_LOAD_FALSIFY_SOLO;
    else if (strcmp(text, "canary") == 0)
        *ret = BORA_LOAD_FALSIFY_CANARY;
    else
        return wrong(why, "--falsify must be solo or canary, not '%.40s'", text);
    return true;
}

static bool read_one(int name, const char *text, bora_load_options *o, char why[200])
{
    switch (name) {
    case 'S':
        o->socket = text;
        return true;
    case OPT_CLIENTS:
        return read_number("--clients", text, 1, BORA_LOAD_CLIENTS_MAX, &o->n_clients, why);
    case OPT_OWNERS:
        return read_number("--owners", text, 1, BORA_LOAD_OWNERS_MAX, &o->n_owners, why);
    case OPT_UID_FIRST:
        return read_number("--uid-first", text, 1, 4000000000u, &o->uid_first, why);
    case OPT_SECONDS:
        return read_number("--seconds", text, 1, BORA_LOAD_SECONDS_MAX, &o->seconds, why);
    case OPT_REQUESTS:
        return read_number("--requests", text, 1, BORA_LOAD_REQUESTS_MAX, &o->n_requests, why);
    case OPT_THINK:
        return read_pair("--think", text, 0, BORA_LOAD_MS_MAX, &o->think_min, &o->think_max, why);
    case OPT_PROMPT_MIX:
        return read_mix(text, o, why);
    case OPT_MAX_TOKENS:
        return read_pair("--max-tokens", text, 1, BORA_LOAD_TOKENS_MAX, &o->max_tokens_min, &o->max_tokens_max, why);
    case OPT_SESSIONS:
        return read_share("--sessions", text, &o->sessions, why);
    case OPT_CHURN:
        return read_churn(text, o, why);
    case OPT_BACKGROUND:
        return read_share("--background", text, &o->background, why);
    case OPT_TIMEOUT:
        return read_number("--timeout-ms", text, 1, BORA_LOAD_MS_MAX, &o->timeout_ms, why);
    case OPT_SEED:
        return read_seed(text, &o->seed, why);
    case OPT_FALSIFY:
        return read_falsify(text, &o->falsify, why);
    case OPT_JSON:
        o->json = true;
        o->json_path = text;
        return true;
    default:
        o->check_solo = o->check_solo || name == OPT_CHECK_SOLO;
        o->canary = o->canary || name == OPT_CANARY;
        o->help = o->help || name == 'h';
        return true;
    }
}

bool bora_load_options_parse(int argc, char **argv, bora_load_options *ret_options, char ret_why[200])
{
    bora_load_options o = {.n_owners = 1,
                           .n_clients = 16,
                           .uid_first = 61000,
                           .seconds = 10,
                           .think_max = 100,
                           .max_tokens_min = 8,
                           .max_tokens_max = 32,
                           .sessions = 0.5,
                           .seed = 1};
    const char *split = NULL;
    int name;
    (void)read_mix("short:70,medium:25,long:5", &o, ret_why); /* it is right */
    optind = 1;
    opterr = 0;
    while ((name = getopt_long(argc, argv, ":S:h", table, NULL)) != -1) {
        if (name == '?' || name == ':')
            return wrong(ret_why, name == '?' ? "no such option: %.60s" : "a value is missing: %.60s",
                         argv[optind - 1]);
        if (name == OPT_SPLIT)
            split = optarg;
        else if (!read_one(name, optarg, &o, ret_why))
            return false;
    }
    if (optind < argc)
        return wrong(ret_why, "unexpected: '%.60s'", argv[optind]);
    if (split && !read_split(split, &o, ret_why))
        return false;
    if (o.n_clients < o.n_owners)
        return wrong(ret_why, "%u owners need at least as many clients", o.n_owners);
    for (uint32_t i = 0; !split && i < o.n_owners; i++)
        o.n_clients_of[i] = o.n_clients / o.n_owners + (i < o.n_clients % o.n_owners);
    if ((o.falsify == BORA_LOAD_FALSIFY_SOLO && !o.check_solo) || (o.falsify == BORA_LOAD_FALSIFY_CANARY && !o.canary))
        return wrong(ret_why, "--falsify needs the check that it is to trip: --check-solo or --canary");
    *ret_options = o;
    return true;
}
