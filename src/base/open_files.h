/* Open files: how many the process may have. What serves many connections raises the soft limit for itself. */
#pragma once
#include <stddef.h>

/* Raises the limit to `wanted`, or as far as the host lets this process; returns the limit that holds then. */
size_t open_files_raise(size_t wanted);
