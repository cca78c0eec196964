/* Happy path: store_put adds to `pending`; the check handle at the end of the loop's turn hands all of it to a worker
 * as one transaction (`flying`); its completion calls whoever waited. On failure the flying writes go back below
 * those that came meanwhile, and a timer tries again. */
#include "agent/store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"

#define STORE_MAP_BYTES ((size_t)1 << 30)   /* address space only; the file grows as it is used */
#define STORE_RETRY_MS 1000
#define LOCK_WAIT_MS 3000
#define LOCK_STEP_MS 20
#define STORE_FORMAT "1"

struct write {
    char *key;                 /* table digit, then the key */
    void *value;               /* with its checksum in front; NULL: delete */
    size_t len;
    UT_hash_handle hh;
};

struct store_wait {
    struct store *store;
    uint64_t number;
    store_done *fn;
    void *ctx;
    TAILQ_ENTRY(store_wait) link;
};

struct store {
    uv_loop_t *loop;
    MDB_env *env;
    MDB_dbi dbi;
    int lock_fd;
    char *path;
    struct write *pending, *flying;
    uint64_t put_number, flying_number;
    TAILQ_HEAD(, store_wait) waits;
    uv_work_t work;
    bool busy;
    struct error result;       /* of the flying transaction; written by the worker */
    uv_timer_t retry;
    uv_prepare_t prepare;
    char *failing;
    store_done *changed;
    void *changed_ctx;
    int closing;               /* handles still to close */
};

/* --- opening --- */

static int lmdb_error(struct error *err, int rc, const char *what, const char *path)
{
    if (rc == MDB_CORRUPTED || rc == MDB_INVALID || rc == MDB_PAGE_NOTFOUND || rc == MDB_PANIC ||
        rc == MDB_VERSION_MISMATCH)
        return error_set(err, ERROR_CORRUPT, "%s: the agent's store is damaged (%s); move the file away: tasks that "
                         "run are found again by their shims", path, mdb_strerror(rc));
    if (rc == MDB_MAP_FULL)
        return error_set(err, ERROR_NO_SPACE, "%s: %s: the store is full", path, what);
    if (rc > 0)
        return error_set_errno(err, rc, "%s: %s", path, what);
    return error_set(err, ERROR_SYSTEM, "%s: %s: %s", path, what, mdb_strerror(rc));
}

static int lock(struct store *s, const char *dir, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("%s/agent.lock", dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return error_set_errno(err, errno, "%s", path);
    /* An agent that was killed a moment ago holds it until the kernel has taken it apart. */
    for (int waited = 0; flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0; waited += LOCK_STEP_MS) {
        if (waited >= LOCK_WAIT_MS)
            return error_set(err, ERROR_CONFLICT, "%s: another agent uses this data_dir; give each agent its own", dir);
        usleep(LOCK_STEP_MS * 1000);
    }
    return 0;
}

/* LMDB does not write free pages at the end, so that the file may rightly be shorter than its header says; and a file
 * that was cut off would fault when its pages are touched. Made long enough, missing pages read as zeros, which are
 * refused as damage when they are in use. */
static int fill_up(struct store *s, struct error *err)
{
    MDB_envinfo info;
    MDB_stat stat_;
    struct stat st;
    int rc = mdb_env_info(s->env, &info);
    if (!rc)
        rc = mdb_env_stat(s->env, &stat_);
    if (rc)
        return lmdb_error(err, rc, "stat", s->path);
    if (stat(s->path, &st) < 0)
        return error_set_errno(err, errno, "%s", s->path);
    off_t whole = (off_t)(info.me_last_pgno + 1) * stat_.ms_psize;
    if (st.st_size < whole && truncate(s->path, whole) < 0)
        return error_set_errno(err, errno, "%s", s->path);
    return 0;
}

static void lmdb_assert_failed(MDB_env *env, const char *text)
{
    LOG_E("the agent's store is damaged; move store.mdb away: tasks that run are found again by their shims",
          "detail", text);
    _exit(1);
}

static void close_env(struct store *s)
{
    if (s->env)
        mdb_env_close(s->env);
    s->env = NULL;
}

static int open_env_parts(struct store *s, struct error *err)
{
    int rc = mdb_env_create(&s->env);
    if (rc)
        return lmdb_error(err, rc, "open", s->path);
    mdb_env_set_mapsize(s->env, STORE_MAP_BYTES);
    mdb_env_set_assert(s->env, lmdb_assert_failed);
    /* agent.lock and one writer at a time replace LMDB's own lock file. */
    rc = mdb_env_open(s->env, s->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (rc)
        return lmdb_error(err, rc, "open", s->path);
    if (fill_up(s, err) < 0)
        return -1;
    MDB_txn *txn;
    rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return lmdb_error(err, rc, "begin", s->path);
    rc = mdb_dbi_open(txn, NULL, 0, &s->dbi);
    if (rc) {
        mdb_txn_abort(txn);
        return lmdb_error(err, rc, "open", s->path);
    }
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_error(err, rc, "commit", s->path) : 0;
}

static int open_env(struct store *s, struct error *err)
{
    int rc = open_env_parts(s, err);
    if (rc)
        close_env(s);
    return rc;
}

/* A page that lost its end still passes for a page, and its entries would just not be there: every one that the header
 * counts must be there, with the digit of its table. */
static int check_entries(struct store *s, struct error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_stat st;
    MDB_val k, v;
    size_t found = 0;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return lmdb_error(err, rc, "read", s->path);
    rc = mdb_stat(txn, s->dbi, &st);
    if (!rc)
        rc = mdb_cursor_open(txn, s->dbi, &cursor);
    for (MDB_cursor_op op = MDB_FIRST; !rc; op = MDB_NEXT) {
        rc = mdb_cursor_get(cursor, &k, &v, op);
        found += !rc && k.mv_size && isdigit(*(unsigned char *)k.mv_data);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    if (rc != MDB_NOTFOUND)
        return lmdb_error(err, rc, "read", s->path);
    return found == st.ms_entries ? 0 : lmdb_error(err, MDB_CORRUPTED, "read", s->path);
}

static void on_prepare(uv_prepare_t *h);

static void store_free(struct store *s)
{
    close_env(s);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->failing);
    free(s->path);
    free(s);
}

int store_open(const char *dir, uv_loop_t *loop, struct store **out, struct error *err)
{
    struct store *s = NEW(struct store);
    s->loop = loop;
    s->lock_fd = -1;
    s->path = mem_printf("%s/store.mdb", dir);
    TAILQ_INIT(&s->waits);
    if (lock(s, dir, err) < 0 || open_env(s, err) < 0 || check_entries(s, err) < 0) {
        store_free(s);
        return -1;
    }
    uv_timer_init(loop, &s->retry);
    uv_prepare_init(loop, &s->prepare);
    s->retry.data = s->prepare.data = s->work.data = s;
    *out = s;
    return 0;
}

/* --- reading --- */

static int open_value(const struct store *s, const char *key, const MDB_val *v, struct error *err)
{
    uint64_t sum;
    if (v->mv_size >= sizeof(sum)) {
        memcpy(&sum, v->mv_data, sizeof(sum));
        if (sum == hash_bytes((const char *)v->mv_data + sizeof(sum), v->mv_size - sizeof(sum), 0))
            return 0;
    }
    return error_set(err, ERROR_CORRUPT, "%s: the agent's store is damaged at \"%s\"; move the file away: tasks that run "
                     "are found again by their shims", s->path, key);
}

int store_load(struct store *s, enum store_table table,
               int (*fn)(void *ctx, const char *key, const void *value, size_t len, struct error *err), void *ctx,
               struct error *err)
{
    INVARIANT(!s->put_number);
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return lmdb_error(err, rc, "read", s->path);
    MDB_cursor *cursor = NULL;
    char first[2] = {(char)('0' + table), '\0'};
    MDB_val k = {1, first}, v;
    int result = 0;
    rc = mdb_cursor_open(txn, s->dbi, &cursor);
    for (MDB_cursor_op op = MDB_SET_RANGE; !rc; op = MDB_NEXT) {
        rc = mdb_cursor_get(cursor, &k, &v, op);
        if (rc || !k.mv_size || *(char *)k.mv_data != first[0])
            break;
        CLEANUP_FREE char *key = mem_strndup((char *)k.mv_data + 1, k.mv_size - 1);
        result = open_value(s, key, &v, err);
        if (!result)
            result = fn(ctx, key, (char *)v.mv_data + sizeof(uint64_t), v.mv_size - sizeof(uint64_t), err);
        if (result)
            break;
    }
    if (!result && rc && rc != MDB_NOTFOUND)
        result = lmdb_error(err, rc, "read", s->path);
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return result;
}

/* --- writing --- */

static void write_free(struct write *w)
{
    free(w->key);
    free(w->value);
    free(w);
}

static void writes_clear(struct write **table)
{
    struct write *w, *next;
    HASH_ITER(hh, *table, w, next) {
        HASH_DEL(*table, w);
        write_free(w);
    }
}

static int commit(struct store *s, struct write *writes, struct error *err)
{
    MDB_txn *txn;
    if (!s->env && open_env(s, err) < 0)
        return -1;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc == MDB_PANIC) {
        /* A header page could not be written: LMDB refuses until the environment is opened afresh. */
        close_env(s);
        return error_set(err, ERROR_SYSTEM, "%s: an earlier write failed", s->path);
    }
    if (rc)
        return lmdb_error(err, rc, "begin", s->path);
    struct write *w, *next;
    HASH_ITER(hh, writes, w, next) {
        MDB_val k = {strlen(w->key), w->key}, v = {w->len, w->value};
        rc = w->value ? mdb_put(txn, s->dbi, &k, &v, 0) : mdb_del(txn, s->dbi, &k, NULL);
        if (rc && rc != MDB_NOTFOUND) {
            mdb_txn_abort(txn);
            return lmdb_error(err, rc, "write", s->path);
        }
    }
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_error(err, rc, "commit", s->path) : 0;
}

static void set_failing(struct store *s, const char *text)
{
    bool was = s->failing;
    mem_set_string(&s->failing, text);
    if (text && !was)
        LOG_E("the store cannot be written; changes are kept in memory and tried again", "error", text);
    else if (!text && was)
        LOG_I("the store can be written again");
    if (was != !!text && s->changed)
        s->changed(s->changed_ctx);
}

static void call_waits(struct store *s, uint64_t number)
{
    struct store_wait *w;
    while ((w = TAILQ_FIRST(&s->waits)) && w->number <= number) {
        TAILQ_REMOVE(&s->waits, w, link);
        store_done *fn = w->fn;
        void *ctx = w->ctx;
        free(w);
        fn(ctx);
    }
}

static void fly(struct store *s);

static void on_retry(uv_timer_t *t)
{
    fly(t->data);
}

/* Puts the failed writes back, except where a later one of the same key came meanwhile. */
static void put_back(struct store *s)
{
    struct write *w, *next, *newer;
    HASH_ITER(hh, s->flying, w, next) {
        HASH_DEL(s->flying, w);
        HASH_FIND_STR(s->pending, w->key, newer);
        if (newer)
            write_free(w);
        else
            HASH_ADD_KEYPTR(hh, s->pending, w->key, strlen(w->key), w);
    }
}

static void work_run(uv_work_t *work)
{
    struct store *s = work->data;
    s->result.code = ERROR_NONE;
    commit(s, s->flying, &s->result);
}

static void work_done(uv_work_t *work, int status)
{
    struct store *s = work->data;
    s->busy = false;
    if (s->result.code) {
        put_back(s);
        uv_timer_start(&s->retry, on_retry, STORE_RETRY_MS, 0);
        uv_unref((uv_handle_t *)&s->retry);
        set_failing(s, s->result.text);
        return;
    }
    writes_clear(&s->flying);
    set_failing(s, NULL);
    call_waits(s, s->flying_number);
    if (s->pending)
        uv_prepare_start(&s->prepare, on_prepare);
}

static void fly(struct store *s)
{
    if (s->busy || !s->pending)
        return;
    s->flying = s->pending;
    s->pending = NULL;
    s->flying_number = s->put_number;
    s->busy = true;
    uv_queue_work(s->loop, &s->work, work_run, work_done);
}

static void on_prepare(uv_prepare_t *h)
{
    struct store *s = h->data;
    uv_prepare_stop(h);
    if (!uv_is_active((uv_handle_t *)&s->retry))
        fly(s);
}

static void put(struct store *s, enum store_table table, const char *key, const void *value, size_t len, bool delete)
{
    CLEANUP_FREE char *full = mem_printf("%c%s", '0' + (int)table, key);
    struct write *w;
    HASH_FIND_STR(s->pending, full, w);
    if (!w) {
        w = NEW(struct write);
        w->key = steal(&full);
        HASH_ADD_KEYPTR(hh, s->pending, w->key, strlen(w->key), w);
    }
    free(steal(&w->value));
    w->len = 0;
    if (!delete) {
        uint64_t sum = hash_bytes(value, len, 0);
        w->len = len + sizeof(sum);
        w->value = mem_alloc(w->len);
        memcpy(w->value, &sum, sizeof(sum));
        if (len)
            memcpy((char *)w->value + sizeof(sum), value, len);
    }
    s->put_number++;
    if (!s->busy)
        uv_prepare_start(&s->prepare, on_prepare);
}

void store_put(struct store *s, enum store_table table, const char *key, const void *value, size_t len)
{
    put(s, table, key, value, len, false);
}

void store_delete(struct store *s, enum store_table table, const char *key)
{
    put(s, table, key, NULL, 0, true);
}

struct store_wait *store_when_durable(struct store *s, store_done *fn, void *ctx)
{
    if (!s->pending && !s->busy)
        store_put(s, STORE_META, "format", STORE_FORMAT, strlen(STORE_FORMAT));
    struct store_wait *w = NEW(struct store_wait);
    *w = (struct store_wait){.store = s, .number = s->put_number, .fn = fn, .ctx = ctx};
    TAILQ_INSERT_TAIL(&s->waits, w, link);
    return w;
}

void store_wait_cancel(struct store_wait *w)
{
    TAILQ_REMOVE(&w->store->waits, w, link);
    free(w);
}

const char *store_failing(const struct store *s)
{
    return s->failing;
}

void store_on_change(struct store *s, store_done *changed, void *ctx)
{
    s->changed = changed;
    s->changed_ctx = ctx;
}

/* --- closing --- */

static void on_closed(uv_handle_t *h)
{
    struct store *s = h->data;
    if (!--s->closing)
        store_free(s);
}

void store_close(struct store *s)
{
    struct store_wait *w;
    while ((w = TAILQ_FIRST(&s->waits)))
        store_wait_cancel(w);
    s->changed = NULL;
    uv_ref((uv_handle_t *)&s->retry);
    while (s->busy)
        uv_run(s->loop, UV_RUN_ONCE);
    struct error err = {0};
    if (s->pending && commit(s, s->pending, &err) < 0)
        LOG_E("the store's last changes are lost", "error", err.text);
    writes_clear(&s->pending);
    s->closing = 2;
    uv_close((uv_handle_t *)&s->retry, on_closed);
    uv_close((uv_handle_t *)&s->prepare, on_closed);
}
