/* Self-signed: the certificate that the proxy shows where it has none for a host, so that there is an answer, after the
 * client's warning, and the reason can be read in it. */
#pragma once
#include "base/error.h"

/* Writes certificate and key as PEM to `path` unless there is a file. Blocking. */
int self_signed_make(const char *path, struct error *err);
