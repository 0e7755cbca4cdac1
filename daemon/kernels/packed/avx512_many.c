/* Tiles for prefill straight from packed units, where taking a block apart costs less than unpacking it once: two
 * strips x 6 columns, and what is left over at the ends. */
#if defined(__x86_64__)
#include "kernels/packed/avx512_tile.h"

#define TILES(kind, strips)                                                                                            \
    TILE_FUNCTION(kind, false, strips, 1)                                                                              \
    TILE_FUNCTION(kind, false, strips, 2)                                                                              \
    TILE_FUNCTION(kind, false, strips, 3)                                                                              \
    TILE_FUNCTION(kind, false, strips, 4)                                                                              \
    TILE_FUNCTION(kind, false, strips, 5)                                                                              \
    TILE_FUNCTION(kind, false, strips, 6)
#define TABLE(kind, strips)                                                                                            \
    {                                                                                                                  \
        tile_##kind##_##strips##_1, tile_##kind##_##strips##_2, tile_##kind##_##strips##_3,                            \
            tile_##kind##_##strips##_4, tile_##kind##_##strips##_5, tile_##kind##_##strips##_6                         \
    }

TILES(q4_0, 1)
TILES(q4_0, 2)
TILES(q8_0, 1)
TILES(q8_0, 2)

bora_avx512_tile_fn bora_avx512_tile_many(uint32_t dtype, uint32_t n_strips, uint32_t n_columns)
{
    static const bora_avx512_tile_fn tiles[BORA_DTYPE_COUNT][TILE_STRIPS][BORA_PANEL_COLUMNS] = {
        [BORA_DTYPE_Q4_0] = {TABLE(q4_0, 1), TABLE(q4_0, 2)},
        [BORA_DTYPE_Q8_0] = {TABLE(q8_0, 1), TABLE(q8_0, 2)},
    };
    return tiles[dtype][n_strips - 1][n_columns - 1];
}

#else
typedef int bora_packed_avx512_many_not_here; /* ISO C wants something in every file */
#endif
