#include "server/seal.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"

/* Version, the key's id, nonce, sealed bytes, tag. Version and id are authenticated with the context. */
#define VERSION 1
#define ID_BYTES ((KEYRING_ID_SIZE - 1) / 2)
#define HEAD (1 + ID_BYTES)
#define NONCE 12
#define TAG 16
_Static_assert(HEAD + NONCE + TAG == SEAL_OVERHEAD, "the header says how much a seal adds");

static EVP_CIPHER_CTX *begin(const uint8_t *key, const uint8_t *head, const char *context, bool sealing)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;
    INVARIANT(ctx && EVP_CipherInit_ex2(ctx, EVP_aes_256_gcm(), key, head + HEAD, sealing, NULL) == 1);
    INVARIANT(EVP_CipherUpdate(ctx, NULL, &n, head, HEAD) == 1);
    INVARIANT(EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)context, (int)strlen(context)) == 1);
    return ctx;
}

static void write_head(const char *id, struct buf *out)
{
    uint8_t nonce[NONCE];
    buf_add_u8(out, VERSION);
    for (size_t i = 0; i < ID_BYTES; i++) {
        unsigned byte = 0;
        sscanf(id + 2 * i, "%2x", &byte);
        buf_add_u8(out, (uint8_t)byte);
    }
    random_system(nonce, sizeof nonce);
    buf_add(out, nonce, sizeof nonce);
}

void seal(const struct keyring *ring, const char *context, const void *p, size_t n, struct buf *out)
{
    const char *id = keyring_current(ring);
    INVARIANT(id && n < INT32_MAX);
    buf_reserve(out, n + SEAL_OVERHEAD);
    const uint8_t *head = (const uint8_t *)out->data + out->len;
    write_head(id, out);
    EVP_CIPHER_CTX *ctx = begin(keyring_key(ring, id), head, context, true);
    int put = 0, rest = 0;
    uint8_t *at = (uint8_t *)out->data + out->len;
    INVARIANT((!n || EVP_CipherUpdate(ctx, at, &put, p, (int)n) == 1) && (size_t)put == n);
    INVARIANT(EVP_CipherFinal_ex(ctx, at + n, &rest) == 1 && rest == 0);
    INVARIANT(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, at + n) == 1);
    EVP_CIPHER_CTX_free(ctx);
    out->len += n + TAG;
    out->data[out->len] = '\0';
}

bool seal_key_id(const void *p, size_t n, char id[static KEYRING_ID_SIZE])
{
    const uint8_t *bytes = p;
    if (n < SEAL_OVERHEAD || bytes[0] != VERSION)
        return false;
    for (size_t i = 0; i < ID_BYTES; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[1 + i]);
    return true;
}

int seal_open(const struct keyring *ring, const char *context, const void *p, size_t n, struct buf *out, struct error *err)
{
    const uint8_t *bytes = p;
    char id[KEYRING_ID_SIZE];
    if (n >= INT32_MAX || !seal_key_id(p, n, id))
        return error_set(err, ERROR_CORRUPT, "sealed bytes are damaged");
    const uint8_t *key = keyring_key(ring, id);
    if (!key)
        return error_set(err, ERROR_NOT_FOUND, "this server has not the key %s of the cluster", id);
    size_t len = n - SEAL_OVERHEAD;
    buf_reserve(out, len);
    EVP_CIPHER_CTX *ctx = begin(key, bytes, context, false);
    uint8_t *at = (uint8_t *)out->data + out->len;
    int put = 0, rest = 0;
    bool good = (!len || EVP_CipherUpdate(ctx, at, &put, bytes + HEAD + NONCE, (int)len) == 1) &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(uintptr_t)(bytes + n - TAG)) == 1 &&
                EVP_CipherFinal_ex(ctx, at + put, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!good) {
        OPENSSL_cleanse(at, len);
        return error_set(err, ERROR_CORRUPT, "sealed bytes are damaged, or are those of something else");
    }
    out->len += len;
    out->data[out->len] = '\0';
    return 0;
}
