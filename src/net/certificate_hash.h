/* Of certificates of OpenSSL's: the hash by which an authority is known, and times. */
#pragma once
#include <openssl/x509.h>

#include "net/certificate.h"

void certificate_hash_key(X509 *cert, char out[static CERTIFICATE_KEY_HASH_SIZE]);
int64_t certificate_time(const ASN1_TIME *t);    /* milliseconds since 1970; 0: it is none */
