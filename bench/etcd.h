/* Etcd: a peer to measure ourselves beside, where the machine has it (Debian's etcd-server): as many servers, in the same
 * directory, on loopback, with their defaults (which sync every write), driven over HTTP/1.1 with JSON as ours are. */
#pragma once
#include "cluster.h"

bool etcd_is_there(void);
/* Starts so many beside a cluster that runs; they belong to it and end with it. Returns the leader's "http://127.0.0.1:PORT",
 * the caller's; NULL with err. */
char *etcd_start(struct cluster *c, size_t servers, struct error *err);
