/* borad's configuration: a file over the defaults, and the same text line by line as --set has it. */
#include "fuzz/fuzz.h"

#include "base/memory.h"
#include "config.h"

#include <math.h>
#include <string.h>

static void check_values(const bora_config *config)
{
    FUZZ_CHECK(config->n_stages >= 1 && config->n_stages <= 64);
    FUZZ_CHECK(config->chunk >= 1 && config->batch_tokens >= 1 && config->slack >= 1);
    FUZZ_CHECK(config->sampling.temperature >= 0 && isfinite(config->sampling.temperature));
    FUZZ_CHECK(config->sampling.top_p >= 0 && config->sampling.top_p <= 1);
    FUZZ_CHECK(config->memory_limit.percent <= 100);
    FUZZ_CHECK(config->memory_limit.size == 0 ||
               (config->memory_limit.percent == 0 && config->memory_limit.size >= 1048576 &&
                config->memory_limit.size <= UINT64_C(1) << 50));
    FUZZ_CHECK(config->n_options <= BORA_PLUGIN_OPTIONS_MAX);
    bora_plugin_option *items = bora_calloc(config->n_options, sizeof *items);
    FUZZ_CHECK(items);
    for (uint32_t kind = 1; kind <= BORA_PLUGIN_KINDS; kind++) {
        FUZZ_CHECK(config->plugins[kind] && *config->plugins[kind]);
        bora_plugin_options options = bora_config_plugin_options(config, kind, config->plugins[kind], items);
        FUZZ_CHECK(options.n <= config->n_options);
    }
    bora_free(items);
    if (bora_config_check(config, NULL) == BORA_OK)
        FUZZ_CHECK(config->chunk <= config->slack);
}

static void set_lines(bora_config *config, const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - text) - at : size - at;
        char *pair = bora_strndup(text + at, n);
        bora_error err = {{0}};
        FUZZ_CHECK(pair);
        bora_status st = bora_config_set_pair(config, pair, &err);
        FUZZ_CHECK(st == BORA_OK || ((st == BORA_E_INVAL || st == BORA_E_LIMIT) && err.message[0]));
        bora_free(pair);
        at += n + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bora_config config;
    bora_error err = {{0}};
    FUZZ_CHECK(bora_config_init(&config, &err) == BORA_OK);
    bora_status st = bora_config_parse(&config, "borad.conf", (const char *)data, size, &err);
    FUZZ_CHECK(st == BORA_OK || ((st == BORA_E_INVAL || st == BORA_E_LIMIT) && err.message[0]));
    check_values(&config); /* each is checked before it is set, even if the file is bad further down */
    set_lines(&config, (const char *)data, size);
    check_values(&config);
    bora_config_release(&config);
    return 0;
}
