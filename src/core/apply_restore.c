/* Restore: a snapshot of another time, or of another cluster, takes the place of the state.
 *
 * Its pieces come through the log and are kept aside (in snapshots too), so that the last command does the same on every
 * server. The servers themselves, their join tokens, the authorities, what is revoked, which nodes may take requests from
 * outside and the keys of requests stay those of this cluster. Indexes jump
 * over all that anybody can have seen of either history, and each agent is told everything anew: so agents and clients
 * go on as if time had. */
#include <inttypes.h>
#include <string.h>

#include "base/base64.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "core/apply.h"
#include "core/ingress_right.h"
#include "core/keys.h"

#define UPLOAD_MOST (1u << 30)
#define UPLOAD_KEPT_MS (3600 * 1000LL)
#define CLUSTERS_MOST 64
#define INDEX_GAP 1000000u             /* beyond what the lost history can have reached behind the snapshot */

void staging_drop(struct core *c)
{
    free(c->staging.upload);
    buf_free(&c->staging.bytes);
    c->staging = (struct staging){0};
}

void staging_expire(struct core *c)
{
    if (c->staging.upload && c->staging.at + UPLOAD_KEPT_MS < c->now)
        staging_drop(c);
}

static bool is_upload(const struct core *c, const char *upload)
{
    return upload && c->staging.upload && strcmp(upload, c->staging.upload) == 0;
}

int apply_restore_chunk(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_restore_chunk *p = payload;
    if (!p->upload || !*p->upload || p->offset < 0)
        return error_set(err, ERROR_INVALID, "a piece of a snapshot needs its upload and its place");
    if (!is_upload(c, p->upload) && p->offset == 0) {
        staging_drop(c);
        c->staging.upload = mem_strdup(p->upload);
    }
    struct buf *bytes = &c->staging.bytes;
    if (!is_upload(c, p->upload) || (uint64_t)p->offset > bytes->len)
        return error_set(err, ERROR_CONFLICT, "the upload of the snapshot was given up; send it again");
    if ((uint64_t)p->offset < bytes->len)          /* repeated */
        return 0;
    if (!p->data || !base64_read(p->data, bytes))
        return error_set(err, ERROR_CORRUPT, "a piece of the snapshot is damaged");
    c->staging.at = c->now;
    if (bytes->len <= UPLOAD_MOST)
        return 0;
    staging_drop(c);
    return error_set(err, ERROR_TOO_LARGE, "the snapshot is larger than %u MiB", UPLOAD_MOST >> 20);
}

/* What stays when the state is replaced. */
struct kept {
    uint64_t index, hash, log_index;
    int64_t now;
    const char *actor;
    struct core members;               /* only its members, tokens, keys, clusters and authorities are used */
};

static void keep(struct core *c, struct kept *k)
{
    struct token_entry *t;
    *k = (struct kept){.index = c->index, .hash = c->hash, .log_index = c->index - c->ahead, .now = c->now,
                       .actor = c->actor};
    TAILQ_INIT(&k->members.tokens);
    TAILQ_INIT(&k->members.key_order);
    k->members.members = c->members;
    RB_INIT(&c->members);
    k->members.clusters = c->clusters;
    c->clusters = (struct str_list){0};
    while ((t = TAILQ_FIRST(&c->tokens))) {
        TAILQ_REMOVE(&c->tokens, t, link);
        TAILQ_INSERT_TAIL(&k->members.tokens, t, link);
    }
    k->members.access.authorities = c->access.authorities;
    c->access.authorities = (struct authority_list){0};
    k->members.access.revoked = c->access.revoked;
    c->access.revoked = (struct revocation_list){0};
    k->members.access.ingress_nodes = c->access.ingress_nodes;
    c->access.ingress_nodes = (struct kv_list){0};
    struct key_entry *key;
    while ((key = keys_take(c)))
        TAILQ_INSERT_TAIL(&k->members.key_order, key, link);
}

static void put_back(struct core *c, struct kept *k)
{
    struct member_entry *m;
    while ((m = RB_MIN(member_tree, &c->members)))
        state_remove_member(c, m);
    struct token_entry *t;
    while ((t = TAILQ_FIRST(&c->tokens)))
        state_remove_token(c, t);
    c->members = k->members.members;
    while ((t = TAILQ_FIRST(&k->members.tokens))) {
        TAILQ_REMOVE(&k->members.tokens, t, link);
        TAILQ_INSERT_TAIL(&c->tokens, t, link);
    }
    /* Agents of this cluster are agents of the restored state too. */
    for (uint32_t i = 0; i < k->members.clusters.n; i++)
        if (!state_is_cluster(c, k->members.clusters.v[i]) && c->clusters.n < CLUSTERS_MOST)
            str_list_add(&c->clusters, k->members.clusters.v[i]);
    str_list_clear(&k->members.clusters);
    list_clear((struct list *)&c->access.authorities, &authority_type);
    c->access.authorities = k->members.access.authorities;
    list_clear((struct list *)&c->access.revoked, &revocation_type);
    c->access.revoked = k->members.access.revoked;
    kv_clear(&c->access.ingress_nodes);
    c->access.ingress_nodes = k->members.access.ingress_nodes;
    struct key_entry *key, *same;
    while ((key = TAILQ_FIRST(&k->members.key_order))) {
        TAILQ_REMOVE(&k->members.key_order, key, link);
        if ((same = keys_find(c, key->key)))
            keys_remove(c, same);
        keys_add(c, key);
    }
}

static void touch_all(struct core *c)
{
    struct node_entry *n;
    struct service_entry *s;
    struct alloc_entry *a;
    struct job_entry *j;
    RB_FOREACH(n, node_id_tree, &c->nodes) {
        n->gone_floor = n->work_index = c->index;      /* whatever an agent knows of is answered with everything */
        n->network_index = c->index;
        n->ingress_applied = 0;                        /* its proxy follows a table of the other history */
        state_touch_node(c, n);
    }
    RB_FOREACH(a, alloc_id_tree, &c->allocs) {
        str_list_clear(&a->idle_at);
        state_touch_alloc(c, a);
    }
    RB_FOREACH(s, service_tree, &c->services)
        state_touch_service(c, s);
    RB_FOREACH(j, job_tree, &c->jobs)
        j->modify_index = c->index;
    state_touch_members(c);
    for (size_t i = 0; i < ARRAY_LEN(c->changed); i++)
        c->changed[i] = c->index;
}

int apply_restore(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_restore *p = payload;
    const struct buf *bytes = &c->staging.bytes;
    if (!is_upload(c, p->upload) || p->size < 0 || (uint64_t)p->size != bytes->len)
        return error_set(err, ERROR_CONFLICT, "the upload of the snapshot is not complete; send it again");
    if (hash_bytes(bytes->data ? bytes->data : "", bytes->len, 0) != p->hash) {
        staging_drop(c);
        return error_set(err, ERROR_CORRUPT, "the snapshot was damaged on its way; send it again");
    }
    struct staging staging = c->staging;
    c->staging = (struct staging){0};
    struct kept kept;
    ingress_right_before_restore(c);
    keep(c, &kept);
    int rc = core_restore(c, staging.bytes.data, staging.bytes.len, err);
    if (rc == 0)
        staging_drop(c);                               /* one that the snapshot itself was taken in the middle of */
    put_back(c, &kept);
    uint64_t from = c->index;
    c->staging = staging;
    staging_drop(c);
    if (rc)
        return -1;
    c->index = (from > kept.index ? from : kept.index) + INDEX_GAP;
    c->ahead = c->index - kept.log_index;
    c->hash = kept.hash;
    c->now = kept.now;
    c->actor = kept.actor;
    c->event_seq = 0;
    ingress_right_restored(c);
    touch_all(c);
    char at[TIME_TEXT_SIZE];
    time_format(at, p->taken_at);
    state_event(c, (struct event_text){.kind = "cluster", .subject = "state", .to = "restored"},
                "the state of %s was restored; its index was %" PRIu64, at, from);
    buf_printf(body, "{\"index\":%" PRIu64 "}", c->index);
    return 0;
}
