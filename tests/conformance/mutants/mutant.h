/* What the mutants share. Each is a plain plugin that breaks one rule: the variant that the build names in MUTANT, one
 * of the file's enum. "sound" breaks none. */
#ifndef BORA_TESTS_CONFORMANCE_MUTANT_H
#define BORA_TESTS_CONFORMANCE_MUTANT_H

#include <bora/plugin.h>

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A thread that a plugin keeps for itself, waiting to be told to end. */
typedef struct own_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool end; /* protected by lock */
} own_thread;

static inline void *own_thread_main(void *arg)
{
    own_thread *self = arg;
    (void)pthread_mutex_lock(&self->lock);
    while (!self->end)
        (void)pthread_cond_wait(&self->told, &self->lock);
    (void)pthread_mutex_unlock(&self->lock);
    return NULL;
}

static inline bool own_thread_start(own_thread *self)
{
    self->end = false;
    (void)pthread_mutex_init(&self->lock, NULL);
    (void)pthread_cond_init(&self->told, NULL);
    return pthread_create(&self->thread, NULL, own_thread_main, self) == 0;
}

static inline void own_thread_end(own_thread *self)
{
    (void)pthread_mutex_lock(&self->lock);
    self->end = true;
    (void)pthread_cond_signal(&self->told);
    (void)pthread_mutex_unlock(&self->lock);
    (void)pthread_join(self->thread, NULL);
    (void)pthread_cond_destroy(&self->told);
    (void)pthread_mutex_destroy(&self->lock);
}

/* Reads all of it, whatever the compiler thinks of that. */
static inline void read_all(const void *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        (void)((const volatile unsigned char *)memory)[i];
}

#define MUTANT_PLUGIN(kind_number, operations)                                                                         \
    static const bora_plugin plugin = {                                                                                \
        .struct_size = sizeof(bora_plugin),                                                                            \
        .abi_major = BORA_ABI_MAJOR,                                                                                   \
        .abi_minor = BORA_ABI_MINOR,                                                                                   \
        .kind = (kind_number),                                                                                         \
        .flags = BORA_PLUGIN_BATCH_INVARIANT,                                                                          \
        .name = MUTANT == another_name ? "another" : MUTANT_NAME,                                                      \
        .version = "1.0",                                                                                              \
        .ops = (operations),                                                                                           \
    };                                                                                                                 \
    const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err)                                       \
    {                                                                                                                  \
        return (void)host, (void)err, &plugin;                                                                         \
    }

#endif
