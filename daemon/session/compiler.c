#include "session/compiler.h"

#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

struct bora_compiler {
    bora_mailbox *inbox, *replies;
    atomic_bool is_closing; /* atomic: set by the one who frees it, read by the thread */
    pthread_t thread;
    bora_store_job quit; /* the last job */
};

static void *compiler_main(void *arg)
{
    bora_compiler *compiler = arg;
    for (;;) {
        bora_store_job *job = (bora_store_job *)bora_mailbox_wait(compiler->inbox, -1);
        if (job == &compiler->quit)
            return NULL;
        if (atomic_load(&compiler->is_closing))
            job->status = bora_fail(&job->error, BORA_E_CLOSED, "the daemon is ending");
        else
            job->run(job, NULL);
        bora_mailbox_send(compiler->replies, &job->mail);
    }
}

bora_status bora_compiler_new(bora_mailbox *replies, bora_compiler **ret_compiler, bora_error *err)
{
    bora_compiler *compiler = bora_calloc(1, sizeof *compiler);
    if (!compiler)
        return bora_fail(err, BORA_E_NOMEM, "compiler");
    compiler->replies = replies;
    bora_status st = bora_mailbox_new(&compiler->inbox, err);
    if (st == BORA_OK) {
        sigset_t all, before; /* signals are the loop's */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        int code = pthread_create(&compiler->thread, NULL, compiler_main, compiler);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (code)
            st = bora_fail(err, BORA_E_IO, "starting the compiler: %s", strerror(code));
    }
    if (st != BORA_OK) {
        bora_mailbox_free(compiler->inbox);
        bora_free(compiler);
        return st;
    }
    *ret_compiler = compiler;
    return BORA_OK;
}

void bora_compiler_submit(bora_compiler *compiler, bora_store_job *job)
{
    bora_mailbox_send(compiler->inbox, &job->mail);
}

void bora_compiler_free(bora_compiler *compiler)
{
    if (!compiler)
        return;
    atomic_store(&compiler->is_closing, true);
    bora_mailbox_send(compiler->inbox, &compiler->quit.mail);
    (void)pthread_join(compiler->thread, NULL);
    bora_mailbox_free(compiler->inbox);
    bora_free(compiler);
}
