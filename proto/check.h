/* The structural check of a frame: what can be said about the bytes without building anything from them. */
#ifndef BORA_PROTO_CHECK_H
#define BORA_PROTO_CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* True if the bytes are exactly one msgpack map, not nested deeper than BORA_FRAME_DEPTH_MAX (the map itself is the
 * first level), with string keys in that map and string or integer keys in maps below. Otherwise false, and *ret_why
 * is a static sentence. Reads every byte at most once and allocates nothing. Any thread. */
bool bora_frame_check(const void *data, size_t size, const char **ret_why);

#endif
