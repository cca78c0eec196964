/* Certificates and the authorities that give them.
 *
 * POST /v1/certificates: whoever has a join token, or a certificate of the cluster that is to be replaced, gets one for the
 * same server or node, by the leader. With a token: checked → durable that it was used → signed; an answer that gets lost
 * may be asked for again by the same one. */
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "join/enrol.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/authority.h"
#include "server/http_thread.h"
#include "server/issue.h"
#include "server/secret.h"
#include "server/vault.h"

struct enrolment {
    struct proposal proposal;
    struct request *r;
};

static bool is_role(const char *role)
{
    return !strcmp(role, "server") || !strcmp(role, "agent");
}

/* A server that hands the request on has looked itself. */
int api_certificate_prepare(struct request *r, struct error *err)
{
    const struct certificate_request *body = r->body;
    char name[TLS_NAME_SIZE];
    if (!is_role(body->role))
        return error_set(err, ERROR_INVALID, "role: server or agent");
    if (!http_thread_has_tls(r->thread))
        return error_set(err, ERROR_UNSUPPORTED, "this cluster gives no certificates: its servers have no `tls: auto`");
    if (body->token)
        return 0;
    bool good = !strcmp(body->role, "agent") ? r->who.kind == IDENTITY_AGENT && !strcmp(r->who.name, body->name)
                                             : tls_peer_role(r->http->tls, "server", name) && (r->forwarded || !strcmp(name, body->name));
    if (good)
        return 0;
    return error_set(err, ERROR_DENIED, "%s %.63s gets a certificate by its present one, or by a join token (`mt node token`, "
                     "`mt cluster token`)", body->role, body->name);
}

/* Refused without a word in the log would be a guess that nobody sees. */
static void refuse(struct request *r)
{
    const struct certificate_request *body = r->body;
    struct error *err = &r->answer.error;
    error_context(err, "no certificate for %s %.63s", body->role, body->name);
    if (err->code != ERROR_DENIED)                       /* which is told like each refusal */
        LOG_W("no certificate was given", "peer", r->http->peer, "reason", err->text);
    control_answer(r);
}

static void give(struct control *c, struct request *r)
{
    const struct certificate_request *body = r->body;
    bool server = !strcmp(body->role, "server");
    struct certificate_answer a = {0};
    char mark[CERTIFICATE_MARK_SIZE];
    struct issue_order order = {.role = body->role, .name = body->name, .names = server ? &body->names : NULL, .request = body->request,
                                .least_from_ms = core_certificate_from(core_access(c->core), body->name, body->role),
                                .now_ms = time_now_ms(), .life_ms = c->config->certificate_lifetime_ms,
                                .renew_ms = c->config->certificate_renewal_ms};
    core_certificate_mark(c->core, mark);
    int rc = issue_certificate(&core_access(c->core)->authorities, mark, vault_ring(c), &order, &a, &r->answer.error);
    if (rc == 0) {
        type_to_json(&certificate_answer_type, &a, &r->answer.body);
        LOG_I("gave a certificate", "role", body->role, "name", body->name, "by", body->token ? "token" : "certificate");
    }
    type_clear(&certificate_answer_type, &a);
    if (rc)
        refuse(r);
    else
        control_answer(r);
}

static void on_enrolled(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct enrolment *e = container_of(p, struct enrolment, proposal);
    struct request *r = e->r;
    int rc = proposal_error(c, p, outcome, &r->answer.error);
    core_result_clear(&p->result);
    free(e);
    if (rc && r->answer.error.code == ERROR_UNKNOWN_OUTCOME)
        r->answer.error.code = ERROR_UNAVAILABLE;        /* it may be repeated */
    if (rc)
        refuse(r);
    else
        give(c, r);
}

static int enrol(struct control *c, struct request *r, struct error *err)
{
    const struct certificate_request *body = r->body;
    char hash[SECRET_HASH_SIZE];
    const char *dot = strchr(body->token, '.');
    CLEANUP_FREE char *id = mem_strndup(body->token, dot ? (size_t)(dot - body->token) : 0);
    CLEANUP_BUF struct buf command = {0};
    secret_hash(dot ? dot + 1 : "", hash);
    struct command_enrol payload = {.agent = !strcmp(body->role, "agent"), .name = body->name, .token_id = id, .token_hash = hash};
    if (core_check_enrol(c->core, &payload, time_now_ms(), err))
        return -1;
    struct enrolment *e = NEW(struct enrolment);
    e->r = r;
    command_encode_payload(COMMAND_ENROL, time_now_ms(), NULL, NULL, &payload, &command);
    control_propose(c, &e->proposal, command.data, command.len, on_enrolled);
    return 0;
}

void api_certificate(struct control *c, struct request *r)
{
    const struct certificate_request *body = r->body;
    if (!c->credentials) {
        control_refuse(r, ERROR_UNSUPPORTED, "this cluster gives no certificates: its servers have files of their operator's (tls_cert)");
    } else if (body->token && enrol(c, r, &r->answer.error)) {
        refuse(r);
    } else if (!body->token) {
        give(c, r);
    }
}

/* --- the authorities --- */

API_READ(api_authorities)
{
    const struct authority_list *all = &core_access(c->core)->authorities;
    struct authorities_view v = {.authorities = *all};           /* borrowed */
    CLEANUP_BUF struct buf pem = {0};
    char mark[CERTIFICATE_MARK_SIZE];
    const struct authority *signs = issue_signing(all);
    core_certificate_mark(c->core, mark);
    v.mark = mark;
    v.hash = signs ? signs->id : NULL;
    issue_bundle(all, &pem);
    v.certificates = pem.data;
    v.cluster_key = core_secrets(c->core)->cluster_key;
    authority_behind(c, &v.behind);
    v.revoked = core_access(c->core)->revoked;                   /* borrowed */
    type_to_json(&authorities_view_type, &v, &r->answer.body);
    str_list_clear(&v.behind);
    return 0;
}

/* The CA's certificates are no secret; who is in the cluster is for those who may read. */
API_READ(api_authority_bundle)
{
    const struct authority_list *all = &core_access(c->core)->authorities;
    CLEANUP_BUF struct buf pem = {0};
    issue_bundle(all, &pem);
    struct authority_bundle b = {.certificates = pem.data};
    char mark[CERTIFICATE_MARK_SIZE];
    core_certificate_mark(c->core, mark);
    if (c->credentials && c->credentials->mark && !strcmp(c->credentials->mark, mark))
        b.hash = (char *)(uintptr_t)authority_hash(c);
    type_to_json(&authority_bundle_type, &b, &r->answer.body);
    return 0;
}

static int check_change(const struct control *c, struct error *err)
{
    const struct authority_list *all = &core_access(c->core)->authorities;
    if (!c->credentials || !issue_signing(all))
        return error_set(err, ERROR_UNSUPPORTED, "this cluster has no authority of its own: its servers have certificates of their "
                         "operator's (tls_cert), or none");
    if (!vault_ready(c))
        return error_set(err, ERROR_UNAVAILABLE, "this server has not the cluster's key yet");
    for (uint32_t i = 0; i < all->n; i++)
        if (all->v[i].state == AUTHORITY_COMING || (all->v[i].state == AUTHORITY_LEAVING && all->v[i].sealed_key))
            return error_set(err, ERROR_CONFLICT, "authority %.12s is still %s; wait until that is over (mt ca status)", all->v[i].id,
                             authority_state_names[all->v[i].state]);
    return 0;
}

static int come(struct request *r, struct authority *fresh)
{
    fresh->state = AUTHORITY_COMING;
    struct command_authority_set payload = {.authority = *fresh};
    request_command(r, COMMAND_AUTHORITY_SET, &payload);
    type_clear(&authority_type, fresh);
    return 0;
}

/* The private key of the one that signs, NULL with err. */
static char *open_signing(struct control *c, const struct authority **signing, struct error *err)
{
    if (check_change(c, err))
        return NULL;
    *signing = issue_signing(&core_access(c->core)->authorities);
    return issue_open_key(*signing, vault_ring(c), err);
}

API_READ(api_authority_rotate)
{
    const struct authority *old;
    CLEANUP(certificate_key_free) char *old_key = open_signing(c, &old, err);
    struct authority fresh = {0};
    if (old_key && !issue_authority(time_now_ms(), vault_ring(c), old->certificate, old_key, &fresh, err))
        return come(r, &fresh);
    type_clear(&authority_type, &fresh);
    return -1;
}

API_READ(api_authority_import)
{
    const struct authority_import *body = r->body;
    const struct authority *old;
    CLEANUP(certificate_key_free) char *old_key = open_signing(c, &old, err);
    struct import_order order = {.certificate = body->certificate, .key = body->key, .now_ms = time_now_ms()};
    struct authority fresh = {0};
    if (old_key && !issue_import(&order, vault_ring(c), old->certificate, old_key, &fresh, err))
        return come(r, &fresh);
    type_clear(&authority_type, &fresh);
    return -1;
}
