/* Agent API: what servers ask of one node over HTTP on 4647: logs, commands in tasks, signals, metrics. */
#pragma once
#include <uv.h>

#include "agent/runner.h"
#include "net/address.h"
#include "net/tls.h"

struct agent_api;

struct agent_api_options {
    struct address address;
    const char *advertise;           /* the configured name or address under which servers reach it, or NULL */
    struct tls_context *tls;         /* NULL: plain; with it a client certificate is required */
    struct runner *runner;
    const struct store *store;
    struct ingress_node *const *ingress;     /* points to NULL while the node has none */
    struct drivers *drivers;
    int (*admits)(void *ctx, const struct service *s, struct error *err);      /* whether this node may run it; may be NULL */
    const char *volume_root;
    void (*volumes_changed)(void *ctx);
    void *ctx;
};

int agent_api_open(uv_loop_t *loop, const struct agent_api_options *options, struct agent_api **out, struct error *err);
int agent_api_port(const struct agent_api *api);
/* The allocation is over: who follows its logs gets the rest and the end. */
void agent_api_ended(struct agent_api *api, const char *alloc_id);
/* Ends followed logs and commands, lets other answers finish; handles end as the loop runs on. */
void agent_api_close(struct agent_api *api);
