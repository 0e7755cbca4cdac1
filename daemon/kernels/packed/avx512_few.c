/* Tiles for decoding: one strip, one stream from memory, 1 .. 8 columns. Two or more streams at once lose 8-20 %. */
#if defined(__x86_64__)
#include "kernels/packed/avx512_tile.h"

#define TILES(kind)                                                                                                    \
    TILE_FUNCTION(kind, true, 1, 1)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 2)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 3)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 4)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 5)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 6)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 7)                                                                                    \
    TILE_FUNCTION(kind, true, 1, 8)
#define TABLE(kind)                                                                                                    \
    {                                                                                                                  \
        tile_##kind##_1_1, tile_##kind##_1_2, tile_##kind##_1_3, tile_##kind##_1_4, tile_##kind##_1_5,                 \
            tile_##kind##_1_6, tile_##kind##_1_7, tile_##kind##_1_8                                                    \
    }

TILES(q4_0)
TILES(iq4_nl)
TILES(q8_0)
TILES(q4_k)
TILES(q5_k)
TILES(q6_k)

bora_avx512_tile_fn bora_avx512_tile_few(uint32_t dtype, uint32_t n_columns)
{
    static const bora_avx512_tile_fn tiles[BORA_DTYPE_COUNT][BORA_PANEL_COLUMNS_MAX] = {
        [BORA_DTYPE_Q4_0] = TABLE(q4_0), [BORA_DTYPE_IQ4_NL] = TABLE(iq4_nl), [BORA_DTYPE_Q8_0] = TABLE(q8_0),
        [BORA_DTYPE_Q4_K] = TABLE(q4_k), [BORA_DTYPE_Q5_K] = TABLE(q5_k),     [BORA_DTYPE_Q6_K] = TABLE(q6_k),
    };
    return tiles[dtype][n_columns - 1];
}

#else
typedef int bora_packed_avx512_few_not_here; /* ISO C wants something in every file */
#endif
