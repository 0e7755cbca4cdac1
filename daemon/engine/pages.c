#include "engine/pages.h"

#include "base/memory.h"

void bora_page_release(bora_page *page)
{
    bora_free(page->data);
    page->data = NULL;
}

void bora_pages_free(bora_page *pages, size_t n)
{
    if (!pages)
        return;
    for (size_t i = 0; i < n; i++)
        bora_page_release(&pages[i]);
    bora_free(pages);
}
