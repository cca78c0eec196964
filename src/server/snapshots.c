/* A snapshot by schedule: the timer fires → a worker writes the state down, which does not change meanwhile → a worker writes
 * the file and removes old ones, then runs the hook with the file's name. A failure is told, and tried again soon. */
#include "server/snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "model/snapshot_file.h"
#include "sandbox/launcher.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/http_thread.h"

#define PREFIX "snapshot-"
#define SUFFIX ".mentat"
#define RETRY_MS 60000
#define CONTACT_LOOK_MS 1000
#define LOOK_MS 3600000          /* the wall clock may be set: how long a due time is trusted */
#define FILES_MOST 10000
#define HOOK_MS (30 * 60 * 1000)
#define HOOK_LOOK_MS 200

struct backups {
    struct control *c;
    uv_timer_t timer;
    uv_work_t work;
    bool working;
    atomic_bool stopping;
    int64_t due_ms, last_ms;     /* wall clock */
    /* of the one under way */
    struct buf bytes;
    char *path;
    struct error error;
    char *failing;               /* why the last one failed */
    unsigned failures;           /* in a row */
};

/* --- writing the state down --- */

struct taking {
    uv_work_t work;
    struct control *c;
    struct snapshot_info info;   /* borrows the texts below */
    char cluster[24], hash[24];
    struct buf *out;
    void (*done)(void *ctx);
    void *ctx;
};

static void write_down(uv_work_t *work)
{
    struct taking *t = work->data;
    CLEANUP_BUF struct buf state = {0};
    control_write_down(t->c, &state);
    t->info.state_bytes = state.len;
    snapshot_file_write(&t->info, state.data, state.len, t->out);
}

static void on_written_down(uv_work_t *work, int status)
{
    struct taking *t = work->data;
    consensus_release_state(t->c->consensus);
    t->done(t->ctx);
    free(t);
}

bool snapshot_take(struct control *c, struct buf *out, void (*done)(void *ctx), void *ctx)
{
    static char version[] = MENTAT_VERSION;
    if (!c->consensus || !consensus_hold_state(c->consensus))
        return false;
    struct taking *t = NEW(struct taking);
    struct consensus_stats stats;
    *t = (struct taking){.c = c, .out = out, .done = done, .ctx = ctx};
    control_stats(c, &stats);
    snprintf(t->cluster, sizeof t->cluster, "%" PRIu64, stats.cluster_id);
    snprintf(t->hash, sizeof t->hash, "%016" PRIx64, core_hash(c->core));
    t->info = (struct snapshot_info){.taken_at = time_now_ms(), .index = core_index(c->core), .cluster_id = t->cluster,
                                     .server = c->config->name, .version = version, .state_hash = t->hash};
    control_count(c, &t->info.nodes, &t->info.services, &t->info.allocs);
    t->work.data = t;
    uv_queue_work(c->loop, &t->work, write_down, on_written_down);
    return true;
}

/* --- the directory --- */

struct file { char *name; int64_t at; };
struct file_list { struct file *v; size_t n; };

static void file_list_clear(struct file_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].name);
    free(l->v);
    *l = (struct file_list){0};
}

static int newest_first(const void *a, const void *b)
{
    const struct file *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? 1 : -1) : strcmp(y->name, x->name);
}

/* "snapshot-20261124T081916Z-42.mentat"; 0 when it is no such name. */
static int64_t time_of_name(const char *name)
{
    unsigned y, mo, d, h, mi, s;
    unsigned long long index;
    char end[sizeof SUFFIX + 1] = "";
    if (sscanf(name, PREFIX "%4u%2u%2uT%2u%2u%2uZ-%llu%8s", &y, &mo, &d, &h, &mi, &s, &index, end) != 8 ||
        strcmp(end, SUFFIX))
        return 0;
    char text[TIME_TEXT_SIZE];
    int64_t at;
    snprintf(text, sizeof text, "%04u-%02u-%02uT%02u:%02u:%02uZ", y % 10000, mo % 100, d % 100, h % 100, mi % 100, s % 100);
    return time_parse(text, &at) ? 0 : at;
}

static char *name_of_time(int64_t at, uint64_t index)
{
    char text[TIME_TEXT_SIZE], digits[TIME_TEXT_SIZE];
    size_t n = 0;
    time_format(text, at);
    text[19] = '\0';             /* without the fraction */
    for (const char *p = text; *p; p++)
        if (*p != '-' && *p != ':')
            digits[n++] = *p;
    digits[n] = '\0';
    return mem_printf(PREFIX "%sZ-%" PRIu64 SUFFIX, digits, index);
}

static int read_directory(const char *dir, struct file_list *out, struct error *err)
{
    DIR *d = opendir(dir);
    *out = (struct file_list){0};
    if (!d)
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "backup_dir %s", dir);
    struct dirent *e;
    while ((e = readdir(d)) && out->n < FILES_MOST) {
        int64_t at = time_of_name(e->d_name);
        if (!at)
            continue;
        out->v = mem_realloc_array(out->v, out->n + 1, sizeof *out->v);
        out->v[out->n++] = (struct file){mem_strdup(e->d_name), at};
    }
    closedir(d);
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, newest_first);
    return 0;
}

int backups_list(const struct server_config *config, struct buf *json, struct error *err)
{
    struct file_list files;
    if (read_directory(config->backup_dir, &files, err))
        return -1;
    buf_add_string(json, "{\"items\":[");
    unsigned listed = 0;
    for (size_t i = 0; i < files.n; i++) {
        CLEANUP_FREE char *path = mem_printf("%s/%s", config->backup_dir, files.v[i].name);
        struct snapshot_file f = {.name = files.v[i].name, .path = path};
        struct stat st;
        struct error unreadable = {0};
        if (snapshot_file_head(path, &f.info, &unreadable))
            f.problem = unreadable.text;
        f.bytes = stat(path, &st) ? 0 : (uint64_t)st.st_size;
        if (listed++)
            buf_add_char(json, ',');
        type_to_json(&snapshot_file_type, &f, json);
        type_clear(&snapshot_info_type, &f.info);
    }
    buf_printf(json, "],\"next_cursor\":\"\",\"index\":0}");
    file_list_clear(&files);
    return 0;
}

/* The newest one stays, however old it is. */
static void remove_old(const struct server_config *config)
{
    struct file_list files;
    struct error err;
    if (read_directory(config->backup_dir, &files, &err))
        return;
    int64_t oldest = time_now_ms() - config->backup_keep_ms;
    for (size_t i = 1; i < files.n; i++)
        if (files.v[i].at < oldest) {
            CLEANUP_FREE char *path = mem_printf("%s/%s", config->backup_dir, files.v[i].name);
            if (unlink(path) == 0)
                LOG_I("old snapshot removed", "file", path);
        }
    file_list_clear(&files);
}

/* --- one snapshot --- */

static void arm(struct backups *b, int64_t due_ms);
static void on_timer(uv_timer_t *timer);

static void failed(struct backups *b, const char *what)
{
    LOG_W("no scheduled snapshot", "error", what);
    mem_set_string(&b->failing, what);
    b->c->metrics.backup_failures++;
    /* Not so often that a hook which fails for days would fill the directory. */
    int64_t pause = b->failures < 10 ? (int64_t)RETRY_MS << b->failures : INT64_MAX;
    b->failures++;
    arm(b, time_now_ms() + (pause < b->c->config->backup_every_ms ? pause : b->c->config->backup_every_ms));
}

/* Waits for the hook's end, for its limit, or until the server stops, which leaves the hook to itself. */
static int wait_hook(struct backups *b, int channel, struct error *err)
{
    struct pollfd ended = {.fd = channel, .events = POLLIN};
    int64_t until = time_monotonic_ms() + HOOK_MS;
    while (poll(&ended, 1, HOOK_LOOK_MS) <= 0) {
        if (atomic_load(&b->stopping))
            return 0;
        if (time_monotonic_ms() > until)
            launcher_kill(channel);
    }
    int status;
    return launcher_status(channel, &status, err) ? -1 : launcher_judge(status, err);
}

static int run_hook(struct backups *b, struct error *err)
{
    CLEANUP_FREE char *variable = mem_printf("MENTAT_SNAPSHOT=%s", b->path);
    int channel = launcher_run(b->c->launcher, &(struct launch){.command = b->c->config->backup_command, .variable = variable,
                               .input = -1, .output = -1}, err);
    if (channel < 0)
        return error_context(err, "backup_command");
    int rc = wait_hook(b, channel, err);
    close(channel);
    return rc ? error_context(err, "backup_command") : 0;
}

static void write_file(uv_work_t *work)
{
    struct backups *b = work->data;
    const struct server_config *config = b->c->config;
    if (dir_make(config->backup_dir, 0700, &b->error) ||
        file_write(b->path, b->bytes.data, b->bytes.len, 0600, &b->error))
        return;
    LOG_I("scheduled snapshot written", "file", b->path);
    remove_old(config);
    if (config->backup_command)
        run_hook(b, &b->error);
}

static void on_written(uv_work_t *work, int status)
{
    struct backups *b = work->data;
    b->working = false;
    buf_free(&b->bytes);
    free(steal(&b->path));
    if (b->error.code != ERROR_NONE) {
        failed(b, b->error.text);
    } else {
        free(steal(&b->failing));
        b->failures = 0;
        b->last_ms = time_now_ms();
        arm(b, b->last_ms + b->c->config->backup_every_ms);
    }
    if (atomic_load(&b->stopping))
        backups_stop(b);
}

static void on_taken(void *ctx)
{
    struct backups *b = ctx;
    b->work.data = b;
    uv_queue_work(b->c->loop, &b->work, write_file, on_written);
}

static void try_again(struct backups *b, const char *why)
{
    mem_set_string(&b->failing, why);
    uv_timer_start(&b->timer, on_timer, CONTACT_LOOK_MS, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct backups *b = timer->data;
    struct control *c = b->c;
    int64_t now = time_now_ms();
    if (b->working)
        return;
    if (now < b->due_ms) {
        arm(b, b->due_ms);
        return;
    }
    if (!control_in_contact(c)) {
        try_again(b, "this server is not in contact with a leader: its state may be old");
        return;
    }
    if (!snapshot_take(c, &b->bytes, on_taken, b)) {
        try_again(b, "this server takes over a snapshot of its leader");
        return;
    }
    CLEANUP_FREE char *name = name_of_time(now, core_index(c->core));
    b->path = mem_printf("%s/%s", c->config->backup_dir, name);
    b->error = (struct error){0};
    b->working = true;
}

static void arm(struct backups *b, int64_t due_ms)
{
    b->due_ms = due_ms;
    int64_t left = due_ms - time_now_ms();
    left = left > LOOK_MS ? LOOK_MS : left > 1 ? left : 1;
    if (!atomic_load(&b->stopping))
        uv_timer_start(&b->timer, on_timer, (uint64_t)left, 0);
}

struct backups *backups_start(struct control *c)
{
    const struct server_config *config = c->config;
    struct backups *b = NEW(struct backups);
    b->c = c;
    uv_timer_init(c->loop, &b->timer);
    b->timer.data = b;
    if (!config->backup_every_ms)
        return b;
    struct file_list files;
    struct error err;
    if (read_directory(config->backup_dir, &files, &err))
        LOG_W("snapshots of before are not known", "error", err.text);
    b->last_ms = files.n ? files.v[0].at : 0;
    file_list_clear(&files);
    /* A new cluster has nothing to keep yet, and three servers need not all begin at once. */
    arm(b, b->last_ms ? b->last_ms + config->backup_every_ms : time_now_ms() + config->backup_every_ms / 24);
    return b;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct backups *b = handle->data;
    free(b->failing);
    free(b);
}

void backups_stop(struct backups *b)
{
    atomic_store(&b->stopping, true);
    uv_timer_stop(&b->timer);
    if (!b->working)
        uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}

int64_t backups_last_ms(const struct backups *b)
{
    return b->last_ms;
}

const char *backups_failing(const struct backups *b)
{
    return b->failing;
}

/* --- routes --- */

static void on_taken_for_request(void *ctx)
{
    control_answer(ctx);
}

API_READ(api_snapshot)
{
    r->answer.content_type = "application/octet-stream";
    if (snapshot_take(c, &r->answer.body, on_taken_for_request, r))
        return READ_LATER;
    return error_set(err, ERROR_UNAVAILABLE, "this server takes over a snapshot of its leader; try again");
}

API_PREPARE(api_snapshots)
{
    return backups_list(http_thread_config(r->thread), &r->answer.body, err);
}
