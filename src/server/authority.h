/* Authority: the cluster's own certificates (tls: auto). The first leader makes an authority, whose key is sealed with the
 * cluster's key and replicated, so that any leader can sign, and each server gives itself a new certificate whenever one is
 * due. Agents, and servers that join, ask for theirs (POST /v1/certificates).
 *
 * Another authority takes the place of the one that signs in steps, each replicated, and each only once all servers and
 * nodes that live have followed the one before: coming (all believe it), signing (all get certificates of it), and the old
 * one, which leaves, is taken out. Who is away longer than a certificate lasts is not waited for.
 *
 * The authority by which founders know each other (join/credentials.h) is believed for a day after the founding. */
#pragma once
#include "join/credentials.h"
#include "server/control.h"
#include "server/keyring.h"

struct certificate_answer;

/* What the opening gave; the control borrows it. */
struct own_tls {
    struct credentials credentials;
    char *secret;                    /* of founding; NULL: none */
    bool token;                      /* a join token stands in its place */
    struct str_list names;           /* under which this server is reached */
    struct tls_context *context;
};
/* Finds or makes an identity before anything listens. keys: those of the cluster that this server has. host: at which others
 * reach it. */
int own_tls_open(struct own_tls *t, const struct server_config *config, const struct keyring *keys, const char *host,
                 struct error *err);
void own_tls_close(struct own_tls *t);

/* Beside the control; nothing where the cluster's certificates are files of the operator. */
void authority_start(struct control *c, struct own_tls *tls);
void authority_stop(struct control *c);
/* Under which this server is reached. */
const struct str_list *authority_names(const struct control *c);
/* Adds the names of servers and nodes that have no certificate of the present authorities. */
void authority_behind(const struct control *c, struct str_list *out);
/* Until when certificates must be refused of a server or node that is removed now; known: its last one. 0: not in this cluster,
 * which has no certificates, or servers that know nothing of it. */
int64_t authority_revoked_until(const struct control *c, const struct certificate_state *known);
/* A join token's: NULL while there is none. */
const char *authority_hash(const struct control *c);
/* Credentials were replaced: what is opened from now on uses them. */
void authority_use(struct control *c);
