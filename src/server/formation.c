#include "server/formation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "join/enrol.h"
#include "model/table.h"
#include "net/http_client.h"
#include "server/api_types.h"
#include "server/authority.h"
#include "server/cluster.h"
#include "server/knock.h"
#include "server/peers.h"

#define LOOK_MS 250
#define REFUSED_MS 5000             /* after a refusal that may pass */
#define ASK_MS 2000
#define JOIN_MS 30000
#define FILE_NAME "joining.json"
#define FILE_MOST 65536u

/* What is kept until the server is a member. */
struct joining { char *server_id, *token; struct str_list servers; bool discard, founding; };
static const struct field joining_fields[] = {
    STRING(joining, server_id, 1), STRING(joining, token, 2, .flags = 0), STR_LIST(joining, servers, 3),
    BOOL(joining, discard, 4), BOOL(joining, founding, 5), {0},
};
static TABLE(joining, joining_fields, "");

enum way { WAY_DONE, WAY_COMMAND, WAY_FOUND, WAY_JOIN };

/* What one of the servers said when it was asked last. */
struct answer_of { bool came; char *id, *cluster_id, *problem; };

struct formation {
    struct control *c;
    uv_timer_t timer;
    enum way way;
    uint64_t server_id;
    struct joining file;
    struct str_list addresses;      /* to ask */
    struct answer_of *answers;      /* of each address; WAY_FOUND */
    uint32_t asking;                /* answers that are awaited */
    uint32_t next;                  /* WAY_JOIN: whom to ask */
    struct enrol *enrol;            /* WAY_JOIN: gets a certificate first, by the token */
    bool joining;
    bool needs_token;               /* the last one was refused for good */
};

struct ask { struct formation *f; uint32_t i; };

static char *file_path(const struct control *c)
{
    return mem_printf("%s/" FILE_NAME, c->config->data_dir);
}

static int write_file(struct formation *f, struct error *err)
{
    CLEANUP_FREE char *path = file_path(f->c);
    CLEANUP_BUF struct buf text = {0};
    free(f->file.server_id);
    f->file.server_id = mem_printf("%" PRIu64, f->server_id);
    type_to_json(&joining_type, &f->file, &text);
    return file_write(path, text.data, text.len, 0600, err);
}

static int read_file(struct formation *f, struct error *err)
{
    CLEANUP_FREE char *path = file_path(f->c);
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    struct error missing;
    if (file_read(path, FILE_MOST, &text, &missing)) {
        if (missing.code == ERROR_NOT_FOUND)
            return 0;
        *err = missing;
        return -1;
    }
    int rc = type_from_json(&joining_type, text.data, text.len, true, &f->file, &problems);
    problem_list_clear(&problems);
    return rc ? error_set(err, ERROR_CORRUPT, "%s is damaged; remove it, and let the server join again", path) : 0;
}

/* Said again only when it changed. */
static void say(struct formation *f, const char *text)
{
    struct control *c = f->c;
    if (c->forming && !strcmp(c->forming, text))
        return;
    LOG_I("not in a cluster yet", "reason", text);
    mem_set_string(&c->forming, text);
}

/* Whoever ends while it makes the cluster shall make it when it starts again. */
static int write_founding(struct formation *f, struct error *err)
{
    f->file.founding = true;
    return write_file(f, err);
}

static void begin(struct formation *f, bool bootstrap, uint64_t cluster_id)
{
    struct error err;
    f->way = WAY_DONE;
    f->joining = !bootstrap;
    uv_timer_stop(&f->timer);
    if ((bootstrap && write_founding(f, &err)) || control_begin(f->c, bootstrap, f->server_id, cluster_id, &err)) {
        LOG_E("the server cannot go on", "error", err.text);
        _Exit(1);
    }
    free(steal(&f->c->forming));
}

/* --- founding --- */

static void answer_clear(struct answer_of *a)
{
    free(a->id);
    free(a->cluster_id);
    free(a->problem);
    *a = (struct answer_of){0};
}

static bool in_cluster(const struct answer_of *a)
{
    return a->came && a->cluster_id;
}

/* A cluster is there: it is asked first. */
static void join_at(struct formation *f, uint32_t i)
{
    LOG_I("a cluster was found; joining it", "address", f->addresses.v[i]);
    f->next = i;
    f->way = WAY_JOIN;
    uv_timer_start(&f->timer, f->timer.timer_cb, 0, LOOK_MS);
}

/* Founders are the first `expect` of the list. True when all of them see this server's round as it does: all there, none
 * in a cluster, and each another one. */
static bool all_there(const struct formation *f, bool *lowest, struct buf *missing)
{
    uint32_t founders = (uint32_t)f->c->config->expect;
    bool all = true, own = false;
    *lowest = true;
    for (uint32_t i = 0; i < founders; i++) {
        const struct answer_of *a = &f->answers[i];
        if (!a->came) {
            buf_printf(missing, "%s%s (%s)", missing->len ? ", " : "", f->addresses.v[i], a->problem ? a->problem : "not asked yet");
            all = false;
            continue;
        }
        uint64_t id = strtoull(a->id, NULL, 10);
        own |= id == f->server_id;
        *lowest &= id >= f->server_id;
        for (uint32_t k = 0; k < i; k++)
            if (f->answers[k].came && !strcmp(f->answers[k].id, a->id)) {
                buf_printf(missing, "%s%s and %s are the same server", missing->len ? ", " : "", f->addresses.v[k], f->addresses.v[i]);
                all = false;
            }
    }
    *lowest &= own;
    return all;
}

static void look_around(struct formation *f)
{
    CLEANUP_BUF struct buf missing = {0};
    char own[24];
    bool lowest;
    snprintf(own, sizeof own, "%" PRIu64, f->server_id);
    for (uint32_t i = 0; i < f->addresses.n; i++)
        if (in_cluster(&f->answers[i]) && strcmp(f->answers[i].id, own)) {
            join_at(f, i);
            return;
        }
    bool all = all_there(f, &lowest, &missing);
    if (all && lowest) {
        LOG_I("all servers are there; this one makes the cluster", "servers", LOG_I64(f->c->config->expect));
        begin(f, true, 0);
        return;
    }
    CLEANUP_FREE char *text = all ? mem_strdup("the others are there; one of them makes the cluster")
                                  : mem_printf("it waits for %s", missing.data);
    say(f, text);
}

static void on_seen(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct ask ask = *(struct ask *)ctx;
    struct formation *f = ask.f;
    struct answer_of *a = &f->answers[ask.i];
    struct server_status s;
    struct problem_list problems = {0};
    free(ctx);
    answer_clear(a);
    if (status == 200 && !type_from_json(&server_status_type, body->data, body->len, true, &s, &problems)) {
        a->came = s.id != NULL;
        a->id = mem_strdup(s.id);
        a->cluster_id = mem_strdup(s.cluster_id);
        type_clear(&server_status_type, &s);
    } else if (status) {
        a->problem = mem_printf("answers with status %d", status);
    } else {
        const char *tail = strrchr(err->text, ':');
        a->problem = mem_strdup(tail ? tail + 2 : err->text);
    }
    problem_list_clear(&problems);
    if (--f->asking == 0 && f->way == WAY_FOUND && !f->c->stopping)
        look_around(f);
}

static void ask_all(struct formation *f)
{
    if (f->asking)
        return;
    f->asking = f->addresses.n;
    for (uint32_t i = 0; i < f->addresses.n; i++) {
        struct ask *ask = NEW(struct ask);
        *ask = (struct ask){f, i};
        peer_call(f->c, HTTP_METHOD_GET, f->addresses.v[i], "/v1/cluster", NULL, ASK_MS, on_seen, ask);
    }
}

/* --- joining --- */

static bool passes(enum error_code code)
{
    return code == ERROR_UNAVAILABLE || code == ERROR_TIMEOUT || code == ERROR_TOO_MANY || code == ERROR_UNKNOWN_OUTCOME ||
           code == ERROR_CANCELLED;
}

static void refused(struct formation *f, const struct error *err)
{
    const char *address = f->addresses.v[f->next % f->addresses.n];
    CLEANUP_FREE char *text = mem_printf("%s: %s", address, err->text);
    say(f, text);
    f->next++;
    if (passes(err->code))
        return;
    if (f->file.token && (err->code == ERROR_DENIED || err->code == ERROR_INVALID)) {
        CLEANUP_FREE char *path = file_path(f->c);
        CLEANUP_FREE char *why = mem_printf("it was refused at %s; give it a new token: mt cluster join --token", text);
        unlink(path);
        f->way = WAY_COMMAND;
        f->needs_token = true;
        say(f, why);
        return;
    }
    uv_timer_start(&f->timer, f->timer.timer_cb, REFUSED_MS, LOOK_MS);
}

static void on_join(void *ctx, int status, const struct buf *body, const struct error *err)
{
    struct formation *f = ctx;
    struct join_result result = {0};
    struct problem_list problems = {0};
    struct error problem;
    f->asking = 0;
    if (f->way != WAY_JOIN || f->c->stopping)
        return;
    bool good = status >= 200 && status < 300 && body->len &&
                !type_from_json(&join_result_type, body->data, body->len, true, &result, &problems) && result.cluster_id;
    problem_list_clear(&problems);
    if (good) {
        uint64_t cluster_id = strtoull(result.cluster_id, NULL, 10);
        LOG_I("joined", "cluster", result.cluster_id, "as", result.membership);
        begin(f, false, cluster_id);
    } else {
        if (err)
            problem = *err;
        else
            http_refusal(status, body, &problem);
        refused(f, &problem);
    }
    type_clear(&join_result_type, &result);
}

/* --- a certificate of the cluster first --- */

static void on_enrolled(void *ctx, const struct error *err)
{
    struct formation *f = ctx;
    f->enrol = NULL;
    if (err)
        refused(f, err);
    else
        authority_use(f->c);
}

/* True: the certificate that it has is of nobody there. */
static bool needs_certificate(const struct formation *f)
{
    return f->c->credentials && f->c->credentials->founding && f->file.token;
}

static void ask_for_certificate(struct formation *f)
{
    struct join_token_text token;
    struct error err;
    struct enrol_options o = {.loop = f->c->loop, .credentials = f->c->credentials, .names = authority_names(f->c),
                              .addresses = &f->addresses, .token = &token, .done = on_enrolled, .ctx = f};
    if (f->enrol)
        return;
    if (join_token_parse(f->file.token, &token, &err)) {
        refused(f, &err);
        return;
    }
    f->enrol = enrol_start(&o, &err);
    join_token_clear(&token);
    if (!f->enrol)
        refused(f, &err);
}

static void ask_to_join(struct formation *f)
{
    struct join_request body;
    CLEANUP_BUF struct buf text = {0};
    if (f->asking)
        return;
    cluster_introduce(f->c, &body);
    type_to_json(&join_request_type, &body, &text);
    type_clear(&join_request_type, &body);
    f->asking = 1;
    peer_call(f->c, HTTP_METHOD_POST, f->addresses.v[f->next % f->addresses.n], "/v1/cluster/servers", &text, JOIN_MS, on_join,
              f);
}

static void on_timer(uv_timer_t *timer)
{
    struct formation *f = timer->data;
    if (f->c->stopping)
        return;
    if (f->way == WAY_FOUND)
        ask_all(f);
    else if (f->way == WAY_JOIN && needs_certificate(f))
        ask_for_certificate(f);
    else if (f->way == WAY_JOIN)
        ask_to_join(f);
}

/* --- start --- */

/* Aside, not away: whoever joined by mistake can look. */
static int discard_state(const struct control *c, struct error *err)
{
    char time[TIME_TEXT_SIZE];
    time_format(time, time_now_ms());
    CLEANUP_FREE char *aside = mem_printf("%s/discarded-%s", c->config->data_dir, time);
    if (dir_make(aside, 0700, err))
        return -1;
    DIR *d = opendir(c->config->data_dir);
    if (!d)
        return error_set_errno(err, errno, "%s", c->config->data_dir);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (strncmp(e->d_name, "meta-", 5) && strncmp(e->d_name, "log-", 4) && strncmp(e->d_name, "snapshot-", 9))
            continue;
        CLEANUP_FREE char *from = mem_printf("%s/%s", c->config->data_dir, e->d_name);
        CLEANUP_FREE char *to = mem_printf("%s/%s", aside, e->d_name);
        if (rename(from, to))
            rc = error_set_errno(err, errno, "cannot put aside %s", from);
    }
    closedir(d);
    return rc;
}

static void use_addresses(struct formation *f, const struct str_list *from)
{
    str_list_clear(&f->addresses);
    for (uint32_t i = 0; i < from->n; i++)
        str_list_add(&f->addresses, from->v[i]);
}

static int choose_id(struct formation *f, struct error *err)
{
    if (f->file.server_id)
        f->server_id = strtoull(f->file.server_id, NULL, 10);
    if (f->c->config->server_id)
        f->server_id = (uint64_t)f->c->config->server_id;
    while (!f->server_id) {
        random_system(&f->server_id, sizeof f->server_id);
        f->server_id >>= 1;         /* fits a signed number wherever one reads it */
    }
    return write_file(f, err);
}

int formation_find_id(const struct server_config *config, uint64_t *id, bool *fresh, struct error *err)
{
    struct control c = {.config = config};
    struct formation f = {.c = &c};
    struct consensus_directory dir = {0};
    int rc = read_file(&f, err);
    if (!rc && !f.file.discard)
        rc = consensus_inspect(config->data_dir, &dir, err);
    f.server_id = dir.server_id;
    *fresh = !dir.server_id;
    if (!rc && *fresh)
        rc = choose_id(&f, err);
    *id = f.server_id;
    type_clear(&joining_type, &f.file);
    return rc;
}

/* A join token that waits for this server, such as one that was installed with it. */
static int take_token_of_file(struct formation *f, struct error *err)
{
    const char *path = f->c->config->join_token_file;
    CLEANUP_FREE char *text = credentials_read_token(path, err);
    struct join_token_text t;
    if (err->code != ERROR_NONE)
        return -1;
    if (!text || !credentials_is_join_token(text))
        return 0;
    if (join_token_parse(text, &t, err))
        return error_context(err, "%s", path);
    f->file.token = steal(&text);
    f->file.servers = t.addresses;
    t.addresses = (struct str_list){0};
    join_token_clear(&t);
    return write_file(f, err);
}

static void find_way(struct formation *f)
{
    const struct server_config *o = f->c->config;
    f->needs_token = false;
    if (f->file.servers.n) {
        use_addresses(f, &f->file.servers);
        f->way = WAY_JOIN;
        say(f, "it asks to join");
    } else if (o->expect == 0) {
        f->way = WAY_COMMAND;
        say(f, "it waits for `mt cluster init`, or `mt cluster join --token …`");
    } else {
        use_addresses(f, &o->servers);
        f->answers = mem_array(f->addresses.n, sizeof *f->answers);
        f->way = WAY_FOUND;
        say(f, "it looks for the other servers");
    }
}

int formation_start(struct control *c, struct error *err)
{
    struct formation *f = NEW(struct formation);
    struct consensus_directory dir = {0};
    c->formation = f;
    f->c = c;
    uv_timer_init(c->loop, &f->timer);
    f->timer.data = f;
    if (read_file(f, err))
        return -1;
    if (f->file.discard) {
        f->file.discard = false;
        if (discard_state(c, err) || write_file(f, err))
            return -1;
    }
    if (consensus_inspect(c->config->data_dir, &dir, err))
        return -1;
    if (dir.server_id) {
        f->server_id = dir.server_id;
        f->joining = f->file.server_id != NULL;
        use_addresses(f, f->file.servers.n ? &f->file.servers : &c->config->servers);
        bool nothing = !dir.last_index && !dir.snapshot_index && dir.term <= 1;
        return control_begin(c, f->file.founding && nothing, 0, 0, err);
    }
    if (choose_id(f, err) || (!f->file.servers.n && take_token_of_file(f, err)))
        return -1;
    if (c->config->expect == 1 && !c->config->servers.n && !f->file.servers.n)
        return write_founding(f, err) ? -1 : control_begin(c, true, f->server_id, 0, err);
    find_way(f);
    uv_timer_start(&f->timer, on_timer, 1, LOOK_MS);
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct formation *f = handle->data;
    for (uint32_t i = 0; f->answers && i < f->addresses.n; i++)
        answer_clear(&f->answers[i]);
    free(f->answers);
    str_list_clear(&f->addresses);
    type_clear(&joining_type, &f->file);
    free(f);
}

void formation_stop(struct control *c)
{
    if (!c->formation)
        return;
    if (c->formation->enrol)
        enrol_cancel(steal(&c->formation->enrol));
    uv_close((uv_handle_t *)&steal(&c->formation)->timer, on_timer_closed);
}

/* --- questions --- */

uint64_t formation_server_id(const struct control *c)
{
    return c->formation ? c->formation->server_id : 0;
}

bool formation_is_joining(const struct control *c)
{
    return c->formation && c->formation->joining;
}

bool formation_needs_token(const struct control *c)
{
    return c->formation && c->formation->needs_token;
}

const char *formation_token(const struct control *c)
{
    return c->formation ? c->formation->file.token : NULL;
}

const struct str_list *formation_addresses(const struct control *c)
{
    static const struct str_list none;
    return c->formation ? &c->formation->addresses : &none;
}

void formation_end(struct control *c)
{
    struct formation *f = c->formation;
    if (!f || !f->file.server_id)
        return;
    CLEANUP_FREE char *path = file_path(c);
    unlink(path);
    f->joining = false;
    type_clear(&joining_type, &f->file);
}

/* --- commands --- */

int formation_init(struct control *c, struct error *err)
{
    struct formation *f = c->formation;
    if (c->consensus)
        return 0;                   /* it is in a cluster */
    if (f->way != WAY_COMMAND)
        return error_set(err, ERROR_CONFLICT, "this server forms a cluster with those of its configuration: %s",
                         c->forming ? c->forming : "");
    begin(f, true, 0);
    return 0;
}

/* A cluster of one that nobody used yet may be left; so may one that this server was removed from. */
static int check_leave(struct control *c, struct error *err)
{
    int64_t nodes, services, allocs;
    if (!c->consensus || consensus_self(c->consensus) == CONSENSUS_NO_MEMBER || knock_removed(c))
        return 0;
    control_count(c, &nodes, &services, &allocs);
    struct consensus_member few[2];
    if (consensus_members(c->consensus, few, 2) > 1)
        return error_set(err, ERROR_CONFLICT, "server %s is in a cluster with others; remove it there first: mt cluster remove %s",
                         c->config->name, c->config->name);
    if (nodes || services)
        return error_set(err, ERROR_CONFLICT, "server %s has a cluster of its own, with %lld nodes and %lld services, which "
                         "would be lost; save it (mt snapshot save), then start the server with an empty data_dir",
                         c->config->name, (long long)nodes, (long long)services);
    return 0;
}

int formation_join(struct control *c, const char *token, struct error *err)
{
    struct formation *f = c->formation;
    struct join_token_text t;
    if (join_token_parse(token, &t, err))
        return -1;
    int rc = check_leave(c, err);
    if (!rc) {
        bool discard = c->consensus != NULL;
        type_clear(&joining_type, &f->file);
        f->file.token = mem_strdup(token);
        for (uint32_t i = 0; i < t.addresses.n; i++)
            str_list_add(&f->file.servers, t.addresses.v[i]);
        f->file.discard = discard;
        /* Whoever leaves a cluster does not come back under the id that it had there. */
        if (discard)
            random_system(&f->server_id, sizeof f->server_id), f->server_id >>= 1;
        rc = write_file(f, err);
        if (!rc && discard) {
            LOG_I("leaving the cluster of one to join another");
            c->restart(c->restart_ctx);
        } else if (!rc) {
            find_way(f);
            uv_timer_start(&f->timer, on_timer, 1, LOOK_MS);
        }
    }
    join_token_clear(&t);
    return rc;
}
