/* A look at a shared object before it is mapped. */
#ifndef BORA_PLUGIN_IMAGE_H
#define BORA_PLUGIN_IMAGE_H

#include "base/status.h"

/* Whether the file is a shared object of this machine's kind and has all the bytes that its program headers speak of.
 * The dynamic linker maps what they say without comparing it to the file's size: the first touch of a page behind the
 * file's end would end the process. Errors: IO, FORMAT. */
bora_status bora_image_check(const char *path, bora_error *err);

#endif
