#include "net/tls_session.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/mem.h"
#include "net/certificate_hash.h"
#include "net/tls_impl.h"

/* Raw bytes are not copied into a memory BIO, which would keep its biggest size for every idle connection: our BIO
 * reads from the bytes that are there now, and passes on what OpenSSL writes. */
struct tls_session {
    SSL *ssl;
    struct tls_context *ctx;        /* which verifies for it */
    BIO_METHOD *method;
    const char *in;
    size_t in_left;
    void (*emit)(void *arg, const char *data, size_t len);
    void *arg;
    char *revoked;                  /* the name of the peer whose certificate was; NULL: it was not */
};

static int bio_read(BIO *bio, char *out, int size)
{
    struct tls_session *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!t->in_left) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = t->in_left < (size_t)size ? t->in_left : (size_t)size;
    memcpy(out, t->in, n);
    t->in += n;
    t->in_left -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct tls_session *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    t->emit(t->arg, data, (size_t)len);
    return len;
}

static long bio_control(BIO *bio, int command, long number, void *p)
{
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void set_verify_name(SSL *ssl, const char *name)
{
    struct in6_addr ip;
    if (inet_pton(AF_INET, name, &ip) == 1 || inet_pton(AF_INET6, name, &ip) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
        return;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set1_host(ssl, name);
    SSL_set_tlsext_host_name(ssl, name);
}

struct tls_session *tls_session_new(struct tls_context *ctx, bool listening, const char *verify_name,
                                    void (*emit)(void *arg, const char *data, size_t len), void *arg)
{
    struct tls_session *t = NEW(struct tls_session);
    t->emit = emit;
    t->arg = arg;
    t->ctx = tls_context_hold(ctx);
    t->ssl = tls_context_ssl(ctx, listening);
    SSL_set_app_data(t->ssl, t);
    t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
    INVARIANT(t->method);
    BIO_meth_set_read(t->method, bio_read);
    BIO_meth_set_write(t->method, bio_write);
    BIO_meth_set_ctrl(t->method, bio_control);
    BIO_meth_set_create(t->method, bio_create);
    BIO *bio = BIO_new(t->method);
    INVARIANT(bio);
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio);
    if (listening)
        SSL_set_accept_state(t->ssl);
    else
        SSL_set_connect_state(t->ssl);
    if (!listening && verify_name)
        set_verify_name(t->ssl, verify_name);
    return t;
}

void tls_session_free(struct tls_session *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    tls_context_free(t->ctx);
    BIO_meth_free(t->method);
    free(t->revoked);
    free(t);
}

void tls_session_input(struct tls_session *t, const char *data, size_t len)
{
    t->in = data;
    t->in_left = len;
}

size_t tls_session_input_left(const struct tls_session *t)
{
    return t->in_left;
}

void tls_session_revoked(SSL *ssl, const struct tls_peer *peer)
{
    struct tls_session *t = SSL_get_app_data(ssl);
    mem_set_string(&t->revoked, peer->name_count ? peer->names[0] : peer->common_name);
}

static const char revoked_text[] = "the peer refused our certificate: it was revoked";

bool tls_error_is_revoked(const struct error *err)
{
    return err->code == ERROR_DENIED && strstr(err->text, revoked_text);
}

/* The reason of a failed call, with the code that says whose certificate was the trouble. */
static int session_error(struct tls_session *t, struct error *err)
{
    long verify = SSL_get_verify_result(t->ssl);
    unsigned long e = ERR_peek_last_error();
    int reason = ERR_GET_REASON(e);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        ERR_clear_error();
        return error_set(err, ERROR_DENIED, "the peer's certificate is refused: %s%s%s", t->revoked ? t->revoked : "",
                         t->revoked ? ": " : "", X509_verify_cert_error_string(verify));
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        ERR_clear_error();
        return error_set(err, ERROR_DENIED, "the peer has no certificate, and one is required");
    }
    if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_PACKET_LENGTH_TOO_LONG) {
        ERR_clear_error();
        return error_set(err, ERROR_UNAVAILABLE, "the peer does not speak TLS");
    }
    /* Alerts from the peer have its number in the reason; 42 to 49 and 116 are about our certificate. */
    int alert = reason - SSL_AD_REASON_OFFSET;
    if (alert == SSL_AD_CERTIFICATE_REVOKED) {
        ERR_clear_error();
        return error_set(err, ERROR_DENIED, "%s", revoked_text);
    }
    bool ours = (alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_ACCESS_DENIED) ||
                alert == SSL_AD_CERTIFICATE_REQUIRED;
    return tls_error(err, ours ? ERROR_DENIED : ERROR_UNAVAILABLE,
                     ours ? "the peer refused our certificate" : "protocol error");
}

enum tls_result tls_session_handshake(struct tls_session *t, struct error *err)
{
    ERR_clear_error();
    int n = SSL_do_handshake(t->ssl);
    if (n == 1)
        return TLS_DONE;
    if (SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_READ)
        return TLS_WANTS_INPUT;
    session_error(t, err);
    return TLS_FAILED;
}

enum tls_result tls_session_read(struct tls_session *t, char *out, size_t size, size_t *got, struct error *err)
{
    ERR_clear_error();
    int n = SSL_read_ex(t->ssl, out, size, got);
    if (n == 1)
        return TLS_DONE;
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ: return TLS_WANTS_INPUT;
    case SSL_ERROR_ZERO_RETURN: return TLS_ENDED;
    default: break;
    }
    session_error(t, err);
    return TLS_FAILED;
}

int tls_session_write(struct tls_session *t, const char *data, size_t len, struct error *err)
{
    ERR_clear_error();
    while (len) {
        size_t n = 0;
        if (SSL_write_ex(t->ssl, data, len, &n) != 1)
            return session_error(t, err);
        data += n;
        len -= n;
    }
    return 0;
}

void tls_session_end(struct tls_session *t)
{
    ERR_clear_error();
    SSL_shutdown(t->ssl);
    ERR_clear_error();
}

static char *name_text(const GENERAL_NAME *name)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    if (type == GEN_IPADD) {
        char ip[INET6_ADDRSTRLEN];
        int len = ASN1_STRING_length(value);
        if ((len == 4 || len == 16) &&
            inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), ip, sizeof ip))
            return mem_printf("IP:%s", ip);
        return NULL;
    }
    const char *prefix = type == GEN_DNS ? "DNS:" : type == GEN_URI ? "URI:" : type == GEN_EMAIL ? "email:" : NULL;
    const char *text = prefix ? (const char *)ASN1_STRING_get0_data(value) : NULL;
    int len = prefix ? ASN1_STRING_length(value) : 0;
    /* A NUL inside would make it look like another name. */
    if (!prefix || memchr(text, '\0', (size_t)len))
        return NULL;
    return mem_printf("%s%.*s", prefix, len, text);
}

static char *common_name(X509 *cert)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0)
        return NULL;
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    char *name = len >= 0 && !memchr(utf8, '\0', (size_t)len) ? mem_strndup((char *)utf8, (size_t)len) : NULL;
    OPENSSL_free(utf8);
    return name;
}

struct tls_peer *tls_peer_of(X509 *cert)
{
    struct tls_peer *peer = tls_peer_new();
    peer->from_ms = certificate_time(X509_get0_notBefore(cert));
    peer->common_name = common_name(cert);
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int count = names ? sk_GENERAL_NAME_num(names) : 0;
    peer->names = count ? mem_array((size_t)count, sizeof *peer->names) : NULL;
    for (int i = 0; i < count; i++) {
        char *text = name_text(sk_GENERAL_NAME_value(names, i));
        if (text)
            peer->names[peer->name_count++] = text;
    }
    GENERAL_NAMES_free(names);
    return peer;
}

struct tls_peer *tls_session_peer(const struct tls_session *t)
{
    X509 *cert = SSL_get0_peer_certificate(t->ssl);
    return cert && SSL_get_verify_result(t->ssl) == X509_V_OK ? tls_peer_of(cert) : NULL;
}
