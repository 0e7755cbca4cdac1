/* What the daemon sent, as JSON. */
#ifndef BORA_BORA_JSON_H
#define BORA_BORA_JSON_H

#include <stdio.h>

#include <bora/client.h>

/* One document: indented over several lines for a listing, on one line for one event of many; then a newline. Left out
 * at the top level: the request's id, which means nothing outside the connection, and in a listing that the event was a
 * result. A write error is left in file; false: no memory. */
bool bora_json_write(FILE *file, const bora_client_value *value, bool is_indented);
/* {"event": "error", ...} for an error that did not come as an event. */
bool bora_json_write_error(FILE *file, const bora_client_error *error);

#endif
