/* POST /v1/cluster/servers at the leader: a server joins, or says what changed. In this order, each step durable and safe
 * to repeat: who may not come in is refused; a dead server that had the same address goes, and so does what a server whose
 * directory is empty was before (it may have forgotten a vote); the state learns of the new one, which uses up its token;
 * the log's membership takes it, first without a vote. Whoever repeats the request gets the same answer.
 *
 * Who may come in: with TLS, whose certificate is that server's; else a member, the bearer of a token, and a server that
 * answers at one of the addresses that the leader's configuration lists. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "join/token.h"
#include "net/tls.h"
#include "server/api.h"
#include "server/cluster.h"
#include "server/http_thread.h"
#include "server/peers.h"
#include "server/secret.h"

#define ASK_MS 2000
#define ALIVE_MS 3000               /* who was heard of within this time lives */
#define MEMBERS_MOST 64

struct join {
    struct proposal proposal;
    struct control *c;
    struct request *r;
    uint64_t id;
    unsigned asked;             /* addresses of the configuration that have not answered yet */
    bool listed;                /* it answers at one of them */
};

/* What the log's membership has of the server that asks. */
static bool find_member(const struct join *j, struct consensus_member *out)
{
    struct consensus_member members[MEMBERS_MOST];
    size_t n = consensus_members(j->c->consensus, members, MEMBERS_MOST);
    for (size_t i = 0; i < n && i < MEMBERS_MOST; i++)
        if (members[i].id == j->id) {
            *out = members[i];
            return true;
        }
    return false;
}

static void end(struct join *j, const struct error *err)
{
    struct request *r = j->r;
    char cluster[24];
    struct consensus_stats stats;
    if (err) {
        r->answer.error = *err;
    } else {
        control_stats(j->c, &stats);
        snprintf(cluster, sizeof cluster, "%" PRIu64, stats.cluster_id);
        struct join_result result = {.cluster_id = cluster};
        struct consensus_member m;
        if (find_member(j, &m))
            result.membership = (char *)(uintptr_t)consensus_membership_name(m.membership);
        r->answer.index = core_index(j->c->core);
        type_to_json(&join_result_type, &result, &r->answer.body);
    }
    core_result_clear(&j->proposal.result);
    free(j);
    control_answer(r);
}

static void on_added(void *ctx, void *request, const struct error *err)
{
    struct join *j = request;
    end(j, err && err->code != ERROR_EXISTS ? err : NULL);
}

static void on_known(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct join *j = container_of(p, struct join, proposal);
    const struct join_request *body = j->r->body;
    struct error err;
    if (proposal_error(c, p, outcome, &err)) {
        /* It may be repeated: what was done once stays as it is. */
        if (err.code == ERROR_UNKNOWN_OUTCOME)
            err.code = ERROR_UNAVAILABLE;
        end(j, &err);
        return;
    }
    consensus_add(c->consensus, j->id, body->raft_address, on_added, j);
}

static void let_in(struct join *j)
{
    const struct join_request *body = j->r->body;
    struct command_member_set payload = {.member = {
        .id = body->id, .name = body->name, .address = body->address, .raft_address = body->raft_address,
        .version = body->version, .level = body->level, .certificate = body->certificate}};
    struct join_token_text token = {0};
    char hash[SECRET_HASH_SIZE], cluster[24];
    struct error err;
    struct consensus_stats stats;
    control_stats(j->c, &stats);
    snprintf(cluster, sizeof cluster, "%" PRIu64, stats.cluster_id);
    payload.cluster = cluster;
    CLEANUP_BUF struct buf command = {0};
    if (body->token) {
        if (join_token_parse(body->token, &token, &err)) {
            end(j, &err);
            return;
        }
        secret_hash(token.secret, hash);
        payload.token_id = token.id;
        payload.token_hash = hash;
    }
    command_encode_payload(COMMAND_MEMBER_SET, time_now_ms(), NULL, j->r->who.name, &payload, &command);
    join_token_clear(&token);
    control_propose(j->c, &j->proposal, command.data, command.len, on_known);
}

/* Who has to go for it: a dead server at its address, itself before it lost its directory, or one of its name or address
 * that is not in the membership (any more). -1 with err: a living server has that address. *old 0: nobody. */
static int find_replaced(struct control *c, const struct join_request *body, uint64_t id, uint64_t *old, struct error *err)
{
    struct consensus_member members[MEMBERS_MOST];
    size_t n = consensus_members(c->consensus, members, MEMBERS_MOST);
    n = n < MEMBERS_MOST ? n : MEMBERS_MOST;
    *old = 0;
    for (size_t i = 0; i < n; i++) {
        const struct consensus_member *m = &members[i];
        bool begins = m->id == id && !body->cluster_id;
        if (!begins && (m->id == id || strcmp(m->address, body->raft_address)))
            continue;
        bool alive = m->self || (m->connected && m->contact_ms >= 0 && m->contact_ms < ALIVE_MS);
        if (begins && alive)
            return error_set(err, ERROR_CONFLICT, "the server with id %" PRIu64 " is a member and answers at %s, and server %s "
                             "has an empty data_dir; give it another server_id", m->id, m->address, body->name);
        if (alive)
            return error_set(err, ERROR_CONFLICT, "another server (id %" PRIu64 ") answers at %s; give server %s another "
                             "raft_port or raft_advertise", m->id, m->address, body->name);
        *old = m->id;
    }
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id) {
        uint64_t other = strtoull(m->id, NULL, 10);
        bool in = other == id;
        for (size_t i = 0; i < n; i++)
            in |= members[i].id == other;
        if (!in && (!strcmp(m->name, body->name) || !strcmp(m->raft_address, body->raft_address)))
            *old = other;
    }
    return 0;
}

static void make_room(struct join *j);

static void on_replaced(void *ctx, const struct error *err)
{
    struct join *j = ctx;
    if (err)
        end(j, err);
    else
        make_room(j);
}

static void make_room(struct join *j)
{
    const struct join_request *body = j->r->body;
    struct error err;
    uint64_t old;
    if (find_replaced(j->c, body, j->id, &old, &err)) {
        end(j, &err);
    } else if (old) {
        CLEANUP_FREE char *reason = old == j->id ? mem_strdup("it begins anew with an empty directory")
                                                 : mem_printf("server %s replaces it", body->name);
        cluster_remove(j->c, old, reason, on_replaced, j);
    } else {
        let_in(j);
    }
}

/* --- may it? --- */

static void on_listed(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct join *j = ctx;
    const struct join_request *asks = j->r->body;
    struct server_status s;
    struct problem_list problems = {0};
    struct error why;
    if (status == 200 && !type_from_json(&server_status_type, body->data, body->len, true, &s, &problems)) {
        j->listed |= s.id && !strcmp(s.id, asks->id);
        type_clear(&server_status_type, &s);
    }
    problem_list_clear(&problems);
    if (--j->asked)
        return;
    if (j->listed) {
        make_room(j);
        return;
    }
    error_set(&why, ERROR_DENIED, "server %s has no join token and answers at none of the addresses under `servers` in the "
              "configuration of this cluster's leader; make a token with `mt cluster token`", asks->name);
    end(j, &why);
}

static void ask_listed(struct join *j)
{
    const struct str_list *servers = &j->c->config->servers;
    j->asked = servers->n + 1;
    for (uint32_t i = 0; i < servers->n; i++)
        peer_call(j->c, HTTP_METHOD_GET, servers->v[i], "/v1/cluster", NULL, ASK_MS, on_listed, j);
    on_listed(j, 0, NULL, NULL);
}

/* It would stop at the first command that it does not know. */
static int check_level(const struct join *j, struct error *err)
{
    const struct join_request *body = j->r->body;
    int64_t level = core_level(j->c->core);
    if (body->level >= level)
        return 0;
    return error_set(err, ERROR_UNSUPPORTED, "server %s runs release %s, which is older than the servers of this cluster and does "
                     "not know all that it may hold; give it release %s", body->name, body->version ? body->version : "?",
                     command_release);
}

static int check_token(const struct join *j, struct error *err)
{
    const struct join_request *body = j->r->body;
    struct join_token_text token;
    char hash[SECRET_HASH_SIZE];
    if (join_token_parse(body->token, &token, err))
        return -1;
    secret_hash(token.secret, hash);
    int rc = core_check_join_token(j->c->core, token.id, hash, body->id, time_now_ms(), err);
    join_token_clear(&token);
    return rc;
}

static void admit(struct join *j)
{
    const struct join_request *body = j->r->body;
    struct consensus_member m;
    struct error err;
    if ((!body->cluster_id && check_level(j, &err)) || (body->token && check_token(j, &err)))
        end(j, &err);
    else if (body->token || j->c->tls || (body->cluster_id && find_member(j, &m)))
        make_room(j);
    else
        ask_listed(j);
}

/* A server that hands the request on has looked itself. */
int api_server_join_prepare(struct request *r, struct error *err)
{
    const struct join_request *body = r->body;
    char own[TLS_NAME_SIZE];
    CLEANUP_FREE char *name = mem_printf("DNS:%s.server.mentat", body->id);
    if (!http_thread_has_tls(r->thread) || tls_peer_has_name(r->http->tls, name) || (r->forwarded && tls_peer_role(r->http->tls, "server", own)))
        return 0;
    return error_set(err, ERROR_DENIED, "the certificate is not that of server %s: it lacks the name %s", body->id, name);
}

void api_server_join(struct control *c, struct request *r)
{
    const struct join_request *body = r->body;
    char own[24];
    struct consensus_stats stats;
    struct error err;
    control_stats(c, &stats);
    snprintf(own, sizeof own, "%" PRIu64, stats.cluster_id);
    struct join *j = NEW(struct join);
    *j = (struct join){.c = c, .r = r, .id = strtoull(body->id, NULL, 10)};
    if (body->cluster_id && strcmp(body->cluster_id, own)) {
        error_set(&err, ERROR_CONFLICT, "server %s is of cluster %s, this is cluster %s; start it with an empty data_dir to "
                  "let it join", body->name, body->cluster_id, own);
        end(j, &err);
    } else if (!j->id) {
        error_set(&err, ERROR_INVALID, "id: \"%.64s\" is not a number", body->id);
        end(j, &err);
    } else {
        admit(j);
    }
}
