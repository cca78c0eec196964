/* A directory that no process uses: looking into it, and recovery from the loss of a majority. */
#include "base/log.h"
#include "consensus/consensus_internal.h"

static uint64_t no_time(struct storage_host *host) { return 0; }
static uint64_t no_random(struct storage_host *host, uint64_t limit) { return 0; }

struct opened {
    struct storage_host host;
    struct storage *storage;
    struct storage_contents contents;
    struct membership membership;   /* the newest of the log */
};

static void close_directory(struct opened *o)
{
    membership_clear(&o->membership);
    storage_contents_clear(&o->contents);
    if (o->storage)
        storage_free(o->storage);
}

static int newest_membership(struct opened *o, struct error *err)
{
    o->membership = membership_copy(&o->contents.snapshot.membership);
    const struct raft_log *log = &o->contents.log;
    for (uint64_t i = log->first; i <= raft_log_last(log); i++) {
        const struct entry *e = raft_log_entry(log, i);
        if (e->type != ENTRY_MEMBERSHIP || i <= o->contents.snapshot.id.index)
            continue;
        membership_clear(&o->membership);
        if (membership_decode(e->bytes, e->len, &o->membership, err) < 0)
            return error_context(err, "entry %llu of the log", (unsigned long long)i);
    }
    return 0;
}

/* Fails with NOT_FOUND when nothing was stored there yet. */
static int open_directory(struct opened *o, struct disk *disk, struct error *err)
{
    *o = (struct opened){.host = {.disk = disk, .now_ms = no_time, .random = no_random}};
    struct metadata metadata;
    if (metadata_load(disk, &metadata, err) < 0)
        return -1;
    if (!metadata.server_id && storage_check_empty(disk, err) < 0)
        return -1;
    if (!metadata.server_id)
        return error_set(err, ERROR_NOT_FOUND, "%s holds no server's state", disk->place);
    struct storage_options options = {.host = &o->host, .segment_bytes = 8u << 20, .trailing = 1};
    if (storage_open(&o->storage, &options, &o->contents, err) < 0 || newest_membership(o, err) < 0) {
        close_directory(o);
        return -1;
    }
    return 0;
}

int consensus_inspect_disk(struct disk *disk, struct consensus_directory *out, struct error *err)
{
    struct opened o;
    struct error why;
    *out = (struct consensus_directory){0};
    if (open_directory(&o, disk, &why) < 0) {
        if (why.code == ERROR_NOT_FOUND)
            return 0;
        *err = why;
        return -1;
    }
    uint64_t id = storage_server_id(o.storage);
    const struct member *self = membership_find(&o.membership, id);
    *out = (struct consensus_directory){
        .server_id = id,
        .cluster_id = storage_cluster_id(o.storage),
        .term = o.contents.term,
        .last_index = raft_log_last(&o.contents.log),
        .last_term = raft_log_last_term(&o.contents.log),
        .snapshot_index = o.contents.snapshot.id.index,
        .voters = membership_voters(&o.membership),
        .self = !self ? CONSENSUS_NO_MEMBER : self->voter ? CONSENSUS_VOTER : CONSENSUS_STANDBY,
    };
    close_directory(&o);
    return 0;
}

int consensus_recover_disk(struct disk *disk, const char *address, struct error *err)
{
    struct opened o;
    if (open_directory(&o, disk, err) < 0)
        return -1;
    if (!raft_log_last(&o.contents.log)) {
        close_directory(&o);
        return error_set(err, ERROR_CONFLICT, "%s holds nothing of the cluster's state", disk->place);
    }
    struct membership alone = {0};
    membership_add(&alone, storage_server_id(o.storage), address, true);
    CLEANUP_BUF struct buf bytes = {0};
    membership_encode(&bytes, &alone);
    membership_clear(&alone);
    int rv = storage_append_now(o.storage, &o.contents.log, o.contents.term + 1, ENTRY_MEMBERSHIP, bytes.data,
                                (uint32_t)bytes.len, err);
    close_directory(&o);
    return rv;
}
