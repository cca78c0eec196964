#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "net/certificate_hash.h"
#include "net/tls_impl.h"

/* The options, kept for reloading, and the OpenSSL context made of them. SSL_CTX is counted by OpenSSL, so sessions
 * that began with the old one keep it; the lock guards only the pointer. */
struct tls_context {
    pthread_mutex_t lock;
    unsigned refs;
    SSL_CTX *ssl;
    char *cert_file, *key_file, *ca_file, *ca_hash;
    enum tls_client_cert client_cert;
    struct tls_revocation *revoked;  /* in order of name; names owned */
    atomic_size_t n_revoked;         /* changed under the lock */
};

static const unsigned char alpn[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

int tls_error(struct error *err, enum error_code code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return error_set(err, code, "%s: %s", what, reason ? reason : "unknown TLS error");
}

static int file_error(struct error *err, const char *what, const char *file)
{
    if (access(file, R_OK) < 0) {
        int failed = errno;
        ERR_clear_error();
        return error_set(err, ERROR_INVALID, "%s %s: %s", what, file, strerror(failed));
    }
    char text[400];
    snprintf(text, sizeof text, "%s %s", what, file);
    return tls_error(err, ERROR_INVALID, text);
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, alpn, sizeof alpn, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* The authority may come with the chain: then its hash is what is trusted, and nothing else. */
static X509 *find_pinned(STACK_OF(X509) *chain, const char *wanted)
{
    for (int i = 0; chain && i < sk_X509_num(chain); i++) {
        char hash[CERTIFICATE_KEY_HASH_SIZE];
        certificate_hash_key(sk_X509_value(chain, i), hash);
        if (!CRYPTO_memcmp(hash, wanted, strlen(wanted)))
            return sk_X509_value(chain, i);
    }
    return NULL;
}

static int verify_pinned(X509_STORE_CTX *store, const struct tls_context *ctx)
{
    X509 *authority = find_pinned(X509_STORE_CTX_get0_untrusted(store), ctx->ca_hash);
    if (!authority) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
        return 0;
    }
    STACK_OF(X509) *trusted = sk_X509_new_null();
    sk_X509_push(trusted, authority);
    X509_STORE_CTX_set0_trusted_stack(store, trusted);
    int good = X509_verify_cert(store);
    sk_X509_free(trusted);
    return good;
}

/* --- what was revoked --- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct tls_revocation *)a)->name, ((const struct tls_revocation *)b)->name);
}

static void revoked_clear(struct tls_context *ctx)
{
    for (size_t i = 0; i < ctx->n_revoked; i++)
        free((char *)(uintptr_t)ctx->revoked[i].name);
    free(ctx->revoked);
    ctx->revoked = NULL;
    ctx->n_revoked = 0;
}

void tls_context_revoke(struct tls_context *ctx, const struct tls_revocation *list, size_t n)
{
    pthread_mutex_lock(&ctx->lock);
    revoked_clear(ctx);
    ctx->revoked = n ? mem_array(n, sizeof *ctx->revoked) : NULL;
    for (size_t i = 0; i < n; i++)
        ctx->revoked[i] = (struct tls_revocation){mem_strdup(list[i].name), list[i].before_ms};
    if (n)
        qsort(ctx->revoked, n, sizeof *ctx->revoked, compare_names);
    ctx->n_revoked = n;
    pthread_mutex_unlock(&ctx->lock);
}

bool tls_context_refuses(struct tls_context *ctx, const struct tls_peer *peer)
{
    if (!ctx || !peer || !atomic_load(&ctx->n_revoked))
        return false;
    bool refuses = false;
    pthread_mutex_lock(&ctx->lock);
    for (size_t i = 0; i < peer->name_count && ctx->n_revoked; i++) {
        struct tls_revocation key = {.name = peer->names[i]};
        const struct tls_revocation *r = bsearch(&key, ctx->revoked, ctx->n_revoked, sizeof key, compare_names);
        refuses |= r && peer->from_ms < r->before_ms;
    }
    pthread_mutex_unlock(&ctx->lock);
    return refuses;
}

static int verify(X509_STORE_CTX *store, void *arg)
{
    struct tls_context *ctx = arg;
    int good = ctx->ca_hash ? verify_pinned(store, ctx) : X509_verify_cert(store);
    if (good <= 0 || !atomic_load(&ctx->n_revoked))
        return good;
    struct tls_peer *peer = tls_peer_of(X509_STORE_CTX_get0_cert(store));
    bool refused = tls_context_refuses(ctx, peer);
    if (refused) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
        tls_session_revoked(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()), peer);
    }
    tls_peer_release(peer);
    return !refused;
}

static int load_files(const struct tls_context *ctx, SSL_CTX *ssl, struct error *err)
{
    if (ctx->cert_file && SSL_CTX_use_certificate_chain_file(ssl, ctx->cert_file) != 1)
        return file_error(err, "reading certificate", ctx->cert_file);
    bool key_ok = !ctx->key_file || SSL_CTX_use_PrivateKey_file(ssl, ctx->key_file, SSL_FILETYPE_PEM) == 1;
    bool mismatch = !key_ok && ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH;
    if (!key_ok && !mismatch)
        return file_error(err, "reading key", ctx->key_file);
    if (ctx->cert_file && (mismatch || SSL_CTX_check_private_key(ssl) != 1)) {
        ERR_clear_error();
        return error_set(err, ERROR_INVALID, "key %s does not belong to certificate %s",
                         ctx->key_file ? ctx->key_file : "(none)", ctx->cert_file);
    }
    if (ctx->ca_file && SSL_CTX_load_verify_file(ssl, ctx->ca_file) != 1)
        return file_error(err, "reading CA certificates", ctx->ca_file);
    /* Whom the file names is believed, also where another authority signed that one. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_cert_verify_callback(ssl, verify, (void *)(uintptr_t)ctx);
    if (ctx->ca_hash)
        return 0;
    if (!ctx->ca_file && SSL_CTX_set_default_verify_paths(ssl) != 1)
        return tls_error(err, ERROR_SYSTEM, "loading the system's CA certificates");
    if (!ctx->ca_file)
        return 0;
    /* Tells clients whose certificates are welcome. */
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ctx->ca_file);
    if (!names)
        return file_error(err, "reading CA certificates", ctx->ca_file);
    SSL_CTX_set_client_CA_list(ssl, names);
    return 0;
}

static SSL_CTX *make_ssl(const struct tls_context *ctx, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *ssl = SSL_CTX_new(TLS_method());
    if (!ssl) {
        tls_error(err, ERROR_SYSTEM, "making a TLS context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_CLEANSE_PLAINTEXT);     /* it may be a secret: see buf.h */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Connections are kept; resumption would only cost memory. */
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
    SSL_CTX_set_alpn_protos(ssl, alpn, sizeof alpn);
    if (load_files(ctx, ssl, err)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    return ssl;
}

struct tls_context *tls_context_new(const struct tls_options *options, struct error *err)
{
    if (options->client_cert != TLS_CLIENT_CERT_NONE && !options->ca_file) {
        error_set(err, ERROR_INVALID, "checking client certificates needs a CA file");
        return NULL;
    }
    size_t digits = options->ca_hash ? strspn(options->ca_hash, "0123456789abcdef") : 0;
    if (options->ca_hash && (options->ca_hash[digits] || digits < TLS_HASH_LEAST || digits >= CERTIFICATE_KEY_HASH_SIZE)) {
        error_set(err, ERROR_INVALID, "the hash of an authority has %d to %d hexadecimal digits", TLS_HASH_LEAST,
                  CERTIFICATE_KEY_HASH_SIZE - 1);
        return NULL;
    }
    CLEANUP(tls_context_free) struct tls_context *ctx = NEW(struct tls_context);
    pthread_mutex_init(&ctx->lock, NULL);
    ctx->refs = 1;
    ctx->cert_file = mem_strdup(options->cert_file);
    ctx->key_file = mem_strdup(options->key_file);
    ctx->ca_file = mem_strdup(options->ca_file);
    ctx->ca_hash = mem_strdup(options->ca_hash);
    ctx->client_cert = options->client_cert;
    ctx->ssl = make_ssl(ctx, err);
    return ctx->ssl ? steal(&ctx) : NULL;
}

int tls_context_reload(struct tls_context *ctx, struct error *err)
{
    SSL_CTX *fresh = make_ssl(ctx, err);
    if (!fresh)
        return -1;
    pthread_mutex_lock(&ctx->lock);
    SSL_CTX *old = ctx->ssl;
    ctx->ssl = fresh;
    pthread_mutex_unlock(&ctx->lock);
    SSL_CTX_free(old);
    return 0;
}

struct tls_context *tls_context_hold(struct tls_context *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    ctx->refs++;
    pthread_mutex_unlock(&ctx->lock);
    return ctx;
}

void tls_context_free(struct tls_context *ctx)
{
    if (!ctx)
        return;
    pthread_mutex_lock(&ctx->lock);
    bool last = !--ctx->refs;
    pthread_mutex_unlock(&ctx->lock);
    if (!last)
        return;
    SSL_CTX_free(ctx->ssl);
    pthread_mutex_destroy(&ctx->lock);
    free(ctx->cert_file);
    free(ctx->key_file);
    free(ctx->ca_file);
    free(ctx->ca_hash);
    revoked_clear(ctx);
    free(ctx);
}

SSL *tls_context_ssl(struct tls_context *ctx, bool listening)
{
    pthread_mutex_lock(&ctx->lock);
    SSL *ssl = SSL_new(ctx->ssl);
    pthread_mutex_unlock(&ctx->lock);
    INVARIANT(ssl);
    int verify = SSL_VERIFY_PEER;
    if (listening && ctx->client_cert == TLS_CLIENT_CERT_NONE)
        verify = SSL_VERIFY_NONE;
    if (listening && ctx->client_cert == TLS_CLIENT_CERT_REQUIRED)
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_set_verify(ssl, verify, NULL);
    return ssl;
}

/* ---- Peers ---- */

/* The public part first; counted because requests outlive their connection. One loop only. */
struct counted_peer {
    struct tls_peer peer;
    unsigned refs;
};

struct tls_peer *tls_peer_new(void)
{
    struct counted_peer *c = NEW(struct counted_peer);
    c->refs = 1;
    return &c->peer;
}

struct tls_peer *tls_peer_hold(const struct tls_peer *peer)
{
    if (!peer)
        return NULL;
    struct counted_peer *c = (struct counted_peer *)(uintptr_t)peer;
    c->refs++;
    return &c->peer;
}

void tls_peer_release(struct tls_peer *peer)
{
    struct counted_peer *c = (struct counted_peer *)(void *)peer;
    if (!peer || --c->refs)
        return;
    for (size_t i = 0; i < peer->name_count; i++)
        free(peer->names[i]);
    free(peer->names);
    free(peer->common_name);
    free(c);
}

bool tls_peer_has_name(const struct tls_peer *peer, const char *name)
{
    for (size_t i = 0; peer && i < peer->name_count; i++)
        if (!strcmp(peer->names[i], name))
            return true;
    return false;
}

bool tls_peer_role(const struct tls_peer *peer, const char *role, char name[static TLS_NAME_SIZE])
{
    CLEANUP_FREE char *tail = mem_printf(".%s.mentat", role);
    for (size_t i = 0; peer && i < peer->name_count; i++) {
        const char *text = peer->names[i], *dot;
        if (!text_has_prefix(text, "DNS:") || !(dot = strchr(text + 4, '.')) || strcmp(dot, tail))
            continue;
        size_t len = (size_t)(dot - text - 4);
        if (len >= TLS_NAME_SIZE)
            continue;
        memcpy(name, text + 4, len);
        name[len] = '\0';
        if (text_is_name(name))
            return true;
    }
    return false;
}
