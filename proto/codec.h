/* The msgpack codec used by both sides: building a frame, checking and reading one.
 *
 * Independent of daemon and client: no logging, no status codes. A frame is checked as a whole before msgpack-c sees
 * it (every count against the bytes that are there, nesting depth, trailing bytes), so that parsing a hostile frame
 * allocates no more than a small multiple of its size. */
#ifndef BORA_PROTO_CODEC_H
#define BORA_PROTO_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BORA_PROTOCOL_VERSION 1
#define BORA_FRAME_SIZE_MAX   ((size_t)1 << 20) /* bytes of a request */
#define BORA_FRAME_DEPTH_MAX  8
#define BORA_SESSION_NAME_MAX 64
#define BORA_STOPS_MAX        16
#define BORA_STOP_SIZE_MAX    256
#define BORA_LOGIT_BIAS_MAX   1024
#define BORA_REQUESTS_MAX     64 /* open, per connection */

/* ---- writing ---------------------------------------------------------------------------------------- */

/* A frame being built. Caller-owned; all zero is empty. An allocation failure is remembered: the frame is then not
 * to be sent (bora_pack_ok is false); so is nesting past BORA_FRAME_DEPTH_MAX, and a key where none belongs or none
 * where one does. Counts of maps and arrays are filled in by _end. */
typedef struct bora_pack {
    char *data; /* [size]; owned, freed by bora_pack_release */
    size_t size, capacity;
    size_t open[BORA_FRAME_DEPTH_MAX];      /* offsets of the counts of open maps and arrays */
    uint32_t n_items[BORA_FRAME_DEPTH_MAX]; /* values in each so far (pairs count as one) */
    bool is_map[BORA_FRAME_DEPTH_MAX];
    uint32_t depth;
    bool failed;
} bora_pack;

void bora_pack_release(bora_pack *pack);
bool bora_pack_ok(const bora_pack *pack); /* whole (nothing open) and nothing failed */
/* Inside a map every value has a key; inside an array (or at the top) key is NULL. */
void bora_pack_map(bora_pack *pack, const char *key);                                  /* opens */
void bora_pack_array(bora_pack *pack, const char *key);                                /* opens */
void bora_pack_end(bora_pack *pack);                                                   /* closes the innermost */
void bora_pack_string(bora_pack *pack, const char *key, const char *value);            /* NULL: nothing is written */
void bora_pack_text(bora_pack *pack, const char *key, const char *bytes, size_t size); /* UTF-8 */
void bora_pack_uint(bora_pack *pack, const char *key, uint64_t value);
void bora_pack_int(bora_pack *pack, const char *key, int64_t value);
void bora_pack_float(bora_pack *pack, const char *key, double value);
void bora_pack_bool(bora_pack *pack, const char *key, bool value);
/* One entry of a map whose keys are integers (logit_bias). */
void bora_pack_int_float(bora_pack *pack, int64_t key, double value);

/* ---- reading ---------------------------------------------------------------------------------------- */

typedef struct bora_frame bora_frame; /* a parsed frame; owns all values in it */
typedef struct bora_value bora_value; /* a value inside a frame; lives as long as the frame */

/* Checks and parses exactly one map with string keys (maps below it may have integer keys), of at most size_max bytes;
 * the bytes are copied. On failure returns NULL and *ret_why is a static sentence. Any thread. */
bora_frame *bora_frame_parse(const void *data, size_t size, size_t size_max, const char **ret_why);
void bora_frame_free(bora_frame *frame);                    /* NULL is a no-op */
const bora_value *bora_frame_root(const bora_frame *frame); /* the map */

/* The value of a string key (of the first one, if it is there twice); NULL if absent, nil, or map is no map (or NULL).
 */
const bora_value *bora_value_get(const bora_value *map, const char *key);
/* Each: false if value is NULL or of another type or does not fit. An integer is a valid float. Strings are checked to
 * be UTF-8 and are not zero-terminated. */
bool bora_value_text(const bora_value *value, const char **ret_bytes, size_t *ret_size);
bool bora_value_uint(const bora_value *value, uint64_t *ret);
bool bora_value_int(const bora_value *value, int64_t *ret);
bool bora_value_float(const bora_value *value, double *ret);
bool bora_value_bool(const bora_value *value, bool *ret);
bool bora_value_is_array(const bora_value *value);
bool bora_value_is_map(const bora_value *value);
/* Number of items (pairs of a map); 0 for anything else. */
uint32_t bora_value_count(const bora_value *value);
const bora_value *bora_value_at(const bora_value *value, uint32_t i); /* item of an array, value of a map's pair */
const bora_value *bora_value_key(const bora_value *map, uint32_t i);  /* key of a map's pair */
/* A zero-terminated copy of a string without zero bytes, free(): NULL if it is none or memory is out. */
char *bora_value_dup(const bora_value *value);

#endif
