/* TLS session: OpenSSL between a stream's raw bytes and its plain ones. Knows no sockets. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "net/tls.h"

struct tls_session;

/* emit gets the raw bytes to send, from inside any call below. verify_name NULL: the listening side. */
struct tls_session *tls_session_new(struct tls_context *ctx, bool listening, const char *verify_name,
                                    void (*emit)(void *arg, const char *data, size_t len), void *arg);
void tls_session_free(struct tls_session *t);

/* Raw bytes that arrived; borrowed until they are used up or replaced by the next call. */
void tls_session_input(struct tls_session *t, const char *data, size_t len);
size_t tls_session_input_left(const struct tls_session *t);

enum tls_result {
    TLS_DONE,           /* handshake: complete; read: *got bytes */
    TLS_WANTS_INPUT,
    TLS_ENDED,          /* read: the peer said goodbye properly */
    TLS_FAILED,         /* err is set */
};
enum tls_result tls_session_handshake(struct tls_session *t, struct error *err);
enum tls_result tls_session_read(struct tls_session *t, char *out, size_t size, size_t *got, struct error *err);
int tls_session_write(struct tls_session *t, const char *data, size_t len, struct error *err);
/* close_notify. */
void tls_session_end(struct tls_session *t);
/* The verified peer with one reference for the caller, or NULL. */
struct tls_peer *tls_session_peer(const struct tls_session *t);
