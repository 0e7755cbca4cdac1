/* Where the running program lies. */
#ifndef BORA_BASE_PROGRAM_H
#define BORA_BASE_PROGRAM_H

#include "base/status.h"

/* The folder above that of the program: PREFIX for PREFIX/bin/borad, in the build tree and when installed.
 * *ret_base: owned by the caller (bora_free). Errors: IO, NOMEM. Linux: reads /proc. */
bora_status bora_program_base(char **ret_base, bora_error *err);

#endif
