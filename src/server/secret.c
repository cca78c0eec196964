#include "server/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"

static void write_hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

void secret_new(char out[static SECRET_SIZE])
{
    uint8_t bytes[(SECRET_SIZE - 1) / 2];
    random_system(bytes, sizeof bytes);
    write_hex(bytes, sizeof bytes, out);
}

void secret_hash(const char *secret, char out[static SECRET_HASH_SIZE])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    INVARIANT(EVP_Digest(secret, strlen(secret), hash, &n, EVP_sha256(), NULL) == 1 && n * 2 + 1 == SECRET_HASH_SIZE);
    write_hex(hash, n, out);
}

bool secret_fits(const char *secret, const char *hash)
{
    char own[SECRET_HASH_SIZE];
    secret_hash(secret, own);
    return strlen(hash) == SECRET_HASH_SIZE - 1 && CRYPTO_memcmp(own, hash, SECRET_HASH_SIZE - 1) == 0;
}
