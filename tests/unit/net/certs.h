/* Certificates for tests, made on the spot: files NAME.crt and NAME.key in a directory. */
#pragma once
#include <openssl/evp.h>
#include <openssl/x509.h>

struct authority {
    EVP_PKEY *key;
    X509 *cert;
};

struct authority authority_make(const char *dir, const char *name);
void authority_free(struct authority *a);
/* alt_names as OpenSSL writes them: "DNS:localhost,IP:127.0.0.1", or NULL. Valid from two hours ago until hours from now. */
void authority_issue(const char *dir, const char *name, const struct authority *by, const char *alt_names, long hours);
char *certs_path(const char *dir, const char *name, const char *kind);     /* the caller's */
