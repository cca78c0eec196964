/* Certificate: keys, authorities, and what they sign, as PEM texts. Keys are ECDSA P-256, which whatever speaks TLS knows,
 * browsers and corporate authorities too; only founding authorities (below) are Ed25519. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

/* SHA-256 of a certificate's public key, hexadecimal: by this an authority is known. It stays when the certificate is
 * made anew, or signed by another one, for the same key. */
#define CERTIFICATE_KEY_HASH_SIZE 65

struct certificate_facts {
    char name[64];                       /* common name; "" for none */
    char key_hash[CERTIFICATE_KEY_HASH_SIZE];
    int64_t from_ms, until_ms;           /* validity, milliseconds since 1970 */
    bool authority;                      /* may sign others */
};

/* Private keys are wiped before they are freed. NULL does nothing. */
void certificate_key_free(char *key);
DEFINE_CLEANUP(certificate_key_free, char)

/* A new private key (PKCS #8). */
char *certificate_key_new(void);
/* A private key that whoever knows the secret can make: of the authority by which founders know each other. Slow on
 * purpose (scrypt). */
char *certificate_key_of_secret(const char *secret);

/* Reads the first certificate of the text. */
int certificate_read(const char *pem, struct certificate_facts *out, struct error *err);
/* Whether the private key is that of the first certificate. */
bool certificate_has_key(const char *pem, const char *key);
/* NAME, where the first certificate carries DNS:NAME.ROLE.mentat; the caller's. NULL: it does not. */
char *certificate_role(const char *pem, const char *role);
/* Whether the first certificate, by those behind it, goes back to one of the authorities (PEM), all of them being good now.
 * -1 with err. */
int certificate_verify(const char *pem, const char *authorities, struct error *err);

/* A request to be signed (PKCS #10): proves that who asks has the key. */
char *certificate_request_new(const char *key);

struct certificate_order {
    const char *request;                 /* whose key it is for: a request, whose signature is checked… */
    const char *key;                     /* …or a private key */
    const char *name;                    /* common name… */
    const char *named_as;                /* …or, in its place: a certificate whose whole name it gets */
    const char *const *names;            /* "DNS:…", "IP:…", and NULL behind the last; NULL: none */
    bool authority;                      /* may sign servers and agents, but no authorities */
    int64_t from_ms, until_ms;
};
/* Signs with the authority's certificate and key; issuer NULL: with its own key. The certificate is the caller's. ERROR_INVALID
 * is about the request or the names. */
int certificate_sign(const struct certificate_order *order, const char *issuer, const char *issuer_key, char **out,
                     struct error *err);
