/* Issue: a certificate by the authority that signs. Pure but for the key that is made or opened. */
#pragma once
#include "join/enrol.h"
#include "server/keyring.h"

struct issue_order {
    const char *role, *name;             /* "server" and its id, "agent" and its node's name: stands in the certificate */
    const struct str_list *names;        /* further names; NULL: none */
    const char *request;                 /* whose key it is for */
    int64_t least_from_ms;               /* it begins no earlier (core_certificate_from) */
    int64_t now_ms, life_ms, renew_ms;   /* renew_ms: after so long it is to be replaced */
};
/* Fills the answer, which the caller clears (certificate_answer_type); mark is copied into it. -1 with err: no authority signs,
 * its key cannot be opened with these keys, or the request is not good. */
int issue_certificate(const struct authority_list *all, const char *mark, const struct keyring *keys,
                      const struct issue_order *order, struct certificate_answer *out, struct error *err);

/* Makes an authority for ten years, named after the day; its key is sealed with the current key. by: the one before it, or a
 * founding one with its key, which signs it too; NULL: none. *out is to be cleared (authority_type). */
int issue_authority(int64_t now_ms, const struct keyring *keys, const char *by, const char *by_key,
                    struct authority *out, struct error *err);
/* One that is given: certificate (and its chain) and private key, PEM. by, by_key as above. */
struct import_order { const char *certificate, *key; int64_t now_ms; };
int issue_import(const struct import_order *order, const struct keyring *keys, const char *by, const char *by_key,
                 struct authority *out, struct error *err);
/* The private key of an authority, PEM, the caller's (certificate_key_free). NULL with err. */
char *issue_open_key(const struct authority *a, const struct keyring *keys, struct error *err);
/* The certificates of all, one after the other, as PEM. */
void issue_bundle(const struct authority_list *all, struct buf *out);
/* A copy whose private key is sealed with the current key; 1: it is already, and there is none. */
int issue_reseal(const struct authority *a, const struct keyring *keys, struct authority *out, struct error *err);
const struct authority *issue_signing(const struct authority_list *all);   /* NULL: none signs */
