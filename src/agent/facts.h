/* Facts: what this host has, for the node's registration. Blocking; made by a worker once the agent runs. */
#pragma once
#include "agent/agent_config.h"
#include "model/model.h"

/* Fills cpus, memory, disk, arch, kernel, kvm, ip, name, class, meta and volumes of the node (which is initialised). Drivers,
 * id and address are the caller's. */
void facts_gather(const struct agent_config *config, struct node *node);

/* The address that this host has towards the first server; 127.0.0.1 when that is not known. The caller frees it. */
char *facts_ip(const struct agent_config *config);
