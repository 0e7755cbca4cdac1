/* Objects: properties in the order of the schema, those that are not required may be left out, others come last.
 *
 *   {  ──▶ key 0 ──▶ key 1 ──▶ ... ──▶ others     before a property, no comma to write
 *            │ value    │ value                     a property that may be left out has a way around it
 *            ▼          ▼
 *          after 0    after 1 ...                 a comma leads back to the row above; } ends if no required one
 *                                                 is left */
#include "grammar/schema_private.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define PROPERTIES_MAX 4096u /* of one object */

typedef struct property {
    const char *name;
    const json_t *schema;
    bool is_required;
    bool is_listed; /* in properties, not only in required */
} property;

typedef struct object {
    property *properties; /* [n] */
    size_t n;
    const json_t *others; /* schema of what is not listed; NULL: there may be none */
} object;

/* Of what properties does not list, but required does. */
static const json_t *schema_of_others(bora_schema *s, const json_t *schema, bool *ret_are_any)
{
    const json_t *additional = json_object_get(schema, "additionalProperties");
    *ret_are_any = !additional;
    if (!additional)
        return json_object_get(schema, "properties") ? NULL : json_true(); /* json_true is not counted */
    if (!json_is_boolean(additional) && !json_is_object(additional))
        bora_schema_fail(s, BORA_E_INVAL, "'additionalProperties' is neither a schema nor true or false");
    return json_is_false(additional) ? NULL : additional;
}

static property *property_find(object *o, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(o->properties[i].name, name) == 0)
            return &o->properties[i];
    return NULL;
}

static void add_required(bora_schema *s, object *o, const json_t *properties, const json_t *required, bool are_any)
{
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!name) {
            bora_schema_fail(s, BORA_E_INVAL, "'required' is not a list of names");
            return;
        }
        bool is_listed = json_object_get(properties, name) != NULL;
        if (is_listed || property_find(o, o->n, name))
            continue; /* done by add_listed, or a second time */
        if (!o->others && !are_any) {
            bora_schema_fail(s, BORA_E_INVAL, "'%.80s' is required, but is no property", name);
            return;
        }
        o->properties[o->n++] =
            (property){.name = name, .schema = o->others ? o->others : json_true(), .is_required = true};
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_listed(bora_schema *s, object *o, const json_t *properties, const json_t *required)
{
    size_t n_required = json_array_size(required);
    BORA_CLEANUP(bora_freep) const char **names = bora_calloc(n_required, sizeof *names);
    if (!names) {
        bora_builder_fail(&s->builder, BORA_E_NOMEM, "%zu properties", n_required);
        return;
    }
    for (size_t i = 0; i < n_required; i++) {
        names[i] = json_string_value(json_array_get(required, i));
        names[i] = names[i] ? names[i] : ""; /* add_required will say so */
    }
    qsort(names, n_required, sizeof *names, by_text);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, name, value) /* jansson's iterator reads only */
    {
        bool is_required = bsearch(&name, names, n_required, sizeof *names, by_text) != NULL;
        o->properties[o->n++] =
            (property){.name = name, .schema = value, .is_required = is_required, .is_listed = true};
    }
}

/* : and the value. */
static void emit_value(bora_schema *s, uint32_t rule, uint32_t from, uint32_t to)
{
    bora_builder *builder = &s->builder;
    uint32_t behind = bora_builder_state(builder), value = bora_builder_state(builder);
    bora_builder_bytes(builder, from, ':', ':', behind);
    bora_json_after_colon(&s->json, behind, value);
    bora_builder_call(builder, value, rule, to);
}

static void emit_others(bora_schema *s, const object *o, uint32_t from, uint32_t to)
{
    BORA_CLEANUP(bora_freep) const char **names = bora_calloc(o->n, sizeof *names);
    BORA_CLEANUP(bora_freep) size_t *sizes = bora_calloc(o->n, sizeof *sizes);
    if (!names || !sizes) {
        bora_builder_fail(&s->builder, BORA_E_NOMEM, "%zu properties", o->n);
        return;
    }
    for (size_t i = 0; i < o->n; i++) {
        names[i] = o->properties[i].name;
        sizes[i] = strlen(names[i]);
    }
    uint32_t colon = bora_builder_state(&s->builder);
    bora_json_other_key(&s->json, names, sizes, o->n, from, colon);
    uint32_t rule = bora_schema_rule(s, o->others, BORA_TYPE_ALL, "additionalProperties", NULL, SIZE_MAX);
    emit_value(s, rule, colon, to);
}

static void emit_object(bora_schema *s, const object *o, uint32_t from, uint32_t to)
{
    bora_builder *builder = &s->builder;
    uint32_t open = bora_builder_state(builder), key = bora_builder_state(builder), end = bora_builder_state(builder);
    size_t last_required = 0; /* plus 1 */
    for (size_t i = 0; i < o->n; i++)
        if (o->properties[i].is_required)
            last_required = i + 1;
    bora_builder_bytes(builder, from, '{', '{', open);
    bora_builder_bytes(builder, end, '}', '}', to);
    bora_json_space(&s->json, open, key);
    if (last_required == 0)
        bora_json_space(&s->json, open, end);
    for (size_t i = 0; i <= o->n && builder->status == BORA_OK; i++) {
        bool is_others = i == o->n;
        if (is_others && !o->others)
            break;
        uint32_t after = bora_builder_state(builder), comma = bora_builder_state(builder);
        uint32_t next_key = is_others ? key : bora_builder_state(builder);
        if (is_others) {
            emit_others(s, o, key, after);
        } else {
            const property *p = &o->properties[i];
            uint32_t colon = bora_builder_state(builder);
            bora_json_key(&s->json, p->name, strlen(p->name), key, colon);
            uint32_t rule =
                bora_schema_rule(s, p->schema, BORA_TYPE_ALL, p->is_listed ? "properties" : "additionalProperties",
                                 p->is_listed ? p->name : NULL, SIZE_MAX);
            emit_value(s, rule, colon, after);
            if (!p->is_required)
                bora_builder_skip(builder, key, next_key);
        }
        bora_builder_bytes(builder, after, ',', ',', comma);
        bora_json_space(&s->json, comma, next_key);
        if (i + 1 >= last_required)
            bora_json_space(&s->json, after, end);
        key = next_key;
    }
}

void bora_schema_object(bora_schema *s, const json_t *schema, uint32_t from, uint32_t to)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    bool are_any = false;
    object o = {.others = schema_of_others(s, schema, &are_any)};
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required))) {
        bora_schema_fail(s, BORA_E_INVAL, "'%s' is not %s",
                         properties && !json_is_object(properties) ? "properties" : "required",
                         properties && !json_is_object(properties) ? "an object" : "a list of names");
        return;
    }
    size_t n_most = json_object_size(properties) + json_array_size(required);
    if (n_most > PROPERTIES_MAX) {
        bora_schema_fail(s, BORA_E_LIMIT, "more than %u properties", PROPERTIES_MAX);
        return;
    }
    BORA_CLEANUP(bora_freep) property *all = bora_calloc(n_most, sizeof *all);
    if (!all) {
        bora_builder_fail(&s->builder, BORA_E_NOMEM, "%zu properties", n_most);
        return;
    }
    o.properties = all;
    add_listed(s, &o, properties, required);
    add_required(s, &o, properties, required, are_any);
    for (size_t i = 0; i < o.n; i++)
        if (strlen(o.properties[i].name) > BORA_JSON_KEY_MAX)
            bora_schema_fail(s, BORA_E_LIMIT, "a property's name of more than %u bytes", BORA_JSON_KEY_MAX);
    if (s->builder.status == BORA_OK)
        emit_object(s, &o, from, to);
}
