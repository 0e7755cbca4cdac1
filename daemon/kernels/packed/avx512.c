/* The packed product with AVX-512 and VNNI: which strips meet which columns, in what order.
 *
 * Few columns (one panel): a strip after the other, each a single stream from memory. Many: two strips at a time, which
 * stay in the second-level cache while all panels pass by; the next two are asked of memory meanwhile. */
#if defined(__x86_64__)
#include "kernels/packed/avx512.h"

/* Units of a strip that are unpacked at once: two strips of them, 180 KiB, leave most of the second-level cache to x
 * and to what comes next. */
#define CHUNK_UNITS 16u

/* Unpacked units of a type: what they are made of. */
typedef struct form {
    uint32_t n_elements; /* per scale: 32, 16 */
    uint32_t sum;        /* BORA_AVX512_SUM_* */
    uint32_t offset;     /* of bytes over values: 0, 32, 128 */
} form;

static const form forms[BORA_DTYPE_COUNT] = {
    [BORA_DTYPE_Q4_0] = {32, BORA_AVX512_SUM_PLAIN, 128}, [BORA_DTYPE_Q4_1] = {32, BORA_AVX512_SUM_BLOCK_MINS, 0},
    [BORA_DTYPE_Q5_0] = {32, BORA_AVX512_SUM_PLAIN, 128}, [BORA_DTYPE_Q5_1] = {32, BORA_AVX512_SUM_BLOCK_MINS, 0},
    [BORA_DTYPE_Q8_0] = {32, BORA_AVX512_SUM_PLAIN, 128}, [BORA_DTYPE_IQ4_NL] = {32, BORA_AVX512_SUM_PLAIN, 128},
    [BORA_DTYPE_Q4_K] = {32, BORA_AVX512_SUM_MINS, 0},    [BORA_DTYPE_Q5_K] = {32, BORA_AVX512_SUM_MINS, 0},
    [BORA_DTYPE_Q2_K] = {16, BORA_AVX512_SUM_MINS, 0},    [BORA_DTYPE_Q6_K] = {16, BORA_AVX512_SUM_D, 32},
    [BORA_DTYPE_Q3_K] = {16, BORA_AVX512_SUM_D, 32},      [BORA_DTYPE_IQ4_XS] = {32, BORA_AVX512_SUM_D, 128},
};

/* Starts of accumulators where bytes are values. */
static const int32_t no_start[BORA_PANEL_COLUMNS_MAX];

static void set_unpacked(uint32_t dtype, const bora_panel *panel, bora_avx512_tile *tile)
{
    const form *f = &forms[dtype];
    tile->sum = f->sum;
    tile->start = f->offset == 128 ? panel->start128 : f->offset == 32 ? panel->start32 : no_start;
    tile->start_step = f->offset ? panel->n_columns : 0;
}

static size_t lines_of(size_t size)
{
    return (size + 63) / 64;
}

/* ---- few columns ------------------------------------------------------------------------------------ */

static void multiply_few(const bora_strips *w, const bora_panel *panel, float *y, size_t y_stride,
                         bora_avx512_unit *scratch)
{
    const size_t unit_size = bora_unit_size(w->dtype);
    const uint8_t *unit = w->units;
    const bora_avx512_tile_fn direct = bora_avx512_tile_few(w->dtype, panel->n_columns);
    bora_avx512_tile tile = {.x = panel, .y_stride = y_stride};
    if (direct) {
        for (uint32_t s = 0; s < w->n_strips; s++, unit += w->n_units * unit_size) {
            tile.w = unit;
            tile.unit_end = w->n_units;
            tile.y = y + 16 * (size_t)s;
            direct(&tile);
        }
        return;
    }
    /* A unit at a time through the first-level cache. */
    const bora_avx512_tile_fn bytes = bora_avx512_tile_bytes(forms[w->dtype].n_elements, 1, panel->n_columns);
    set_unpacked(w->dtype, panel, &tile);
    tile.w = scratch->q[0];
    tile.n_ahead = (lines_of(unit_size) + BORA_UNIT_BLOCKS - 1) / BORA_UNIT_BLOCKS;
    for (uint32_t s = 0; s < w->n_strips; s++) {
        tile.y = y + 16 * (size_t)s;
        for (size_t u = 0; u < w->n_units; u++, unit += unit_size) {
            bora_avx512_unpack(w->dtype, unit, scratch);
            tile.unit_begin = u;
            tile.unit_end = u + 1;
            tile.ahead = unit + 4096;
            bytes(&tile);
        }
    }
}

/* ---- many columns ----------------------------------------------------------------------------------- */

/* What comes next from memory, asked for evenly by the tiles that are to pass until then. */
typedef struct ahead {
    const uint8_t *next, *end; /* of the first strip; none if equal */
    size_t stride;             /* to the second */
    size_t per_block;          /* lines */
} ahead;

static ahead ahead_of(const uint8_t *from, size_t size, size_t stride, size_t n_blocks)
{
    return (ahead){.next = from,
                   .end = from + size,
                   .stride = stride,
                   .per_block = n_blocks ? (lines_of(size) + n_blocks - 1) / n_blocks : 0};
}

static void take_ahead(ahead *a, size_t n_blocks, bora_avx512_tile *tile)
{
    tile->ahead = a->next;
    tile->ahead_stride = a->stride;
    tile->n_ahead = a->next < a->end ? a->per_block : 0;
    a->next += tile->n_ahead * n_blocks * 64;
}

/* One or two strips times all panels, units begin .. end-1. units: packed or unpacked ones, the first of them unit
 * begin's. */
typedef struct job {
    const bora_strips *w;
    const bora_input *x;
    float *y; /* of the first strip */
    size_t y_stride;
    uint32_t n_strips;
    bool unpacked;
} job;

static void multiply_panels(const job *j, const uint8_t *units, size_t strip_stride, size_t begin, size_t end, ahead *a)
{
    const uint32_t n_panels = bora_input_n_panels(j->x->n_rows), dtype = j->w->dtype;
    float *y = j->y;
    for (uint32_t p = 0; p < n_panels; p++) {
        const bora_panel panel = bora_panel_at(j->x, p);
        bora_avx512_tile tile = {.w = units,
                                 .strip_stride = strip_stride,
                                 .unit_begin = begin,
                                 .unit_end = end,
                                 .x = &panel,
                                 .y = y,
                                 .y_stride = j->y_stride};
        take_ahead(a, (end - begin) * BORA_UNIT_BLOCKS, &tile);
        bora_avx512_tile_fn run;
        if (j->unpacked) {
            set_unpacked(dtype, &panel, &tile);
            run = bora_avx512_tile_bytes(forms[dtype].n_elements, j->n_strips, panel.n_columns);
        } else {
            run = bora_avx512_tile_many(dtype, j->n_strips, panel.n_columns);
        }
        run(&tile);
        y += panel.n_columns * j->y_stride;
    }
}

static void unpack_units(const bora_strips *w, const uint8_t *from, size_t n, bora_avx512_unit *to)
{
    const size_t unit_size = bora_unit_size(w->dtype);
    for (size_t u = 0; u < n; u++)
        bora_avx512_unpack(w->dtype, from + u * unit_size, to + u);
}

static void multiply_many(const bora_strips *w, const bora_input *x, float *y, size_t y_stride,
                          bora_avx512_unit *scratch)
{
    const size_t unit_size = bora_unit_size(w->dtype), strip_size = w->n_units * unit_size;
    const size_t n_panels = bora_input_n_panels(x->n_rows);
    const bool unpacked = !bora_avx512_tile_many(w->dtype, 1, 1);
    for (uint32_t s = 0; s < w->n_strips; s += 2) {
        const uint8_t *strip = w->units + s * strip_size;
        const uint32_t left = w->n_strips - s;
        const job j = {w, x, y + 16 * (size_t)s, y_stride, left < 2 ? 1 : 2, unpacked};
        /* The strips after these two, as far as there are any. */
        const uint8_t *next = strip + 2 * strip_size;
        const size_t next_size = left > 2 ? strip_size : 0, next_stride = left > 3 ? strip_size : 0;
        if (!unpacked) {
            ahead a = ahead_of(next, next_size, next_stride, n_panels * w->n_units * BORA_UNIT_BLOCKS);
            multiply_panels(&j, strip, strip_size, 0, w->n_units, &a);
            continue;
        }
        for (size_t begin = 0; begin < w->n_units; begin += CHUNK_UNITS) {
            const size_t end = begin + CHUNK_UNITS < w->n_units ? begin + CHUNK_UNITS : w->n_units;
            const size_t n_blocks = n_panels * (end - begin) * BORA_UNIT_BLOCKS;
            for (uint32_t i = 0; i < j.n_strips; i++)
                unpack_units(w, strip + i * strip_size + begin * unit_size, end - begin, scratch + i * CHUNK_UNITS);
            const size_t rest = w->n_units - end, n_next = rest < CHUNK_UNITS ? rest : CHUNK_UNITS;
            const size_t first_size = (w->n_units < CHUNK_UNITS ? w->n_units : CHUNK_UNITS) * unit_size;
            ahead a =
                rest ? ahead_of(strip + end * unit_size, n_next * unit_size, (j.n_strips - 1) * strip_size, n_blocks)
                     : ahead_of(next, next_size ? first_size : 0, next_stride, n_blocks);
            multiply_panels(&j, scratch->q[0], CHUNK_UNITS * sizeof *scratch, begin, end, &a);
        }
    }
}

static void multiply(const bora_strips *w, const bora_input *x, float *y, size_t y_stride, void *scratch)
{
    if (x->n_rows == 0)
        return;
    if (x->n_rows > BORA_PANEL_COLUMNS_MAX) {
        multiply_many(w, x, y, y_stride, scratch);
        return;
    }
    const bora_panel panel = bora_panel_at(x, 0);
    multiply_few(w, &panel, y, y_stride, scratch);
}

static size_t scratch_size(size_t n_units)
{
    (void)n_units;
    return 2 * CHUNK_UNITS * sizeof(bora_avx512_unit);
}

const bora_packed_path bora_packed_avx512 = {
    .name = "avx512",
    .fill = bora_avx512_fill,
    .pack = bora_avx512_pack,
    .multiply = multiply,
    .scratch_size = scratch_size,
};

#else
typedef int bora_packed_avx512_not_here; /* ISO C wants something in every file */
#endif
