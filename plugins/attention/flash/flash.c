/* attention-flash: softmax(q k^T / sqrt(head_dim)) v in tiles with the online softmax of FlashAttention-2 (arXiv
 * 2307.08691), split along positions as in Flash-Decoding where rows alone do not keep all threads busy.
 *
 *   attend   sequences -> items (some rows each) -> units (an item's kv head, or one chunk of positions of it)
 *   unit     a worker takes the next one, computes the chunks it covers, and combines them or puts the chunk aside
 *   combine  the chunks that were put aside, ascending
 *
 * How work is cut changes no bit of the result: flash.h says why. The arithmetic is in tile.inc. */
#include "flash.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define UNITS_PER_THREAD 8u  /* with fewer, positions are split too */
#define ITEMS_PER_THREAD 4u  /* with fewer chunks, a unit has fewer heads */
#define HEADS_TOGETHER   8u  /* at most */
#define LINE             16u /* floats per cache line: arrays of scratch begin at multiples of it */

/* Some rows of one sequence. */
typedef struct flash_item {
    uint32_t seq, row, n_rows;
    uint32_t n_together;  /* kv heads of a unit */
    bool split;           /* a unit is one chunk */
    uint64_t first_chunk; /* chunks first_chunk .. first_chunk+n_chunks-1 hold what the rows see */
    uint64_t n_chunks;
    uint64_t first_unit; /* units are numbered by their kv heads, chunk by chunk */
    uint64_t
        first_part; /* floats from the beginning of parts to the item's: [n_kv_heads / n_together, n_chunks] states */
} flash_item;

struct bora_attention {
    const bora_host *host;
    flash_shape shape;
    const flash_kernels *kernels;
    uint32_t max_tokens, n_threads;
    uint32_t block_rows; /* the most rows of an item */
    flash_item *items;   /* [max_tokens] */
    float *scratch;      /* [n_threads, scratch_size] */
    size_t scratch_size; /* floats */
    float *parts;        /* [parts_size]: states of chunks of items that are split */
    size_t parts_size;
};

/* ---- memory -------------------------------------------------------------------------------------------- */

static size_t whole_lines(size_t n_floats)
{
    return (n_floats + LINE - 1) / LINE * LINE;
}

/* Floats of a state. */
static size_t state_size(const flash_shape *shape, size_t n_lines)
{
    return 2 * whole_lines(n_lines) + n_lines * shape->width;
}

static flash_state state_at(size_t n_lines, float *memory)
{
    return (flash_state){
        .max = memory,
        .sum = memory + whole_lines(n_lines),
        .values = memory + 2 * whole_lines(n_lines),
    };
}

static flash_scratch scratch_of(const bora_attention *attention, uint32_t worker)
{
    const flash_shape *shape = &attention->shape;
    const size_t n_lines = (size_t)attention->block_rows * shape->group;
    float *next = attention->scratch + worker * attention->scratch_size;
    flash_scratch scratch = {.q = next};
    scratch.scores = next += n_lines * shape->width;
    scratch.k = next += n_lines * FLASH_TILE;
    scratch.v = next += (size_t)FLASH_TILE * shape->width;
    scratch.chunk = state_at(n_lines, next += (size_t)FLASH_TILE * shape->width);
    scratch.total = state_at(n_lines, next + state_size(shape, n_lines));
    return scratch;
}

/* False if it cannot be counted. The sum of what scratch_of hands out. */
static bool count_scratch(const flash_shape *shape, uint32_t block_rows, size_t *ret_size)
{
    size_t n_lines, lines, tile, size;
    if (__builtin_mul_overflow((size_t)block_rows, (size_t)shape->group, &n_lines) || n_lines > SIZE_MAX / 1024 ||
        __builtin_mul_overflow(n_lines, 3 * (size_t)shape->width + FLASH_TILE, &lines) ||
        __builtin_mul_overflow(2 * (size_t)FLASH_TILE, (size_t)shape->width, &tile) ||
        __builtin_add_overflow(lines, tile, &size) || __builtin_add_overflow(size, 4 * whole_lines(n_lines), &size))
        return false;
    *ret_size = size;
    return true;
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

typedef struct flash_call {
    const bora_attention *attention;
    const bora_attention_seq *seqs;
    uint32_t n_items;
    bool is_split; /* some items are */
    uint64_t n_units;
    _Atomic uint64_t next; /* units taken; atomic: every worker takes */
} flash_call;

/* How many kv heads a unit takes together. Where the heads of a page of positions follow each other, going through them
 * in that order reads memory in long runs: what processors prefetch on their own is then of use. But all threads want
 * units. */
static uint32_t plan_together(const bora_attention *attention, const bora_attention_seq *seq, const flash_item *item,
                              uint32_t n_seqs)
{
    const bora_kv_span *span = &seq->spans[0];
    if (span->head_stride >= FLASH_CHUNK * span->position_stride)
        return 1;
    const uint32_t n_heads = attention->shape.n_kv_heads;
    for (uint32_t n = n_heads < HEADS_TOGETHER ? n_heads : HEADS_TOGETHER; n > 1; n--)
        if (n_heads % n == 0 && n * item->n_rows <= attention->block_rows &&
            n_seqs * item->n_chunks * (n_heads / n) >= ITEMS_PER_THREAD * (uint64_t)attention->n_threads)
            return n;
    return 1;
}

static void plan_items(const bora_attention *attention, uint32_t n_seqs, flash_call *call)
{
    for (uint32_t s = 0; s < n_seqs; s++) {
        const bora_attention_seq *seq = &call->seqs[s];
        for (uint32_t row = 0; row < seq->n; row += attention->block_rows) {
            const uint32_t left = seq->n - row, n = left < attention->block_rows ? left : attention->block_rows;
            const uint64_t first = flash_visible_of(seq, row).from / FLASH_CHUNK;
            const uint64_t last = (flash_visible_of(seq, row + n - 1).to - 1) / FLASH_CHUNK;
            flash_item *item = &attention->items[call->n_items++];
            *item = (flash_item){
                .seq = s,
                .row = row,
                .n_rows = n,
                .first_chunk = first,
                .n_chunks = last - first + 1,
            };
            item->n_together = plan_together(attention, seq, item, n_seqs);
        }
    }
}

/* Room for so many floats of parts; false if there is none. */
static bool grow_parts(bora_attention *attention, uint64_t n)
{
    if (n <= attention->parts_size)
        return true;
    const bora_host *host = attention->host;
    uint64_t wanted = n < 2 * (uint64_t)attention->parts_size ? 2 * (uint64_t)attention->parts_size : n;
    size_t size;
    if (__builtin_mul_overflow(wanted, sizeof(float), &size))
        return false;
    float *parts = host->alloc(host, size);
    if (!parts)
        return false;
    host->free(host, attention->parts);
    attention->parts = parts;
    attention->parts_size = (size_t)wanted;
    return true;
}

static size_t item_lines(const bora_attention *attention, const flash_item *item)
{
    return (size_t)item->n_together * item->n_rows * attention->shape.group;
}

/* Blocks of kv heads. */
static uint32_t item_blocks(const bora_attention *attention, const flash_item *item)
{
    return attention->shape.n_kv_heads / item->n_together;
}

/* Splits items along positions if there are too few to share; not if there is no memory to put the parts. */
static void plan_split(bora_attention *attention, flash_call *call)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < call->n_items; i++)
        n += item_blocks(attention, &attention->items[i]);
    if (attention->n_threads == 1 || n >= UNITS_PER_THREAD * attention->n_threads)
        return;
    n = 0;
    for (uint32_t i = 0; i < call->n_items; i++) {
        flash_item *item = &attention->items[i];
        const size_t n_lines = item_lines(attention, item);
        uint64_t size;
        item->first_part = n;
        if (item->n_chunks > 1 && (__builtin_mul_overflow(item_blocks(attention, item) * item->n_chunks,
                                                          whole_lines(state_size(&attention->shape, n_lines)), &size) ||
                                   __builtin_add_overflow(n, size, &n)))
            return;
    }
    if (!grow_parts(attention, n))
        return;
    for (uint32_t i = 0; i < call->n_items; i++) {
        attention->items[i].split = attention->items[i].n_chunks > 1;
        call->is_split = call->is_split || attention->items[i].split;
    }
}

static void plan_units(const bora_attention *attention, flash_call *call)
{
    for (uint32_t i = 0; i < call->n_items; i++) {
        flash_item *item = &attention->items[i];
        item->first_unit = call->n_units;
        call->n_units += item_blocks(attention, item) * (item->split ? item->n_chunks : 1);
    }
}

/* ---- work ---------------------------------------------------------------------------------------------- */

/* The index-th block of an item. */
static flash_block block_of(const flash_call *call, const flash_item *item, uint32_t index)
{
    return (flash_block){
        .seq = &call->seqs[item->seq],
        .row = item->row,
        .n_rows = item->n_rows,
        .kv_head = index * item->n_together,
        .n_kv_heads = item->n_together,
    };
}

/* Where the query heads of a row that share a kv head begin, in q and out of the sequence. */
static size_t row_offset(const flash_shape *shape, const flash_block *block, uint32_t kv_head, uint32_t i)
{
    const size_t head = (size_t)(block->kv_head + kv_head) * shape->group;
    return ((size_t)(block->row + i) * shape->n_heads + head) * shape->head_dim;
}

static void load_queries(const flash_shape *shape, const flash_block *block, float *q)
{
    for (uint32_t r = 0; r < block->n_kv_heads * block->n_rows; r++) {
        const float *from = block->seq->q + row_offset(shape, block, r / block->n_rows, r % block->n_rows);
        for (uint32_t g = 0; g < shape->group; g++, from += shape->head_dim, q += shape->width) {
            for (uint32_t d = 0; d < shape->head_dim; d++)
                q[d] = from[d] * shape->factor;
            for (uint32_t d = shape->head_dim; d < shape->width; d++)
                q[d] = 0;
        }
    }
}

static void store_result(const flash_shape *shape, const flash_block *block, const flash_state *state)
{
    size_t line = 0;
    for (uint32_t r = 0; r < block->n_kv_heads * block->n_rows; r++) {
        float *out = block->seq->out + row_offset(shape, block, r / block->n_rows, r % block->n_rows);
        for (uint32_t g = 0; g < shape->group; g++, line++, out += shape->head_dim) {
            const float *values = state->values + line * shape->width, factor = 1 / state->sum[line];
            for (uint32_t d = 0; d < shape->head_dim; d++)
                out[d] = values[d] * factor;
        }
    }
}

static flash_state part_of(const bora_attention *attention, const flash_item *item, uint32_t block, uint64_t chunk)
{
    const size_t n_lines = item_lines(attention, item);
    const size_t size = whole_lines(state_size(&attention->shape, n_lines));
    const size_t index = (size_t)(block * item->n_chunks + chunk - item->first_chunk);
    return state_at(n_lines, attention->parts + item->first_part + index * size);
}

static const flash_item *item_of_unit(const flash_call *call, uint64_t unit)
{
    const flash_item *items = call->attention->items;
    uint32_t low = 0, high = call->n_items;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (items[middle].first_unit <= unit)
            low = middle;
        else
            high = middle;
    }
    return &items[low];
}

static void run_unit(const flash_call *call, uint64_t unit, flash_scratch *scratch)
{
    const bora_attention *attention = call->attention;
    const flash_item *item = item_of_unit(call, unit);
    const uint64_t index = unit - item->first_unit;
    if (item->split) {
        const uint32_t block_index = (uint32_t)(index / item->n_chunks);
        const uint64_t chunk = item->first_chunk + index % item->n_chunks;
        const flash_block block = block_of(call, item, block_index);
        flash_scratch aside = *scratch;
        aside.chunk = part_of(attention, item, block_index, chunk);
        load_queries(&attention->shape, &block, scratch->q);
        attention->kernels->attend_chunk(&attention->shape, &block, chunk, &aside);
        return;
    }
    const flash_block block = block_of(call, item, (uint32_t)index);
    load_queries(&attention->shape, &block, scratch->q);
    for (uint64_t chunk = item->first_chunk; chunk < item->first_chunk + item->n_chunks; chunk++) {
        attention->kernels->attend_chunk(&attention->shape, &block, chunk, scratch);
        attention->kernels->combine(&attention->shape, &block, chunk, &scratch->chunk, &scratch->total);
    }
    store_result(&attention->shape, &block, &scratch->total);
}

/* Workers take units one by one, from the last: rows further back see more keys and are better not left for the end. */
static void run_units(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    (void)begin;
    (void)end;
    flash_call *call = arg;
    flash_scratch scratch = scratch_of(call->attention, worker);
    uint64_t taken;
    while ((taken = atomic_fetch_add_explicit(&call->next, 1, memory_order_relaxed)) < call->n_units)
        run_unit(call, call->n_units - 1 - taken, &scratch);
}

/* Parts to results. An item of work is a kv head of an item of the plan. */
static void combine_parts(void *arg, uint32_t begin, uint32_t end, uint32_t worker)
{
    const flash_call *call = arg;
    const bora_attention *attention = call->attention;
    const flash_scratch scratch = scratch_of(attention, worker);
    for (uint32_t i = begin; i < end; i++) {
        const flash_item *item = &attention->items[i / attention->shape.n_kv_heads];
        const uint32_t block_index = i % attention->shape.n_kv_heads;
        if (!item->split || block_index >= item_blocks(attention, item))
            continue;
        const flash_block block = block_of(call, item, block_index);
        for (uint64_t chunk = item->first_chunk; chunk < item->first_chunk + item->n_chunks; chunk++) {
            const flash_state part = part_of(attention, item, block_index, chunk);
            attention->kernels->combine(&attention->shape, &block, chunk, &part, &scratch.total);
        }
        store_result(&attention->shape, &block, &scratch.total);
    }
}

/* ---- the call ------------------------------------------------------------------------------------------ */

/* Every key that a row sees must be in the spans: a key left out would be a silent wrong answer. */
static bora_status check_spans(const bora_attention *attention, const bora_attention_seq *seq, bora_error *err)
{
    const uint64_t from = flash_visible_of(seq, 0).from, to = flash_visible_of(seq, seq->n - 1).to;
    bool complete = seq->n_spans > 0 && seq->spans[0].first <= from;
    for (uint32_t s = 0; complete && s < seq->n_spans; s++) {
        const bora_kv_span *span = &seq->spans[s];
        if (span->dtype != attention->shape.dtype)
            return bora_fail(err, BORA_E_INVAL, "attention: keys of element type %u, %u was announced", span->dtype,
                             attention->shape.dtype);
        complete = s + 1 == seq->n_spans ? span->first + span->n >= to : span->first + span->n == span[1].first;
    }
    if (!complete)
        return bora_fail(err, BORA_E_INVAL, "attention: not all of the keys %llu to %llu are there",
                         (unsigned long long)from, (unsigned long long)to - 1);
    return BORA_OK;
}

static bora_status flash_attend(bora_attention *attention, uint32_t n_seqs, const bora_attention_seq *seqs,
                                bora_error *err)
{
    uint64_t n_rows = 0;
    for (uint32_t i = 0; i < n_seqs; i++) {
        n_rows += seqs[i].n;
        bora_status status = seqs[i].n ? check_spans(attention, &seqs[i], err) : BORA_OK;
        if (status != BORA_OK)
            return status;
    }
    if (n_rows > attention->max_tokens)
        return bora_fail(err, BORA_E_INVAL, "attention: %llu rows, %u were announced", (unsigned long long)n_rows,
                         attention->max_tokens);
    if (n_rows == 0)
        return BORA_OK;
    flash_call call = {.attention = attention, .seqs = seqs};
    plan_items(attention, n_seqs, &call);
    plan_split(attention, &call);
    plan_units(attention, &call);
    const bora_host *host = attention->host;
    const uint32_t n_heads = attention->shape.n_kv_heads;
    host->parallel_for(host, call.n_units < attention->n_threads ? (uint32_t)call.n_units : attention->n_threads,
                       run_units, &call);
    if (call.is_split)
        host->parallel_for(host, call.n_items * n_heads, combine_parts, &call);
    return BORA_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

/* The best that this processor has and BORA_CPU=generic|avx2|avx512 in the environment allows. */
static const flash_kernels *choose_kernels(void)
{
#if defined(__x86_64__)
    const char *forced = getenv("BORA_CPU");
    const bool generic = forced && strcmp(forced, "generic") == 0, avx2 = forced && strcmp(forced, "avx2") == 0;
    __builtin_cpu_init();
    /* Every processor with AVX2 converts halves. */
    if (generic || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return &bora_flash_generic;
    if (!avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &bora_flash_avx512;
    return &bora_flash_avx2;
#else
    return &bora_flash_generic;
#endif
}

static bora_status check_shape(const bora_attention_shape *shape, bora_error *err)
{
    if (shape->struct_size < sizeof *shape)
        return bora_fail(err, BORA_E_INVAL, "attention: the shape has %u bytes, %zu are needed", shape->struct_size,
                         sizeof *shape);
    if (shape->n_heads == 0 || shape->n_kv_heads == 0 || shape->n_heads % shape->n_kv_heads || shape->head_dim == 0 ||
        shape->max_tokens == 0)
        return bora_fail(err, BORA_E_INVAL, "attention: %u heads of %u on %u key heads, %u rows", shape->n_heads,
                         shape->head_dim, shape->n_kv_heads, shape->max_tokens);
    if (shape->kv_dtype != BORA_DTYPE_F32 && shape->kv_dtype != BORA_DTYPE_F16 && shape->kv_dtype != BORA_DTYPE_Q8_0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "attention: element type %u is none of f32, f16, q8_0",
                         shape->kv_dtype);
    if (shape->kv_dtype == BORA_DTYPE_Q8_0 && shape->head_dim % FLASH_Q8_ELEMENTS)
        return bora_fail(err, BORA_E_UNSUPPORTED, "attention: heads of %u are not whole blocks of q8_0, %u elements",
                         shape->head_dim, FLASH_Q8_ELEMENTS);
    uint32_t n;
    if (__builtin_mul_overflow(shape->max_tokens, shape->n_kv_heads, &n) || shape->head_dim > UINT32_MAX - FLASH_LANES)
        return bora_fail(err, BORA_E_LIMIT, "attention: %u rows of %u heads of %u", shape->max_tokens,
                         shape->n_kv_heads, shape->head_dim);
    return BORA_OK;
}

static void flash_destroy(bora_attention *attention)
{
    if (!attention)
        return;
    const bora_host *host = attention->host;
    host->free(host, attention->items);
    host->free(host, attention->scratch);
    host->free(host, attention->parts);
    host->free(host, attention);
}

static bora_status flash_create(const bora_host *host, const bora_attention_shape *shape,
                                bora_attention **ret_attention, bora_error *err)
{
    bora_status status = check_shape(shape, err);
    if (status != BORA_OK)
        return status;
    bora_attention *attention = host->alloc(host, sizeof *attention);
    if (!attention)
        return bora_fail(err, BORA_E_NOMEM, "attention");
    const uint32_t group = shape->n_heads / shape->n_kv_heads;
    *attention = (bora_attention){
        .host = host,
        .shape =
            {
                .n_heads = shape->n_heads,
                .n_kv_heads = shape->n_kv_heads,
                .head_dim = shape->head_dim,
                .group = group,
                .width = (shape->head_dim + FLASH_LANES - 1) / FLASH_LANES * FLASH_LANES,
                .dtype = shape->kv_dtype,
                .factor = (float)(1.4426950408889634 / sqrt(shape->head_dim)),
            },
        .kernels = choose_kernels(),
        .max_tokens = shape->max_tokens,
        .n_threads = host->n_threads(host),
        .block_rows = group < FLASH_BLOCK_LINES ? FLASH_BLOCK_LINES / group : 1,
    };
    size_t items_size, size;
    if (!count_scratch(&attention->shape, attention->block_rows, &attention->scratch_size) ||
        __builtin_mul_overflow(attention->scratch_size, attention->n_threads * sizeof(float), &size) ||
        __builtin_mul_overflow((size_t)shape->max_tokens, sizeof(flash_item), &items_size)) {
        flash_destroy(attention);
        return bora_fail(err, BORA_E_LIMIT, "attention: %u heads of %u", shape->n_heads, shape->head_dim);
    }
    attention->items = host->alloc(host, items_size);
    attention->scratch = host->alloc(host, size);
    if (!attention->items || !attention->scratch) {
        flash_destroy(attention);
        return bora_fail(err, BORA_E_NOMEM, "attention: scratch of %zu bytes", size);
    }
    *ret_attention = attention;
    return BORA_OK;
}

static const bora_attention_ops flash_ops = {
    .struct_size = sizeof(bora_attention_ops),
    .dtypes = BORA_DTYPE_BIT(BORA_DTYPE_F32) | BORA_DTYPE_BIT(BORA_DTYPE_F16) | BORA_DTYPE_BIT(BORA_DTYPE_Q8_0),
    .create = flash_create,
    .destroy = flash_destroy,
    .attend = flash_attend,
};

static const bora_plugin flash_plugin = {
    .struct_size = sizeof(bora_plugin),
    .abi_major = BORA_ABI_MAJOR,
    .abi_minor = BORA_ABI_MINOR,
    .kind = BORA_PLUGIN_ATTENTION,
    .flags = BORA_PLUGIN_BATCH_INVARIANT,
    .name = "flash",
    .version = "1.0",
    .ops = &flash_ops,
};

const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)
{
    (void)host;
    (void)err;
    return &flash_plugin;
}
