/* Steps of address space, mapped and given huge pages. A step's own record lies in front of what it hands out. */
#include "base/region.h"

#include "base/memory.h"
#include "base/size.h"

#include <stdint.h>
#include <sys/mman.h>

#define ALIGNMENT     ((size_t)64)
#define HUGE_PAGE     ((size_t)2 << 20)
/* A step is a quarter of all before it together, within these; what is larger than that gets a step of its own. No more
 * than a quarter, because limits of the system (RLIMIT_DATA) count what is only reserved. */
#define STEP_SIZE_MIN ((size_t)4 << 20)
#define STEP_SIZE_MAX ((size_t)256 << 20)

typedef struct region_step region_step;
struct region_step {
    region_step *next;
    size_t size, used; /* bytes, the record included */
};

_Static_assert(sizeof(region_step) <= ALIGNMENT, "the record takes one alignment");

struct bora_region {
    bora_ledger *ledger;
    uint32_t account;
    region_step *steps; /* the first one is handed out from */
    size_t reserved;    /* bytes of all steps */
    size_t size;        /* bytes handed out, and taken from the ledger */
};

bora_status bora_region_new(bora_ledger *ledger, uint32_t account, bora_region **ret_region, bora_error *err)
{
    bora_region *region = bora_calloc(1, sizeof *region);
    if (!region)
        return bora_fail(err, BORA_E_NOMEM, "a region of memory");
    region->ledger = ledger;
    region->account = account;
    *ret_region = region;
    return BORA_OK;
}

void bora_region_free(bora_region *region)
{
    if (!region)
        return;
    while (region->steps) {
        region_step *next = region->steps->next;
        (void)munmap(region->steps, region->steps->size); /* as it was mapped: cannot fail */
        region->steps = next;
    }
    bora_ledger_give(region->ledger, region->account, region->size);
    bora_free(region);
}

/* size bytes (a multiple of HUGE_PAGE) from a multiple of HUGE_PAGE on. */
static void *map_aligned(size_t size)
{
    size_t total;
    if (!bora_size_add(size, HUGE_PAGE, &total))
        return NULL;
    void *mapped = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    const size_t before = (HUGE_PAGE - (uintptr_t)mapped % HUGE_PAGE) % HUGE_PAGE, after = HUGE_PAGE - before;
    char *memory = (char *)mapped + before;
    /* If the ends cannot be given back they stay reserved, which costs nothing. */
    if (before)
        (void)munmap(mapped, before);
    if (after)
        (void)munmap(memory + size, after);
#if defined(MADV_HUGEPAGE)
    (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish */
#endif
    return memory;
}

/* A step with room for need bytes, linked in: in front to go on with, or, if it is full with that, behind the first. */
static region_step *step_new(bora_region *region, size_t need)
{
    size_t usual = region->reserved / 4, size;
    if (usual < STEP_SIZE_MIN)
        usual = STEP_SIZE_MIN;
    if (usual > STEP_SIZE_MAX)
        usual = STEP_SIZE_MAX;
    if (!bora_size_add(need, ALIGNMENT, &need))
        return NULL;
    const bool own = need > usual;
    if (!bora_size_round_up(own ? need : usual, HUGE_PAGE, &size))
        return NULL;
    region_step *step = map_aligned(size);
    if (!step && !own && bora_size_round_up(need, HUGE_PAGE, &size))
        step = map_aligned(size); /* no room for later ones any more, but for this */
    if (!step)
        return NULL;
    step->size = size;
    step->used = ALIGNMENT;
    region->reserved += size; /* all of it is in the address space: cannot overflow */
    if (own && region->steps) {
        step->next = region->steps->next;
        region->steps->next = step;
    } else {
        step->next = region->steps;
        region->steps = step;
    }
    return step;
}

void *bora_region_alloc(bora_region *region, size_t size)
{
    size_t need;
    if (bora_memory_refused() || !bora_size_round_up(size ? size : 1, ALIGNMENT, &need) ||
        !bora_ledger_take(region->ledger, region->account, need))
        return NULL;
    region_step *step = region->steps;
    if (!step || step->size - step->used < need)
        step = step_new(region, need);
    if (!step) {
        bora_ledger_give(region->ledger, region->account, need);
        return NULL;
    }
    void *memory = (char *)step + step->used;
    step->used += need;
    region->size += need;
    return memory;
}

bora_status bora_region_fail(const bora_region *region, const char *what, size_t size, bora_error *err)
{
    size_t need = SIZE_MAX;
    (void)bora_size_round_up(size ? size : 1, ALIGNMENT, &need); /* else it is too much in any case */
    return bora_ledger_fail(region->ledger, what, need, err);
}

size_t bora_region_size(const bora_region *region)
{
    return region->size;
}
