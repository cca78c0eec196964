#include "net/certificate.h"

#include <openssl/bn.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/random.h"
#include "net/certificate_hash.h"
#include "net/tls_impl.h"

#define SECRET_SALT "mentat founding authority"
#define SCRYPT_N (1u << 15)
#define SCRYPT_R 8
#define SCRYPT_P 1
#define SCRYPT_MEMORY (64u << 20)
#define SERIAL_LEN 16
#define NAMES_MOST 64

DEFINE_CLEANUP(EVP_PKEY_free, EVP_PKEY)
DEFINE_CLEANUP(X509_free, X509)
DEFINE_CLEANUP(X509_REQ_free, X509_REQ)
DEFINE_CLEANUP(BIO_free_all, BIO)

void certificate_key_free(char *key)
{
    if (key)
        OPENSSL_cleanse(key, strlen(key));
    free(key);
}

static char *text_of(BIO *bio)
{
    char *bytes;
    long n = BIO_get_mem_data(bio, &bytes);
    return mem_strndup(bytes, (size_t)n);
}

static char *write_key(EVP_PKEY *key)
{
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    INVARIANT(key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    return text_of(bio);
}

char *certificate_key_new(void)
{
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = EVP_EC_gen("P-256");
    return write_key(key);
}

char *certificate_key_of_secret(const char *secret)
{
    uint8_t seed[32];
    INVARIANT(EVP_PBE_scrypt(secret, strlen(secret), (const uint8_t *)SECRET_SALT, strlen(SECRET_SALT), SCRYPT_N, SCRYPT_R, SCRYPT_P,
                             SCRYPT_MEMORY, seed, sizeof seed) == 1);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    OPENSSL_cleanse(seed, sizeof seed);
    return write_key(key);
}

/* --- reading --- */

static X509 *read_certificate(const char *pem)
{
    CLEANUP(BIO_free_all) BIO *bio = pem ? BIO_new_mem_buf(pem, -1) : NULL;
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    return cert;
}

/* Never asks for a passphrase: a locked key is refused. */
static int no_passphrase(char *out, int size, int writing, void *arg)
{
    return -1;
}

static EVP_PKEY *read_key(const char *pem)
{
    CLEANUP(BIO_free_all) BIO *bio = pem ? BIO_new_mem_buf(pem, -1) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    ERR_clear_error();
    return key;
}

int64_t certificate_time(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

void certificate_hash_key(X509 *cert, char out[static CERTIFICATE_KEY_HASH_SIZE])
{
    uint8_t hash[EVP_MAX_MD_SIZE], *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    INVARIANT(len > 0 && EVP_Digest(der, (size_t)len, hash, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
    for (size_t i = 0; i < (CERTIFICATE_KEY_HASH_SIZE - 1) / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

int certificate_read(const char *pem, struct certificate_facts *out, struct error *err)
{
    CLEANUP(X509_free) X509 *cert = read_certificate(pem);
    *out = (struct certificate_facts){0};
    if (!cert)
        return error_set(err, ERROR_INVALID, "this is no certificate (PEM)");
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out->name, sizeof out->name);
    certificate_hash_key(cert, out->key_hash);
    out->from_ms = certificate_time(X509_get0_notBefore(cert));
    out->until_ms = certificate_time(X509_get0_notAfter(cert));
    out->authority = X509_check_ca(cert) == 1;
    return 0;
}

bool certificate_has_key(const char *pem, const char *key)
{
    CLEANUP(X509_free) X509 *cert = read_certificate(pem);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *private = read_key(key);
    bool good = cert && private && X509_check_private_key(cert, private) == 1;
    ERR_clear_error();
    return good;
}

char *certificate_role(const char *pem, const char *role)
{
    CLEANUP(X509_free) X509 *cert = read_certificate(pem);
    struct tls_peer *peer = cert ? tls_peer_of(cert) : NULL;
    char name[TLS_NAME_SIZE];
    char *found = tls_peer_role(peer, role, name) ? mem_strdup(name) : NULL;
    tls_peer_release(peer);
    return found;
}

/* All certificates of a text; the caller frees them. */
static STACK_OF(X509) *read_all(const char *pem)
{
    CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(pem, -1);
    STACK_OF(X509) *all = sk_X509_new_null();
    for (X509 *cert; (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL));)
        sk_X509_push(all, cert);
    ERR_clear_error();
    return all;
}

int certificate_verify(const char *pem, const char *authorities, struct error *err)
{
    STACK_OF(X509) *chain = read_all(pem), *trusted = read_all(authorities);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *look = X509_STORE_CTX_new();
    INVARIANT(chain && trusted && store && look && X509_STORE_CTX_init(look, store, sk_X509_value(chain, 0), chain) == 1);
    X509_STORE_CTX_set0_trusted_stack(look, trusted);
    int rc = sk_X509_num(chain) && X509_verify_cert(look) == 1 ? 0
        : error_set(err, ERROR_DENIED, "%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(look)));
    X509_STORE_CTX_free(look);
    X509_STORE_free(store);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(trusted, X509_free);
    ERR_clear_error();
    return rc;
}

/* --- signing --- */

static const EVP_MD *digest_of(const EVP_PKEY *key)
{
    return EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

char *certificate_request_new(const char *key)
{
    CLEANUP(EVP_PKEY_free) EVP_PKEY *private = read_key(key);
    CLEANUP(X509_REQ_free) X509_REQ *request = X509_REQ_new();
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    INVARIANT(private && request && bio && X509_REQ_set_pubkey(request, private) == 1 &&
              X509_REQ_sign(request, private, digest_of(private)) > 0 && PEM_write_bio_X509_REQ(bio, request) == 1);
    return text_of(bio);
}

/* Of the request or the private key; NULL with err. The caller's. */
static EVP_PKEY *public_key(const struct certificate_order *o, struct error *err)
{
    EVP_PKEY *key = NULL;
    if (o->request) {
        CLEANUP(BIO_free_all) BIO *bio = BIO_new_mem_buf(o->request, -1);
        CLEANUP(X509_REQ_free) X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
        key = request ? X509_REQ_get_pubkey(request) : NULL;
        if (key && X509_REQ_verify(request, key) != 1) {
            EVP_PKEY_free(key);
            key = NULL;
        }
    } else {
        key = read_key(o->key);
    }
    ERR_clear_error();
    int kind = key ? EVP_PKEY_get_base_id(key) : 0;
    if (kind == EVP_PKEY_EC || kind == EVP_PKEY_ED25519)
        return key;
    error_set(err, ERROR_INVALID, key ? "a certificate needs an EC or Ed25519 key" : "the certificate's request is damaged, or "
              "not signed with its key");
    EVP_PKEY_free(key);
    return NULL;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool good = e && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return good;
}

/* Names go into OpenSSL's own syntax, where commas and more have a meaning. */
static bool is_alt_name(const char *s)
{
    return (!strncmp(s, "DNS:", 4) || !strncmp(s, "IP:", 3)) && strlen(s) < 300 &&
           !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:")];
}

static int join_names(const char *const *names, struct buf *out, struct error *err)
{
    for (size_t i = 0; names && names[i]; i++) {
        if (i == NAMES_MOST)
            return error_set(err, ERROR_INVALID, "a certificate can have %d names at most", NAMES_MOST);
        if (!is_alt_name(names[i]))
            return error_set(err, ERROR_INVALID, "\"%.100s\" cannot be a name in a certificate", names[i]);
        buf_printf(out, "%s%s", i ? "," : "", names[i]);
    }
    return 0;
}

static bool describe(X509 *cert, X509 *issuer, const struct certificate_order *o, const char *names)
{
    bool crossed = o->authority && issuer != cert;
    return add_extension(cert, issuer, NID_basic_constraints, crossed ? "critical,CA:TRUE,pathlen:0" : o->authority ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
           add_extension(cert, issuer, NID_key_usage, o->authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
           (o->authority || add_extension(cert, issuer, NID_ext_key_usage, "serverAuth,clientAuth")) &&
           add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
           (issuer == cert || add_extension(cert, issuer, NID_authority_key_identifier, "keyid")) &&
           (!names || add_extension(cert, issuer, NID_subject_alt_name, names));
}

static bool number(X509 *cert)
{
    uint8_t serial[SERIAL_LEN];
    random_system(serial, sizeof serial);
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 1);
    BIGNUM *n = BN_bin2bn(serial, sizeof serial, NULL);
    bool good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return good;
}

static bool set_time(ASN1_TIME *t, int64_t ms)
{
    return ASN1_TIME_set(t, (time_t)(ms / 1000)) != NULL;
}

static bool set_subject(X509 *cert, const struct certificate_order *o)
{
    CLEANUP(X509_free) X509 *other = o->named_as ? read_certificate(o->named_as) : NULL;
    if (o->named_as)
        return other && X509_set_subject_name(cert, X509_get_subject_name(other)) == 1;
    return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8, (const uint8_t *)o->name, -1, -1, 0) == 1;
}

int certificate_sign(const struct certificate_order *o, const char *issuer_pem, const char *issuer_key, char **out,
                     struct error *err)
{
    CLEANUP(EVP_PKEY_free) EVP_PKEY *signer = read_key(issuer_key);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = public_key(o, err);
    CLEANUP(X509_free) X509 *cert = X509_new();
    CLEANUP(X509_free) X509 *other = issuer_pem ? read_certificate(issuer_pem) : NULL;
    CLEANUP(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    CLEANUP_BUF struct buf names = {0};
    if (!key || join_names(o->names, &names, err))
        return -1;
    if (!signer || (issuer_pem && !other))
        return error_set(err, ERROR_CORRUPT, "the authority's certificate or key is damaged");
    X509 *issuer = other ? other : cert;
    bool good = X509_set_version(cert, X509_VERSION_3) == 1 && number(cert) && set_time(X509_getm_notBefore(cert), o->from_ms) &&
                set_time(X509_getm_notAfter(cert), o->until_ms) && X509_set_pubkey(cert, key) == 1 &&
                set_subject(cert, o) &&
                X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1 && describe(cert, issuer, o, names.data) &&
                X509_sign(cert, signer, digest_of(signer)) > 0 && PEM_write_bio_X509(bio, cert) == 1;
    if (!good) {
        ERR_clear_error();
        return error_set(err, ERROR_INVALID, "a certificate for %.64s cannot be made with these names: %.200s",
                         o->name ? o->name : "an authority", names.data ? names.data : "none");
    }
    *out = text_of(bio);
    return 0;
}
