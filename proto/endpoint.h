/* Where daemon and clients meet: the rule both sides follow to find the socket. */
#ifndef BORA_PROTO_ENDPOINT_H
#define BORA_PROTO_ENDPOINT_H

/* $BORA_SOCKET, else bora/bora.sock under $XDG_RUNTIME_DIR, else under /run/user/<uid> if that is there, else
 * /tmp/bora-<uid>/bora.sock. A ZeroMQ endpoint, the caller's to free(); NULL: no memory. Any thread. */
char *bora_endpoint_default(void);

/* A ZeroMQ endpoint as it is, a path with ipc:// before it; NULL or "": bora_endpoint_default. free() it; NULL: no
 * memory. Any thread. */
char *bora_endpoint_resolve(const char *endpoint);

/* The path of an ipc endpoint inside it; NULL if it is none. */
const char *bora_endpoint_path(const char *endpoint);

#endif
