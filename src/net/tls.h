/* TLS: contexts from files, TLS 1.3 only. One context serves both listening and connecting, on any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

struct tls_context;

/* Of a hash that somebody types or hands on: 128 bits, as hard to meet by another key as a key is to guess. */
#define TLS_HASH_LEAST 32

/* What a listening side asks of its clients. */
enum tls_client_cert {
    TLS_CLIENT_CERT_NONE,
    TLS_CLIENT_CERT_OPTIONAL,   /* without one there is no identity; a wrong one is refused */
    TLS_CLIENT_CERT_REQUIRED,
};

struct tls_options {
    const char *cert_file;      /* PEM, our certificate and its chain; NULL for a client without one */
    const char *key_file;       /* PEM */
    const char *ca_file;        /* PEM, whom to believe; NULL: the system's store, or… */
    enum tls_client_cert client_cert;
    const char *ca_hash;        /* …whoever shows a chain with the authority of this hash (certificate.h), or of one that
                                 * begins so; at least TLS_HASH_LEAST digits. For connecting only */
};

/* Certificates of this name that began before that time are believed no more. */
struct tls_revocation { const char *name; int64_t before_ms; };      /* "DNS:7.server.mentat" */
/* In place of those from before; copied. From then on whoever shows one is refused at the handshake; who is connected
 * already: tls_context_refuses. Any thread. */
void tls_context_revoke(struct tls_context *ctx, const struct tls_revocation *list, size_t n);

/* A peer's identity out of its verified certificate. Strings live as long as the stream. */
struct tls_peer {
    char *common_name;          /* NULL when it has none */
    char **names;               /* subject alternative names: "DNS:web", "IP:10.0.0.1", "URI:spiffe://…" */
    size_t name_count;
    int64_t from_ms;            /* when it began to be good */
};

/* Reads the files; the error names the file and what is wrong with it. */
struct tls_context *tls_context_new(const struct tls_options *options, struct error *err);
/* Reads the same files again. Connections made from now on use them; on failure all stays as it was. Any thread. */
int tls_context_reload(struct tls_context *ctx, struct error *err);
/* Whether the peer's certificate was revoked. ctx and peer may be NULL. Any thread. */
bool tls_context_refuses(struct tls_context *ctx, const struct tls_peer *peer);
/* Whether a connection failed because the peer says that our certificate was revoked. */
bool tls_error_is_revoked(const struct error *err);
struct tls_context *tls_context_hold(struct tls_context *ctx);
/* Drops one reference; NULL does nothing. */
void tls_context_free(struct tls_context *ctx);
DEFINE_CLEANUP(tls_context_free, struct tls_context)

/* What a peer's certificate says that it is: the alternative name "DNS:NAME.ROLE.mentat" with this role ("server", "agent").
 * True: there is one, and NAME, a label of at most 63 characters, is in name. peer may be NULL. */
#define TLS_NAME_SIZE 64
bool tls_peer_role(const struct tls_peer *peer, const char *role, char name[static TLS_NAME_SIZE]);
/* True when the peer's certificate carries this exact alternative name ("DNS:web"). peer may be NULL. */
bool tls_peer_has_name(const struct tls_peer *peer, const char *name);
