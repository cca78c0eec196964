/* The hash by which an authority is known, of a certificate of OpenSSL's. */
#pragma once
#include <openssl/x509.h>

#include "net/certificate.h"

void certificate_hash_key(X509 *cert, char out[static CERTIFICATE_KEY_HASH_SIZE]);
