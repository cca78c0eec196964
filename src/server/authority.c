#include "server/authority.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/table.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/formation.h"
#include "server/http_thread.h"
#include "server/issue.h"
#include "server/seal.h"
#include "server/vault.h"

#define LOOK_MS 250
#define AGAIN_MS 2000
#define CACHE_MOST (1u << 20)
#define DAY_MS (24 * 3600 * 1000LL)
#define FOUNDING_MS DAY_MS
#define OPERATORS_LIFE_MS (3650 * DAY_MS)    /* of certificates of an operator's own authority: not known here */

/* What a server needs to give itself a certificate before it hears of any other: all may have been off for long. */
struct authority_cache { struct authority_list authorities; char *mark; struct revocation_list revoked; };
static const struct field authority_cache_fields[] = {
    LIST(authority_cache, authorities, 1, authority), STRING(authority_cache, mark, 2),
    LIST(authority_cache, revoked, 3, revocation), {0},
};
static TABLE(authority_cache, authority_cache_fields, "");

struct authorities {
    struct control *c;
    struct own_tls *tls;
    uv_timer_t timer;
    struct proposal proposal;
    bool proposing, refused;             /* refused: said already that a key cannot be opened */
    int64_t after_ms;                    /* monotonic */
    uint64_t cached_index;               /* of the access that is in the cache */
    struct buf cached;                   /* and its bytes */
    char *founding, *founding_key;       /* of the secret, between the first authorities: dear to make; NULL: not made */
};

/* --- this server's own certificate --- */

static char *cache_path(const struct server_config *config)
{
    return mem_printf("%s/tls/authorities.bin", config->data_dir);
}

static int give_itself(struct own_tls *t, const struct access *access, const char *mark, const struct keyring *keys,
                       const struct server_config *config, struct error *err)
{
    CLEANUP(certificate_key_free) char *key = certificate_key_new();
    CLEANUP_FREE char *request = certificate_request_new(key);
    struct certificate_answer a;
    struct issue_order order = {.role = t->credentials.role, .name = t->credentials.name, .names = &t->names, .request = request,
                                .least_from_ms = core_certificate_from(access, t->credentials.name, t->credentials.role),
                                .now_ms = time_now_ms(), .life_ms = config->certificate_lifetime_ms,
                                .renew_ms = config->certificate_renewal_ms};
    int rc = issue_certificate(&access->authorities, mark, keys, &order, &a, err);
    if (!rc)
        rc = credentials_keep(&t->credentials, key, &a, err);
    type_clear(&certificate_answer_type, &a);
    return rc;
}

/* By what it had when it ran last. False: that does not do. */
static bool give_itself_from_cache(struct own_tls *t, const struct server_config *config, const struct keyring *keys)
{
    CLEANUP_FREE char *path = cache_path(config);
    CLEANUP_BUF struct buf bytes = {0};
    struct authority_cache cache = {0};
    struct error err;
    if (file_read(path, CACHE_MOST, &bytes, &err))
        return false;
    bool good = !type_decode(&authority_cache_type, bytes.data, bytes.len, &cache, &err) && cache.mark;
    struct access access = {.authorities = cache.authorities, .revoked = cache.revoked};       /* borrowed */
    good = good && !give_itself(t, &access, cache.mark, keys, config, &err);
    if (!good)
        LOG_W("this server could not renew its own certificate", "error", err.text);
    type_clear(&authority_cache_type, &cache);
    return good;
}

static void add_host(struct str_list *names, const char *host)
{
    struct in6_addr ip;
    bool is_ip = inet_pton(AF_INET, host, &ip) == 1 || inet_pton(AF_INET6, host, &ip) == 1;
    CLEANUP_FREE char *name = mem_printf("%s:%s", is_ip ? "IP" : "DNS", host);
    for (uint32_t i = 0; i < names->n; i++)
        if (!strcmp(names->v[i], name))
            return;
    str_list_add(names, name);
}

static void find_names(struct own_tls *t, const struct server_config *config, const char *host)
{
    static const char *const local[] = {"localhost", "127.0.0.1", "::1"};
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        add_host(&t->names, local[i]);
    if (host)
        add_host(&t->names, host);
    add_host(&t->names, config->name);
    for (uint32_t i = 0; i < config->tls_names.n; i++)
        add_host(&t->names, config->tls_names.v[i]);
}

/* A join token in the file is for later (formation.c). */
static int read_secret(struct own_tls *t, const struct server_config *config, struct error *err)
{
    char *text = credentials_read_token(config->join_token_file, err);
    if (err->code)
        return -1;
    t->token = text && credentials_is_join_token(text);
    if (!text || t->token) {
        certificate_key_free(text);
        return 0;
    }
    t->secret = text;
    return credentials_check_secret(text, config->join_token_file, err);
}

static int find_identity(struct own_tls *t, const struct server_config *config, const struct keyring *keys, bool fresh, struct error *err)
{
    int64_t now = time_now_ms();
    CLEANUP_FREE char *cache = cache_path(config);
    if (fresh)
        unlink(cache);                   /* of a cluster that it left */
    else if (give_itself_from_cache(t, config, keys))
        return 0;
    if (fresh && config->expect > 1 && !t->secret && (!t->credentials.present || t->credentials.founding) && !t->token)
        return error_set(err, ERROR_INVALID, "the %lld servers cannot know each other yet: write the same founding secret (openssl rand "
                         "-hex 32) into %s on each of them, with mode 0600, or set expect: 0 and use `mt cluster init` and `mt cluster "
                         "join`", (long long)config->expect, config->join_token_file);
    if (!t->credentials.present || t->credentials.founding)
        return credentials_found(&t->credentials, t->secret, &t->names, now, err);
    if (t->credentials.facts.until_ms > now)
        return 0;
    char until[TIME_TEXT_SIZE];
    time_format(until, t->credentials.facts.until_ms);
    return error_set(err, ERROR_DENIED, "this server's certificate expired at %s, and it never had the cluster's key to make itself "
                     "another one: empty %s and let it join anew (mt cluster token)", until, config->data_dir);
}

int own_tls_open(struct own_tls *t, const struct server_config *config, const struct keyring *keys, const char *host,
                 struct error *err)
{
    CLEANUP_FREE char *folder = mem_printf("%s/tls", config->data_dir);
    uint64_t id;
    bool fresh;
    char text[24];
    *t = (struct own_tls){0};
    if (formation_find_id(config, &id, &fresh, err) || read_secret(t, config, err))
        return -1;
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    find_names(t, config, host);
    if (credentials_open(&t->credentials, folder, "server", text, err) || find_identity(t, config, keys, fresh, err))
        return -1;
    t->context = tls_context_new(&(struct tls_options){.cert_file = t->credentials.identity_file,
        .key_file = t->credentials.identity_file, .ca_file = t->credentials.authorities_file,
        .client_cert = TLS_CLIENT_CERT_OPTIONAL}, err);
    return t->context ? 0 : -1;
}

void own_tls_close(struct own_tls *t)
{
    credentials_close(&t->credentials);
    certificate_key_free(t->secret);
    str_list_clear(&t->names);
    tls_context_free(t->context);
    *t = (struct own_tls){0};
}

void authority_use(struct control *c)
{
    const struct own_tls *t = c->authorities->tls;
    char until[TIME_TEXT_SIZE];
    struct error err;
    time_format(until, t->credentials.facts.until_ms);
    if (tls_context_reload(t->context, &err))
        LOG_E("the new certificate cannot be used", "error", err.text);
    else
        LOG_I("this server has a new certificate", "until", until, "mark", t->credentials.mark ? t->credentials.mark : "founding");
}

/* --- the leader's part --- */

static void on_timer(uv_timer_t *timer);

static void on_proposed(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct authorities *a = c->authorities;
    struct error err;
    a->proposing = false;
    a->after_ms = 0;
    uv_timer_start(&a->timer, on_timer, 0, LOOK_MS);       /* for the next step */
    if (proposal_error(c, p, outcome, &err)) {
        LOG_W("the authorities could not be changed; trying again", "error", err.text);
        a->after_ms = time_monotonic_ms() + AGAIN_MS;
    }
    core_result_clear(&p->result);
}

static void propose(struct authorities *a, enum command_kind kind, const void *payload)
{
    CLEANUP_BUF struct buf command = {0};
    command_encode_payload(kind, time_now_ms(), NULL, NULL, payload, &command);
    a->proposing = true;
    control_propose(a->c, &a->proposal, command.data, command.len, on_proposed);
}

static void set_state(struct authorities *a, const struct authority *which, enum authority_state state, int64_t other_until)
{
    struct command_authority_set payload = {.authority = *which, .other_until = other_until};      /* borrowed */
    payload.authority.state = state;
    payload.authority.until = 0;
    propose(a, COMMAND_AUTHORITY_SET, &payload);
}

/* Founders that come late, and agents that have the secret, believe the founding authority and are believed by it. */
static void add_founding(struct authorities *a, const char *certificate, const char *id)
{
    struct command_authority_set payload = {.authority = {
        .id = (char *)(uintptr_t)id, .certificate = (char *)(uintptr_t)certificate, .state = AUTHORITY_LEAVING,
        .until = time_now_ms() + FOUNDING_MS}};
    propose(a, COMMAND_AUTHORITY_SET, &payload);
}

static const struct authority *find(const struct authority_list *all, const char *id)
{
    for (uint32_t i = 0; i < all->n; i++)
        if (!strcmp(all->v[i].id, id))
            return &all->v[i];
    return NULL;
}

static void forget_founding(struct authorities *a)
{
    free(steal(&a->founding));
    certificate_key_free(steal(&a->founding_key));
}

static void make_first(struct authorities *a)
{
    const struct authority_list *all = &core_access(a->c->core)->authorities;
    struct certificate_facts facts;
    struct error err;
    if (a->tls->secret && !a->founding)
        credentials_founding_authority(a->tls->secret, time_now_ms(), &a->founding, &a->founding_key);
    if (a->founding) {
        if (certificate_read(a->founding, &facts, &err))
            return;
        if (!find(all, facts.key_hash)) {
            add_founding(a, a->founding, facts.key_hash);
            return;
        }
    }
    struct authority made;
    if (issue_authority(time_now_ms(), vault_ring(a->c), a->founding, a->founding_key, &made, &err)) {
        LOG_E("the cluster's authority cannot be made", "error", err.text);
        a->after_ms = time_monotonic_ms() + AGAIN_MS;
    } else {
        LOG_I("the cluster makes its own authority", "hash", made.id);
        set_state(a, &made, AUTHORITY_SIGNING, 0);
        forget_founding(a);
    }
    type_clear(&authority_type, &made);
}

static bool follows(const struct certificate_state *s, const char *mark)
{
    return s->mark && !strcmp(s->mark, mark);
}

void authority_behind(const struct control *c, struct str_list *out)
{
    char mark[CERTIFICATE_MARK_SIZE];
    const char *after = NULL;
    core_certificate_mark(c->core, mark);
    for (const struct member *m; (m = core_member_next(c->core, after)); after = m->id)
        if (!follows(&m->certificate, mark))
            str_list_add(out, m->name);
    after = NULL;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id)
        if (!follows(&n->certificate, mark))
            str_list_add(out, n->name);
}

static bool all_follow(const struct control *c)
{
    struct str_list behind = {0};
    authority_behind(c, &behind);
    bool all = !behind.n;
    str_list_clear(&behind);
    return all;
}

/* One step at most. */
static void lead_on(struct authorities *a, const struct authority_list *all)
{
    int64_t now = time_now_ms(), life = a->c->config->certificate_lifetime_ms;
    for (uint32_t i = 0; i < all->n; i++) {
        const struct authority *t = &all->v[i];
        bool waited = now >= t->since + life;            /* whose certificates from before are over */
        if (t->state == AUTHORITY_COMING && (waited || all_follow(a->c))) {
            set_state(a, t, AUTHORITY_SIGNING, now + life);
            return;
        }
        if (t->state == AUTHORITY_LEAVING && (t->until <= now || (t->sealed_key && all_follow(a->c)))) {
            char reason[] = "nobody needs it any more", late[] = "its time is over";
            struct command_authority_remove payload = {.id = t->id, .reason = t->until <= now ? late : reason};
            propose(a, COMMAND_AUTHORITY_REMOVE, &payload);
            return;
        }
    }
}

/* The cluster has another key: what the older one sealed is sealed again. True: a step was made. */
static bool reseal(struct authorities *a, const struct authority_list *all)
{
    bool made = false, failed = false;
    for (uint32_t i = 0; i < all->n && !made; i++) {
        struct command_authority_set payload = {0};
        struct error err;
        int rc = issue_reseal(&all->v[i], vault_ring(a->c), &payload.authority, &err);
        if (rc == 0)
            propose(a, COMMAND_AUTHORITY_SET, &payload);
        else if (rc < 0 && !a->refused)
            LOG_E("an authority's key cannot be sealed anew", "error", err.text);
        made = rc == 0;
        failed |= rc < 0;
        type_clear(&authority_type, &payload.authority);
    }
    a->refused = failed;
    return made;
}

static void lead(struct authorities *a, const struct authority_list *all)
{
    struct control *c = a->c;
    if (a->proposing || time_monotonic_ms() < a->after_ms || !consensus_lease_ms(c->consensus) ||
        core_level(c->core) < command_kind_level(COMMAND_AUTHORITY_SET) || !vault_ready(c))
        return;
    if (!issue_signing(all))
        make_first(a);
    else if (!reseal(a, all))
        lead_on(a, all);
}

/* --- all servers --- */

static void write_cache(struct authorities *a, const struct access *access, const char *mark)
{
    if (a->cached_index == access->modify_index)
        return;
    CLEANUP_FREE char *path = cache_path(a->c->config);
    CLEANUP_BUF struct buf bytes = {0};
    struct authority_cache cache = {.authorities = access->authorities, .revoked = access->revoked,
                                    .mark = (char *)(uintptr_t)mark};      /* borrowed */
    struct error err;
    type_encode(&authority_cache_type, &cache, &bytes);
    bool same = bytes.len == a->cached.len && !memcmp(bytes.data, a->cached.data, bytes.len);      /* tokens and roles changed */
    if (!same && file_write(path, bytes.data, bytes.len, 0600, &err)) {
        LOG_W("the authorities cannot be kept", "error", err.text);
        return;
    }
    a->cached_index = access->modify_index;
    buf_free(&a->cached);
    a->cached = bytes;
    bytes = (struct buf){0};
}

/* Its key comes first, from another server. */
static void renew(struct authorities *a, const struct access *access, const char *mark)
{
    struct control *c = a->c;
    struct error err;
    if (!vault_ready(c) || time_monotonic_ms() < a->after_ms)
        return;
    if (give_itself(a->tls, access, mark, vault_ring(c), c->config, &err)) {
        LOG_E("this server cannot make itself a certificate", "error", err.text);
        a->after_ms = time_monotonic_ms() + AGAIN_MS;
        return;
    }
    authority_use(c);
}

static void on_timer(uv_timer_t *timer)
{
    struct authorities *a = timer->data;
    struct control *c = a->c;
    char mark[CERTIFICATE_MARK_SIZE];
    if (!c->consensus || c->stopping)
        return;
    const struct access *access = core_access(c->core);
    if (c->role == CONSENSUS_LEADER)
        lead(a, &access->authorities);
    core_certificate_mark(c->core, mark);
    if (!*mark)
        return;
    write_cache(a, access, mark);
    const struct credentials *own = &a->tls->credentials;
    if (!own->mark || strcmp(own->mark, mark) || time_now_ms() >= own->renew_at_ms)
        renew(a, access, mark);
}

const struct str_list *authority_names(const struct control *c)
{
    return &c->authorities->tls->names;
}

int64_t authority_revoked_until(const struct control *c, const struct certificate_state *known)
{
    if (!c->tls || core_level(c->core) < REVOKE_LEVEL)
        return 0;
    int64_t life = c->config->tls == TLS_AUTO ? c->config->certificate_lifetime_ms : OPERATORS_LIFE_MS, until = time_now_ms() + life;
    return known->until > until ? known->until : until;
}

const char *authority_hash(const struct control *c)
{
    const struct authority *a = issue_signing(&core_access(c->core)->authorities);
    return a ? a->id : NULL;
}

void authority_start(struct control *c, struct own_tls *tls)
{
    if (!tls)
        return;
    struct authorities *a = NEW(struct authorities);
    *a = (struct authorities){.c = c, .tls = tls};
    c->authorities = a;
    c->credentials = &tls->credentials;
    uv_timer_init(c->loop, &a->timer);
    a->timer.data = a;
    uv_timer_start(&a->timer, on_timer, LOOK_MS, LOOK_MS);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct authorities *a = handle->data;
    buf_free(&a->cached);
    forget_founding(a);
    free(a);
}

void authority_stop(struct control *c)
{
    if (c->authorities)
        uv_close((uv_handle_t *)&steal(&c->authorities)->timer, on_timer_closed);
}
