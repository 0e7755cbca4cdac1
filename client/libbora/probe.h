/* Whether anybody listens. */
#ifndef BORA_LIBBORA_PROBE_H
#define BORA_LIBBORA_PROBE_H

#include <bora/client.h>

/* For ipc: connects once by hand, because ZeroMQ would wait for a daemon in silence. OK for other transports. */
bora_client_status bora_client_probe(const char *endpoint, bora_client_error *err);

/* The one message for "nobody is there". */
bora_client_status bora_client_fail_no_daemon(bora_client_error *err, const char *endpoint);

#endif
