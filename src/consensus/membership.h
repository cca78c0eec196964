/* Membership: the library's configuration as bytes of our own, for snapshot files and the wire (the library exports an
 * encoder for log entries, but no decoder). */
#pragma once
#include <raft.h>

#include "base/buf.h"
#include "base/error.h"

void membership_encode(struct buf *out, const struct raft_configuration *configuration);
/* Fills an initialised, empty configuration; the bytes must be used up. On failure it stays empty. */
int membership_decode(const void *bytes, size_t len, struct raft_configuration *configuration, struct error *err);
