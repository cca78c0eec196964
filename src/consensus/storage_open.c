/* Start: metadata says whose directory it is; the newest whole snapshot and the log must fit together; the library then
 * asks for both (raft_io.load) or, in a new directory, stores the first configuration (raft_io.bootstrap). */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "consensus/storage_internal.h"

/* Ids fit into a JSON number. */
static uint64_t new_id(void)
{
    uint64_t id;
    do {
        random_system(&id, sizeof id);
        id >>= 11;
    } while (!id);
    return id;
}

static void find_data(void *ctx, const char *name)
{
    if (text_has_prefix(name, "log-") || text_has_prefix(name, "snapshot-"))
        *(bool *)ctx = true;
}

static int open_metadata(struct storage *s, struct error *err)
{
    const struct storage_options *o = &s->options;
    if (metadata_load(s->disk, &s->metadata, err) < 0)
        return -1;
    struct metadata *m = &s->metadata;
    if (!m->server_id) {
        bool data = false;
        int rv = s->disk->op->list(s->disk, find_data, &data);
        if (rv < 0)
            return error_set_errno(err, -rv, "cannot list %s", s->disk->place);
        if (data)
            return error_set(err, ERROR_CORRUPT, "%s holds a log but meta-1 and meta-2 are missing: restore them, or "
                             "start with an empty directory", s->disk->place);
        m->server_id = o->server_id ? o->server_id : new_id();
        m->cluster_id = o->cluster_id ? o->cluster_id : new_id();
        return metadata_store(s->disk, m, err);
    }
    if (o->cluster_id && o->cluster_id != m->cluster_id)
        return error_set(err, ERROR_CONFLICT, "%s belongs to cluster %llu, not to %llu: give the right directory, or an "
                         "empty one", s->disk->place, (unsigned long long)m->cluster_id,
                         (unsigned long long)o->cluster_id);
    if (o->server_id && o->server_id != m->server_id)
        return error_set(err, ERROR_CONFLICT, "%s belongs to server %llu, not to %llu: a server never takes over "
                         "another one's directory", s->disk->place, (unsigned long long)m->server_id,
                         (unsigned long long)o->server_id);
    return 0;
}

/* At the start nobody waits for the loop: writes one record and returns when it is durable. */
static int write_now(struct storage *s, struct record *record)
{
    struct journal_write w = {0};
    if (!journal_put(s->journal, &w, record)) {
        int rv = journal_prepare_file_now(s->journal);
        if (rv < 0)
            return rv;
        INVARIANT(journal_put(s->journal, &w, record));
    }
    int rv = s->disk->op->write(s->disk, w.file, w.bytes.data, w.bytes.len, w.offset);
    if (rv == 0)
        rv = s->disk->op->sync(s->disk, w.file);
    buf_free(&w.bytes);
    return rv;
}

static uint64_t next_index(const struct journal_contents *c)
{
    return c->first_index + c->n;
}

static int missing(struct storage *s, uint64_t from, uint64_t to, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s lacks the log's entries %llu to %llu: a snapshot or log file is missing or "
                     "damaged. Restore the directory from a backup; with other voters alive, remove this server from the "
                     "cluster and add it again with an empty directory", s->disk->place, (unsigned long long)from,
                     (unsigned long long)to);
}

/* The log of before an installed snapshot ends before it, or holds another history. */
static bool log_is_stale(const struct journal_contents *c, const struct raft_snapshot *snapshot)
{
    if (next_index(c) <= snapshot->index)
        return true;
    return snapshot->index >= c->first_index && c->entries[snapshot->index - c->first_index].term != snapshot->term;
}

static int fit_log_to_snapshot(struct storage *s, struct error *err)
{
    struct journal_contents *c = &s->contents;
    uint64_t snapshot = s->loaded ? s->loaded->index : 0;
    if (c->first_index > snapshot + 1)
        return missing(s, snapshot + 1, c->first_index - 1, err);
    if (!s->loaded && c->n && c->entries[0].type != RAFT_CHANGE)
        return error_set(err, ERROR_CORRUPT, "%s: the log does not begin with a configuration", s->disk->place);
    if (!s->loaded || !log_is_stale(c, s->loaded))
        return 0;
    LOG_I("the snapshot replaces an older log", "snapshot", LOG_U64(snapshot), "log_end", LOG_U64(next_index(c) - 1));
    struct record reset = {.type = RECORD_RESET, .index = snapshot + 1};
    int rv = write_now(s, &reset);
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot write the log in %s", s->disk->place);
    journal_contents_free(c);
    c->first_index = snapshot + 1;
    return 0;
}

/* Entries far behind the snapshot stay on disk only. */
static void trim(struct storage *s)
{
    struct journal_contents *c = &s->contents;
    uint64_t snapshot = s->loaded ? s->loaded->index : 0;
    uint64_t keep = snapshot > s->options.trailing ? snapshot - s->options.trailing + 1 : 1;
    size_t drop = keep > c->first_index ? keep - c->first_index : 0;
    if (drop > c->n)
        drop = c->n;
    for (size_t i = 0; i < drop; i++)
        raft_free(c->entries[i].buf.base);
    c->n -= drop;
    c->first_index += drop;
    if (drop)
        memmove(c->entries, c->entries + drop, c->n * sizeof c->entries[0]);
    for (size_t i = 0; i < c->n; i++)
        if (c->first_index + i > snapshot)
            s->stats.log_position += record_size(c->entries[i].buf.len);
}

static int open_log(struct storage *s, struct error *err)
{
    struct record_place place = {s->metadata.cluster_id, s->metadata.server_id, 0};
    if (journal_open(&s->journal, s->disk, &place, s->options.segment_bytes, &s->contents, err) < 0)
        return -1;
    if (!journal_has_file(s->journal)) {
        /* The first file is made before the first term or entry. */
        if (s->loaded || s->metadata.term)
            return error_set(err, ERROR_CORRUPT, "%s: the log's files are missing: restore the directory from a backup",
                             s->disk->place);
        int rv = journal_prepare_file_now(s->journal);
        if (rv < 0)
            return error_set_errno(err, -rv, "cannot make a log file of %llu bytes in %s",
                                   (unsigned long long)s->options.segment_bytes, s->disk->place);
    }
    return fit_log_to_snapshot(s, err);
}

int storage_open(struct storage **out, const struct storage_options *options, struct error *err)
{
    CLEANUP(storage_free) struct storage *s = NEW(struct storage);
    s->options = *options;
    s->disk = options->host->disk;
    STAILQ_INIT(&s->items);
    LIST_INIT(&s->gets);
    s->contents.first_index = 1;
    s->put.storage = s;
    storage_io_set(s);
    unsigned damaged;
    if (open_metadata(s, err) < 0 ||
        snapshot_load_newest(s->disk, s->metadata.cluster_id, &s->loaded, &damaged, err) < 0 || open_log(s, err) < 0)
        return -1;
    if (s->loaded)
        s->stats.snapshot_index = s->loaded->index;
    int n = snapshot_list(s->disk, s->snapshots, SNAPSHOTS_KEPT);
    if (n < 0)
        return error_set_errno(err, -n, "cannot list %s", s->disk->place);
    trim(s);
    s->next_index = next_index(&s->contents);
    s->stats.log_bytes = journal_bytes_on_disk(s->journal);
    *out = steal(&s);
    return 0;
}

bool storage_is_pristine(const struct storage *s)
{
    return !s->loaded && !s->contents.n && s->contents.first_index == 1 && s->metadata.term <= 1;
}

int storage_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                 raft_index *start_index, struct raft_entry **entries, size_t *n)
{
    struct storage *s = io->impl;
    *term = s->metadata.term;
    *voted_for = s->metadata.vote;
    *snapshot = steal(&s->loaded);
    *start_index = s->contents.first_index;
    *entries = steal(&s->contents.entries);
    *n = s->contents.n;
    s->contents.n = 0;
    if (!*n) {
        raft_free(*entries);
        *entries = NULL;
    }
    return 0;
}

int storage_bootstrap(struct raft_io *io, const struct raft_configuration *configuration)
{
    struct storage *s = io->impl;
    if (!storage_is_pristine(s))
        return RAFT_CANTBOOTSTRAP;
    struct raft_buffer bytes;
    if (raft_configuration_encode(configuration, &bytes) != 0)
        return RAFT_NOMEM;
    struct error err;
    s->metadata.term = 1;
    s->metadata.vote = 0;
    if (metadata_store(s->disk, &s->metadata, &err) < 0) {
        raft_free(bytes.base);
        storage_fatal(s, &err);
        return RAFT_IOERR;
    }
    struct record record = {.type = RAFT_CHANGE, .term = 1, .index = 1, .len = (uint32_t)bytes.len, .bytes = bytes.base};
    int rv = write_now(s, &record);
    if (rv < 0) {
        raft_free(bytes.base);
        error_set_errno(&err, -rv, "cannot write the log in %s", s->disk->place);
        storage_fatal(s, &err);
        return RAFT_IOERR;
    }
    s->contents.entries = raft_malloc(sizeof s->contents.entries[0]);
    INVARIANT(s->contents.entries);
    s->contents.entries[0] = (struct raft_entry){.term = 1, .type = RAFT_CHANGE, .buf = bytes};
    s->contents.n = 1;
    s->next_index = 2;
    return 0;
}
