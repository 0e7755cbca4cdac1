/* From f32 to the cache's element types. */
#ifndef BORA_CACHE_RING_ELEMENTS_H
#define BORA_CACHE_RING_ELEMENTS_H

#include <bora/plugin.h>

/* Bytes of n elements; 0 if they are not whole blocks, or for a type that the cache does not keep. */
size_t bora_ring_elements_size(uint32_t dtype, size_t n);
/* Converts n elements, whole blocks, rounding to nearest even. to is aligned to 2 bytes. The same bits on every
 * processor. A block of q8_0 has the scale max |x| / 127; one that holds a value which is not finite reads as NaN, as
 * in the other types. */
void bora_ring_elements_store(uint32_t dtype, const float *from, size_t n, void *to);

#endif
