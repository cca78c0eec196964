#include "server/knock.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "net/http_client.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/cluster.h"
#include "server/formation.h"
#include "server/peers.h"

#define LOOK_MS 1000
#define ANSWER_MS 2500
#define MEMBERS_MOST 64

struct knock {
    struct control *c;
    uv_timer_t timer;
    bool asking;
    uint32_t next;                  /* whom to ask */
    char *removed;
};

/* --- the one that asks --- */

static void on_answer(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct knock *k = ctx;
    struct error why;
    k->asking = false;
    k->next++;
    if (status == 200)
        free(steal(&k->removed));
    bool revoked = err ? tls_error_is_revoked(err) : status == 403;      /* servers may ask this */
    if ((status != 404 && !revoked) || k->c->stopping || control_in_contact(k->c))
        return;
    if (revoked)
        error_set(&why, ERROR_DENIED, "another server says that this one was removed, and its certificate with it");
    else
        http_refusal(status, body, &why);
    CLEANUP_FREE char *text = mem_printf("%s; to come back it joins anew: mt cluster join --token, at this server, or an empty "
                                         "data_dir", why.text);
    if (k->removed && !strcmp(k->removed, text))
        return;
    LOG_W("this server is not a member of its cluster any more", "reason", text);
    mem_set_string(&k->removed, text);
}

/* Servers that the state knows, and those of the configuration; this one left out. */
static void collect(const struct control *c, struct str_list *out)
{
    const char *after = NULL;
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id)
        if (strcmp(m->address, c->addresses->api))
            str_list_add(out, m->address);
    for (uint32_t i = 0; i < c->config->servers.n; i++)
        if (strcmp(c->config->servers.v[i], c->addresses->api))
            str_list_add(out, c->config->servers.v[i]);
}

static void on_timer(uv_timer_t *timer)
{
    struct knock *k = timer->data;
    struct control *c = k->c;
    if (!c->consensus || c->stopping || k->asking || formation_is_joining(c))
        return;
    if (control_in_contact(c)) {
        free(steal(&k->removed));
        return;
    }
    struct consensus_stats stats;
    struct str_list servers = {0};
    control_stats(c, &stats);
    collect(c, &servers);
    if (servers.n) {
        CLEANUP_FREE char *path = mem_printf("/v1/cluster/servers/%" PRIu64 "?name=%s&cluster=%" PRIu64, stats.server_id,
                                             c->config->name, stats.cluster_id);
        k->asking = true;
        peer_call(c, HTTP_METHOD_GET, servers.v[k->next % servers.n], path, NULL, ANSWER_MS, on_answer, k);
    }
    str_list_clear(&servers);
}

const char *knock_removed(const struct control *c)
{
    return c->knock ? c->knock->removed : NULL;
}

void knock_start(struct control *c)
{
    struct knock *k = NEW(struct knock);
    k->c = c;
    c->knock = k;
    uv_timer_init(c->loop, &k->timer);
    k->timer.data = k;
    uv_timer_start(&k->timer, on_timer, LOOK_MS, LOOK_MS);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct knock *k = handle->data;
    free(k->removed);
    free(k);
}

void knock_stop(struct control *c)
{
    if (c->knock)
        uv_close((uv_handle_t *)&steal(&c->knock)->timer, on_timer_closed);
}

/* --- the leader that is asked: GET /v1/cluster/servers/{server} --- */

static int removed(const struct control *c, const char *id, const char *name, struct error *err)
{
    const struct event *e = name ? core_last_event(c->core, "server", name, "removed") : NULL;
    char time[TIME_TEXT_SIZE];
    if (!e)
        return error_set(err, ERROR_NOT_FOUND, "there is no server %.64s in this cluster", id);
    time_format(time, e->time);
    return error_set(err, ERROR_NOT_FOUND, "there is no server %.64s in this cluster; %s was removed at %s: %s", id, name, time,
                     e->reason);
}

API_READ(api_server)
{
    const char *cluster = request_query(r, "cluster");
    char own[24];
    struct consensus_stats stats;
    struct error unknown;
    control_stats(c, &stats);
    snprintf(own, sizeof own, "%" PRIu64, stats.cluster_id);
    if (cluster && strcmp(cluster, own))
        return error_set(err, ERROR_CONFLICT, "this is cluster %s, not %.64s", own, cluster);
    uint64_t id = cluster_find(c, r->params[0], &unknown);
    struct server_view_list views = {0};
    cluster_view(c, &views);
    const struct server_view *found = NULL;
    for (uint32_t i = 0; id && i < views.n; i++)
        if (strtoull(views.v[i].id, NULL, 10) == id)
            found = &views.v[i];
    if (found)
        type_to_json(&server_view_type, found, &r->answer.body);
    list_clear((struct list *)&views, &server_view_type);
    return found ? 0 : removed(c, r->params[0], request_query(r, "name"), err);
}
