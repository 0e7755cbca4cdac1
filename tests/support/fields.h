/* What a map that the daemon sent has to have: every field by name and type, and no field that PROTOCOL.md does not
 * know. */
#ifndef BORA_TESTS_FIELDS_H
#define BORA_TESTS_FIELDS_H

#include <bora/client.h>

#include <stdbool.h>

/* fields: "name:type name:type ...", type one of bool, uint, float (an integer is none), text, array, map; a name that
 * begins with '?' may be missing. True if it is so; otherwise false, and the first difference is on stderr. */
bool bora_test_fields(const bora_client_value *map, const char *fields);

#endif
