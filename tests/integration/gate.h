/* An attention plugin that is built here: the reference, whose create waits at a gate for a word. As long as none is
 * said, the daemon is loading its model. */
#ifndef BORA_TESTS_INTEGRATION_GATE_H
#define BORA_TESTS_INTEGRATION_GATE_H

#include "integration/wire.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

typedef struct gate {
    char path[BORA_TEMP_PATH_SIZE];   /* a FIFO */
    char plugin[BORA_TEMP_PATH_SIZE]; /* the argument that names it */
    int fd;                           /* open while create waits; -1 */
} gate;

/* A byte 'g' lets it go on, anything else makes it fail. */
static const char gate_source[] =
    "#define bora_plugin_entry reference_entry\n"
    "#include \"" BORA_SOURCE_DIR "/plugins/attention/reference/reference.c\"\n"
    "#undef bora_plugin_entry\n"
    "#include <fcntl.h>\n"
    "#include <unistd.h>\n"
    "BORA_PLUGIN_EXPORT const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err);\n"
    "static bora_attention_ops gated_ops;\n"
    "static bora_plugin gated;\n"
    "static bora_status gated_create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,\n"
    "                                bora_error *err)\n"
    "{\n"
    "    const bora_plugin *reference = reference_entry(host, err);\n"
    "    char word = 0;\n"
    "    int fd = open(GATE, O_RDONLY | O_CLOEXEC);\n"
    "    if (fd < 0 || read(fd, &word, 1) < 0 || word != 'g') {\n"
    "        close(fd);\n"
    "        return bora_fail(err, BORA_E_INVAL, \"the gate stays shut\");\n"
    "    }\n"
    "    close(fd);\n"
    "    return ((const bora_attention_ops *)reference->ops)->create(host, shape, ret, err);\n"
    "}\n"
    "const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)\n"
    "{\n"
    "    const bora_plugin *reference = reference_entry(host, err);\n"
    "    gated_ops = *(const bora_attention_ops *)reference->ops;\n"
    "    gated_ops.create = gated_create;\n"
    "    gated = *reference;\n"
    "    gated.name = \"gated\";\n"
    "    gated.ops = &gated_ops;\n"
    "    return &gated;\n"
    "}\n";

/* 0, or -1. */
static inline int gate_build(gate *self, const bora_temp_folder *folder)
{
    char from[BORA_TEMP_PATH_SIZE], to[BORA_TEMP_PATH_SIZE], command[4 * BORA_TEMP_PATH_SIZE];
    self->fd = -1;
    (void)bora_temp_folder_write(folder, "plugin.c", gate_source, sizeof gate_source - 1, from);
    (void)bora_temp_folder_path(folder, "gate", self->path);
    (void)snprintf(command, sizeof command,
                   "cc -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared -I'%s/plugins/include' "
                   "-DGATE='\"%s\"' -o '%s' '%s' -lm",
                   BORA_SOURCE_DIR, self->path, bora_temp_folder_path(folder, "attention-gated.so", to), from);
    if (system(command) != 0)
        return -1;
    (void)snprintf(self->plugin, sizeof self->plugin, "attention=%.400s", to);
    return mkfifo(self->path, 0600);
}

/* From when the gate has a reader on, the daemon is loading for certain. */
static inline void gate_await(gate *self)
{
    for (int ms = 0; ms < WIRE_MS && self->fd < 0; ms += 10) {
        struct timespec pause = {.tv_nsec = 10000000};
        self->fd = open(self->path, O_WRONLY | O_CLOEXEC | O_NONBLOCK); /* ENXIO as long as nobody reads */
        if (self->fd < 0)
            (void)nanosleep(&pause, NULL); /* polling, bounded above */
    }
    assert_true(self->fd >= 0);
}

/* To the create that waits. */
static inline void gate_say(gate *self, char word)
{
    assert_int_equal(write(self->fd, &word, 1), 1);
    assert_int_equal(close(self->fd), 0);
    self->fd = -1;
}

static inline void gate_release(gate *self)
{
    if (self->fd >= 0)
        (void)close(self->fd);
    self->fd = -1;
}

#endif
