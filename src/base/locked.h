/* Locked memory: for keys and values that must not come to a disk: not into swap, as far as the limits allow it, and not into
 * core dumps. Each piece takes pages of its own. */
#pragma once
#include <stddef.h>

void *locked_new(size_t n);              /* zeroed; never NULL */
void locked_free(void *p, size_t n);     /* overwritten first; NULL does nothing */
