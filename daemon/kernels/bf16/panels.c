/* How rounded activations lie in memory, and which path a processor takes. */
#include "base/size.h"
#include "kernels/bf16/bf16.h"
#include "kernels/packed/packed.h"

#include <assert.h>

static uint32_t panel_width(uint32_t n_rows)
{
    return n_rows <= BORA_PANEL_COLUMNS_MAX ? n_rows : BORA_PANEL_COLUMNS;
}

static size_t steps_of(uint32_t n_cols)
{
    return n_cols / BORA_BF16_STEP + (n_cols % BORA_BF16_STEP != 0);
}

size_t bora_bf16_panels_size(uint32_t n_rows, uint32_t n_cols)
{
    size_t size;
    return bora_size_mul(n_rows, steps_of(n_cols) * (BORA_BF16_STEP * sizeof(uint16_t)), &size) ? size : SIZE_MAX;
}

bora_bf16_panel bora_bf16_panel_at(void *panels, uint32_t n_rows, uint32_t n_cols, uint32_t panel)
{
    assert(panel < bora_input_n_panels(n_rows));
    const uint32_t width = panel_width(n_rows), first = panel * width, rest = n_rows - first;
    const size_t n_steps = steps_of(n_cols);
    return (bora_bf16_panel){
        .n_columns = rest < width ? rest : width,
        .n_steps = n_steps,
        .x = (uint16_t *)panels + first * n_steps * BORA_BF16_STEP,
    };
}

const bora_bf16_path *bora_bf16_choose(const bora_cpu *cpu)
{
#if defined(__x86_64__)
    if (cpu->avx512_bf16)
        return &bora_bf16_avx512;
#endif
    (void)cpu;
    return NULL;
}
