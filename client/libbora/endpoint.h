/* Where the daemon listens, and whether anybody does. */
#ifndef BORA_LIBBORA_ENDPOINT_H
#define BORA_LIBBORA_ENDPOINT_H

#include <bora/client.h>

/* A ZeroMQ endpoint from an endpoint or a path; NULL stands for the default. Yours to free(); NULL: no memory. */
char *bora_client_endpoint_resolve(const char *endpoint);

/* For ipc: connects once by hand, because ZeroMQ would wait for a daemon in silence. OK for other transports. */
bora_client_status bora_client_endpoint_probe(const char *endpoint, bora_client_error *err);

/* The one message for "nobody is there". */
bora_client_status bora_client_fail_no_daemon(bora_client_error *err, const char *endpoint);

#endif
