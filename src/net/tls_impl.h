/* The inside of TLS contexts and peers, for sessions. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/error.h"
#include "net/stream_open.h"
#include "net/tls.h"

/* A fresh connection object with what this side asks of its peer. */
SSL *tls_context_ssl(struct tls_context *ctx, bool listening);
/* Turns OpenSSL's last error of this thread into err, and clears them. Returns -1. */
int tls_error(struct error *err, enum error_code code, const char *what);
struct tls_peer *tls_peer_new(void);
/* In the verification of a session's peer: its certificate was revoked. */
void tls_session_revoked(SSL *ssl, const struct tls_peer *peer);
/* The identity in a certificate; the caller's reference. */
struct tls_peer *tls_peer_of(X509 *cert);
