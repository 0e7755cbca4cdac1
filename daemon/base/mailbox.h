/* A mailbox: the only way between threads. Many senders, one receiver; messages are intrusive list nodes, so that
 * sending never allocates. The receiver waits in bora_mailbox_wait or polls the descriptor. */
#ifndef BORA_BASE_MAILBOX_H
#define BORA_BASE_MAILBOX_H

#include "base/status.h"

#include <stdbool.h>

/* First member of every message. */
typedef struct bora_mail {
    struct bora_mail *next;
} bora_mail;

typedef struct bora_mailbox bora_mailbox;

bora_status bora_mailbox_new(bora_mailbox **ret_box, bora_error *err);
/* The box must be empty and no longer known to senders. NULL is a no-op. */
void bora_mailbox_free(bora_mailbox *box);
/* Any thread. Ownership of mail goes to the receiver. */
void bora_mailbox_send(bora_mailbox *box, bora_mail *mail);
/* The receiver. Takes the oldest, NULL when there is none; does not wait. */
bora_mail *bora_mailbox_take(bora_mailbox *box);
/* The receiver. Waits for mail and takes it; NULL after timeout_ms (-1: for ever). */
bora_mail *bora_mailbox_wait(bora_mailbox *box, int timeout_ms);
/* An eventfd that is readable while mail waits; owned by the box. For poll: when it is readable, call
 * bora_mailbox_take until it gives NULL. */
int bora_mailbox_fd(const bora_mailbox *box);
/* Any thread. Messages waiting now. */
uint32_t bora_mailbox_count(bora_mailbox *box);

#endif
