#include "support/fields.h"

#include <stdio.h>
#include <string.h>

#define FIELDS_MAX 64

static const char *kind_name(int32_t kind)
{
    static const char *const names[] = {"none", "bool", "uint", "int", "float", "text", "array", "map"};
    return kind >= 0 && kind < 8 ? names[kind] : "unknown";
}

/* The type after the colon, up to the next space. */
static bool type_is(const char *type, const char *name)
{
    size_t size = strcspn(type, " ");
    return strlen(name) == size && memcmp(type, name, size) == 0;
}

static bool is_listed(const char *name, size_t size, const char *fields)
{
    for (const char *at = fields; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        const char *field = at + (*at == '?');
        if (strcspn(field, ":") == size && memcmp(field, name, size) == 0)
            return true;
    }
    return false;
}

bool bora_test_fields(const bora_client_value *map, const char *fields)
{
    if (bora_client_value_kind(map) != BORA_CLIENT_VALUE_MAP) {
        (void)fprintf(stderr, "no map\n");
        return false;
    }
    for (const char *at = fields; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        bool optional = *at == '?';
        const char *field = at + optional;
        char name[FIELDS_MAX];
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(field, ":"), field);
        const bora_client_value *value = bora_client_value_get(map, name);
        if (!value && optional)
            continue;
        const char *found = value ? kind_name(bora_client_value_kind(value)) : "missing";
        if (!type_is(field + strlen(name) + 1, found)) {
            (void)fprintf(stderr, "field %s is %s\n", name, found);
            return false;
        }
    }
    for (uint32_t i = 0; i < bora_client_value_count(map); i++) {
        size_t size = 0;
        const char *name = bora_client_value_text(bora_client_value_key(map, i), &size);
        if (!is_listed(name, size, fields)) {
            (void)fprintf(stderr, "field %.*s is not expected\n", (int)size, name);
            return false;
        }
    }
    return true;
}
