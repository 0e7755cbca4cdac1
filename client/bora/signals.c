/* A signal handler knows nothing but globals: these are the program's only ones. */
#include "signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>

static bora_client *volatile caught_client;
static volatile sig_atomic_t n_interrupts, ending, has_resized, has_continued;

static void handle(int signal_number)
{
    switch (signal_number) {
    case SIGWINCH:
        has_resized = 1;
        return;
    case SIGCONT:
        has_continued = 1;
        return;
    case SIGINT:
        n_interrupts = 1;
        break;
    default:
        ending = signal_number;
        break;
    }
    if (caught_client)
        bora_client_interrupt(caught_client);
}

/* No SA_RESTART: reading a line has to come back. */
static void set(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(signal_number, &action, NULL); /* fails for no signal used here */
}

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
#define N_CAUGHT (sizeof caught / sizeof caught[0])

static int wait_input(int fd, const struct timespec *timeout)
{
    sigset_t all, before;
    (void)sigemptyset(&all); /* these cannot fail: the numbers are valid */
    for (size_t i = 0; i < N_CAUGHT; i++)
        (void)sigaddset(&all, caught[i]);
    (void)sigprocmask(SIG_BLOCK, &all, &before);
    struct pollfd item = {.fd = fd, .events = POLLIN};
    int n = 1;
    if (n_interrupts || ending || has_resized || has_continued)
        n = -1;
    else if ((n = ppoll(&item, 1, timeout, &before)) < 0 && errno != EINTR)
        n = 1; /* reading will say what is wrong */
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return n;
}

bool bora_signals_wait_input(int fd)
{
    return wait_input(fd, NULL) >= 0;
}

int bora_signals_wait(int fd, int timeout_ms)
{
    const struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    return wait_input(fd, &timeout);
}

void bora_signals_catch_interrupt(bora_client *client)
{
    caught_client = client;
    set(SIGINT, handle);
}

void bora_signals_catch_all(bora_client *client)
{
    bora_signals_catch_interrupt(client);
    set(SIGTERM, handle);
    set(SIGHUP, handle);
    set(SIGWINCH, handle);
    set(SIGCONT, handle);
}

void bora_signals_release(void)
{
    for (size_t i = 0; i < N_CAUGHT; i++)
        set(caught[i], SIG_DFL);
    caught_client = NULL;
}

bool bora_signals_has_interrupt(void)
{
    return n_interrupts != 0;
}

bool bora_signals_take_interrupt(void)
{
    bool was = n_interrupts != 0;
    n_interrupts = 0;
    if (caught_client && !ending)
        bora_client_interrupt_clear(caught_client);
    return was;
}

int bora_signals_ending(void)
{
    return ending;
}

bool bora_signals_take_resize(void)
{
    bool was = has_resized != 0;
    has_resized = 0;
    return was;
}

bool bora_signals_take_continue(void)
{
    bool was = has_continued != 0;
    has_continued = 0;
    return was;
}
