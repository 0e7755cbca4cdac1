#include "kernels/packed/plain.h"

static size_t no_scratch(size_t n_units)
{
    (void)n_units;
    return 0;
}

const bora_packed_path bora_packed_plain = {
    .name = "plain",
    .fill = bora_plain_fill,
    .pack = bora_plain_pack,
    .multiply = bora_plain_multiply,
    .scratch_size = no_scratch,
};
