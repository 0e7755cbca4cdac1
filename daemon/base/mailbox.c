#include "base/mailbox.h"

#include "base/memory.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct bora_mailbox {
    pthread_mutex_t lock;
    bora_mail *oldest, *newest; /* protected by lock */
    uint32_t n;                 /* protected by lock */
    int event_fd;               /* readable exactly while n > 0; changed under lock */
};

bora_status bora_mailbox_new(bora_mailbox **ret_box, bora_error *err)
{
    bora_mailbox *box = bora_calloc(1, sizeof *box);
    if (!box)
        return bora_fail(err, BORA_E_NOMEM, "mailbox");
    box->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (box->event_fd < 0) {
        bora_free(box);
        return bora_fail(err, BORA_E_IO, "eventfd: %s", strerror(errno));
    }
    (void)pthread_mutex_init(&box->lock, NULL); /* default attributes: cannot fail on Linux */
    *ret_box = box;
    return BORA_OK;
}

void bora_mailbox_free(bora_mailbox *box)
{
    if (!box)
        return;
    (void)close(box->event_fd);
    (void)pthread_mutex_destroy(&box->lock);
    bora_free(box);
}

void bora_mailbox_send(bora_mailbox *box, bora_mail *mail)
{
    mail->next = NULL;
    (void)pthread_mutex_lock(&box->lock);
    if (box->newest)
        box->newest->next = mail;
    else
        box->oldest = mail;
    box->newest = mail;
    if (box->n++ == 0)
        (void)eventfd_write(box->event_fd, 1); /* the counter was 0: cannot overflow */
    (void)pthread_mutex_unlock(&box->lock);
}

bora_mail *bora_mailbox_take(bora_mailbox *box)
{
    (void)pthread_mutex_lock(&box->lock);
    bora_mail *mail = box->oldest;
    if (mail) {
        box->oldest = mail->next;
        if (!box->oldest)
            box->newest = NULL;
        mail->next = NULL;
        if (--box->n == 0) {
            eventfd_t value;
            (void)eventfd_read(box->event_fd, &value); /* was 1: cannot block */
        }
    }
    (void)pthread_mutex_unlock(&box->lock);
    return mail;
}

bora_mail *bora_mailbox_wait(bora_mailbox *box, int timeout_ms)
{
    bora_mail *mail = bora_mailbox_take(box);
    struct timespec start;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    int left = timeout_ms;
    while (!mail && (timeout_ms < 0 || left > 0)) {
        struct pollfd pfd = {.fd = box->event_fd, .events = POLLIN};
        (void)poll(&pfd, 1, timeout_ms < 0 ? -1 : left); /* a signal only means: look again */
        mail = bora_mailbox_take(box);
        if (timeout_ms >= 0) {
            struct timespec now;
            (void)clock_gettime(CLOCK_MONOTONIC, &now);
            left = timeout_ms - (int)((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
        }
    }
    return mail;
}

int bora_mailbox_fd(const bora_mailbox *box)
{
    return box->event_fd;
}

uint32_t bora_mailbox_count(bora_mailbox *box)
{
    (void)pthread_mutex_lock(&box->lock);
    uint32_t n = box->n;
    (void)pthread_mutex_unlock(&box->lock);
    return n;
}
