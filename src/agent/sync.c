/* Happy path: register → welcome → heartbeats by timer, one waiting GET for work after the other, reports when there
 * are any. The channels (register or heartbeat, work, report, two of ingress nodes, and one of nodes with microVMs) share one current server: a failure of any moves all
 * to the next, and each channel pauses by its own count of failures. When the server cannot be reached (rather than
 * answers that it cannot serve now) requests that wait there are given up at once. Away from the first server of the list
 * a heartbeat goes there now and then, and when it is answered all go back. A 404 means that the servers do not know this
 * node (state lost, or removed): register again and ask for everything. */
#include "agent/sync.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "agent/server_list.h"
#include "net/http_client.h"

#define SYNC_WAIT_SECONDS 60
#define SYNC_ANSWER_MS 10000
#define SYNC_FIRST_DELAY_MS 250
#define SYNC_MAX_DELAY_MS 15000
#define SYNC_QUIET_MS 500            /* least time between two unchanged answers */
#define SYNC_REPORT_LIMIT 500
#define SYNC_DEFAULT_HEARTBEAT_MS 5000
#define SYNC_BEAT_ANSWER_MS 2000
#define SYNC_CONNECT_MS 2000
#define SYNC_HOME_AFTER_MS 30000

enum channel_kind {
    CHANNEL_SESSION, CHANNEL_WORK, CHANNEL_REPORT, CHANNEL_INGRESS, CHANNEL_INGRESS_REPORT, CHANNEL_CERTIFICATE, CHANNEL_NETWORK, CHANNEL_COUNT
};

struct channel {
    struct sync *sync;
    enum channel_kind kind;
    struct http_call *call;
    uv_timer_t timer;                /* the next try, or the next heartbeat */
    unsigned failures;               /* in a row */
    char *server;                    /* that the call went to */
    int64_t sent_at;
};

struct sync {
    uv_loop_t *loop;
    struct http_client *client;
    char *node_id;
    struct server_list servers;
    char *cluster;
    uint32_t server;                 /* in servers.all */
    int64_t home_at;                 /* away from the first: when that is tried again */
    bool trying_home;                /* the heartbeat under way does */
    const struct sync_handlers *handlers;
    void *ctx;
    struct random random;
    int64_t first_delay_ms, answer_ms, home_after_ms;
    struct channel channels[CHANNEL_COUNT];
    uv_prepare_t prepare;            /* sends reports at the end of the turn */
    bool registered, registering, facts_changed, reports_due, full_next;
    bool facts_owed;                 /* no server took them: once more, after a heartbeat */
    int64_t heartbeat_ms;
    uint64_t index, floor;           /* floor: full work older than this comes from a server that lags */
    uint64_t asked_floor;            /* the floor when the registration was sent */
    uint64_t welcome_index;          /* of the answer to it: the leader's, once it had applied it */
    struct agent_report flying;      /* the report that is on its way */
    struct table { uint64_t index; bool known; } ingress, network;       /* that were taken over */
    char *network_words;             /* the servers' configuration of it; NULL: they do not know of it */
    uint64_t ingress_news, ingress_sent, ingress_told;   /* count up: news for the servers, and how far they have it */
    int closing;
};

static void session_start(struct channel *c);
static void work_start(struct channel *c);
static void report_start(struct channel *c);
static void session_done(struct channel *c, struct http_response *res);
static void work_done(struct channel *c, struct http_response *res);
static void report_done(struct channel *c, struct http_response *res);
static void ingress_start(struct channel *c);
static void ingress_done(struct channel *c, struct http_response *res);
static void ingress_report_start(struct channel *c);
static void ingress_report_done(struct channel *c, struct http_response *res);
static void network_start(struct channel *c);
static void network_done(struct channel *c, struct http_response *res);
static void certificate_start(struct channel *c);
static void certificate_done(struct channel *c, struct http_response *res);

static const struct channel_row {
    const char *name;
    void (*start)(struct channel *c);
    void (*done)(struct channel *c, struct http_response *res);      /* status 200 to 299 */
} channel_rows[CHANNEL_COUNT] = {
    [CHANNEL_SESSION] = {"session", session_start, session_done},
    [CHANNEL_WORK] = {"work", work_start, work_done},
    [CHANNEL_REPORT] = {"report", report_start, report_done},
    [CHANNEL_INGRESS] = {"ingress", ingress_start, ingress_done},
    [CHANNEL_INGRESS_REPORT] = {"ingress-report", ingress_report_start, ingress_report_done},
    [CHANNEL_NETWORK] = {"network", network_start, network_done},
    [CHANNEL_CERTIFICATE] = {"certificate", certificate_start, certificate_done},
};

/* --- calls --- */

static void on_timer(uv_timer_t *t)
{
    struct channel *c = t->data;
    if (!c->call)
        channel_rows[c->kind].start(c);
}

static void try_in(struct channel *c, int64_t delay_ms)
{
    uv_timer_start(&c->timer, on_timer, (uint64_t)delay_ms, 0);
}

static const char *current(const struct sync *s)
{
    return s->servers.all.v[s->server];
}

/* The first pass over the servers is quick; then pauses double, half of each by chance so that agents spread out. */
static void try_again(struct channel *c)
{
    struct sync *s = c->sync;
    unsigned pass = c->failures / s->servers.all.n;
    int64_t delay = s->first_delay_ms;
    for (unsigned i = 0; i < pass && delay < SYNC_MAX_DELAY_MS; i++)
        delay *= 2;
    if (delay > SYNC_MAX_DELAY_MS)
        delay = SYNC_MAX_DELAY_MS;
    c->failures++;
    try_in(c, delay / 2 + (int64_t)random_below(&s->random, (uint64_t)delay / 2 + 1));
}

static void home_later(struct sync *s)
{
    int64_t half = s->home_after_ms / 2;
    s->home_at = time_monotonic_ms() + half + (int64_t)random_below(&s->random, (uint64_t)half * 2 + 1);
}

/* Requests that wait at another server than the current one, which will not answer them, are sent again. */
static void leave_others(struct sync *s)
{
    for (int i = 0; i < CHANNEL_COUNT; i++) {
        struct channel *c = &s->channels[i];
        if (i == CHANNEL_SESSION || !c->call || !strcmp(c->server, current(s)))
            continue;
        http_call_cancel(steal(&c->call));
        try_in(c, 0);
    }
}

static void next_server(struct sync *s, const char *failed, bool unreachable)
{
    if (!strcmp(current(s), failed)) {
        s->server = (s->server + 1) % s->servers.all.n;
        home_later(s);
    }
    if (unreachable)
        leave_others(s);
}

static void log_failure(struct channel *c, const char *text)
{
    /* Once when it begins, and then now and then. */
    if (c->failures == 0 || c->failures % 32 == 31)
        LOG_W("a server cannot be used", "server", c->server, "channel", channel_rows[c->kind].name, "error", text,
              "failures", LOG_U64(c->failures + 1));
}

static void register_again(struct sync *s)
{
    s->registered = false;
    s->full_next = true;
    struct channel *c = &s->channels[CHANNEL_SESSION];
    if (!c->call)
        try_in(c, c->failures ? s->first_delay_ms : 0);
}

static void go_home(struct sync *s)
{
    LOG_I("back at the first server", "server", s->servers.all.v[0]);
    s->server = 0;
    leave_others(s);
}

static void on_call_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct channel *c = arg;
    struct sync *s = c->sync;
    c->call = NULL;
    bool was_registering = s->registering, tried_home = c->kind == CHANNEL_SESSION && s->trying_home;
    if (c->kind == CHANNEL_SESSION) {
        s->registering = s->trying_home = false;
        s->facts_owed |= was_registering;
    }
    if (tried_home && (err || res->status >= 500)) {
        home_later(s);
        session_start(c);
        return;
    }
    if (err) {
        log_failure(c, err->text);
        if (tls_error_is_revoked(err) && s->handlers->certificate_revoked)
            s->handlers->certificate_revoked(s->ctx);
        next_server(s, c->server, true);
        try_again(c);
        return;
    }
    if (res->status >= 200 && res->status < 300) {
        s->registering = was_registering;
        if (tried_home)
            go_home(s);
        channel_rows[c->kind].done(c, res);
        return;
    }
    if (res->status == 404 && !was_registering) {
        LOG_W("the servers do not know this node: it registers again", "server", c->server);
        register_again(s);
        if (c->kind != CHANNEL_SESSION)
            try_again(c);
        return;
    }
    CLEANUP_FREE char *text = mem_printf("status %d: %.300s", res->status, res->body.data ? res->body.data : "");
    log_failure(c, text);
    if (res->status >= 500)
        next_server(s, c->server, false);
    try_again(c);
}

static void call_at(struct channel *c, const char *server, enum http_method method, const char *path, const struct buf *body,
                 int64_t answer_ms)
{
    struct sync *s = c->sync;
    uv_timer_stop(&c->timer);
    mem_set_string(&c->server, server);
    c->sent_at = time_monotonic_ms();
    static const struct http_header json = {"Content-Type", "application/json"};
    c->call = http_call_start(s->client, &(struct http_call_options){
        .method = method,
        .target = c->server,
        .path = path,
        .headers = &json,
        .header_count = body ? 1 : 0,
        .body = body ? body->data : NULL,
        .body_len = body ? body->len : 0,
        .response_timeout_ms = answer_ms,
        .idle_timeout_ms = SYNC_ANSWER_MS,
        .on_done = on_call_done,
        .arg = c,
    });
}

static void call(struct channel *c, enum http_method method, const char *path, const struct buf *body,
                 int64_t answer_ms)
{
    call_at(c, current(c->sync), method, path, body, answer_ms);
}

static bool parse(struct channel *c, const struct type *t, struct http_response *res, void *object)
{
    struct problem_list problems = {0};
    if (!type_from_json(t, res->body.data ? res->body.data : "", res->body.len, true, object, &problems))
        return true;
    CLEANUP_BUF struct buf text = {0};
    problem_list_format(&problems, NULL, &text);
    problem_list_clear(&problems);
    LOG_E("a server's answer cannot be read", "server", c->server, "channel", channel_rows[c->kind].name, "error",
          text.data ? text.data : "");
    next_server(c->sync, c->server, false);
    try_again(c);
    return false;
}

/* --- registration and heartbeats --- */

static void session_start(struct channel *c)
{
    struct sync *s = c->sync;
    CLEANUP_BUF struct buf body = {0};
    if (s->registered && !s->facts_changed) {
        struct agent_heartbeat beat = {.node_id = s->node_id};
        type_to_json(&agent_heartbeat_type, &beat, &body);
        s->trying_home = s->server && time_monotonic_ms() >= s->home_at;
        call_at(c, s->trying_home ? s->servers.all.v[0] : current(s), HTTP_METHOD_POST, "/v1/agent/heartbeat", &body,
                s->servers.all.n > 1 ? s->answer_ms : SYNC_ANSWER_MS);
        return;
    }
    s->registering = true;
    s->facts_changed = s->facts_owed = false;
    s->asked_floor = s->floor;
    struct agent_hello hello;
    type_init(&agent_hello_type, &hello);
    s->handlers->hello(s->ctx, &hello);
    mem_set_string(&hello.node.id, s->node_id);
    mem_set_string(&hello.cluster, s->cluster);
    type_to_json(&agent_hello_type, &hello, &body);
    type_clear(&agent_hello_type, &hello);
    call(c, HTTP_METHOD_POST, "/v1/agent/register", &body, SYNC_ANSWER_MS);
}

/* Only a node without tasks, or one that was told to, is let into another cluster. */
static void enter_cluster(struct sync *s, const char *cluster)
{
    if (!cluster || (s->cluster && !strcmp(s->cluster, cluster)))
        return;
    if (s->cluster) {
        LOG_W("the servers are another cluster's: their word counts from now on", "cluster", cluster);
        s->floor = s->asked_floor = 0;
        s->full_next = true;
    }
    mem_set_string(&s->cluster, cluster);
    if (s->handlers->cluster)
        s->handlers->cluster(s->ctx, cluster);
}

/* The server that is talked to stays the current one while it is in the list. */
static void learn(struct sync *s, const struct str_list *addresses)
{
    CLEANUP_FREE char *was = mem_strdup(current(s));
    if (!server_list_learn(&s->servers, addresses))
        return;
    int at = server_list_find(&s->servers, was);
    s->server = at < 0 ? 0 : (uint32_t)at;
    if (s->server)
        home_later(s);
    if (s->handlers->servers)
        s->handlers->servers(s->ctx, addresses);
}

/* What waits for the next piece of work goes on, unless everything is wanted. */
static void ask_work(struct sync *s)
{
    struct channel *work = &s->channels[CHANNEL_WORK];
    if (work->call && s->full_next) {
        http_call_cancel(work->call);
        work->call = NULL;
    }
    if (!work->call)
        work_start(work);
}

static void session_welcome(struct channel *c, const struct agent_welcome *welcome)
{
    struct sync *s = c->sync;
    if (!s->registered)
        LOG_I("registered", "server", c->server, "node", s->node_id);
    s->registered = true;
    s->facts_owed = false;
    s->heartbeat_ms = welcome->heartbeat_ms > 0 ? welcome->heartbeat_ms : SYNC_DEFAULT_HEARTBEAT_MS;
    /* The answer is the leader's, of after it applied this registration: it is past all that was seen before it was
     * sent (work may have brought more meanwhile), unless the servers lost their state. Only then is older work the
     * truth, and none older than this answer. */
    s->welcome_index = welcome->index;
    if (welcome->index < s->asked_floor) {
        LOG_W("the servers are behind this node: their state was reset or restored", "servers",
              LOG_U64(welcome->index), "node", LOG_U64(s->asked_floor));
        s->floor = welcome->index;
        s->full_next = true;
        s->ingress = s->network = (struct table){0};
    }
    struct channel *report = &s->channels[CHANNEL_REPORT];
    ask_work(s);
    if (s->reports_due && !report->call)
        report_start(report);
    if (s->handlers->network && s->network_words && !s->channels[CHANNEL_NETWORK].call)
        network_start(&s->channels[CHANNEL_NETWORK]);
    if (!s->handlers->ingress)
        return;
    if (!s->channels[CHANNEL_INGRESS].call)
        ingress_start(&s->channels[CHANNEL_INGRESS]);
    sync_ingress_report(s);          /* the servers may know this node no more */
    sync_certificate(s);
}

/* What the leader's configuration says is part of the answer to a registration: another one than then, or one at all, is
 * asked for by the next. */
static void learn_network(struct sync *s, const char *words, bool registering)
{
    bool same = !strcmp(words ? words : "", s->network_words ? s->network_words : "");
    s->facts_changed |= !same && !registering;
    mem_set_string(&s->network_words, words);
    if (registering && !words && s->handlers->network)
        s->handlers->network(s->ctx, NULL);
}

static void session_done(struct channel *c, struct http_response *res)
{
    struct sync *s = c->sync;
    bool registering = s->registering;
    s->registering = false;
    if (registering || res->body.len) {
        struct agent_welcome welcome;
        if (!parse(c, &agent_welcome_type, res, &welcome))
            return;
        enter_cluster(s, welcome.cluster);
        if (s->handlers->certificate_mark)
            s->handlers->certificate_mark(s->ctx, welcome.certificate_mark);
        if (s->handlers->revoked)
            s->handlers->revoked(s->ctx, &welcome.revoked);
        learn_network(s, welcome.network, registering);
        if (registering)
            session_welcome(c, &welcome);
        learn(s, &welcome.servers);
        type_clear(&agent_welcome_type, &welcome);
    }
    if (s->handlers->heard)
        s->handlers->heard(s->ctx, c->sent_at);
    c->failures = 0;
    try_in(c, s->facts_changed ? 0 : s->heartbeat_ms);
    s->facts_changed |= s->facts_owed;
}

/* --- work --- */

static void work_start(struct channel *c)
{
    struct sync *s = c->sync;
    if (!s->registered)
        return;                      /* the welcome starts it */
    uint64_t index = s->full_next ? 0 : s->index;
    CLEANUP_FREE char *path = mem_printf("/v1/agent/allocs?node=%s&index=%" PRIu64 "&wait=%ds", s->node_id, index,
                                         SYNC_WAIT_SECONDS);
    call(c, HTTP_METHOD_GET, path, NULL, SYNC_WAIT_SECONDS * 1000 + SYNC_ANSWER_MS);
}

static void work_done(struct channel *c, struct http_response *res)
{
    struct sync *s = c->sync;
    struct agent_work work;
    if (!parse(c, &agent_work_type, res, &work))
        return;
    if (work.full && work.index < s->floor) {
        /* This server has not caught up with what another one told us: its "everything" would stop new tasks. */
        type_clear(&agent_work_type, &work);
        next_server(s, c->server, false);
        try_again(c);
        return;
    }
    c->failures = 0;
    bool changed = work.full || work.index != s->index || work.allocs.n || work.gone.n;
    if (work.full)
        s->full_next = false;
    s->index = s->floor = work.index;
    if (changed)
        s->handlers->work(s->ctx, &work);
    type_clear(&agent_work_type, &work);
    int64_t took = time_monotonic_ms() - c->sent_at;
    if (changed || took >= SYNC_QUIET_MS)
        work_start(c);
    else
        try_in(c, SYNC_QUIET_MS);
}

/* --- reports --- */

static void report_start(struct channel *c)
{
    struct sync *s = c->sync;
    if (!s->registered)
        return;
    if (!s->flying.allocs.n) {
        s->reports_due = false;
        s->handlers->collect(s->ctx, &s->flying, SYNC_REPORT_LIMIT);
        mem_set_string(&s->flying.node_id, s->node_id);
    }
    if (!s->flying.allocs.n)
        return;
    CLEANUP_BUF struct buf body = {0};
    type_to_json(&agent_report_type, &s->flying, &body);
    call(c, HTTP_METHOD_POST, "/v1/agent/report", &body, SYNC_ANSWER_MS);
}

static void report_done(struct channel *c, struct http_response *res)
{
    struct sync *s = c->sync;
    bool more = s->flying.allocs.n == SYNC_REPORT_LIMIT;
    c->failures = 0;
    s->handlers->acknowledged(s->ctx, &s->flying);
    type_clear(&agent_report_type, &s->flying);
    if (more || s->reports_due)
        report_start(c);
}

/* --- tables, which come whole --- */

static void table_start(struct channel *c, const char *name, const struct table *t)
{
    struct sync *s = c->sync;
    if (!s->registered)
        return;
    CLEANUP_FREE char *path = t->known
        ? mem_printf("/v1/agent/%s?node=%s&index=%" PRIu64 "&wait=%ds", name, s->node_id, t->index, SYNC_WAIT_SECONDS)
        : mem_printf("/v1/agent/%s?node=%s", name, s->node_id);
    call(c, HTTP_METHOD_GET, path, NULL, SYNC_WAIT_SECONDS * 1000 + SYNC_ANSWER_MS);
}

/* True when the table that came is to be taken over. */
static bool table_is_news(struct table *t, uint64_t index)
{
    if (t->known && index <= t->index)
        return false;
    *t = (struct table){index, true};
    return true;
}

static void table_next(struct channel *c, bool changed)
{
    c->failures = 0;
    if (changed || time_monotonic_ms() - c->sent_at >= SYNC_QUIET_MS)
        channel_rows[c->kind].start(c);
    else
        try_in(c, SYNC_QUIET_MS);
}

static void network_start(struct channel *c)
{
    table_start(c, "network", &c->sync->network);
}

/* An index is a server's own after it read a snapshot: an older one is no sign that it lags. */
static void network_done(struct channel *c, struct http_response *res)
{
    struct sync *s = c->sync;
    struct agent_network table;
    if (!parse(c, &agent_network_type, res, &table))
        return;
    bool changed = table_is_news(&s->network, table.index);
    if (changed)
        s->handlers->network(s->ctx, &table);
    type_clear(&agent_network_type, &table);
    table_next(c, changed);
}

bool sync_knows_network(const struct sync *s)
{
    return s->network_words != NULL;
}

/* --- ingress nodes --- */

static void ingress_start(struct channel *c)
{
    table_start(c, "ingress", &c->sync->ingress);
}

static void ingress_done(struct channel *c, struct http_response *res)
{
    struct sync *s = c->sync;
    struct agent_ingress table;
    if (!parse(c, &agent_ingress_type, res, &table))
        return;
    bool lags = table.index < s->ingress.index, changed = table_is_news(&s->ingress, table.index);
    if (changed)
        s->handlers->ingress(s->ctx, &table);
    type_clear(&agent_ingress_type, &table);
    if (lags) {
        next_server(s, c->server, false);
        try_again(c);
        return;
    }
    table_next(c, changed);
}

static void ingress_report_start(struct channel *c)
{
    struct sync *s = c->sync;
    if (!s->registered || s->ingress_told == s->ingress_news)
        return;
    s->ingress_sent = s->ingress_news;
    struct ingress_report report;
    type_init(&ingress_report_type, &report);
    s->handlers->ingress_report(s->ctx, &report);
    mem_set_string(&report.node_id, s->node_id);
    CLEANUP_BUF struct buf body = {0};
    type_to_json(&ingress_report_type, &report, &body);
    type_clear(&ingress_report_type, &report);
    call(c, HTTP_METHOD_POST, "/v1/agent/ingress", &body, SYNC_ANSWER_MS);
}

static void ingress_report_done(struct channel *c, struct http_response *res)
{
    c->failures = 0;
    c->sync->ingress_told = c->sync->ingress_sent;
    ingress_report_start(c);
}

static void certificate_start(struct channel *c)
{
    struct sync *s = c->sync;
    CLEANUP_FREE char *name = s->registered && s->handlers->certificate ? s->handlers->certificate_wanted(s->ctx) : NULL;
    if (!name)
        return;
    CLEANUP_FREE char *path = mem_printf("/v1/agent/certificate?node=%s&secret=%s", s->node_id, name);
    call(c, HTTP_METHOD_GET, path, NULL, SYNC_ANSWER_MS);
}

static void certificate_done(struct channel *c, struct http_response *res)
{
    struct secret_value value;
    if (!parse(c, &secret_value_type, res, &value))
        return;
    c->failures = 0;
    c->sync->handlers->certificate(c->sync->ctx, &value);
    if (value.value)
        explicit_bzero(value.value, strlen(value.value));
    type_clear(&secret_value_type, &value);
    certificate_start(c);
}

/* --- the end of a turn --- */

static void on_prepare(uv_prepare_t *h)
{
    struct sync *s = h->data;
    uv_prepare_stop(h);
    const enum channel_kind kinds[] = {CHANNEL_REPORT, CHANNEL_INGRESS_REPORT, CHANNEL_CERTIFICATE};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct channel *c = &s->channels[kinds[i]];
        if (!c->call && !uv_is_active((uv_handle_t *)&c->timer))
            channel_rows[c->kind].start(c);
    }
}

void sync_ingress_report(struct sync *s)
{
    s->ingress_news++;
    if (!s->channels[CHANNEL_INGRESS_REPORT].call)
        uv_prepare_start(&s->prepare, on_prepare);
}

void sync_certificate(struct sync *s)
{
    if (!s->channels[CHANNEL_CERTIFICATE].call)
        uv_prepare_start(&s->prepare, on_prepare);
}

void sync_report(struct sync *s)
{
    s->reports_due = true;
    if (!s->channels[CHANNEL_REPORT].call)
        uv_prepare_start(&s->prepare, on_prepare);
}

/* --- life --- */

void sync_ask_everything(struct sync *s)
{
    s->full_next = true;
    if (s->floor < s->welcome_index)
        s->floor = s->welcome_index;
    ask_work(s);
}

void sync_register(struct sync *s)
{
    s->facts_changed = true;
    struct channel *c = &s->channels[CHANNEL_SESSION];
    if (!c->call && !c->failures)
        try_in(c, 0);
}

struct sync *sync_new(uv_loop_t *loop, const struct sync_options *o)
{
    INVARIANT(o->servers->n > 0);
    struct sync *s = NEW(struct sync);
    s->loop = loop;
    s->node_id = mem_strdup(o->node_id);
    server_list_init(&s->servers, o->node_id, o->servers, o->tls != NULL);
    if (o->known)
        server_list_learn(&s->servers, o->known);
    s->cluster = mem_strdup(o->cluster);
    s->handlers = o->handlers;
    s->ctx = o->ctx;
    s->random.state = o->seed;
    s->first_delay_ms = o->first_delay_ms ? o->first_delay_ms : SYNC_FIRST_DELAY_MS;
    s->answer_ms = o->answer_ms ? o->answer_ms : SYNC_BEAT_ANSWER_MS;
    s->home_after_ms = o->home_after_ms ? o->home_after_ms : SYNC_HOME_AFTER_MS;
    s->heartbeat_ms = SYNC_DEFAULT_HEARTBEAT_MS;
    s->floor = o->index;
    s->full_next = true;
    s->client = http_client_new(loop, &(struct http_client_options){.tls = o->tls, .connect_timeout_ms = SYNC_CONNECT_MS});
    uv_prepare_init(loop, &s->prepare);
    s->prepare.data = s;
    for (int i = 0; i < CHANNEL_COUNT; i++) {
        struct channel *c = &s->channels[i];
        *c = (struct channel){.sync = s, .kind = (enum channel_kind)i};
        uv_timer_init(loop, &c->timer);
        c->timer.data = c;
    }
    try_in(&s->channels[CHANNEL_SESSION], 0);
    return s;
}

static void closed_one(struct sync *s)
{
    if (--s->closing)
        return;
    type_clear(&agent_report_type, &s->flying);
    for (int i = 0; i < CHANNEL_COUNT; i++)
        free(s->channels[i].server);
    server_list_clear(&s->servers);
    free(s->cluster);
    free(s->network_words);
    free(s->node_id);
    free(s);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct channel *c = h->data;
    closed_one(c->sync);
}

static void on_prepare_closed(uv_handle_t *h)
{
    closed_one(h->data);
}

static void on_client_closed(void *arg)
{
    closed_one(arg);
}

void sync_close(struct sync *s)
{
    s->closing = CHANNEL_COUNT + 2;
    for (int i = 0; i < CHANNEL_COUNT; i++)
        uv_close((uv_handle_t *)&s->channels[i].timer, on_timer_closed);
    uv_close((uv_handle_t *)&s->prepare, on_prepare_closed);
    http_client_close(s->client, on_client_closed, s);
}

uint64_t sync_index(const struct sync *s)
{
    return s->index;
}

bool sync_registered(const struct sync *s)
{
    return s->registered;
}

const char *sync_server(const struct sync *s)
{
    return current(s);
}
