/* Credentials: what a server or an agent shows to the others and whom it believes, where the cluster makes the certificates
 * itself (tls: auto): a folder with identity.pem (certificate, its chain, its key) and authorities.pem, each replaced in one
 * step and read by nobody else.
 *
 * Whoever is in no cluster yet has an identity of a founding authority. Hosts that share a founding secret make the same
 * one, so that they know each other from the first connection on; without a secret it is the host's alone, and only its own
 * operator has reason to believe it. A cluster's first authority takes its place (server/authority.h). */
#pragma once
#include "net/certificate.h"
#include "model/model.h"

#define CREDENTIALS_SECRET_LEAST 32          /* characters of a founding secret */

struct credentials {
    char *folder, *identity_file, *authorities_file;
    char *role, *name;                       /* "server" and its id, "agent" and its node's name */
    bool present;                            /* there is an identity; the rest is about it */
    bool founding;                           /* of a founding authority */
    struct certificate_facts facts;
    char *certificate;                       /* PEM, with its chain */
    char *authorities;                       /* PEM */
    char *mark;                              /* of the cluster's authorities when it was given; NULL: founding */
    int64_t renew_at_ms;                     /* when it is to be replaced */
};

/* Opens the folder and reads what is there. 0 when there is nothing yet, and for an identity of another name, which counts
 * for nothing. */
int credentials_open(struct credentials *c, const char *folder, const char *role, const char *name, struct error *err);
void credentials_close(struct credentials *c);

/* Makes an identity of a founding authority. secret NULL: one that nobody else can make. names: further ones. */
int credentials_found(struct credentials *c, const char *secret, const struct str_list *names, int64_t now_ms, struct error *err);
/* The founding authority of a secret: its certificate and its key, the caller's. */
void credentials_founding_authority(const char *secret, int64_t now_ms, char **certificate, char **key);

/* What a cluster gives: certificate with its chain and authorities, PEM. */
struct certificate_answer { char *certificate, *authorities, *mark; int64_t expires_at, renew_at; };
/* Keeps what was given for this key. It is looked at first: an answer that fits nothing is refused, and all stays as it was. */
int credentials_keep(struct credentials *c, const char *key, const struct certificate_answer *given, struct error *err);
struct certificate_state credentials_state(const struct credentials *c);    /* borrowed */

/* What stands in a file of the configuration that holds a founding secret or a join token: its first line, the caller's.
 * NULL without err: there is no such file, or nothing in it; with err: it cannot be read, or others may read it. */
char *credentials_read_token(const char *path, struct error *err);
bool credentials_is_join_token(const char *text);
int credentials_check_secret(const char *text, const char *path, struct error *err);
