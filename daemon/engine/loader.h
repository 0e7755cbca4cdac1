/* Loading: a pipeline is built while others already wait for it.
 *
 * The loader stands between the pipeline that is built and everybody who wants to know how far it is: it counts what
 * was read, has the file read ahead and let go behind, writes the log's lines, and can be called off. */
#ifndef BORA_ENGINE_LOADER_H
#define BORA_ENGINE_LOADER_H

#include "engine/pipeline.h"

typedef struct bora_loader bora_loader;

/* model and log are borrowed and outlive the loader. Error: NOMEM. */
bora_status bora_loader_new(const bora_model *model, const bora_log *log, bora_loader **ret_loader, bora_error *err);
/* After the pipeline, which keeps pointing to it. NULL is a no-op. */
void bora_loader_free(bora_loader *loader);

/* Fills in what the pipeline reports to and is called off by. Before bora_pipeline_open. */
void bora_loader_watch(bora_loader *loader, bora_pipeline_options *options);
/* Builds the pipeline, which was opened with those options, and says in the log how it goes. Once, on any thread.
 * Errors: as bora_pipeline_build. (A file that is cut short meanwhile is noticed by whoever computes, as at any other
 * time.) */
bora_status bora_loader_run(bora_loader *loader, bora_pipeline *pipeline, bora_error *err);
/* Before the run: it calls fn first, on its thread, and goes on when that has returned. False: the run is called off.
 */
void bora_loader_begin_with(bora_loader *loader, bool (*fn)(void *arg), void *arg);
/* Any thread. A run that is under way, or begins later, ends with CANCELLED after the piece of work it is at. */
void bora_loader_cancel(bora_loader *loader);

/* Any thread. Bytes of weights read so far, of those in the files; some of them are never read (embeddings), so the end
 * may come before all are. */
void bora_loader_progress(const bora_loader *loader, uint64_t *ret_done, uint64_t *ret_total);
/* The same as a whole number of percent, at most 99 as long as it is going on. */
uint32_t bora_load_percent(uint64_t done, uint64_t total);

#endif
