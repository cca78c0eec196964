/* DNS server for the machines of a node, on the bridge's address: names of replicas (dns_names.h) out of what the servers
 * said; all else is asked of the host's name servers, or refused. On the loop. */
#pragma once
#include <uv.h>

#include "base/error.h"
#include "model/model.h"

#define DNS_PORT 53

struct dns;

struct dns_options {
    uv_loop_t *loop;
    uint32_t address;                    /* to listen on; it need not be there yet */
    const struct str_list *resolvers;    /* addresses, with or without a port; empty: those of /etc/resolv.conf; "none": refuse.
                                          * Borrowed */
    /* The job of the machine with this address, the caller's; NULL: it is none. */
    char *(*job_of)(void *ctx, uint32_t address);
    void *ctx;
};

/* ERROR_CONFLICT: somebody else has the port. */
int dns_open(const struct dns_options *options, struct dns **out, struct error *err);
void dns_follow(struct dns *d, const struct agent_network *table);     /* copied */
/* Its handles end as the loop runs on. */
void dns_close(struct dns *d);
