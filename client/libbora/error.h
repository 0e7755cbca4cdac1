/* Filling a bora_client_error. */
#ifndef BORA_LIBBORA_ERROR_H
#define BORA_LIBBORA_ERROR_H

#include <bora/client.h>

/* Fills err (which may be NULL) and returns status, so that a failure is one line. */
__attribute__((format(printf, 3, 4))) bora_client_status
bora_client_fail(bora_client_error *err, bora_client_status status, const char *format, ...);

/* Fills err with what the daemon's error event says. Returns E_REFUSED, or E_INTERRUPTED for the code "cancelled". */
bora_client_status bora_client_fail_refused(bora_client_error *err, const bora_client_value *event);

/* err from an error that is there already; returns its status. */
bora_client_status bora_client_fail_as(bora_client_error *err, const bora_client_error *from);

#endif
