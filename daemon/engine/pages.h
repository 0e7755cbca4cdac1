/* Pages: the canonical form of a piece of KV cache, as it is stored and moved between caches.
 *
 * A class is the set of layers that share one window. A page is up to 64 consecutive positions of one class, beginning
 * at a multiple of 64, laid out [layer of the class][k,v][position][kv_head][head_dim] in the cache's element type. */
#ifndef BORA_ENGINE_PAGES_H
#define BORA_ENGINE_PAGES_H

#include "base/status.h"

#define BORA_PAGE_POSITIONS 64u
#define BORA_CLASSES_MAX    64u

typedef struct bora_page {
    uint32_t class_id; /* 0 .. n_classes-1 */
    uint32_t dtype;    /* BORA_DTYPE_* */
    uint64_t index;    /* first position / 64 */
    uint32_t n;        /* positions: 64, or fewer in the newest page */
    size_t size;       /* bytes */
    void *data;        /* [size]; owned */
} bora_page;

void bora_page_release(bora_page *page);
/* Releases n pages and frees the array; NULL is a no-op. */
void bora_pages_free(bora_page *pages, size_t n);

#endif
