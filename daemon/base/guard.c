#include "base/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guard_range {
    atomic_uintptr_t begin, end; /* atomic: the handler reads them on any thread; begin 0: free, 1: being filled */
    atomic_bool is_damaged;      /* atomic: raised by the handler */
} guard_range;

static guard_range ranges[BORA_GUARD_RANGES_MAX];
static atomic_uint n_ranges;       /* ranges ever in use: the handler looks no further */
static atomic_uintptr_t page_size; /* atomic for the handler; set before it is installed */

_Static_assert(ATOMIC_POINTER_LOCK_FREE == 2 && ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler must not wait");

/* mmap is a plain system call on Linux and takes no lock of libc's. */
static bool patch(uintptr_t at)
{
    const uintptr_t page = at & ~(atomic_load(&page_size) - 1);
    const unsigned n = atomic_load(&n_ranges);
    for (unsigned i = 0; i < n; i++) {
        uintptr_t begin = atomic_load(&ranges[i].begin), end = atomic_load(&ranges[i].end);
        if (begin <= 1 || at < begin || at >= end)
            continue;
        atomic_store(&ranges[i].is_damaged, true); /* before the zeros can be read */
        /* To the end: what follows a hole is a hole, and one fault is enough. */
        return mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                    0) != MAP_FAILED;
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    const int saved = errno;
    /* Kernel's own, with an address; a kill from outside is what it always was. */
    if (info->si_code <= 0 || !patch((uintptr_t)info->si_addr)) {
        (void)signal(number, SIG_DFL);
        if (info->si_code <= 0)
            (void)raise(number); /* delivered when this returns; a fault comes again by itself */
    }
    errno = saved;
}

bora_status bora_guard_install(bora_error *err)
{
    atomic_store(&page_size, (uintptr_t)sysconf(_SC_PAGESIZE));
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESTART};
    (void)sigemptyset(&action.sa_mask); /* cannot fail */
    if (sigaction(SIGBUS, &action, NULL) != 0)
        return bora_fail(err, BORA_E_IO, "handler for SIGBUS: %s", strerror(errno));
    return BORA_OK;
}

uint32_t bora_guard_add(const void *data, size_t size)
{
    for (uint32_t i = 0; i < BORA_GUARD_RANGES_MAX; i++) {
        uintptr_t expected = 0;
        if (!atomic_compare_exchange_strong(&ranges[i].begin, &expected, 1))
            continue;
        atomic_store(&ranges[i].is_damaged, false);
        atomic_store(&ranges[i].end, (uintptr_t)data + size);
        atomic_store(&ranges[i].begin, (uintptr_t)data);
        unsigned n = atomic_load(&n_ranges);
        while (n < i + 1 && !atomic_compare_exchange_weak(&n_ranges, &n, i + 1)) {
        }
        return i + 1;
    }
    return 0;
}

void bora_guard_remove(uint32_t range)
{
    if (range)
        atomic_store(&ranges[range - 1].begin, 0);
}

bool bora_guard_is_damaged(uint32_t range)
{
    return range && atomic_load(&ranges[range - 1].is_damaged);
}
