/* Tiles on unpacked units: the inner loop of every type with many columns, and of the rarer types with few. */
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
    tile_##kind##_##strips##_1, tile_##kind##_##strips##_2, tile_##kind##_##strips##_3, tile_##kind##_##strips##_4,    \
        tile_##kind##_##strips##_5, tile_##kind##_##strips##_6

TILES(bytes32, 1)
TILE_FUNCTION(bytes32, false, 1, 7)
TILE_FUNCTION(bytes32, false, 1, 8)
TILES(bytes32, 2)
TILES(bytes16, 1)
TILE_FUNCTION(bytes16, false, 1, 7)
TILE_FUNCTION(bytes16, false, 1, 8)
TILES(bytes16, 2)

bora_avx512_tile_fn bora_avx512_tile_bytes(uint32_t n_elements, uint32_t n_strips, uint32_t n_columns)
{
    static const bora_avx512_tile_fn tiles[2][TILE_STRIPS][BORA_PANEL_COLUMNS_MAX] = {
        {{TABLE(bytes32, 1), tile_bytes32_1_7, tile_bytes32_1_8}, {TABLE(bytes32, 2), NULL, NULL}},
        {{TABLE(bytes16, 1), tile_bytes16_1_7, tile_bytes16_1_8}, {TABLE(bytes16, 2), NULL, NULL}},
    };
    return tiles[n_elements == 16][n_strips - 1][n_columns - 1];
}

#else
typedef int bora_packed_avx512_bytes_not_here; /* ISO C wants something in every file */
#endif
