/* Sequences: one conversation's caches in all stages; cutting and forking them. Their pages: sequence_pages.c. */
#include "base/memory.h"
#include "engine/pipeline.h"
#include "engine/pipeline_private.h"

#include <string.h>

static void sequence_closep(bora_sequence **sequence)
{
    bora_sequence_close(*sequence);
}

/* In the pipeline's list, with no cache yet: close takes it like that, too. */
static bora_sequence *sequence_new(bora_pipeline *pipeline)
{
    uint32_t n_stages = pipeline->options.n_stages;
    bora_sequence *sequence = bora_calloc(1, sizeof *sequence + n_stages * sizeof sequence->seqs[0]);
    if (!sequence)
        return NULL;
    sequence->pipeline = pipeline;
    sequence->next = pipeline->sequences;
    sequence->link = &pipeline->sequences;
    if (sequence->next)
        sequence->next->link = &sequence->next;
    pipeline->sequences = sequence;
    pipeline->n_sequences++;
    return sequence;
}

bora_status bora_sequence_open(bora_pipeline *pipeline, bora_sequence **ret_sequence, bora_error *err)
{
    BORA_CLEANUP(sequence_closep) bora_sequence *sequence = sequence_new(pipeline);
    if (!sequence)
        return bora_fail(err, BORA_E_NOMEM, "sequence");
    for (uint32_t s = 0; s < pipeline->options.n_stages; s++) {
        bora_stage *stage = pipeline->stages[s];
        if (!bora_stage_cache(stage))
            continue; /* no layers */
        bora_status st = bora_stage_cache_ops(stage)->seq_open(bora_stage_cache(stage), &sequence->seqs[s], err);
        if (st != BORA_OK)
            return st;
    }
    *ret_sequence = bora_steal(&sequence);
    return BORA_OK;
}

void bora_sequence_close(bora_sequence *sequence)
{
    if (!sequence)
        return;
    for (uint32_t s = 0; s < sequence->pipeline->options.n_stages; s++) {
        bora_stage *stage = sequence->pipeline->stages[s];
        if (bora_stage_cache(stage))
            bora_stage_cache_ops(stage)->seq_close(bora_stage_cache(stage), sequence->seqs[s]);
    }
    *sequence->link = sequence->next;
    if (sequence->next)
        sequence->next->link = sequence->link;
    sequence->pipeline->n_sequences--;
    bora_free(sequence);
}

uint64_t bora_sequence_n_cached(const bora_sequence *sequence)
{
    return sequence->n_cached;
}

uint64_t bora_sequence_bytes(const bora_sequence *sequence)
{
    uint64_t size = 0;
    for (uint32_t s = 0; s < sequence->pipeline->options.n_stages; s++) {
        bora_stage *stage = sequence->pipeline->stages[s];
        if (bora_stage_cache(stage))
            size += bora_stage_cache_ops(stage)->bytes(bora_stage_cache(stage), sequence->seqs[s]);
    }
    return size;
}

/* ---- what is held -------------------------------------------------------------------------------------- */

uint64_t bora_sequence_class_capacity(const bora_pipeline *pipeline, uint32_t class_id)
{
    uint32_t window = pipeline->classes[class_id].window;
    return window ? (uint64_t)window + bora_pipeline_slack(&pipeline->options) : UINT64_MAX;
}

uint64_t bora_sequence_held_from(const bora_sequence *sequence, uint32_t class_id)
{
    uint64_t capacity = bora_sequence_class_capacity(sequence->pipeline, class_id);
    uint64_t oldest = sequence->furthest > capacity ? sequence->furthest - capacity : 0;
    if (oldest < sequence->oldest[class_id])
        oldest = sequence->oldest[class_id];
    return (oldest + BORA_PAGE_POSITIONS - 1) / BORA_PAGE_POSITIONS * BORA_PAGE_POSITIONS;
}

uint64_t bora_sequence_needed_from(const bora_pipeline *pipeline, uint32_t class_id, uint64_t end)
{
    uint64_t window = pipeline->classes[class_id].window;
    if (end == 0 || window == 0 || end < window)
        return 0;
    uint64_t first = (end + 1 - window) / BORA_PAGE_POSITIONS, last = (end - 1) / BORA_PAGE_POSITIONS;
    return (first < last ? first : last) * BORA_PAGE_POSITIONS;
}

/* Asked before any cache is touched, because one that refuses after others have forgotten would leave the sequence
 * torn. */
static bora_status check_held(const bora_sequence *sequence, uint64_t end, bora_error *err)
{
    const bora_pipeline *pipeline = sequence->pipeline;
    for (uint32_t c = 0; end < sequence->n_cached && c < pipeline->n_classes; c++) {
        uint64_t needed = bora_sequence_needed_from(pipeline, c, end), held = bora_sequence_held_from(sequence, c);
        if (needed < held)
            return bora_fail(err, BORA_E_LIMIT, "position %llu needs those from %llu on, only those from %llu are held",
                             (unsigned long long)end, (unsigned long long)needed, (unsigned long long)held);
    }
    return BORA_OK;
}

/* ---- cutting and forking ------------------------------------------------------------------------------- */

bora_status bora_sequence_truncate(bora_sequence *sequence, uint64_t end, bora_error *err)
{
    bora_status st = check_held(sequence, end, err);
    for (uint32_t s = 0; st == BORA_OK && s < sequence->pipeline->options.n_stages; s++) {
        bora_stage *stage = sequence->pipeline->stages[s];
        if (bora_stage_cache(stage))
            st = bora_stage_cache_ops(stage)->truncate(bora_stage_cache(stage), sequence->seqs[s], end, err);
    }
    if (st != BORA_OK)
        return st;
    if (end < sequence->n_cached)
        sequence->n_cached = end;
    if (sequence->n_cached == 0) {
        sequence->furthest = 0;
        memset(sequence->oldest, 0, sizeof sequence->oldest);
    }
    return BORA_OK;
}

/* One stage's part of a fork: by the cache's own means, a copy of everything that is then cut, or page by page. */
static bora_status fork_stage(const bora_sequence *sequence, uint32_t stage_index, uint64_t end,
                              bora_cache_seq **ret_seq, bora_error *err)
{
    const bora_stage *stage = sequence->pipeline->stages[stage_index];
    const bora_cache_ops *ops = bora_stage_cache_ops(stage);
    bora_cache *cache = bora_stage_cache(stage);
    if (!cache)
        return BORA_OK; /* no layers */
    bora_status st;
    if (ops->seq_fork) {
        st = ops->seq_fork(cache, sequence->seqs[stage_index], ret_seq, err);
        return st == BORA_OK ? ops->truncate(cache, *ret_seq, end, err) : st;
    }
    st = ops->seq_open(cache, ret_seq, err);
    return st == BORA_OK ? bora_sequence_copy_pages(sequence, stage_index, end, ops, cache, *ret_seq, err) : st;
}

bora_status bora_sequence_fork(const bora_sequence *sequence, uint64_t n_positions, bora_sequence **ret_sequence,
                               bora_error *err)
{
    bora_pipeline *pipeline = sequence->pipeline;
    if (n_positions > sequence->n_cached)
        return bora_fail(err, BORA_E_INVAL, "a fork of %llu positions, there are only %llu",
                         (unsigned long long)n_positions, (unsigned long long)sequence->n_cached);
    if (n_positions == 0)
        return bora_sequence_open(pipeline, ret_sequence, err);
    bora_status st = check_held(sequence, n_positions, err);
    if (st != BORA_OK)
        return st;
    BORA_CLEANUP(sequence_closep) bora_sequence *fork = sequence_new(pipeline);
    if (!fork)
        return bora_fail(err, BORA_E_NOMEM, "sequence");
    for (uint32_t s = 0; st == BORA_OK && s < pipeline->options.n_stages; s++)
        st = fork_stage(sequence, s, n_positions, &fork->seqs[s], err);
    if (st != BORA_OK)
        return st;
    fork->n_cached = n_positions;
    fork->furthest = sequence->furthest;
    memcpy(fork->oldest, sequence->oldest, sizeof fork->oldest);
    *ret_sequence = bora_steal(&fork);
    return BORA_OK;
}

uint64_t bora_sequence_forkable(const bora_sequence *sequence, uint64_t at_most)
{
    if (at_most > sequence->n_cached)
        at_most = sequence->n_cached;
    /* What is needed only moves back with the end: no smaller multiple can do when this one cannot. */
    uint64_t end = at_most / BORA_PAGE_POSITIONS * BORA_PAGE_POSITIONS;
    return check_held(sequence, end, NULL) == BORA_OK ? end : 0;
}
