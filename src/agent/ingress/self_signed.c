#include "agent/ingress/self_signed.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"

#define COMMON_NAME "no certificate for this host"
#define VALID_S (10L * 365 * 86400)

static bool add_name(X509 *cert)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)COMMON_NAME, -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1;
}

static X509 *make(EVP_PKEY *key)
{
    uint32_t serial;
    X509 *cert = X509_new();
    random_system(&serial, sizeof serial);
    if (cert && X509_set_version(cert, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(cert), serial >> 1) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -86400) && X509_gmtime_adj(X509_getm_notAfter(cert), VALID_S) &&
        X509_set_pubkey(cert, key) == 1 && add_name(cert) && X509_sign(cert, key, EVP_sha256()))
        return cert;
    X509_free(cert);
    return NULL;
}

int self_signed_make(const char *path, struct error *err)
{
    if (access(path, F_OK) == 0)
        return 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? make(key) : NULL;
    BIO *text = BIO_new(BIO_s_mem());
    char *bytes;
    int rc = -1;
    if (cert && text && PEM_write_bio_X509(text, cert) == 1 && PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1)
        rc = file_write(path, bytes, (size_t)BIO_get_mem_data(text, &bytes), 0600, err);
    else
        error_set(err, ERROR_SYSTEM, "cannot make a certificate for hosts without one");
    BIO_free(text);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}
