/* What the daemon sent, for reading. A bora_client_value is the codec's bora_value under its public name. */
#include "client.h"

#include <stdlib.h>

static const bora_value *codec_value(const bora_client_value *value)
{
    return (const bora_value *)(const void *)value;
}

const bora_client_value *bora_client_value_of(const bora_value *value)
{
    return (const bora_client_value *)(const void *)value;
}

int32_t bora_client_value_kind(const bora_client_value *value)
{
    const bora_value *in = codec_value(value);
    const char *text = NULL;
    size_t size = 0;
    uint64_t whole = 0;
    int64_t negative = 0;
    double number = 0;
    bool flag = false;
    if (bora_value_is_map(in))
        return BORA_CLIENT_VALUE_MAP;
    if (bora_value_is_array(in))
        return BORA_CLIENT_VALUE_ARRAY;
    if (bora_value_text(in, &text, &size))
        return BORA_CLIENT_VALUE_TEXT;
    if (bora_value_bool(in, &flag))
        return BORA_CLIENT_VALUE_BOOL;
    if (bora_value_uint(in, &whole))
        return BORA_CLIENT_VALUE_UINT;
    if (bora_value_int(in, &negative))
        return BORA_CLIENT_VALUE_INT;
    return bora_value_float(in, &number) ? BORA_CLIENT_VALUE_FLOAT : BORA_CLIENT_VALUE_NONE;
}

uint32_t bora_client_value_count(const bora_client_value *value)
{
    return bora_value_count(codec_value(value));
}

const bora_client_value *bora_client_value_at(const bora_client_value *value, uint32_t i)
{
    return bora_client_value_of(bora_value_at(codec_value(value), i));
}

const bora_client_value *bora_client_value_key(const bora_client_value *map, uint32_t i)
{
    return bora_client_value_of(bora_value_key(codec_value(map), i));
}

const bora_client_value *bora_client_value_get(const bora_client_value *map, const char *key)
{
    return bora_client_value_of(bora_value_get(codec_value(map), key));
}

bool bora_client_value_bool(const bora_client_value *value, bool otherwise)
{
    bool found = otherwise;
    (void)bora_value_bool(codec_value(value), &found); /* left as it is if it is no such value; so below */
    return found;
}

uint64_t bora_client_value_uint(const bora_client_value *value, uint64_t otherwise)
{
    uint64_t found = otherwise;
    (void)bora_value_uint(codec_value(value), &found);
    return found;
}

int64_t bora_client_value_int(const bora_client_value *value, int64_t otherwise)
{
    int64_t found = otherwise;
    (void)bora_value_int(codec_value(value), &found);
    return found;
}

double bora_client_value_float(const bora_client_value *value, double otherwise)
{
    double found = otherwise;
    (void)bora_value_float(codec_value(value), &found);
    return found;
}

const char *bora_client_value_text(const bora_client_value *value, size_t *ret_size)
{
    const char *text = "";
    *ret_size = 0;
    (void)bora_value_text(codec_value(value), &text, ret_size);
    return text;
}

bora_client_result *bora_client_result_new(bora_frame **frame)
{
    bora_client_result *result = malloc(sizeof *result);
    if (!result)
        return NULL;
    result->frame = *frame;
    *frame = NULL;
    return result;
}

const bora_client_value *bora_client_result_value(const bora_client_result *result)
{
    return result ? bora_client_value_of(bora_frame_root(result->frame)) : NULL;
}

void bora_client_result_free(bora_client_result *result)
{
    if (!result)
        return;
    bora_frame_free(result->frame);
    free(result);
}
