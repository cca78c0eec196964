/* Names of replicas in the zone `mentat`:
 *
 *   SERVICE.mentat               A: each replica that serves
 *   INDEX.SERVICE.mentat         A: that replica, from its start to its end
 *   _PORT._tcp.SERVICE.mentat    SRV (or _udp): the port of each replica that serves, at its INDEX.SERVICE.mentat
 *
 * A machine sees the services of its own job, which are those that it reaches, and is led to the machines' own addresses.
 * Others (tasks of other drivers, the host) see the services of every job that has a machine on this node, and are led to the
 * addresses and ports of the nodes; to them, a service of another namespace than default is SERVICE.NAMESPACE.mentat.
 * Pure. */
#pragma once
#include "agent/dns_message.h"
#include "model/model.h"

#define DNS_ZONE "mentat"
#define DNS_TTL_S 1

/* Whether the name lies in the zone. */
bool dns_is_ours(const char *name);
/* Appends the records that answer q to a; which code the answer must have is known before: dns_names_code. job NULL: it is no
 * machine that asks. */
enum dns_code dns_names_code(const struct agent_network *table, const char *job, const struct dns_query *q);
void dns_names_answer(const struct agent_network *table, const char *job, const struct dns_query *q, struct dns_answer *a);
