/* Changes: the commands by which a running process of the proxy comes from what it serves to what is wanted. New replicas
 * come first, then the maps, then what goes, so that there is no moment without anybody to answer. Pure. */
#pragma once
#include "agent/ingress/layout.h"
#include "base/buf.h"

/* Adds a command a line to `commands`, and to `touched` the backends whose state has to be read back. Backends that the
 * process does not have, and map entries that lead there, are passed over: they come with a reload. Returns whether any map
 * is changed. */
bool changes_between(const struct layout *actual, const struct layout *wanted, struct buf *commands, struct str_list *touched);
