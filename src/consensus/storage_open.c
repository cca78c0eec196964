/* Start: metadata says whose directory it is; the newest whole snapshot and the log must fit together. */
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

int storage_check_empty(struct disk *disk, struct error *err)
{
    bool data = false;
    int rv = disk->op->list(disk, find_data, &data);
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot list %s", disk->place);
    return data ? disk_refuse(disk, err, "there are log-* or snapshot-* files, but meta-1 and meta-2 are missing") : 0;
}

static int open_metadata(struct storage *s, struct error *err)
{
    const struct storage_options *o = &s->options;
    if (metadata_load(s->disk, &s->metadata, err) < 0)
        return -1;
    struct metadata *m = &s->metadata;
    if (!m->server_id) {
        if (storage_check_empty(s->disk, err) < 0)
            return -1;
        if (o->must_join && !o->cluster_id)
            return error_set(err, ERROR_INVALID, "%s is empty: this server must make a cluster or join one first",
                             s->disk->place);
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

/* At the start nobody waits for the loop: writes one record and returns 0 when it is durable. 1: there is no space for the
 * next file, nothing was done. A negative errno: the journal must not be used any more. */
static int write_now(struct storage *s, struct record *record)
{
    struct journal_write w = {0};
    while (!journal_put(s->journal, &w, record)) {
        int rv = w.bytes.len ? journal_write_now(s->journal, &w) : journal_prepare_file_now(s->journal);
        if (rv < 0)
            return rv == -ENOSPC || rv == -EDQUOT ? 1 : rv;
    }
    return journal_write_now(s->journal, &w);
}

static int check_written(struct storage *s, int rv, struct error *err)
{
    return rv ? error_set_errno(err, rv > 0 ? ENOSPC : -rv, "cannot write the log in %s", s->disk->place) : 0;
}

static int missing(struct storage *s, uint64_t from, uint64_t to, struct error *err)
{
    return disk_refuse(s->disk, err, "the log's entries %llu to %llu are not there: a snapshot-* or log-* file is missing or "
                       "damaged", (unsigned long long)from, (unsigned long long)to);
}

/* The log of before an installed snapshot ends before it, or holds another history. */
static bool log_is_stale(const struct raft_log *log, const struct snapshot_id *snapshot)
{
    if (raft_log_last(log) < snapshot->index)
        return true;
    const struct entry *same = raft_log_entry(log, snapshot->index);
    return same && same->term != snapshot->term;
}

/* The term is stored before anything of it. */
static int check_term(const struct storage *s, const struct storage_contents *c, struct error *err)
{
    uint64_t log = raft_log_last_term(&c->log), newest = log > c->snapshot.id.term ? log : c->snapshot.id.term;
    if (newest <= s->metadata.term)
        return 0;
    return disk_refuse(s->disk, err, "meta-1 and meta-2 are older than the log: they know of term %llu, it of term %llu",
                       (unsigned long long)s->metadata.term, (unsigned long long)newest);
}

static int fit_log_to_snapshot(struct storage *s, struct storage_contents *c, struct error *err)
{
    struct raft_log *log = &c->log;
    const struct snapshot_id *snapshot = &c->snapshot.id;
    if (log->first > snapshot->index + 1)
        return missing(s, snapshot->index + 1, log->first - 1, err);
    if (!snapshot->index && log->n && raft_log_entry(log, 1)->type != ENTRY_MEMBERSHIP)
        return disk_refuse(s->disk, err, "the log does not begin with a membership");
    if (!snapshot->index || !log_is_stale(log, snapshot))
        return 0;
    LOG_I("the snapshot replaces an older log", "snapshot", LOG_U64(snapshot->index), "log_end",
          LOG_U64(raft_log_last(log)));
    struct record reset = {.type = RECORD_RESET, .index = snapshot->index + 1};
    if (check_written(s, write_now(s, &reset), err) < 0)
        return -1;
    raft_log_reset(log, snapshot->index, snapshot->term);
    return 0;
}

/* Entries far behind the snapshot stay on disk only. The first that stays has a known term before it. */
static void trim(struct storage *s, struct storage_contents *c)
{
    struct raft_log *log = &c->log;
    uint64_t snapshot = c->snapshot.id.index;
    if (log->first == snapshot + 1) {
        log->before_term = c->snapshot.id.term;
    } else {
        uint64_t keep = snapshot > s->options.trailing ? snapshot - s->options.trailing + 1 : 1;
        raft_log_trim(log, keep > log->first ? keep : log->first + 1);
    }
    for (uint64_t i = snapshot + 1; i <= raft_log_last(log); i++)
        s->stats.log_position += record_size(raft_log_entry(log, i)->len);
}

static int open_log(struct storage *s, struct storage_contents *c, struct error *err)
{
    struct record_place place = {s->metadata.cluster_id, s->metadata.server_id, 0};
    struct journal_contents journal = {0};
    if (journal_open(&s->journal, s->disk, &place, s->options.segment_bytes, &journal, err) < 0)
        return -1;
    c->log = journal.log;
    if (!journal_has_file(s->journal)) {
        /* The first file is made before the first term or entry. */
        if (c->snapshot.id.index || s->metadata.term)
            return disk_refuse(s->disk, err, "all log-* files are missing");
        int rv = journal_prepare_file_now(s->journal);
        if (rv < 0)
            return error_set_errno(err, -rv, "cannot make a log file of %llu bytes in %s",
                                   (unsigned long long)s->options.segment_bytes, s->disk->place);
    }
    return check_term(s, c, err) < 0 ? -1 : fit_log_to_snapshot(s, c, err);
}

void storage_contents_clear(struct storage_contents *c)
{
    raft_log_clear(&c->log);
    snapshot_clear(&c->snapshot);
    *c = (struct storage_contents){.log = c->log};
}

static int open_all(struct storage *s, struct storage_contents *c, struct error *err)
{
    unsigned damaged;
    s->disk->op->unlink(s->disk, SNAPSHOT_INCOMING);   /* of an earlier life */
    if (open_metadata(s, err) < 0 ||
        snapshot_load_newest(s->disk, s->metadata.cluster_id, &c->snapshot, &damaged, err) < 0 || open_log(s, c, err) < 0)
        return -1;
    int n = snapshot_list(s->disk, s->snapshots, SNAPSHOTS_KEPT);
    if (n < 0)
        return error_set_errno(err, -n, "cannot list %s", s->disk->place);
    trim(s, c);
    return 0;
}

int storage_open(struct storage **out, const struct storage_options *options, struct storage_contents *contents,
                 struct error *err)
{
    CLEANUP(storage_free) struct storage *s = NEW(struct storage);
    s->options = *options;
    s->disk = options->host->disk;
    s->put.storage = s;
    *contents = (struct storage_contents){0};
    raft_log_init(&contents->log);
    if (open_all(s, contents, err) < 0) {
        storage_contents_clear(contents);
        return -1;
    }
    contents->term = s->metadata.term;
    contents->vote = s->metadata.vote;
    s->stats.snapshot_index = contents->snapshot.id.index;
    s->stored = raft_log_last(&contents->log);
    s->next = s->stored + 1;
    s->stats.log_bytes = journal_bytes_on_disk(s->journal);
    *out = steal(&s);
    return 0;
}

static int write_entry(struct storage *s, const struct entry *e)
{
    struct record record = {.type = e->type, .term = e->term, .index = s->next, .len = e->len, .bytes = e->bytes};
    int rv = write_now(s, &record);
    if (rv == 0)
        s->stored = s->next++;
    return rv;
}

int storage_write_now(struct storage *s, const struct entry *e, struct error *err)
{
    int rv = write_entry(s, e);
    return rv > 0 ? 1 : check_written(s, rv, err);
}

int storage_append_now(struct storage *s, struct raft_log *log, uint64_t term, enum entry_type type, const void *bytes,
                       uint32_t len, struct error *err)
{
    s->metadata.term = term;
    s->metadata.vote = 0;
    if (metadata_store(s->disk, &s->metadata, err) < 0)
        return -1;
    raft_log_append(log, term, type, len ? mem_dup(bytes, len) : NULL, len);
    return check_written(s, write_entry(s, raft_log_entry(log, raft_log_last(log))), err);
}
