/* Panels: how quantised activations lie in memory. The parts of a panel follow each other, each from a multiple of 64
 * bytes on; panels follow each other, all but the last one equally wide. */
#include "base/size.h"
#include "kernels/packed/packed.h"

#include <assert.h>

#define ALIGNMENT 64u

/* Bytes of each part per unit and column, in the order in which they lie: q first, so that a panel's memory begins
 * there and a panel of n columns is, alone, the input of n rows. */
enum { PART_Q, PART_SCALE, PART_SHIFT, PART_START8, PART_START128, PART_START32, PART_SUM32, PART_SUM16, N_PARTS };
static const size_t part_sizes[N_PARTS] = {
    [PART_Q] = BORA_UNIT_COLS * sizeof(int8_t),           [PART_SCALE] = sizeof(float),
    [PART_SHIFT] = BORA_UNIT_BLOCKS * sizeof(int32_t),    [PART_START8] = BORA_UNIT_BLOCKS * sizeof(int32_t),
    [PART_START128] = BORA_UNIT_BLOCKS * sizeof(int32_t), [PART_START32] = 2 * BORA_UNIT_BLOCKS * sizeof(int32_t),
    [PART_SUM32] = BORA_UNIT_BLOCKS * sizeof(int16_t),    [PART_SUM16] = 2 * BORA_UNIT_BLOCKS * sizeof(int16_t),
};

static size_t units_of(uint32_t n_cols)
{
    return n_cols / BORA_UNIT_COLS + (n_cols % BORA_UNIT_COLS != 0);
}

/* Rows of x in every panel but the last. */
static uint32_t panel_width(uint32_t n_rows)
{
    return n_rows <= BORA_PANEL_COLUMNS_MAX ? n_rows : BORA_PANEL_COLUMNS;
}

/* Where the parts of a panel begin; ret_offsets[N_PARTS] is its size. n_columns is at most 8: cannot overflow. */
static void panel_offsets(size_t n_units, uint32_t n_columns, size_t ret_offsets[N_PARTS + 1])
{
    size_t offset = 0;
    for (size_t part = 0; part < N_PARTS; part++) {
        ret_offsets[part] = offset;
        size_t size = part_sizes[part] * n_units * n_columns;
        offset += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    ret_offsets[N_PARTS] = offset;
}

static size_t panel_size(size_t n_units, uint32_t n_columns)
{
    size_t offsets[N_PARTS + 1];
    panel_offsets(n_units, n_columns, offsets);
    return offsets[N_PARTS];
}

uint32_t bora_input_n_panels(uint32_t n_rows)
{
    if (n_rows == 0)
        return 0;
    uint32_t width = panel_width(n_rows);
    return n_rows / width + (n_rows % width != 0);
}

/* SIZE_MAX, which cannot be had, if the size does not fit. */
size_t bora_panels_size(uint32_t n_rows, uint32_t n_cols)
{
    if (n_rows == 0)
        return 0;
    size_t n_units = units_of(n_cols), size;
    uint32_t width = panel_width(n_rows), n_full = n_rows / width;
    if (!bora_size_mul(n_full, panel_size(n_units, width), &size) ||
        !bora_size_add(size, panel_size(n_units, n_rows % width), &size))
        return SIZE_MAX;
    return size;
}

bora_panel bora_panel_at(const bora_input *input, uint32_t panel)
{
    assert(panel < bora_input_n_panels(input->n_rows));
    size_t n_units = units_of(input->n_cols), offsets[N_PARTS + 1];
    uint32_t width = panel_width(input->n_rows), first = panel * width, rest = input->n_rows - first;
    uint32_t n_columns = rest < width ? rest : width;
    panel_offsets(n_units, n_columns, offsets);
    char *memory = (char *)input->panels + panel * panel_size(n_units, width);
    return (bora_panel){
        .n_columns = n_columns,
        .n_units = n_units,
        .q = (void *)(memory + offsets[PART_Q]),
        .scale = (void *)(memory + offsets[PART_SCALE]),
        .shift = (void *)(memory + offsets[PART_SHIFT]),
        .start8 = (void *)(memory + offsets[PART_START8]),
        .start128 = (void *)(memory + offsets[PART_START128]),
        .start32 = (void *)(memory + offsets[PART_START32]),
        .sum32 = (void *)(memory + offsets[PART_SUM32]),
        .sum16 = (void *)(memory + offsets[PART_SUM16]),
    };
}
