#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "join/token.h"
#include "net/http_client.h"
#include "server/api.h"
#include "server/authority.h"
#include "server/cluster.h"
#include "server/formation.h"
#include "server/http_thread.h"
#include "server/secret.h"

#define REPORT_MS 1500          /* how long a server may take to say how it stands */

API_READ(api_cluster)
{
    struct server_status s;
    struct status_texts texts;
    cluster_status(c, &s, &texts);
    type_to_json(&server_status_type, &s, &r->answer.body);
    list_clear((struct list *)&s.servers, &server_view_type);
    return 0;
}

/* --- GET /v1/cluster/servers: each server is asked how it stands, side by side, on the HTTP thread --- */

struct gather {
    struct request *r;
    json_t *status;             /* of this server */
    json_t *items;
    size_t waiting;
};

struct gather_part {
    struct gather *gather;
    json_t *item;               /* borrowed from items */
};

static void gather_end(struct gather *g)
{
    struct request *r = g->r;
    json_t *page = json_pack("{s:O,s:s,s:I}", "items", g->items, "next_cursor", "", "index", (json_int_t)r->answer.index);
    char *text = json_dumps(page, JSON_COMPACT);
    buf_clear(&r->answer.body);
    buf_add_string(&r->answer.body, text);
    free(text);
    json_decref(page);
    json_decref(g->items);
    json_decref(g->status);
    free(g);
    request_finish(r);
}

static void on_report(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct gather_part *part = arg;
    struct gather *g = part->gather;
    json_t *status = !err && res->status == 200 ? json_loadb(res->body.data ? res->body.data : "", res->body.len, 0, NULL) : NULL;
    json_object_set_new(part->item, "reached", json_boolean(status != NULL));
    if (status) {
        json_object_del(status, "servers");
        json_object_set_new(part->item, "status", status);
    } else {
        CLEANUP_FREE char *other = err ? NULL : mem_printf("it answers with status %d", res->status);
        json_object_set_new(part->item, "problem", json_string(err ? err->text : other));
    }
    free(part);
    if (--g->waiting == 0)
        gather_end(g);
}

static void ask_one(struct gather *g, json_t *view)
{
    json_t *item = json_pack("{s:O}", "server", view);
    const char *address = json_string_value(json_object_get(view, "address"));
    json_array_append_new(g->items, item);
    if (json_is_true(json_object_get(view, "self"))) {
        json_object_set_new(item, "reached", json_true());
        json_object_set(item, "status", g->status);
        return;
    }
    if (!address) {
        json_object_set_new(item, "reached", json_false());
        json_object_set_new(item, "problem", json_string("it did not say yet where its API is"));
        return;
    }
    struct gather_part *part = NEW(struct gather_part);
    *part = (struct gather_part){g, item};
    CLEANUP_FREE char *target = mem_printf("%s://%s", http_thread_has_tls(g->r->thread) ? "https" : "http", address);
    const char *authorization = http_request_header(g->r->http, "Authorization");
    struct http_header header = {"Authorization", authorization};
    g->waiting++;
    http_call_start(http_thread_servers(g->r->thread), &(struct http_call_options){
        .method = HTTP_METHOD_GET, .target = target, .path = "/v1/cluster", .headers = &header,
        .header_count = authorization ? 1 : 0, .response_timeout_ms = REPORT_MS, .idle_timeout_ms = REPORT_MS,
        .on_done = on_report, .arg = part,
    });
}

void api_servers_respond(struct request *r)
{
    if (r->answer.error.code != ERROR_NONE || atomic_load(&r->gone)) {
        request_finish(r);
        return;
    }
    struct gather *g = NEW(struct gather);
    *g = (struct gather){.r = r, .items = json_array(), .waiting = 1};
    g->status = json_loadb(r->answer.body.data, r->answer.body.len, 0, NULL);
    INVARIANT(g->status);
    json_t *servers = json_incref(json_object_get(g->status, "servers")), *view;
    size_t i;
    json_object_del(g->status, "servers");
    json_array_foreach(servers, i, view)
        ask_one(g, view);
    json_decref(servers);
    if (--g->waiting == 0)
        gather_end(g);
}

/* --- changes, at the leader --- */

static void on_removed(void *ctx, const struct error *err)
{
    struct request *r = ctx;
    if (err)
        r->answer.error = *err;
    control_answer(r);
}

void api_server_remove(struct control *c, struct request *r)
{
    uint64_t id = cluster_find(c, r->params[0], &r->answer.error);
    if (!id)
        control_answer(r);
    else
        cluster_remove(c, id, "removed by an operator", on_removed, r);
}

static void on_transferred(void *ctx, void *request, const struct error *err)
{
    struct request *r = request;
    if (err)
        r->answer.error = *err;
    control_answer(r);
}

void api_cluster_transfer(struct control *c, struct request *r)
{
    const struct transfer_request *body = r->body;
    uint64_t id = body->to ? cluster_find(c, body->to, &r->answer.error) : 0;
    if (body->to && !id)
        control_answer(r);
    else
        consensus_transfer(c->consensus, id, on_transferred, r);
}

API_READ(api_join_token)
{
    const struct token_request *body = r->body;
    struct join_token_text t;
    char secret[SECRET_SIZE], hash[SECRET_HASH_SIZE];
    if (!body->agents && body->uses > 1)
        return error_set(err, ERROR_INVALID, "uses: a token for servers lets one in");
    if (!body->agents && body->ingress)
        return error_set(err, ERROR_INVALID, "ingress: is of tokens for agents");
    secret_new(secret);
    secret_hash(secret, hash);
    t = (struct join_token_text){.id = id_new(), .secret = mem_strdup(secret), .ca_hash = mem_strdup(authority_hash(c))};
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id)
        str_list_add(&t.addresses, m->address);
    struct command_join_token payload = {
        .token = {.id = t.id, .secret_hash = hash, .expires_at = time_now_ms() + body->ttl_ms, .agents = body->agents,
                  .uses = body->uses > 1 ? body->uses : 0, .ingress = body->ingress}};
    r->command_level = body->ingress ? INGRESS_RIGHT_LEVEL : 0;
    /* Older servers would take one of an agent for one of a server. */
    request_command(r, body->agents ? COMMAND_AGENT_TOKEN : COMMAND_JOIN_TOKEN, &payload);
    free(r->secret);
    r->secret = join_token_format(&t);
    join_token_clear(&t);
    return 0;
}

void api_join_token_made(struct control *c, struct request *r)
{
    const struct token_request *body = r->body;
    struct token_result result = {.token = r->secret, .expires_at = time_now_ms() + body->ttl_ms};
    buf_clear(&r->answer.body);
    type_to_json(&token_result_type, &result, &r->answer.body);
}

/* --- of this server alone --- */

static void answer_status(struct control *c, struct request *r)
{
    if (r->answer.error.code == ERROR_NONE)
        api_cluster(c, r, &r->answer.error);
    control_answer(r);
}

void api_cluster_init(struct control *c, struct request *r)
{
    formation_init(c, &r->answer.error);
    answer_status(c, r);
}

void api_cluster_join(struct control *c, struct request *r)
{
    const struct enter_request *body = r->body;
    formation_join(c, body->token, &r->answer.error);
    answer_status(c, r);
}
