/* A daemon for tests that mistreat it, and a witness beside it that must not notice. The includer says how many turns
 * the witness has ready: FIXTURE_TURNS. */
#ifndef BORA_TESTS_WITNESS_FIXTURE_H
#define BORA_TESTS_WITNESS_FIXTURE_H

#include "integration/wire.h"

static bora_test_daemon daemon_;
static witness witness_;

static int set_up(void **state)
{
    (void)state;
    if (!bora_test_daemon_init(&daemon_) || !bora_test_daemon_start(&daemon_, NULL, NULL))
        return -1;
    witness_begin(&witness_, &daemon_, FIXTURE_TURNS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    witness_end(&witness_);
    int code = bora_test_daemon_end(&daemon_, SIGTERM);
    bora_test_daemon_release(&daemon_);
    return code;
}

#endif
