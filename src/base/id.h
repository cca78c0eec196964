/* Id: short random names for allocations, deployments, nodes and requests. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define ID_LEN 12   /* lower-case hexadecimal digits; people type a unique beginning of it */

/* Writes ID_LEN digits and a NUL. The number comes from the caller, so that the core stays repeatable. */
void id_format(char out[static ID_LEN + 1], uint64_t random);
/* A new id from the system's randomness; the caller frees it. */
char *id_new(void);
bool id_valid(const char *s);
