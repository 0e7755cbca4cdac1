/* An attention plugin that is built here: the reference, whose create waits at a gate for a word. As long as none is
 * said, the daemon is loading its model. */
#ifndef BORA_TESTS_INTEGRATION_GATE_H
#define BORA_TESTS_INTEGRATION_GATE_H

#include "integration/wire.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Two FIFOs, both open here for good: a byte in one says that a create has come, a byte in the other lets it go. */
typedef struct gate {
    char plugin[BORA_TEMP_PATH_SIZE]; /* the argument that names it */
    int arrivals, words;
} gate;

/* A byte 'g' lets it go on, anything else makes it fail. */
static const char gate_source[] =
    "#define bora_plugin_entry reference_entry\n"
    "#include \"" BORA_SOURCE_DIR "/plugins/attention/reference/reference.c\"\n"
    "#undef bora_plugin_entry\n"
    "#include <fcntl.h>\n"
    "#include <stdbool.h>\n"
    "#include <unistd.h>\n"
    "BORA_PLUGIN_EXPORT const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err);\n"
    "static bora_attention_ops gated_ops;\n"
    "static bora_plugin gated;\n"
    "static bora_status gated_create(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret,\n"
    "                                bora_error *err)\n"
    "{\n"
    "    const bora_plugin *reference = reference_entry(host, err);\n"
    "    char word = 0;\n"
    "    int arrivals = open(ARRIVALS, O_WRONLY | O_CLOEXEC), words = open(WORDS, O_RDONLY | O_CLOEXEC);\n"
    "    const bool is_open = write(arrivals, \"a\", 1) == 1 && read(words, &word, 1) == 1 && word == 'g';\n"
    "    close(arrivals);\n"
    "    close(words);\n"
    "    if (!is_open)\n"
    "        return bora_fail(err, BORA_E_INVAL, \"the gate stays shut\");\n"
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

static inline int gate_fifo(const bora_temp_folder *folder, const char *name, char path[BORA_TEMP_PATH_SIZE])
{
    (void)bora_temp_folder_path(folder, name, path);
    return mkfifo(path, 0600) == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
}

/* 0, or -1. */
static inline int gate_build(gate *self, const bora_temp_folder *folder)
{
    char from[BORA_TEMP_PATH_SIZE], to[BORA_TEMP_PATH_SIZE], command[6 * BORA_TEMP_PATH_SIZE];
    char arrivals[BORA_TEMP_PATH_SIZE], words[BORA_TEMP_PATH_SIZE];
    self->arrivals = gate_fifo(folder, "arrivals", arrivals);
    self->words = gate_fifo(folder, "words", words);
    (void)bora_temp_folder_write(folder, "plugin.c", gate_source, sizeof gate_source - 1, from);
    (void)bora_temp_folder_path(folder, "attention-gated.so", to);
    (void)snprintf(command, sizeof command,
                   "cc -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared -I'%s/plugins/include' "
                   "-DARRIVALS='\"%s\"' -DWORDS='\"%s\"' -o '%s' '%s' -lm",
                   BORA_SOURCE_DIR, arrivals, words, to, from);
    (void)snprintf(self->plugin, sizeof self->plugin, "attention=%.400s", to);
    return self->arrivals < 0 || self->words < 0 || system(command) != 0 ? -1 : 0;
}

/* Returns when a create waits: the daemon is loading for certain. */
static inline void gate_await(gate *self)
{
    char byte;
    struct pollfd item = {.fd = self->arrivals, .events = POLLIN};
    assert_int_equal(poll(&item, 1, WIRE_MS), 1);
    assert_int_equal(read(self->arrivals, &byte, 1), 1);
}

/* To the create that waits, or else to the next. */
static inline void gate_say(gate *self, char word)
{
    assert_int_equal(write(self->words, &word, 1), 1);
}

static inline void gate_release(gate *self)
{
    if (self->arrivals >= 0)
        (void)close(self->arrivals);
    if (self->words >= 0)
        (void)close(self->words);
    self->arrivals = self->words = -1;
}

#endif
