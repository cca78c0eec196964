#include "server/workload_identity.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/base64.h"
#include "base/id.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/namespace.h"
#include "server/api.h"
#include "server/vault.h"

#define DAY_MS 86400000ll
#define SIGNS_MS (30 * DAY_MS)          /* how long one key signs */
#define PUBLISHED_MS (10 * 60000ll)     /* before it signs: whoever keeps the list for a while has it then */
#define KEPT_MS (SIGNS_MS + 2 * DAY_MS) /* tokens are good for a day at most */
#define AGAIN_MS 1000
#define COORDINATE 32                   /* bytes of each, and of each half of a signature */
#define POINT (1 + 2 * COORDINATE)

struct workload_identity {
    struct proposal proposal;
    bool wanted, proposing;
    int64_t after_ms;
    char *key_id;                       /* of `key`, which signed last */
    EVP_PKEY *key;
};

void workload_identity_start(struct control *c)
{
    c->identities = NEW(struct workload_identity);
}

void workload_identity_end(struct control *c)
{
    struct workload_identity *w = c->identities;
    core_result_clear(&w->proposal.result);
    EVP_PKEY_free(w->key);
    free(w->key_id);
    free(w);
    c->identities = NULL;
}

static char *context_of(const char *key_id)
{
    return mem_printf("identity/%s", key_id);
}

/* --- keys --- */

static void on_made(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct error err;
    c->identities->proposing = false;
    c->identities->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (proposal_error(c, p, outcome, &err))
        LOG_W("no key for tasks' tokens could be made; trying again", "error", err.text);
    core_result_clear(&p->result);
}

/* "X.Y" of an uncompressed point. */
static char *public_text(EVP_PKEY *key)
{
    struct buf out = {0};
    uint8_t point[POINT];
    size_t n = 0;
    INVARIANT(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &n) == 1 && n == POINT);
    base64_url_add(&out, point + 1, COORDINATE);
    buf_add_char(&out, '.');
    base64_url_add(&out, point + 1 + COORDINATE, COORDINATE);
    return buf_steal(&out);
}

static int seal_key(struct control *c, const char *id, EVP_PKEY *key, struct buf *out, struct error *err)
{
    CLEANUP_WIPE struct buf der = {0};
    CLEANUP_FREE char *context = context_of(id);
    int n = i2d_PrivateKey(key, NULL);
    INVARIANT(n > 0);
    buf_reserve(&der, (size_t)n);
    unsigned char *at = (unsigned char *)der.data;
    der.len = (size_t)i2d_PrivateKey(key, &at);
    return vault_seal(c, context, &der, out, err);
}

static void make_key(struct control *c)
{
    struct workload_identity *w = c->identities;
    const struct identity_key_list *keys = &core_secrets(c->core)->keys;
    CLEANUP_FREE char *id = id_new(), *public = NULL;
    CLEANUP_BUF struct buf sealed = {0}, command = {0};
    struct error err;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    INVARIANT(key);
    public = public_text(key);
    int rc = seal_key(c, id, key, &sealed, &err);
    EVP_PKEY_free(key);
    w->after_ms = time_monotonic_ms() + AGAIN_MS;
    if (rc) {
        LOG_W("no key for tasks' tokens could be made; trying again", "error", err.text);
        return;
    }
    struct command_identity_key payload = {.key = {.id = id, .public_key = public, .sealed = sealed.data}};
    for (uint32_t i = 0; i < keys->n; i++)
        if (time_now_ms() - keys->v[i].created_at > KEPT_MS)
            str_list_add(&payload.drop, keys->v[i].id);
    command_encode_payload(COMMAND_IDENTITY_KEY, time_now_ms(), NULL, NULL, &payload, &command);
    str_list_clear(&payload.drop);
    w->proposing = true;
    control_propose(c, &w->proposal, command.data, command.len, on_made);
}

void workload_identity_look(struct control *c)
{
    struct workload_identity *w = c->identities;
    const struct identity_key_list *keys = &core_secrets(c->core)->keys;
    if (c->role != CONSENSUS_LEADER || c->stopping || w->proposing || (!w->wanted && !keys->n) ||
        time_monotonic_ms() < w->after_ms || !vault_ready(c))
        return;
    if (!keys->n || time_now_ms() - keys->v[keys->n - 1].created_at > SIGNS_MS)
        make_key(c);
}

/* --- signing --- */

/* The newest that was published for long enough; the first one has nobody before it. */
static const struct identity_key *signing_key(const struct identity_key_list *keys)
{
    for (uint32_t i = keys->n; i-- > 1;)
        if (time_now_ms() - keys->v[i].created_at > PUBLISHED_MS)
            return &keys->v[i];
    return keys->n ? &keys->v[0] : NULL;
}

static int load_key(struct control *c, const struct identity_key *k, struct error *err)
{
    struct workload_identity *w = c->identities;
    CLEANUP_WIPE struct buf der = {0};
    CLEANUP_FREE char *context = context_of(k->id);
    if (w->key_id && !strcmp(w->key_id, k->id))
        return 0;
    if (vault_open(c, context, k->sealed, &der, err))
        return -1;
    const unsigned char *at = (const unsigned char *)der.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
    if (!key)
        return error_set(err, ERROR_CORRUPT, "the key %s of tasks' tokens is damaged", k->id);
    EVP_PKEY_free(w->key);
    w->key = key;
    mem_set_string(&w->key_id, k->id);
    return 0;
}

/* JWT wants both numbers at their full length, OpenSSL gives them in DER. */
static void add_signature(EVP_PKEY *key, struct buf *token)
{
    uint8_t der[128], raw[2 * COORDINATE];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    INVARIANT(ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, der, &n, (const uint8_t *)token->data, token->len) == 1);
    EVP_MD_CTX_free(ctx);
    const uint8_t *at = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
    INVARIANT(sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, COORDINATE) == COORDINATE &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + COORDINATE, COORDINATE) == COORDINATE);
    ECDSA_SIG_free(sig);
    buf_add_char(token, '.');
    base64_url_add(token, raw, sizeof raw);
}

static void add_claim(struct buf *out, const char *name, const char *value)
{
    buf_add_string(out, out->len > 1 ? "," : "");
    json_add_string(out, name);
    buf_add_char(out, ':');
    json_add_string(out, value);
}

static void write_claims(struct control *c, const struct alloc *a, const struct service *spec, int64_t now, struct buf *out)
{
    CLEANUP_FREE char *subject = mem_printf("%s/%s", a->service, a->id);
    buf_add_char(out, '{');
    add_claim(out, "iss", core_cluster(c->core) ? core_cluster(c->core) : "");
    add_claim(out, "sub", subject);
    buf_add_string(out, ",\"aud\":[");
    for (uint32_t i = 0; i < spec->identity.audience.n; i++) {
        buf_add_string(out, i ? "," : "");
        json_add_string(out, spec->identity.audience.v[i]);
    }
    CLEANUP_FREE char *id = id_new();
    buf_printf(out, "],\"iat\":%lld,\"nbf\":%lld,\"exp\":%lld", (long long)(now / 1000), (long long)(now / 1000),
               (long long)((now + spec->identity.ttl_ms) / 1000));
    add_claim(out, "jti", id);
    char namespace[NAMESPACE_SIZE];
    add_claim(out, "namespace", namespace_of(a->service, namespace));
    add_claim(out, "job", a->job);
    add_claim(out, "service", a->service);
    add_claim(out, "alloc", a->id);
    add_claim(out, "node", a->node_name);
    buf_printf(out, ",\"replica\":%lld}", (long long)a->replica);
}

int workload_identity_sign(struct control *c, const struct alloc *a, const struct service *spec, struct buf *out,
                           int64_t *expires_at, struct error *err)
{
    const struct identity_key *k = signing_key(&core_secrets(c->core)->keys);
    CLEANUP_BUF struct buf head = {0}, claims = {0}, token = {0};
    int64_t now = time_now_ms();
    c->identities->wanted = true;
    if (!k)
        return error_set(err, ERROR_UNAVAILABLE, "the first key for tasks' tokens is being made; try again in a moment");
    if (load_key(c, k, err))
        return -1;
    buf_printf(&head, "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"%s\"}", k->id);
    write_claims(c, a, spec, now, &claims);
    base64_url_add(&token, head.data, head.len);
    buf_add_char(&token, '.');
    base64_url_add(&token, claims.data, claims.len);
    add_signature(c->identities->key, &token);
    buf_add(out, token.data, token.len);
    *expires_at = now + spec->identity.ttl_ms;
    return 0;
}

/* --- GET /v1/jwks --- */

API_READ(api_jwks)
{
    const struct identity_key_list *keys = &core_secrets(c->core)->keys;
    buf_add_string(&r->answer.body, "{\"keys\":[");
    for (uint32_t i = 0; i < keys->n; i++) {
        const char *x = keys->v[i].public_key, *dot = strchr(x, '.');
        if (dot)
            buf_printf(&r->answer.body, "%s{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"%s\","
                       "\"x\":\"%.*s\",\"y\":\"%s\"}", i ? "," : "", keys->v[i].id, (int)(dot - x), x, dot + 1);
    }
    buf_add_string(&r->answer.body, "]}");
    return 0;
}
