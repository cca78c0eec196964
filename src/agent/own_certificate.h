/* Own certificate: the agent's own, where the cluster makes them (tls: auto): how it gets the first one, and each next one.
 *
 * The first comes by a join token, or, where a founding secret is shared, by the identity that this makes (join/credentials.h).
 * Either stands in a file of the configuration, which may come later: until then tasks go on, and the agent waits. A new one
 * is asked for when two thirds of its time are over, and when the servers have other authorities. */
#pragma once
#include <uv.h>

#include "agent/agent_config.h"
#include "join/credentials.h"
#include "net/tls.h"

struct own_certificate;

struct own_certificate_options {
    uv_loop_t *loop;
    const struct agent_config *config;
    /* There is an identity, for the first time; the context is good from then on. */
    void (*ready)(void *ctx);
    /* Another one took its place. */
    void (*changed)(void *ctx);
    /* The server that is talked to, or NULL. */
    const char *(*server)(void *ctx);
    void *ctx;
};

int own_certificate_open(const struct own_certificate_options *options, struct own_certificate **out, struct error *err);
/* No callbacks any more; handles end as the loop runs on. */
void own_certificate_close(struct own_certificate *c);
/* NULL until ready. */
struct tls_context *own_certificate_context(const struct own_certificate *c);
/* What the servers say of their authorities (agent_welcome); NULL: nothing. */
void own_certificate_hear(struct own_certificate *c, const char *mark);
/* The servers do not believe the present one any more: the next comes by a join token. */
void own_certificate_revoked(struct own_certificate *c);
/* Borrowed. */
struct certificate_state own_certificate_state(const struct own_certificate *c);
