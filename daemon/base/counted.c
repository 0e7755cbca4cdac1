#include "base/counted.h"

#include "base/memory.h"
#include "base/size.h"

#define ALIGNMENT ((size_t)64)

typedef struct counted_head {
    bora_ledger *ledger;
    size_t size; /* of head and memory */
    uint32_t account;
} counted_head;

_Static_assert(sizeof(counted_head) <= ALIGNMENT, "the head takes one alignment");

/* Bytes of a piece of size bytes with its head; 0: they do not fit. */
static size_t with_head(size_t size)
{
    size_t total;
    return bora_size_add(size, ALIGNMENT, &total) && bora_size_round_up(total, ALIGNMENT, &total) ? total : 0;
}

/* Takes them; 0: they cannot be had. */
static size_t take(bora_ledger *ledger, uint32_t account, size_t size)
{
    const size_t total = with_head(size);
    return total && bora_ledger_take(ledger, account, total) ? total : 0;
}

static void *begin(void *memory, bora_ledger *ledger, uint32_t account, size_t total)
{
    if (!memory) {
        bora_ledger_give(ledger, account, total);
        return NULL;
    }
    *(counted_head *)memory = (counted_head){.ledger = ledger, .size = total, .account = account};
    return (char *)memory + ALIGNMENT;
}

void *bora_counted_alloc(bora_ledger *ledger, uint32_t account, size_t size)
{
    const size_t total = take(ledger, account, size);
    return total ? begin(bora_alloc_aligned(ALIGNMENT, total), ledger, account, total) : NULL;
}

void *bora_counted_calloc(bora_ledger *ledger, uint32_t account, size_t n, size_t size)
{
    size_t all;
    const size_t total = bora_size_mul(n, size, &all) ? take(ledger, account, all) : 0;
    return total ? begin(bora_calloc(1, total), ledger, account, total) : NULL;
}

bora_status bora_counted_fail(const bora_ledger *ledger, const char *what, size_t size, bora_error *err)
{
    const size_t total = with_head(size);
    return bora_ledger_fail(ledger, what, total ? total : SIZE_MAX, err);
}

void bora_counted_free(void *memory)
{
    if (!memory)
        return;
    counted_head *head = (counted_head *)((char *)memory - ALIGNMENT);
    const counted_head was = *head;
    bora_free(head);
    bora_ledger_give(was.ledger, was.account, was.size);
}
