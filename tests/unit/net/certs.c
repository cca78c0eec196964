#include "certs.h"

#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "../cmocka_all.h"
#include "base/mem.h"

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

/* Signed by `by`, or by itself. Valid from two hours ago until `hours` from now. */
static X509 *make_cert(EVP_PKEY *key, const char *name, const struct authority *by, EVP_PKEY *signer,
                       const char *alt_names, long hours)
{
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    BIGNUM *serial = BN_new();
    BN_rand(serial, 64, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY);
    BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert));
    BN_free(serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(cert), hours * 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    X509 *issuer = by ? by->cert : cert;
    X509_set_issuer_name(cert, X509_get_subject_name(issuer));
    add_extension(cert, issuer, NID_basic_constraints, by ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (alt_names)
        add_extension(cert, issuer, NID_subject_alt_name, alt_names);
    assert_true(X509_sign(cert, signer, EVP_sha256()) > 0);
    return cert;
}

char *certs_path(const char *dir, const char *name, const char *kind)
{
    return mem_printf("%s/%s.%s", dir, name, kind);
}

static void write_cert(const char *dir, const char *name, X509 *cert, EVP_PKEY *key)
{
    CLEANUP_FREE char *cert_path = certs_path(dir, name, "crt");
    CLEANUP_FREE char *key_path = certs_path(dir, name, "key");
    FILE *file = fopen(cert_path, "w");
    assert_non_null(file);
    PEM_write_X509(file, cert);
    fclose(file);
    file = fopen(key_path, "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

struct authority authority_make(const char *dir, const char *name)
{
    struct authority a = {.key = EVP_EC_gen("P-256")};
    a.cert = make_cert(a.key, name, NULL, a.key, NULL, 24);
    write_cert(dir, name, a.cert, a.key);
    return a;
}

void authority_free(struct authority *a)
{
    EVP_PKEY_free(a->key);
    X509_free(a->cert);
}

void authority_issue(const char *dir, const char *name, const struct authority *by, const char *alt_names, long hours)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make_cert(key, name, by, by->key, alt_names, hours);
    write_cert(dir, name, cert, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}
