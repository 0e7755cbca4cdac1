/* The model in execution: its layers cut into stages, each with its plugins and its part of every KV cache, and the
 * packed batch that runs through them.
 *
 * With one stage everything runs on the caller's thread. With more, each stage has a thread and a share of the compute
 * threads; stages are joined by a link plugin, and the batch is cut by sequences into micro-batches that follow each
 * other. One thread (the engine's) calls everything here. */
#ifndef BORA_ENGINE_PIPELINE_H
#define BORA_ENGINE_PIPELINE_H

#include "base/cpu.h"
#include "base/ledger.h"
#include "base/log.h"
#include "engine/pages.h"
#include "engine/profile.h"
#include "kernels/matrix.h"
#include "model/model.h"
#include "plugin/plugin.h"

#include <stdatomic.h>

typedef struct bora_pipeline bora_pipeline;
typedef struct bora_sequence bora_sequence; /* one conversation's KV cache in all stages */

typedef struct bora_pipeline_options {
    uint32_t n_threads;      /* compute threads in all; 0: one per core */
    uint32_t n_stages;       /* 1 .. 64; ceil(n_layers / n_stages) layers each, the last ones may get none */
    uint32_t max_tokens;     /* of one batch */
    uint32_t max_logits;     /* rows of one batch that want logits */
    uint32_t slack;          /* the most positions that can be taken back, and of a part; caches keep this much and one
                              * page beyond the window */
    uint64_t max_positions;  /* a sequence never gets longer */
    uint32_t kv_dtype;       /* BORA_DTYPE_F32, _F16 or _Q8_0 */
    bora_rounding rounding;  /* of activations in products */
    const char *plugin_path; /* "dir:dir", absolute */
    const char *plugins[5];  /* by kind (BORA_PLUGIN_*): name or absolute path; [0] unused */
    const bora_plugin_options *plugin_options[5]; /* by kind; may be NULL */
    bora_ledger *ledger; /* everything here takes from it what it allocates; borrowed; NULL: from none */
    bool replaces; /* whatever else runs on this ledger goes before this pipeline is built: open does not count it */

    /* Told of each part of the weights that was read and is not read again, by one thread at a time, during
     * bora_pipeline_build. NULL: nobody. */
    void (*reader)(void *arg, const void *from, size_t size);
    void *reader_arg;
    const atomic_bool *cancel; /* polled by bora_pipeline_build between pieces of work; NULL: never */
} bora_pipeline_options;

/* In two steps, so that what is wrong with options and plugins is known at once, and the long part can be done while
 * somebody waits for it elsewhere:
 *
 * open checks the options and loads the plugins; all that can be asked about the pipeline below is known then, and
 * nothing can be computed. Quick: it reads no weights. model and log are borrowed and outlive the pipeline.
 * Errors: what the loader and the options say; UNSUPPORTED for a pair that cannot talk; LIMIT if the ledger has no room
 * for the weights. */
bora_status bora_pipeline_open(const bora_model *model, const bora_pipeline_options *options, const bora_log *log,
                               bora_pipeline **ret_pipeline, bora_error *err);
/* build creates the plugins and prepares the weights. Once; on any one thread. Other threads may ask about the pipeline
 * meanwhile, and compute when it has returned. After an error the pipeline can only be freed. Errors: what the plugins'
 * create says; NOMEM; LIMIT (the ledger); CANCELLED. */
bora_status bora_pipeline_build(bora_pipeline *pipeline, bora_error *err);
/* Both. */
bora_status bora_pipeline_new(const bora_model *model, const bora_pipeline_options *options, const bora_log *log,
                              bora_pipeline **ret_pipeline, bora_error *err);
void bora_pipeline_free(bora_pipeline *pipeline); /* all sequences closed before; NULL is a no-op */

const bora_model *bora_pipeline_model(const bora_pipeline *pipeline);
const bora_pipeline_options *bora_pipeline_options_of(const bora_pipeline *pipeline); /* with defaults filled in */
const bora_cpu *bora_pipeline_cpu(const bora_pipeline *pipeline);
/* The plugin in use; NULL for a link when there is one stage. Valid until a swap of this kind. The thread that swaps,
 * or any while nobody can be swapping. */
const bora_plugin_library *bora_pipeline_plugin(const bora_pipeline *pipeline, uint32_t kind);

/* Any thread, also during a swap. False: none of this kind is in use. */
bool bora_pipeline_plugin_info(bora_pipeline *pipeline, uint32_t kind, bora_plugin_info *ret_info);

/* Exchanges the plugin of a kind between two batches, with sequences open: they go on where they are, whatever is in
 * their caches is carried over bit for bit, as far back as whole pages are held. Everything that can fail is done
 * beside what is in use, so that a swap that fails has changed nothing; for a while there is memory for both: caches of
 * all sequences, or weights in the form the expert plugins want. Polls options.cancel, tells options.reader of weights
 * that are read again. name as for bora_plugin_find; options are copied, NULL is none; what bora_pipeline_options_of
 * names stays what the pipeline was opened with. After bora_pipeline_build; the engine's thread. Errors: INVAL (no such
 * kind, an option the plugin does not know), NOT_FOUND, UNSUPPORTED (a pair that cannot talk, a link where there is one
 * stage), NOMEM, CANCELLED, IO (the model's file was damaged), what the plugin says. */
bora_status bora_pipeline_swap(bora_pipeline *pipeline, uint32_t kind, const char *name,
                               const bora_plugin_options *options, bora_error *err);

/* Sequences are opened and closed by the thread that computes (or where it has ended). */
bora_status bora_sequence_open(bora_pipeline *pipeline, bora_sequence **ret_sequence, bora_error *err);
void bora_sequence_close(bora_sequence *sequence); /* NULL is a no-op */
uint64_t bora_sequence_n_cached(const bora_sequence *sequence);
uint64_t bora_sequence_bytes(const bora_sequence *sequence);
/* Forgets positions end and later; an end past the sequence's is no error. In a model with windows that is possible as
 * long as every page with a position of the window before end is still held whole: for slack positions, counted from
 * the furthest one a batch ever reached; for all while that is not past window + slack + 64; and after an import no
 * further than its pages allow. (That goes for end 0 as well: a new sequence is always possible.) Error: LIMIT; then
 * nothing has changed. */
bora_status bora_sequence_truncate(bora_sequence *sequence, uint64_t end, bora_error *err);
/* A new sequence with the first n_positions of this one, which then go separate ways: exactly what running their tokens
 * again would give. What can be taken back of it is what could be taken back of this one. Errors: INVAL (more than
 * n_cached), LIMIT (as for truncate), NOMEM. */
bora_status bora_sequence_fork(const bora_sequence *sequence, uint64_t n_positions, bora_sequence **ret_sequence,
                               bora_error *err);
/* The largest n <= at_most that is a multiple of 64 and can be forked off; 0 if there is none. */
uint64_t bora_sequence_forkable(const bora_sequence *sequence, uint64_t at_most);

/* ---- the packed batch ------------------------------------------------------------------------------- */

typedef struct bora_batch_part {
    bora_sequence *sequence; /* each at most once in a batch; rows are its next positions */
    uint32_t n;              /* rows, 1 .. slack */
    uint32_t n_logits;       /* the last so many rows want logits, 0 .. n */
    bool dropped; /* set by between: it leaves the batch, its sequence is not touched any more, and its logits
                   * are not among those that come out */
} bora_batch_part;

typedef struct bora_batch {
    const int32_t *tokens;        /* [sum of n] packed, part after part: no padding */
    const bora_batch_part *parts; /* [n_parts] */
    uint32_t n_parts;
    /* With one stage: called before each layer, on the caller's thread. It may drop parts, and then cut back (truncate
     * to n_cached), export and close their sequences. NULL: nothing. */
    void (*between)(void *arg);
    void *between_arg;
} bora_batch;

/* Called with what is computed on the way, for eval and debugging: "embeddings", "layers.3.v" ... as named in
 * tests/golden/README.md; data [n_rows, n_cols], f32, or i32 for "experts". May come from a stage's thread, one call at
 * a time per pipeline. */
typedef void (*bora_trace_fn)(void *arg, const char *name, const void *data, uint64_t n_rows, uint64_t n_cols);
void bora_pipeline_trace(bora_pipeline *pipeline, bora_trace_fn fn, void *arg); /* fn NULL: off */

/* Runs the batch. logits [sum of n_logits, vocab_size] in the order of the rows. cancel, if not NULL, is polled once
 * per layer. On any error no sequence has moved: their caches are cut back to where they were. Errors: INVAL (token out
 * of range, too many rows), LIMIT (max_positions), NOMEM, CANCELLED, IO (a file of the model was damaged while it was
 * in use: every batch from then on). */
bora_status bora_pipeline_forward(bora_pipeline *pipeline, const bora_batch *batch, const atomic_bool *cancel,
                                  float *logits, bora_error *err);

/* Time spent in forward passes so far, all stages together. Any thread. */
void bora_pipeline_profile(const bora_pipeline *pipeline, bora_profile *ret_profile);

/* ---- pages ------------------------------------------------------------------------------------------ */

uint32_t bora_pipeline_n_classes(const bora_pipeline *pipeline);
uint32_t bora_pipeline_class_window(const bora_pipeline *pipeline, uint32_t class_id); /* 0: none */
/* Bytes of one position of one class. */
size_t bora_pipeline_class_position_size(const bora_pipeline *pipeline, uint32_t class_id);

/* New pages for the positions from since on (those pages that are not, or not wholly, stored yet), as far as the caches
 * still hold them whole. ret_keep_from[class]: index of the oldest page that restoring still needs. */
bora_status bora_sequence_export(const bora_sequence *sequence, uint64_t since, bora_page **ret_pages, size_t *ret_n,
                                 uint64_t ret_keep_from[BORA_CLASSES_MAX], bora_error *err);
/* Fills an empty sequence so that it stands at n_cached. Needs, per class, every page of the window before n_cached
 * (all pages where there is no window). Older pages that follow on without a gap are used too, as far as the caches can
 * hold them: they are what allows positions to be taken back. On failure the sequence is empty as before.
 * Errors: INVAL (not empty), NOT_FOUND (a page is missing), FORMAT (size, element type), NOMEM, LIMIT. */
bora_status bora_sequence_import(bora_sequence *sequence, uint64_t n_cached, const bora_page *pages, size_t n_pages,
                                 bora_error *err);

/* Bytes of memory that packing the weights takes, which bora_pipeline_build does, beside the file; those of the experts
 * only if their plugin packs them. */
uint64_t bora_pipeline_packed_size(const bora_pipeline *pipeline);

/* Bytes of KV cache per position (all layers) and the most a sequence can hold under the options. */
uint64_t bora_pipeline_kv_position_size(const bora_pipeline *pipeline);
uint64_t bora_pipeline_kv_sequence_max(const bora_pipeline *pipeline);
/* The most bytes that a sequence of up to n_positions ever asks for with the cache that is in use, what it needs while
 * it grows included; at most what max_positions asks for. After bora_pipeline_build; the engine's thread. */
uint64_t bora_pipeline_kv_size(const bora_pipeline *pipeline, uint64_t n_positions);

#endif
