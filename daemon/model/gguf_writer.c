/* The container as written: one buffer for keys and descriptions, a file descriptor for the rest. */
#include "model/gguf_writer.h"

#include "base/memory.h"
#include "base/size.h"
#include "model/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct buffer {
    uint8_t *bytes; /* [size] */
    size_t size, capacity;
} buffer;

typedef struct key_value {
    char *key;
    uint32_t type;
    buffer value; /* as in the file, without key and type */
} key_value;

typedef struct tensor {
    char *name;
    uint64_t dims[4]; /* innermost first */
    uint32_t n_dims, type;
    uint64_t size, offset;
} tensor;

struct bora_gguf_out {
    key_value *keys; /* [n_keys] */
    size_t n_keys, keys_capacity;
    tensor *tensors; /* [n_tensors] */
    size_t n_tensors, tensors_capacity;
    bora_status status; /* of the first setter that failed */
    bora_error error;

    char *path, *temporary; /* temporary: to be removed unless finished */
    bool replace;
    int fd;
    uint64_t size;     /* bytes of the whole file */
    size_t at;         /* tensor being written */
    uint64_t at_bytes; /* of it, so far */
};

/* ggml's number of an element type; false if it has none. */
static bool type_of(uint32_t dtype, uint32_t *ret_type)
{
    static const struct {
        const char *name;
        uint32_t type;
    } types[] = {{"f32", 0},   {"f16", 1},   {"q4_0", 2},  {"q4_1", 3},    {"q5_0", 6},
                 {"q5_1", 7},  {"q8_0", 8},  {"q2_k", 10}, {"q3_k", 11},   {"q4_k", 12},
                 {"q5_k", 13}, {"q6_k", 14}, {"bf16", 30}, {"iq4_nl", 20}, {"iq4_xs", 23}};
    const bora_block *block = bora_block_of(dtype);
    for (size_t i = 0; block && i < BORA_ARRAY_SIZE(types); i++)
        if (strcmp(types[i].name, block->name) == 0) {
            *ret_type = types[i].type;
            return true;
        }
    return false;
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void keep(bora_gguf_out *writer, bora_status status, const char *format,
                                                       ...)
{
    if (writer->status != BORA_OK)
        return;
    writer->status = status;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(writer->error.message, sizeof writer->error.message, format, args); /* cut if too long */
    va_end(args);
}

static bool buffer_add(buffer *to, const void *data, size_t size)
{
    size_t need;
    if (!bora_size_add(to->size, size, &need))
        return false;
    if (need > to->capacity) {
        size_t capacity = need < 64 ? 64 : need;
        if (capacity < to->capacity * 2)
            capacity = to->capacity * 2;
        uint8_t *grown = bora_realloc(to->bytes, capacity, 1);
        if (!grown)
            return false;
        to->bytes = grown;
        to->capacity = capacity;
    }
    if (size)
        memcpy(to->bytes + to->size, data, size);
    to->size = need;
    return true;
}

static bool buffer_u32(buffer *to, uint32_t value)
{
    return buffer_add(to, &value, sizeof value); /* little-endian, as every machine we build for */
}

static bool buffer_u64(buffer *to, uint64_t value)
{
    return buffer_add(to, &value, sizeof value);
}

static bool buffer_text(buffer *to, const char *text, size_t size)
{
    return buffer_u64(to, size) && buffer_add(to, text, size);
}

static bool grow(void **elements, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity)
        return true;
    void *grown = bora_realloc(*elements, n + n / 2 + 32, size);
    if (!grown)
        return false;
    *elements = grown;
    *capacity = n + n / 2 + 32;
    return true;
}

bora_status bora_gguf_out_new(bora_gguf_out **ret_writer, bora_error *err)
{
    bora_gguf_out *writer = bora_calloc(1, sizeof *writer);
    if (!writer)
        return bora_fail(err, BORA_E_NOMEM, "file writer");
    writer->fd = -1;
    *ret_writer = writer;
    return BORA_OK;
}

void bora_gguf_out_free(bora_gguf_out *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0 && writer->temporary)
        (void)unlink(writer->temporary); /* while it is still locked: it is ours */
    bora_closep(&writer->fd);
    for (size_t i = 0; i < writer->n_keys; i++) {
        bora_free(writer->keys[i].key);
        bora_free(writer->keys[i].value.bytes);
    }
    for (size_t i = 0; i < writer->n_tensors; i++)
        bora_free(writer->tensors[i].name);
    bora_free(writer->keys);
    bora_free(writer->tensors);
    bora_free(writer->path);
    bora_free(writer->temporary);
    bora_free(writer);
}

/* ---- keys ----------------------------------------------------------------------------------------------------- */

/* A new value to be filled; NULL if there is no memory, which is kept. */
static buffer *key_add(bora_gguf_out *writer, const char *key, size_t key_size, uint32_t type)
{
    char *copy = bora_strndup(key, key_size);
    if (!copy || !grow((void **)&writer->keys, &writer->keys_capacity, writer->n_keys, sizeof *writer->keys)) {
        bora_free(copy);
        keep(writer, BORA_E_NOMEM, "key '%.*s'", (int)key_size, key);
        return NULL;
    }
    key_value *added = &writer->keys[writer->n_keys++];
    *added = (key_value){.key = copy, .type = type};
    return &added->value;
}

static void set_bytes(bora_gguf_out *writer, const char *key, uint32_t type, const void *data, size_t size)
{
    buffer *value = key_add(writer, key, strlen(key), type);
    if (value && !buffer_add(value, data, size))
        keep(writer, BORA_E_NOMEM, "key '%s'", key);
}

void bora_gguf_set_u32(bora_gguf_out *writer, const char *key, uint32_t value)
{
    set_bytes(writer, key, BORA_GGUF_U32, &value, sizeof value);
}

void bora_gguf_set_f32(bora_gguf_out *writer, const char *key, float value)
{
    set_bytes(writer, key, BORA_GGUF_F32, &value, sizeof value);
}

void bora_gguf_set_bool(bora_gguf_out *writer, const char *key, bool value)
{
    uint8_t byte = value;
    set_bytes(writer, key, BORA_GGUF_BOOL, &byte, sizeof byte);
}

void bora_gguf_set_text(bora_gguf_out *writer, const char *key, const char *text, size_t size)
{
    buffer *value = key_add(writer, key, strlen(key), BORA_GGUF_TEXT);
    if (value && !buffer_text(value, text, size))
        keep(writer, BORA_E_NOMEM, "key '%s'", key);
}

void bora_gguf_set_array(bora_gguf_out *writer, const char *key, uint32_t type, const void *values, size_t n)
{
    buffer *value = key_add(writer, key, strlen(key), BORA_GGUF_ARRAY);
    size_t size;
    if (value && (!bora_size_mul(n, 4, &size) || !buffer_u32(value, type) || !buffer_u64(value, n) ||
                  !buffer_add(value, values, size)))
        keep(writer, BORA_E_NOMEM, "key '%s'", key);
}

void bora_gguf_set_texts(bora_gguf_out *writer, const char *key, const char *const *texts, const uint32_t *sizes,
                         size_t n)
{
    buffer *value = key_add(writer, key, strlen(key), BORA_GGUF_ARRAY);
    bool good = value && buffer_u32(value, BORA_GGUF_TEXT) && buffer_u64(value, n);
    for (size_t i = 0; good && i < n; i++)
        good = buffer_text(value, texts[i], sizes[i]);
    if (!good)
        keep(writer, BORA_E_NOMEM, "key '%s'", key);
}

/* Bytes of n elements at data; texts carry their sizes. */
static size_t elements_size(const bora_gguf_value *value)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (value->element_type != BORA_GGUF_TEXT)
        return value->element_type < BORA_ARRAY_SIZE(sizes) ? value->n * sizes[value->element_type] : 0;
    const uint8_t *at = value->data;
    for (size_t i = 0; i < value->n; i++)
        (void)bora_gguf_element_text(&at); /* it is checked; only the place of the next one counts */
    return (size_t)(at - value->data);
}

void bora_gguf_set_copy(bora_gguf_out *writer, const bora_gguf_value *value)
{
    buffer *to = key_add(writer, value->key.bytes, value->key.size, value->type);
    if (to &&
        ((value->type == BORA_GGUF_ARRAY && (!buffer_u32(to, value->element_type) || !buffer_u64(to, value->n))) ||
         !buffer_add(to, value->data, elements_size(value))))
        keep(writer, BORA_E_NOMEM, "key '%.*s'", (int)value->key.size, value->key.bytes);
}

/* ---- tensors -------------------------------------------------------------------------------------------------- */

void bora_gguf_add_tensor(bora_gguf_out *writer, const char *name, const uint64_t *shape, uint32_t n_dims,
                          uint32_t dtype)
{
    tensor added = {.n_dims = n_dims};
    size_t size = 0;
    bool good = n_dims >= 1 && n_dims <= 4 && type_of(dtype, &added.type) &&
                bora_block_row_size(dtype, shape[n_dims - 1], &size);
    for (uint32_t i = 0; good && i < n_dims; i++) {
        added.dims[i] = shape[n_dims - 1 - i];
        if (i)
            good = added.dims[i] <= SIZE_MAX / 2 && bora_size_mul(size, (size_t)added.dims[i], &size);
    }
    if (!good) {
        keep(writer, BORA_E_INVAL, "tensor '%s' has a type or shape that cannot be written", name);
        return;
    }
    added.size = size;
    added.name = bora_strdup(name);
    if (!added.name ||
        !grow((void **)&writer->tensors, &writer->tensors_capacity, writer->n_tensors, sizeof *writer->tensors)) {
        bora_free(added.name);
        keep(writer, BORA_E_NOMEM, "tensor '%s'", name);
        return;
    }
    writer->tensors[writer->n_tensors++] = added;
}

uint64_t bora_gguf_out_size(const bora_gguf_out *writer)
{
    return writer->size;
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    return strcmp(((const key_value *)a)->key, ((const key_value *)b)->key);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bora_status names_check(bora_gguf_out *writer, bora_error *err)
{
    if (writer->n_keys)
        qsort(writer->keys, writer->n_keys, sizeof *writer->keys, by_key);
    for (size_t i = 1; i < writer->n_keys; i++)
        if (strcmp(writer->keys[i - 1].key, writer->keys[i].key) == 0)
            return bora_fail(err, BORA_E_INVAL, "key '%s' is there twice", writer->keys[i].key);
    BORA_CLEANUP(bora_freep) const char **names = bora_calloc(writer->n_tensors, sizeof *names);
    if (!names)
        return bora_fail(err, BORA_E_NOMEM, "list of %zu tensors", writer->n_tensors);
    for (size_t i = 0; i < writer->n_tensors; i++)
        names[i] = writer->tensors[i].name;
    qsort(names, writer->n_tensors, sizeof *names, by_name);
    for (size_t i = 1; i < writer->n_tensors; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return bora_fail(err, BORA_E_INVAL, "tensor '%s' is there twice", names[i]);
    return BORA_OK;
}

static bool lay_out(bora_gguf_out *writer, buffer *head)
{
    size_t offset = 0;
    bool good = buffer_add(head, "GGUF", 4) && buffer_u32(head, 3) && buffer_u64(head, writer->n_tensors) &&
                buffer_u64(head, writer->n_keys);
    for (size_t i = 0; good && i < writer->n_keys; i++) {
        const key_value *kv = &writer->keys[i];
        good = buffer_text(head, kv->key, strlen(kv->key)) && buffer_u32(head, kv->type) &&
               buffer_add(head, kv->value.bytes, kv->value.size);
    }
    for (size_t i = 0; good && i < writer->n_tensors; i++) {
        tensor *t = &writer->tensors[i];
        t->offset = offset;
        good = buffer_text(head, t->name, strlen(t->name)) && buffer_u32(head, t->n_dims) &&
               buffer_add(head, t->dims, t->n_dims * sizeof *t->dims) && buffer_u32(head, t->type) &&
               buffer_u64(head, t->offset) && bora_size_add(offset, (size_t)t->size, &offset) &&
               bora_size_round_up(offset, BORA_GGUF_ALIGNMENT, &offset);
    }
    static const uint8_t zeros[BORA_GGUF_ALIGNMENT];
    size_t rest = head->size % BORA_GGUF_ALIGNMENT, size = 0;
    good = good && buffer_add(head, zeros, rest ? BORA_GGUF_ALIGNMENT - rest : 0) &&
           bora_size_add(head->size, offset, &size) && size <= INT64_MAX;
    writer->size = size;
    return good;
}

static bora_status write_failed(const bora_gguf_out *writer, int error, bora_error *err)
{
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return bora_fail(err, BORA_E_FULL, "write '%s': %s (the file takes %.1f MiB)", writer->path,
                         error == EFBIG ? "larger than files may be here" : "the disk is full",
                         (double)writer->size / 1048576.0);
    return bora_fail(err, BORA_E_IO, "write '%s': %s", writer->temporary, strerror(error));
}

static bora_status write_all(const bora_gguf_out *writer, const uint8_t *data, size_t size, bora_error *err)
{
    while (size) {
        ssize_t n = write(writer->fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return write_failed(writer, errno, err);
        data += n;
        size -= (size_t)n;
    }
    return BORA_OK;
}

static bora_status target_check(const bora_gguf_out *writer, bora_error *err)
{
    struct stat st;
    if (stat(writer->path, &st) != 0)
        return BORA_OK; /* what stands in the way then, open will say */
    if (!S_ISREG(st.st_mode))
        return bora_fail(err, BORA_E_EXISTS, "'%s' is there and is not a regular file", writer->path);
    return writer->replace ? BORA_OK : bora_fail(err, BORA_E_EXISTS, "'%s' is there already", writer->path);
}

/* The lock tells a file that a dead writer left behind from one that somebody is writing. */
static bora_status temporary_open(bora_gguf_out *writer, bora_error *err)
{
    BORA_CLEANUP(bora_closep)
    int fd = open(writer->temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return bora_fail(err, BORA_E_IO, "write '%s': %s", writer->temporary, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bora_fail(err, BORA_E_IO, "'%s' is not a regular file", writer->temporary);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return bora_fail(err, BORA_E_BUSY, "'%s' is being written by another process", writer->temporary);
    if (ftruncate(fd, 0) != 0)
        return bora_fail(err, BORA_E_IO, "write '%s': %s", writer->temporary, strerror(errno));
    writer->fd = fd;
    fd = -1;
    return BORA_OK;
}

bora_status bora_gguf_out_create(bora_gguf_out *writer, const char *path, bool replace, bora_error *err)
{
    BORA_CLEANUP(bora_freep) uint8_t *bytes = NULL;
    buffer head = {0};
    if (writer->status != BORA_OK)
        return bora_fail(err, writer->status, "%s", writer->error.message);
    writer->replace = replace;
    writer->path = bora_strdup(path);
    writer->temporary = bora_format("%s.tmp", path);
    if (!writer->path || !writer->temporary)
        return bora_fail(err, BORA_E_NOMEM, "path");
    bora_status st = names_check(writer, err);
    if (st != BORA_OK)
        return st;
    bool good = lay_out(writer, &head);
    bytes = head.bytes;
    if (!good)
        return bora_fail(err, BORA_E_NOMEM, "header of '%s'", path);
    if ((st = target_check(writer, err)) != BORA_OK || (st = temporary_open(writer, err)) != BORA_OK)
        return st;
    /* A disk without room should say so now and not in an hour; file systems that cannot tell say so later. */
    int failed = 0;
    do
        failed = fallocate(writer->fd, 0, 0, (off_t)writer->size) != 0 ? errno : 0;
    while (failed == EINTR);
    if (failed == ENOSPC || failed == EDQUOT || failed == EFBIG)
        return write_failed(writer, failed, err);
    return write_all(writer, bytes, head.size, err);
}

bora_status bora_gguf_out_write(bora_gguf_out *writer, const void *data, size_t size, bora_error *err)
{
    if (writer->at == writer->n_tensors || size > writer->tensors[writer->at].size - writer->at_bytes)
        return bora_fail(err, BORA_E_INVAL, "'%s': more bytes than the tensor has", writer->path);
    bora_status st = write_all(writer, data, size, err);
    const tensor *t = &writer->tensors[writer->at];
    writer->at_bytes += size;
    if (st == BORA_OK && writer->at_bytes == t->size) {
        static const uint8_t zeros[BORA_GGUF_ALIGNMENT];
        size_t rest = (size_t)(t->size % BORA_GGUF_ALIGNMENT);
        writer->at++;
        writer->at_bytes = 0;
        if (rest)
            st = write_all(writer, zeros, BORA_GGUF_ALIGNMENT - rest, err);
    }
    return st;
}

/* The new name itself has to reach the disk, too. */
static bora_status folder_sync(const char *path, bora_error *err)
{
    const char *slash = strrchr(path, '/');
    BORA_CLEANUP(bora_freep)
    char *folder = slash ? bora_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : bora_strdup(".");
    if (!folder)
        return bora_fail(err, BORA_E_NOMEM, "path");
    BORA_CLEANUP(bora_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems cannot sync a folder; the file is whole all the same. */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != EBADF && errno != EROFS))
        return bora_fail(err, BORA_E_IO, "sync '%s': %s", folder, strerror(errno));
    return BORA_OK;
}

bora_status bora_gguf_out_finish(bora_gguf_out *writer, bora_error *err)
{
    if (writer->fd < 0 || writer->at != writer->n_tensors)
        return bora_fail(err, BORA_E_INVAL, "'%s' is not complete", writer->path ? writer->path : "?");
    if (fsync(writer->fd) != 0)
        return write_failed(writer, errno, err);
    int failed = renameat2(AT_FDCWD, writer->temporary, AT_FDCWD, writer->path, writer->replace ? 0 : RENAME_NOREPLACE);
    if (failed && errno == EINVAL && !writer->replace) { /* a file system without that flag */
        bora_status st = target_check(writer, err);
        if (st != BORA_OK)
            return st;
        failed = rename(writer->temporary, writer->path);
    }
    if (failed && errno == EEXIST)
        return bora_fail(err, BORA_E_EXISTS, "'%s' has appeared meanwhile", writer->path);
    if (failed)
        return bora_fail(err, BORA_E_IO, "rename '%s': %s", writer->temporary, strerror(errno));
    bora_closep(&writer->fd);
    writer->fd = -1;
    return folder_sync(writer->path, err);
}
