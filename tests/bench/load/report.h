/* What a run comes to, for people or as JSON. */
#ifndef BORA_LOAD_REPORT_H
#define BORA_LOAD_REPORT_H

#include "run.h"

/* Errors, different answers, leaks and unanswered questions of the watcher, over all. */
uint64_t bora_load_n_failures(const bora_load_options *options, const bora_load_results *results);
void bora_load_report_print(const bora_load_options *options, const bora_load_results *results);
/* To stdout, or to the file that the options name. False: no memory, or it cannot be written. */
bool bora_load_report_json(const bora_load_options *options, const bora_load_results *results);

#endif
