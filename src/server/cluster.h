/* Cluster: this server among the others: what each one says of itself (core: members) beside who votes (consensus). */
#pragma once
#include "server/control.h"

/* Something changed (role, members, state): the leader looks whether it is known as what it is. */
void cluster_look(struct control *c);
