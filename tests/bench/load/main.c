/* A load generator for borad: see options.c for what it does, docs/benchmarks.md for how to use it. */
#include "report.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    bora_load_options options;
    bora_load_results *results = NULL;
    char why[200] = "";
    if (!bora_load_options_parse(argc, argv, &options, why)) {
        fprintf(stderr, "load: %s\nload --help says more\n", why);
        return 2;
    }
    if (options.help)
        return fputs(bora_load_usage, stdout) < 0 ? 3 : 0;
    bool ran = bora_load_run(&options, &results);
    if (!ran) {
        for (uint32_t i = 0; results && i < options.n_owners; i++)
            for (uint32_t k = 0; k < results->owners[i].n_failures; k++)
                fprintf(stderr, "load: %s\n", results->owners[i].failures[k]);
        if (results && *results->watch.failure)
            fprintf(stderr, "load: %s\n", results->watch.failure);
        bora_load_results_free(results);
        return 3;
    }
    if (!options.json || options.json_path)
        bora_load_report_print(&options, results);
    bool written = !options.json || bora_load_report_json(&options, results);
    if (!written)
        fprintf(stderr, "load: the results cannot be written\n");
    int code = bora_load_n_failures(&options, results) > 0 ? 1 : 0;
    bora_load_results_free(results);
    return written ? code : 3;
}
