/* Happy path: runner_load takes the records out of the store and adopts what was running; runner_apply makes, updates
 * and ends allocations as the servers say; each is a machine of its own (allocation.c), whose reports runner_collect
 * hands to sync. After the first full word of the servers, files and control groups of nobody are looked for. */
#include "agent/runner.h"

#include <string.h>
#include <unistd.h>

#include "agent/alloc_secrets.h"
#include "agent/peers.h"
#include "agent/removal.h"
#include "agent/secret_files.h"
#include "base/id.h"
#include "base/log.h"
#include "base/timefmt.h"

#define GC_INTERVAL_MS 60000
/* Reports of a new process get numbers that no report of the last one can have had, stored or not. */
#define SEQ_STEP ((uint64_t)1 << 20)

#define LEASE_LATER_MS 200           /* so that who ends by itself has begun to */

struct runner {
    struct runner_env env;
    struct allocation *allocations;
    struct spec_ref *specs;
    struct peers peers;
    bool confirmed;                  /* the servers have said everything that they want, and no lease was over since */
    bool scanned;                    /* files and groups of nobody were looked for */
    bool stopping;
    uint32_t alive;                  /* allocations that are not dead */
    struct removal *removal;
    uv_timer_t gc_timer, lease_timer;
    unsigned open_timers;
    int64_t lease_until;             /* as runner_lease_until */
    struct runner_counters counters;
    void (*all_stopped)(void *ctx);
    void *all_stopped_ctx;
};

const struct runner_env *runner_env(const struct runner *r)
{
    return &r->env;
}

int64_t runner_lease_until(const struct runner *r)
{
    return r->lease_until;
}

bool runner_may_start(const struct runner *r)
{
    return r->confirmed && !r->stopping;
}

struct runner_counters *runner_count(struct runner *r)
{
    return &r->counters;
}

const struct runner_counters *runner_counters(const struct runner *r)
{
    return &r->counters;
}

char *runner_alloc_dir(const struct runner *r, const char *alloc_id)
{
    return mem_printf("%s/allocs/%s", r->env.data_dir, alloc_id);
}

/* --- versions of services --- */

static struct spec_ref *spec_find(struct runner *r, const char *service, uint64_t version)
{
    CLEANUP_FREE char *key = mem_printf("%s/%llu", service ? service : "", (unsigned long long)version);
    struct spec_ref *s;
    HASH_FIND_STR(r->specs, key, s);
    return s;
}

static struct spec_ref *spec_add(struct runner *r, const struct service_version *version)
{
    struct spec_ref *s = NEW(struct spec_ref);
    s->key = mem_printf("%s/%llu", version->service, (unsigned long long)version->version);
    type_copy(&service_version_type, &s->version, version);
    HASH_ADD_KEYPTR(hh, r->specs, s->key, strlen(s->key), s);
    return s;
}

static struct spec_ref *spec_hold(struct spec_ref *s)
{
    s->refs++;
    return s;
}

static void spec_free(struct runner *r, struct spec_ref *s)
{
    HASH_DEL(r->specs, s);
    type_clear(&service_version_type, &s->version);
    kv_clear(&s->secrets);
    free(s->key);
    free(s);
}

void runner_spec_release(struct runner *r, struct spec_ref *s)
{
    s->refs--;
}

/* Versions that no allocation names any more. After work was applied, so that a version and its first allocation may
 * come in any order. */
static void specs_sweep(struct runner *r)
{
    struct spec_ref *s, *next;
    HASH_ITER(hh, r->specs, s, next)
        if (!s->refs) {
            store_delete(r->env.store, STORE_SERVICES, s->key);
            spec_free(r, s);
        } else {
            peers_keep(&r->peers, s->version.service);
        }
    peers_sweep(&r->peers);
}

/* --- adding and deleting --- */

static struct allocation *find(struct runner *r, const char *id)
{
    struct allocation *a;
    HASH_FIND_STR(r->allocations, id, a);
    return a;
}

static struct allocation *add(struct runner *r, struct spec_ref *spec, const struct alloc *alloc)
{
    struct allocation *a = allocation_new(r, spec_hold(spec));
    type_copy(&alloc_type, &a->record.alloc, alloc);
    a->record.report.id = mem_strdup(alloc->id);
    HASH_ADD_KEYPTR(hh, r->allocations, a->record.alloc.id, strlen(a->record.alloc.id), a);
    r->alive++;
    return a;
}

static void take_out(struct runner *r, struct allocation *a)
{
    HASH_DEL(r->allocations, a);
    if (a->phase != PHASE_DEAD)
        r->alive--;
}

/* The files go first, the record only then: a crash between leaves a record that is deleted again. */
static void delete(struct runner *r, struct allocation *a)
{
    removal_add(r->removal, a->record.alloc.id);
    store_delete(r->env.store, STORE_ALLOCS, a->record.alloc.id);
    take_out(r, a);
    r->counters.removed++;
    allocation_release(a);
}

static void gc_soon(struct runner *r, int64_t in_ms);

static void finish_stop_all(struct runner *r)
{
    if (!r->stopping || !r->scanned || r->alive || !r->all_stopped)
        return;
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        removal_add(r->removal, a->record.alloc.id);
    removal_when_done(r->removal, r->all_stopped, r->all_stopped_ctx);
    r->all_stopped = NULL;
}

void runner_died(struct runner *r, struct allocation *a)
{
    a->dead_at = time_monotonic_ms();
    r->alive--;
    alloc_secrets_free(steal(&a->secrets), false);
    allocation_save(a);
    r->env.ended(r->env.ctx, a->record.alloc.id);
    gc_soon(r, a->gone || a->orphan ? 0 : GC_INTERVAL_MS);
    finish_stop_all(r);
}

/* --- garbage --- */

/* The newest first. */
static int by_death(const void *x, const void *y)
{
    const struct allocation *const *a = x, *const *b = y;
    return ((*a)->dead_at < (*b)->dead_at) - ((*a)->dead_at > (*b)->dead_at);
}

static void beyond_limit(void *ctx, const char *id)
{
    struct allocation *a = find(ctx, id);
    if (a && a->phase == PHASE_DEAD && a->record.acknowledged)
        delete(ctx, a);
}

static void on_gc(uv_timer_t *t)
{
    struct runner *r = t->data;
    int64_t now = time_monotonic_ms();
    struct allocation *a, *next, **dead = mem_array(HASH_COUNT(r->allocations) + 1, sizeof(*dead));
    size_t n = 0;
    HASH_ITER(hh, r->allocations, a, next)
        if (a->phase == PHASE_DEAD && (a->gone || a->orphan))
            delete(r, a);
        else if (a->phase == PHASE_DEAD && a->record.acknowledged)
            dead[n++] = a;
    qsort(dead, n, sizeof(*dead), by_death);
    struct str_list kept = {0};
    for (size_t i = 0; i < n; i++)
        if (i >= (size_t)r->env.gc_max_allocs || now - dead[i]->dead_at >= r->env.gc_age_ms)
            delete(r, dead[i]);
        else
            str_list_add(&kept, dead[i]->record.alloc.id);
    free(dead);
    specs_sweep(r);
    if (kept.n) {
        removal_trim(r->removal, &kept, r->env.gc_max_mb, beyond_limit, r);
        gc_soon(r, GC_INTERVAL_MS);
    }
}

static void gc_soon(struct runner *r, int64_t in_ms)
{
    if (!uv_is_active((uv_handle_t *)&r->gc_timer) || uv_timer_get_due_in(&r->gc_timer) > (uint64_t)in_ms)
        uv_timer_start(&r->gc_timer, on_gc, (uint64_t)in_ms, 0);
}

/* --- starting --- */

static void start_waiting(struct runner *r)
{
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        if (a->phase == PHASE_WAITING && alloc_wanted(&a->record.alloc))
            allocation_event(a, EVENT_START);
}

/* Shims have ended their tasks by themselves then; this is for the others. */
static void on_lease_over(uv_timer_t *timer)
{
    struct runner *r = timer->data;
    struct allocation *a, *next;
    LOG_W("no server answers: tasks with volumes that other nodes have too are ended");
    HASH_ITER(hh, r->allocations, a, next)
        allocation_lease(a, true);
}

bool runner_lease(struct runner *r, int64_t sent_at_ms, int64_t lease_ms)
{
    int64_t now = time_monotonic_ms();
    bool was_over = r->lease_until && r->lease_until <= now;
    if (!lease_ms && r->lease_until == LEASE_NOT_NEEDED)
        return false;
    r->lease_until = lease_ms ? sent_at_ms + lease_ms : LEASE_NOT_NEEDED;
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        allocation_lease(a, false);
    if (lease_ms && r->lease_until > now)
        uv_timer_start(&r->lease_timer, on_lease_over, (uint64_t)(r->lease_until - now + LEASE_LATER_MS), 0);
    else if (!lease_ms)
        uv_timer_stop(&r->lease_timer);
    r->confirmed &= !was_over;
    return was_over;
}

void runner_trouble_changed(struct runner *r)
{
    const char *trouble = r->env.trouble(r->env.ctx);
    if (!trouble) {
        start_waiting(r);
        return;
    }
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        if (a->phase == PHASE_PREPARING)
            allocation_report_waiting(a, trouble);
}

struct runner *runner_new(const struct runner_env *env)
{
    struct runner *r = NEW(struct runner);
    r->env = *env;
    uv_timer_init(env->loop, &r->gc_timer);
    uv_timer_init(env->loop, &r->lease_timer);
    r->gc_timer.data = r->lease_timer.data = r;
    r->open_timers = 2;
    r->removal = removal_new(env->loop, env->data_dir, env->cgroups);
    return r;
}

static int load_spec(void *ctx, const char *key, const void *value, size_t len, struct error *err)
{
    struct runner *r = ctx;
    struct service_version v;
    if (type_decode(&service_version_type, value, len, &v, err) < 0)
        return error_context(err, "stored service %s", key);
    spec_add(r, &v);
    type_clear(&service_version_type, &v);
    return 0;
}

static int load_alloc(void *ctx, const char *key, const void *value, size_t len, struct error *err)
{
    struct runner *r = ctx;
    struct alloc_record record;
    if (type_decode(&alloc_record_type, value, len, &record, err) < 0)
        return error_context(err, "stored allocation %s", key);
    struct spec_ref *spec = spec_find(r, record.alloc.service, record.alloc.version);
    if (!spec || !record.alloc.id) {
        /* Its files are found as nobody's once the servers have spoken, unless they still want it. */
        LOG_W("a stored allocation has no service", "alloc", key);
        type_clear(&alloc_record_type, &record);
        return 0;
    }
    struct allocation *a = add(r, spec, &record.alloc);
    uint64_t least = a->record.report.seq;
    take_out(r, a);
    type_clear(&alloc_record_type, &a->record);
    a->record = record;
    a->record.report.seq = record.report.seq + SEQ_STEP > least ? record.report.seq + SEQ_STEP : least;
    HASH_ADD_KEYPTR(hh, r->allocations, a->record.alloc.id, strlen(a->record.alloc.id), a);
    if (record.report.state >= ALLOC_COMPLETE) {
        a->phase = PHASE_DEAD;
        a->dead_at = time_monotonic_ms() - (time_now_ms() - record.report.finished_at);
    } else {
        r->alive++;
    }
    return 0;
}

int runner_load(struct runner *r, struct error *err)
{
    if (store_load(r->env.store, STORE_SERVICES, load_spec, r, err) < 0 ||
        store_load(r->env.store, STORE_ALLOCS, load_alloc, r, err) < 0)
        return -1;
    struct allocation *a, *next;
    uint64_t adopted = 0;
    HASH_ITER(hh, r->allocations, a, next)
        if (a->phase == PHASE_WAITING && a->record.launched) {
            adopted++;
            allocation_adopt(a);
        }
    LOG_I("state loaded", "allocations", LOG_U64(HASH_COUNT(r->allocations)), "adopting", LOG_U64(adopted));
    if (HASH_COUNT(r->allocations) > r->alive)
        gc_soon(r, GC_INTERVAL_MS);
    r->env.report(r->env.ctx);
    return 0;
}

/* --- the servers' word --- */

static bool stated(const struct alloc_report *r)
{
    return r->reason != NULL;        /* something was ever reported */
}

static bool wanted_here(const struct runner *r, const struct alloc *alloc)
{
    return alloc_wanted(alloc) && !r->stopping;
}

/* The servers know it, this agent does not. */
static void apply_new(struct runner *r, const struct alloc *alloc)
{
    if (!alloc_live(alloc))
        return;
    struct spec_ref *spec = spec_find(r, alloc->service, alloc->version);
    if (!spec) {
        LOG_E("the servers sent an allocation without its service", "alloc", alloc->id, "service", alloc->service,
              "version", LOG_U64(alloc->version));
        return;
    }
    struct allocation *a = add(r, spec, alloc);
    allocation_save(a);
    /* Running by the servers' word, or by its files: its record was lost here, its process may be there. */
    CLEANUP_FREE char *dir = runner_alloc_dir(r, alloc->id);
    if (alloc->state > ALLOC_PENDING || access(dir, F_OK) == 0) {
        a->record.launched = true;
        allocation_adopt(a);
    }
    allocation_event(a, wanted_here(r, alloc) ? EVENT_START : EVENT_STOP);
}

/* A newer version that needs no new task: what is kept and what comes next go by it. True: it has other health checks. */
static bool follow_version(struct runner *r, struct allocation *a, struct alloc *fresh)
{
    uint64_t version = a->spec->version.version;
    struct spec_ref *spec = fresh->version != version ? spec_find(r, fresh->service, fresh->version) : NULL;
    if (!spec) {
        fresh->version = version;
        return false;
    }
    bool other_checks = !type_equal(&health_type_table, &a->spec->version.spec.health, &spec->version.spec.health);
    bool other_config = !type_equal(&config_type, &a->spec->version.spec.config, &spec->version.spec.config);
    runner_spec_release(r, a->spec);
    a->spec = spec_hold(spec);
    if (other_config)
        allocation_adjust(a);
    return other_checks;
}

static void apply_known(struct runner *r, struct allocation *a, const struct alloc *alloc, bool full)
{
    bool newer = alloc->generation > a->record.alloc.generation, was_paused = a->record.alloc.paused;
    /* The key of the hash table is the id inside the record: it stays, the rest is replaced. */
    struct alloc fresh;
    type_copy(&alloc_type, &fresh, alloc);
    free(fresh.id);
    fresh.id = steal(&a->record.alloc.id);
    bool other_checks = follow_version(r, a, &fresh);
    type_clear(&alloc_type, &a->record.alloc);
    a->record.alloc = fresh;
    a->gone = false;
    allocation_save(a);
    if (full && stated(&a->record.report) && (alloc->state != a->record.report.state ||
                                              alloc->restarts != a->record.report.restarts)) {
        a->record.report.seq++;
        a->record.acknowledged = false;
    }
    if (a->phase == PHASE_DEAD)
        return;
    if (!wanted_here(r, alloc))
        allocation_event(a, EVENT_STOP);
    else if (a->phase == PHASE_WAITING)
        allocation_event(a, EVENT_START);
    else if (newer)
        allocation_event(a, EVENT_RESTART);
    else if (other_checks)
        allocation_event(a, EVENT_CHECKS);
    if (alloc->paused != was_paused && wanted_here(r, alloc))
        allocation_event(a, alloc->paused ? EVENT_PAUSE : EVENT_RESUME);
    if (a->secrets && a->phase == PHASE_UP)
        alloc_secrets_look(a->secrets);
}

static void apply_gone(struct runner *r, struct allocation *a)
{
    a->gone = true;
    a->record.acknowledged = true;
    if (a->phase == PHASE_DEAD)
        gc_soon(r, 0);
    else
        allocation_event(a, EVENT_STOP);
}

static bool names(const struct agent_work *work, const char *id)
{
    for (uint32_t i = 0; i < work->allocs.n; i++)
        if (!strcmp(work->allocs.v[i].id, id))
            return true;
    return false;
}

/* A directory or control group that no allocation has: an earlier agent's whose store was lost. */
static void found_orphan(void *ctx, const char *id)
{
    struct runner *r = ctx;
    if (find(r, id))
        return;
    struct service_version nobody = {.service = mem_strdup(""), .version = 0};
    type_init(&service_type, &nobody.spec);
    nobody.spec.driver = DRIVER_EXEC;
    struct spec_ref *spec = spec_find(r, "", 0);
    if (!spec)
        spec = spec_add(r, &nobody);
    type_clear(&service_version_type, &nobody);
    LOG_W("found a task's files that nobody wants", "alloc", id);
    struct alloc alloc = {0};
    alloc.id = mem_strdup(id);
    alloc.service = mem_strdup("");
    alloc.desired = DESIRED_STOP;
    struct allocation *a = add(r, spec, &alloc);
    type_clear(&alloc_type, &alloc);
    a->orphan = true;
    a->record.launched = true;
    allocation_adopt(a);
    allocation_event(a, EVENT_STOP);
}

static void scan_done(void *ctx)
{
    struct runner *r = ctx;
    r->scanned = true;
    finish_stop_all(r);
}

static void scan(struct runner *r)
{
    removal_scan(r->removal, found_orphan, r);
    removal_when_done(r->removal, scan_done, r);
}

/* Files of a task that an agent before this one did not see end. */
static void drop_secrets(void *ctx, const char *id)
{
    struct runner *r = ctx;
    const struct allocation *a = find(r, id);
    if (!a || a->phase == PHASE_DEAD)
        secret_files_remove(r->env.secret_files, id);
}

static void apply_full(struct runner *r, const struct agent_work *work)
{
    struct allocation *a, *next;
    /* Few or many, each lookup is one string compare against the list; full work is rare. */
    HASH_ITER(hh, r->allocations, a, next)
        if (!a->orphan && !names(work, a->record.alloc.id))
            apply_gone(r, a);
    if (r->confirmed)
        return;
    r->confirmed = true;
    if (r->env.secret_files)
        secret_files_each(r->env.secret_files, drop_secrets, r);
    scan(r);
    start_waiting(r);
}

void runner_apply(struct runner *r, const struct agent_work *work)
{
    for (uint32_t i = 0; i < work->services.n; i++) {
        const struct service_version *v = &work->services.v[i];
        if (spec_find(r, v->service, v->version))
            continue;
        CLEANUP_BUF struct buf b = {0};
        struct spec_ref *s = spec_add(r, v);
        type_encode(&service_version_type, v, &b);
        store_put(r->env.store, STORE_SERVICES, s->key, b.data, b.len);
    }
    for (uint32_t i = 0; i < work->secrets.n; i++) {
        struct spec_ref *s = spec_find(r, work->secrets.v[i].service, work->secrets.v[i].version);
        if (!s)
            continue;
        kv_clear(&s->secrets);
        for (uint32_t k = 0; k < work->secrets.v[i].secrets.n; k++)
            kv_set(&s->secrets, work->secrets.v[i].secrets.v[k].key, work->secrets.v[i].secrets.v[k].value);
    }
    peers_apply(&r->peers, work);
    for (uint32_t i = 0; i < work->allocs.n; i++) {
        const struct alloc *alloc = &work->allocs.v[i];
        if (!alloc->id || !id_valid(alloc->id)) {
            LOG_E("the servers sent an allocation without a proper id", "alloc", alloc->id ? alloc->id : "");
            continue;
        }
        struct allocation *a = find(r, alloc->id);
        if (a)
            apply_known(r, a, alloc, work->full);
        else
            apply_new(r, alloc);
    }
    for (uint32_t i = 0; i < work->gone.n; i++) {
        struct allocation *a = find(r, work->gone.v[i]);
        if (a)
            apply_gone(r, a);
    }
    if (work->full)
        apply_full(r, work);
    specs_sweep(r);
    r->env.report(r->env.ctx);
}

/* --- reports --- */

void runner_collect(struct runner *r, struct agent_report *report, uint32_t limit)
{
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next) {
        if (report->allocs.n == limit)
            break;
        if (a->record.acknowledged || !stated(&a->record.report))
            continue;
        struct alloc_report *copy = list_add((struct list *)&report->allocs, &alloc_report_type);
        type_clear(&alloc_report_type, copy);
        type_copy(&alloc_report_type, copy, &a->record.report);
    }
}

void runner_acknowledge(struct runner *r, const struct agent_report *report)
{
    for (uint32_t i = 0; i < report->allocs.n; i++) {
        struct allocation *a = find(r, report->allocs.v[i].id);
        if (!a || a->record.report.seq != report->allocs.v[i].seq)
            continue;
        a->record.acknowledged = true;
        allocation_save(a);
    }
}

void runner_peers(struct runner *r, const struct allocation *a, struct kv_list *texts)
{
    peers_texts(&r->peers, &a->spec->version.spec, &a->record.alloc, r->env.ip, texts);
}

/* --- looking --- */

static struct runner_view view_of(const struct allocation *a)
{
    return (struct runner_view){
        .record = &a->record, .spec = &a->spec->version.spec, .task = a->phase == PHASE_UP ||
        a->phase == PHASE_PAUSED || a->phase == PHASE_STOPPING ? a->task : NULL, .phase = phase_names[a->phase], .pid = a->pid,
        .health = a->health ? health_last(a->health) : "",
    };
}

int runner_find(struct runner *r, const char *id, struct runner_view *view, struct error *err)
{
    struct allocation *a = find(r, id), *next, *match = a;
    if (!match) {
        HASH_ITER(hh, r->allocations, a, next) {
            if (strncmp(a->record.alloc.id, id, strlen(id)))
                continue;
            if (match)
                return error_set(err, ERROR_INVALID, "allocation %.40s: several begin like this; give more digits", id);
            match = a;
        }
    }
    if (!match || !*id)
        return error_set(err, ERROR_NOT_FOUND, "no allocation %.40s on this node", id);
    *view = view_of(match);
    return 0;
}

const char *runner_volume_user(struct runner *r, const char *dir)
{
    CLEANUP_FREE char *real = realpath(dir, NULL);
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next) {
        if (real && allocation_has_volume(a, real))
            return a->record.alloc.id;
    }
    return NULL;
}

void runner_each(struct runner *r, void (*fn)(void *ctx, const struct runner_view *view), void *ctx)
{
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next) {
        struct runner_view view = view_of(a);
        fn(ctx, &view);
    }
}

/* --- ending --- */

void runner_stop_all(struct runner *r, void (*done)(void *ctx), void *ctx)
{
    r->stopping = true;
    r->all_stopped = done;
    r->all_stopped_ctx = ctx;
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        allocation_event(a, EVENT_STOP);
    if (!r->confirmed)
        scan(r);
    finish_stop_all(r);
}

void runner_kill_all(struct runner *r)
{
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next)
        if (a->task)
            task_stop(a->task, 0, 0);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct runner *r = h->data;
    if (--r->open_timers == 0)
        free(r);
}

void runner_close(struct runner *r)
{
    struct allocation *a, *next;
    HASH_ITER(hh, r->allocations, a, next) {
        take_out(r, a);
        allocation_release(a);
    }
    struct spec_ref *s, *s_next;
    HASH_ITER(hh, r->specs, s, s_next)
        spec_free(r, s);
    peers_clear(&r->peers);
    removal_close(r->removal);
    uv_close((uv_handle_t *)&r->gc_timer, on_timer_closed);
    uv_close((uv_handle_t *)&r->lease_timer, on_timer_closed);
}
