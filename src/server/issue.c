#include "server/issue.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/timefmt.h"
#include "server/seal.h"

#define SLACK_MOST_MS (5 * 60 * 1000LL)     /* that clocks of hosts may differ */
#define AUTHORITY_LIFE_MS (3650 * 24 * 3600 * 1000LL)
#define CONTEXT "authority/"

const struct authority *issue_signing(const struct authority_list *all)
{
    for (uint32_t i = 0; i < all->n; i++)
        if (all->v[i].state == AUTHORITY_SIGNING)
            return &all->v[i];
    return NULL;
}

static char *seal_key(const char *id, const char *key, const struct keyring *keys)
{
    CLEANUP_BUF struct buf sealed = {0};
    struct buf text = {0};
    CLEANUP_FREE char *context = mem_printf(CONTEXT "%s", id);
    seal(keys, context, key, strlen(key), &sealed);
    base64_add(&text, sealed.data, sealed.len);
    return buf_steal(&text);
}

char *issue_open_key(const struct authority *a, const struct keyring *keys, struct error *err)
{
    CLEANUP_BUF struct buf sealed = {0};
    struct buf key = {0};
    CLEANUP_FREE char *context = mem_printf(CONTEXT "%s", a->id);
    if (!a->sealed_key || !base64_read(a->sealed_key, &sealed)) {
        error_set(err, ERROR_CORRUPT, "the key of authority %.12s is missing or damaged", a->id);
        return NULL;
    }
    if (!seal_open(keys, context, sealed.data, sealed.len, &key, err))
        return buf_steal(&key);
    error_context(err, "the key of authority %.12s", a->id);
    buf_wipe(&key);
    return NULL;
}

int issue_reseal(const struct authority *a, const struct keyring *keys, struct authority *out, struct error *err)
{
    CLEANUP_BUF struct buf sealed = {0};
    char id[KEYRING_ID_SIZE];
    if (!a->sealed_key || (base64_read(a->sealed_key, &sealed) && seal_key_id(sealed.data, sealed.len, id) &&
                           !strcmp(id, keyring_current(keys))))
        return 1;
    CLEANUP(certificate_key_free) char *key = issue_open_key(a, keys, err);
    if (!key)
        return -1;
    type_copy(&authority_type, out, a);
    free(out->sealed_key);
    out->sealed_key = seal_key(a->id, key, keys);
    return 0;
}

static void add_pem(struct buf *out, const char *pem)
{
    buf_add_string(out, pem);
    if (out->len && out->data[out->len - 1] != '\n')
        buf_add_char(out, '\n');
}

void issue_bundle(const struct authority_list *all, struct buf *out)
{
    for (uint32_t i = 0; i < all->n; i++)
        add_pem(out, all->v[i].certificate);
}

int issue_certificate(const struct authority_list *all, const char *mark, const struct keyring *keys, const struct issue_order *o,
                      struct certificate_answer *out, struct error *err)
{
    const struct authority *a = issue_signing(all);
    CLEANUP_BUF struct buf chain = {0}, authorities = {0};
    CLEANUP_FREE char *own = mem_printf("DNS:%s.%s.mentat", o->name, o->role), *certificate = NULL;
    CLEANUP(certificate_key_free) char *key = a ? issue_open_key(a, keys, err) : NULL;
    *out = (struct certificate_answer){0};
    if (!a)
        return error_set(err, ERROR_UNAVAILABLE, "this cluster has no authority yet that signs certificates");
    struct certificate_facts facts;
    if (!key || certificate_read(a->certificate, &facts, err))
        return -1;
    int64_t slack = o->life_ms / 10 < SLACK_MOST_MS ? o->life_ms / 10 : SLACK_MOST_MS, until = o->now_ms + o->life_ms;
    int64_t from = o->now_ms - slack > o->least_from_ms ? o->now_ms - slack : o->least_from_ms;
    const char **names = mem_array((o->names ? o->names->n : 0) + 2u, sizeof *names);
    names[0] = own;
    for (uint32_t i = 0; o->names && i < o->names->n; i++)
        names[i + 1] = o->names->v[i];
    struct certificate_order order = {.request = o->request, .name = o->name, .names = names, .from_ms = from,
                                      .until_ms = until < facts.until_ms ? until : facts.until_ms};
    int rc = certificate_sign(&order, a->certificate, key, &certificate, err);
    free(names);
    if (rc)
        return -1;
    add_pem(&chain, certificate);
    add_pem(&chain, a->cross ? a->cross : a->certificate);
    issue_bundle(all, &authorities);
    *out = (struct certificate_answer){.certificate = buf_steal(&chain), .authorities = buf_steal(&authorities),
                                       .mark = mem_strdup(mark), .expires_at = order.until_ms,
                                       .renew_at = o->now_ms + o->renew_ms};
    return 0;
}

static void describe(struct authority *out, const char *key, const struct keyring *keys)
{
    struct certificate_facts facts;
    struct error err;
    int rc = certificate_read(out->certificate, &facts, &err);
    INVARIANT(rc == 0);
    out->id = mem_strdup(facts.key_hash);
    out->sealed_key = seal_key(out->id, key, keys);
}

int issue_authority(int64_t now_ms, const struct keyring *keys, const char *by, const char *by_key,
                    struct authority *out, struct error *err)
{
    CLEANUP(certificate_key_free) char *key = certificate_key_new();
    char name[64], day[TIME_TEXT_SIZE];
    time_format(day, now_ms);
    snprintf(name, sizeof name, "mentat authority %.10s", day);
    struct certificate_order order = {.key = key, .name = name, .authority = true, .from_ms = now_ms - SLACK_MOST_MS,
                                      .until_ms = now_ms + AUTHORITY_LIFE_MS};
    *out = (struct authority){0};
    if (certificate_sign(&order, NULL, key, &out->certificate, err) ||
        (by && certificate_sign(&order, by, by_key, &out->cross, err)))
        return -1;
    describe(out, key, keys);
    return 0;
}

int issue_import(const struct import_order *o, const struct keyring *keys, const char *by, const char *by_key,
                 struct authority *out, struct error *err)
{
    struct certificate_facts facts;
    char until[TIME_TEXT_SIZE];
    *out = (struct authority){0};
    if (certificate_read(o->certificate, &facts, err))
        return error_context(err, "certificate");
    if (!facts.authority)
        return error_set(err, ERROR_INVALID, "certificate: it is not that of an authority (basicConstraints CA:TRUE)");
    if (!certificate_has_key(o->certificate, o->key))
        return error_set(err, ERROR_INVALID, "key: it is not the certificate's, is damaged, or is locked with a passphrase");
    time_format(until, facts.until_ms);
    if (facts.from_ms > o->now_ms || facts.until_ms <= o->now_ms)
        return error_set(err, ERROR_INVALID, "certificate: it is not valid now (until %s)", until);
    struct certificate_order cross = {.key = o->key, .named_as = o->certificate, .authority = true,
                                      .from_ms = o->now_ms - SLACK_MOST_MS, .until_ms = facts.until_ms};
    if (certificate_sign(&cross, by, by_key, &out->cross, err))
        return -1;
    out->certificate = mem_strdup(o->certificate);
    describe(out, o->key, keys);
    return 0;
}
