/* Enrol: asks the servers of a cluster for a certificate: with a join token, when all that is known of the cluster is the
 * hash of its authority, or with the certificate that is to be replaced. One round over the addresses; who fails asks again
 * later. On its loop's thread. */
#pragma once
#include <uv.h>

#include "join/credentials.h"
#include "join/token.h"
#include "net/tls.h"

/* POST /v1/certificates. token: "ID.SECRET"; NULL: by the certificate of the connection. */
struct certificate_request { char *request, *role, *name; struct str_list names; char *token; };
extern const struct type certificate_request_type, certificate_answer_type;

struct enrol;

struct enrol_options {
    uv_loop_t *loop;
    struct credentials *credentials;         /* borrowed until done; hold the new ones then */
    const struct str_list *names;            /* further ones: "DNS:…", "IP:…"; NULL: none. Only servers get them */
    const struct str_list *addresses;        /* host:port or whole targets of servers' APIs; copied */
    const struct join_token_text *token;     /* copied; NULL: by what the credentials hold */
    struct tls_context *tls;                 /* without a token */
    /* err NULL: done. ERROR_DENIED, _CONFLICT, _INVALID, _UNSUPPORTED: it was refused, and would be again. The enrol is
     * gone when it returns; never from inside enrol_start. */
    void (*done)(void *ctx, const struct error *err);
    void *ctx;
};

/* NULL with err: the token is not one for this. */
struct enrol *enrol_start(const struct enrol_options *o, struct error *err);
/* Ends it without done. */
void enrol_cancel(struct enrol *e);
