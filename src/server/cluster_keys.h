/* Cluster keys: this server's ring of the cluster's keys (keyring.h), in a file of its own, and how it gets those that it
 * lacks. The first leader makes the first key; the state says which one seals; whoever lacks that asks the others, over TLS
 * alone. Core thread, but for the opening. */
#pragma once
#include "server/control.h"
#include "server/keyring.h"

struct cluster_keys;

/* Reads the file of the configuration, with the passphrase of its command where there is one. NULL with err. */
struct cluster_keys *cluster_keys_open(const struct server_config *config, struct error *err);
void cluster_keys_close(struct cluster_keys *k);
struct keyring *cluster_keys_ring(struct cluster_keys *k);
/* True when this server has the key with which the state says that is sealed; then seal() may be used on the ring. */
bool cluster_keys_ready(const struct control *c);

/* Something is to be sealed: there will be a key, if there is none yet. (A cluster that seals nothing has none, so that
 * an older release can still take its place.) Leader. */
void cluster_keys_want(struct control *c);

/* Now and then: sees that there is a key, and that this server has it. */
void cluster_keys_look(struct control *c);
