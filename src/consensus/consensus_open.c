/* Consensus, its start: the directory's content becomes raft's, and both get to know what they call. */
#include <string.h>

#include "base/log.h"
#include "consensus/consensus_internal.h"

#define WINDOW_BYTES (1u << 20)
#define MESSAGE_BYTES (256u * 1024)
#define COMMAND_BYTES_MAX (32u << 20)   /* half of what a message may have */

/* --- raft's driver --- */

static struct consensus *of_driver(struct raft_driver *driver)
{
    return container_of(driver, struct consensus, driver);
}

static void driver_persist(struct raft_driver *driver, uint64_t term, uint64_t vote)
{
    struct consensus *c = of_driver(driver);
    if (!c->dead)
        storage_persist(c->storage, term, vote);
}

void consensus_send(struct consensus *c, uint64_t to, const struct message *m)
{
    if (c->dead || !c->host->network)
        return;
    struct buf bytes = {0};
    message_encode(&bytes, m);
    c->host->network->send(c->host->network, to, &bytes);
}

static void driver_send(struct raft_driver *driver, uint64_t to, const struct message *m)
{
    consensus_send(of_driver(driver), to, m);
}

static size_t driver_room(struct raft_driver *driver, uint64_t to)
{
    struct network *network = of_driver(driver)->host->network;
    return network ? network->room(network, to) : 0;
}

static void driver_truncated(struct raft_driver *driver, uint64_t index)
{
    storage_log_truncated(of_driver(driver)->storage, index);
}

static uint64_t driver_random(struct raft_driver *driver, uint64_t limit)
{
    struct storage_host *host = &of_driver(driver)->host->storage;
    return host->random(host, limit);
}

static bool driver_state_hash(struct raft_driver *driver, uint64_t *index, uint64_t *hash)
{
    struct consensus *c = of_driver(driver);
    const struct state_hash *h = &c->hashes[c->raft.applied % HASHES];
    if (!h->index || h->index != c->raft.applied)
        return false;
    *index = h->index;
    *hash = h->hash;
    return true;
}

/* --- the storage --- */

static void stored(void *ctx, uint64_t index)
{
    struct consensus *c = ctx;
    raft_stored(&c->raft, index);
    consensus_wake(c);
}

static void storage_died(void *ctx, const struct error *err)
{
    consensus_fatal(ctx, err);
}

static void installed(void *ctx)
{
    snapshot_receive_installed(ctx);
}

/* --- start --- */

static const struct storage_callbacks storage_callbacks = {
    .stored = stored,
    .fatal = storage_died,
    .snapshot_written = consensus_snapshot_written,
    .installed = installed,
};

static void set_defaults(struct consensus_options *o)
{
#define DEFAULT(field, value) \
    if (!o->field) \
        o->field = value
    DEFAULT(election_timeout_ms, 500);
    DEFAULT(heartbeat_ms, 50);
    DEFAULT(segment_bytes, 8u << 20);
    DEFAULT(snapshot_after_bytes, 32u << 20);
    DEFAULT(trailing_entries, 1024);
    DEFAULT(reserve_bytes, 32u << 20);
    DEFAULT(max_command_bytes, 4u << 20);
    DEFAULT(max_pending, 65536);
#undef DEFAULT
    if (o->heartbeat_ms > o->election_timeout_ms / 4)
        o->heartbeat_ms = o->election_timeout_ms / 4 ? o->election_timeout_ms / 4 : 1;
    if (o->max_command_bytes > o->segment_bytes / 2)
        o->max_command_bytes = o->segment_bytes / 2;
    if (o->max_command_bytes > COMMAND_BYTES_MAX)
        o->max_command_bytes = COMMAND_BYTES_MAX;
}

/* An empty directory becomes a cluster of this one voter, durably, before anything else. */
static int bootstrap(struct consensus *c, struct storage_contents *contents, struct error *err)
{
    CLEANUP_BUF struct buf bytes = {0};
    struct membership alone = {0};
    membership_add(&alone, storage_server_id(c->storage), c->address, true);
    membership_encode(&bytes, &alone);
    membership_clear(&alone);
    contents->term = 1;
    contents->vote = 0;
    return storage_append_now(c->storage, &contents->log, 1, ENTRY_MEMBERSHIP, bytes.data, (uint32_t)bytes.len, err);
}

static bool is_pristine(const struct storage_contents *contents)
{
    return !contents->snapshot.id.index && !raft_log_last(&contents->log) && contents->term <= 1;
}

/* Every entry's membership, oldest first. */
static int load_memberships(struct consensus *c, struct error *err)
{
    struct raft *r = &c->raft;
    for (uint64_t i = r->snapshot_index + 1; i <= raft_log_last(&r->log); i++) {
        const struct entry *e = raft_log_entry(&r->log, i);
        struct membership membership = {0};
        if (e->type != ENTRY_MEMBERSHIP)
            continue;
        if (membership_decode(e->bytes, e->len, &membership, err) < 0)
            return error_context(err, "entry %llu of the log", (unsigned long long)i);
        raft_add_membership(r, i, membership);
    }
    return 0;
}

static int start_raft(struct consensus *c, struct storage_contents *contents, struct error *err)
{
    c->driver = (struct raft_driver){.persist = driver_persist, .send = driver_send, .room = driver_room,
                                     .truncated = driver_truncated, .random = driver_random,
                                     .state_hash = driver_state_hash};
    struct raft_options options = {.id = storage_server_id(c->storage),
                                   .election_timeout_ms = c->options.election_timeout_ms,
                                   .heartbeat_ms = c->options.heartbeat_ms,
                                   .window_bytes = c->host->window_bytes ? c->host->window_bytes : WINDOW_BYTES,
                                   .message_bytes = c->host->message_bytes ? c->host->message_bytes : MESSAGE_BYTES};
    struct raft *r = &c->raft;
    raft_init(r, &options, &c->driver);
    c->initialised = true;
    r->term = c->role_term = contents->term;
    r->vote = contents->vote;
    raft_log_clear(&r->log);
    r->log = contents->log;
    raft_log_init(&contents->log);
    r->stored = raft_log_last(&r->log);
    r->snapshot_index = contents->snapshot.id.index;
    r->snapshot_term = contents->snapshot.id.term;
    if (r->snapshot_index) {
        raft_add_membership(r, contents->snapshot.membership_index, contents->snapshot.membership);
        contents->snapshot.membership = (struct membership){0};
        void *state = consensus_read_state(c, &contents->snapshot, err);
        if (!state)
            return -1;
        c->options.callbacks->free_state(c->options.ctx, consensus_use_state(c, r->snapshot_index, state));
    }
    return load_memberships(c, err);
}

static int open_storage(struct consensus *c, struct storage_contents *contents, struct error *err)
{
    struct storage_options storage = {.host = &c->host->storage, .callbacks = &storage_callbacks, .ctx = c,
                                      .server_id = c->options.server_id, .cluster_id = c->options.cluster_id,
                                      .must_join = c->options.listen && !c->options.bootstrap,
                                      .segment_bytes = c->options.segment_bytes,
                                      .reserve_bytes = c->options.reserve_bytes,
                                      .trailing = c->options.trailing_entries};
    if (storage_open(&c->storage, &storage, contents, err) < 0)
        return -1;
    return c->options.bootstrap && is_pristine(contents) ? bootstrap(c, contents, err) : 0;
}

/* The only voter: everything that its log holds is committed with the term's first entry. Whoever uses this server finds
 * a leader. (Without space for it, the entry waits, as all others do.) */
static int lead_at_once(struct consensus *c, struct error *err)
{
    uint64_t index = raft_log_last(&c->raft.log);
    int rv = storage_write_now(c->storage, raft_log_entry(&c->raft.log, index), err);
    if (rv != 0)
        return rv < 0 ? -1 : 0;
    raft_stored(&c->raft, index);
    consensus_apply_committed(c, UINT64_MAX);
    return 0;
}

int consensus_open(struct consensus **out, const struct consensus_options *options, struct consensus_host *host,
                   struct error *err)
{
    struct consensus *c = NEW(struct consensus);
    c->options = *options;
    set_defaults(&c->options);
    c->address = mem_strdup(options->address);
    c->release = mem_strdup(options->release);
    c->host = host;
    STAILQ_INIT(&c->waiting);
    STAILQ_INIT(&c->flight);
    STAILQ_INIT(&c->barriers);
    STAILQ_INIT(&c->in_barrier);
    STAILQ_INIT(&c->answers);
    STAILQ_INIT(&c->changes);
    LIST_INIT(&c->senders);
    struct storage_contents contents = {0};
    raft_log_init(&contents.log);
    int rv = open_storage(c, &contents, err);
    if (rv == 0)
        rv = start_raft(c, &contents, err);
    storage_contents_clear(&contents);
    if (rv == 0)
        raft_start(&c->raft, consensus_now_ms(c));
    if (rv == 0 && c->raft.role == RAFT_LEADER)
        rv = lead_at_once(c, err);
    if (rv < 0) {
        consensus_free(c);
        return -1;
    }
    *out = c;
    storage_begin(c->storage, &c->raft.log);
    consensus_wake(c);   /* the first turn announces the role */
    return 0;
}
