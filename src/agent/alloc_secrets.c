#include "agent/alloc_secrets.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/secret_files.h"
#include "agent/secret_source.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "model/secret.h"

#define AGAIN_MS 5000
#define RENEW_LEAST_MS 1000

struct alloc_secrets {
    struct allocation *a;            /* NULL: gone, only its handle is left */
    struct secret_set *set;          /* NULL: nothing was given to this agent yet */
    struct secret_ask *ask;
    void (*done)(void *ctx, const struct error *err);     /* of a start; NULL: the ask is for a task that runs */
    void *ctx;
    bool follows;
    uv_timer_t timer;                /* the next renewal, or the next try */
};

static const struct service *spec_of(const struct alloc_secrets *s)
{
    return &s->a->spec->version.spec;
}

static const char *id_of(const struct alloc_secrets *s)
{
    return s->a->record.alloc.id;
}

static struct secret_files *files_of(const struct alloc_secrets *s)
{
    return runner_env(s->a->runner)->secret_files;
}

static void take(struct alloc_secrets *s, struct secret_set *set)
{
    secret_set_free(s->set);
    s->set = set;
}

/* --- for a start --- */

/* Each one that the service names now; its version may be another one than when they came. */
static bool is_complete(const struct alloc_secrets *s)
{
    const struct service *spec = spec_of(s);
    for (uint32_t i = 0; i < spec->secrets.n; i++)
        if (!secret_set_find(s->set, spec->secrets.v[i].name))
            return false;
    if (service_login(spec) && !secret_set_find(s->set, service_login(spec)))
        return false;
    bool token = s->set && s->set->identity && s->set->identity_expires_at > time_now_ms();
    return s->set && (token || !spec->identity.audience.n);
}

static void on_given(void *ctx, struct secret_set *set, const struct error *err)
{
    struct alloc_secrets *s = ctx;
    struct error why;
    s->ask = NULL;
    if (set)
        take(s, set);
    bool old = err && err->code == ERROR_UNAVAILABLE && is_complete(s);
    if (old)
        LOG_W("no server could be asked for secrets: the task starts with those that the agent has", "alloc", id_of(s), "error",
              err->text);
    else if (err)
        error_set(&why, err->code, "its secrets: %s", err->text);
    void (*done)(void *, const struct error *) = s->done;
    s->done = NULL;
    done(s->ctx, err && !old ? &why : NULL);
}

static void stop_asking(struct alloc_secrets *s)
{
    if (s->ask)
        secret_ask_cancel(steal(&s->ask));
    s->done = NULL;
    s->follows = false;
    uv_timer_stop(&s->timer);
}

void alloc_secrets_get(struct alloc_secrets *s, void (*done)(void *ctx, const struct error *err), void *ctx)
{
    stop_asking(s);
    s->done = done;
    s->ctx = ctx;
    s->ask = secret_source_ask(runner_env(s->a->runner)->secrets, id_of(s), on_given, s);
}

static int write_identity(const struct alloc_secrets *s, struct error *err)
{
    const char *token = s->set->identity;
    return token ? secret_files_write(files_of(s), id_of(s), spec_of(s)->identity.file, token, strlen(token), err) : 0;
}

int alloc_secrets_write(const struct alloc_secrets *s, struct error *err)
{
    const struct secret_ref_list *refs = &spec_of(s)->secrets;
    if (secret_files_make(files_of(s), id_of(s), err) < 0)
        return -1;
    for (uint32_t i = 0; i < refs->n; i++) {
        const struct secret_item *item = secret_set_find(s->set, refs->v[i].name);
        if (refs->v[i].file && item &&
            secret_files_write(files_of(s), id_of(s), refs->v[i].file, item->bytes, item->len, err) < 0)
            return -1;
    }
    return write_identity(s, err);
}

void alloc_secrets_env(const struct alloc_secrets *s, struct kv_list *env, struct str_list *names)
{
    const struct secret_ref_list *refs = &spec_of(s)->secrets;
    for (uint32_t i = 0; i < refs->n; i++) {
        const struct secret_item *item = refs->v[i].env ? secret_set_find(s->set, refs->v[i].name) : NULL;
        char *text = item ? mem_strndup(item->bytes, item->len) : NULL;
        if (!text)
            continue;
        kv_set(env, refs->v[i].env, text);
        str_list_add(names, refs->v[i].env);
        explicit_bzero(text, item->len);
        free(text);
    }
}

char *alloc_secrets_login(const struct alloc_secrets *s)
{
    const char *name = service_login(spec_of(s));
    const struct secret_item *item = name ? secret_set_find(s->set, name) : NULL;
    return item ? mem_strndup(item->bytes, item->len) : NULL;
}

static void note_version(struct alloc_secrets *s, const struct secret_item *item)
{
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)item->version);
    kv_set(&s->a->record.secrets, item->name, number);
}

void alloc_secrets_given(struct alloc_secrets *s)
{
    kv_clear(&s->a->record.secrets);
    for (uint32_t i = 0; i < s->set->n; i++)
        note_version(s, &s->set->v[i]);
    allocation_save(s->a);
}

/* --- for a task that runs --- */

/* A file that is replaced while the task runs; where a change means a restart, that comes by itself. */
static bool is_live(const struct secret_ref *ref)
{
    return ref->file && ref->on_change != ON_CHANGE_RESTART;
}

static bool has_version(const struct alloc_secrets *s, const struct secret_item *item)
{
    const char *had = kv_get(&s->a->record.secrets, item->name);
    return had && strtoull(had, NULL, 10) == item->version;
}

/* Adds the files; *signal: what the task is to be told by. */
static int put_changed(struct alloc_secrets *s, struct str_list *files, int *signal, struct error *err)
{
    const struct secret_ref_list *refs = &spec_of(s)->secrets;
    for (uint32_t i = 0; i < refs->n; i++) {
        const struct secret_item *item = secret_set_find(s->set, refs->v[i].name);
        if (!item || !is_live(&refs->v[i]) || has_version(s, item))
            continue;
        if (secret_files_write(files_of(s), id_of(s), refs->v[i].file, item->bytes, item->len, err) < 0)
            return -1;
        LOG_I("a secret's file was put in place anew", "alloc", id_of(s), "secret", item->name, "version", LOG_U64(item->version));
        str_list_add(files, refs->v[i].file);
        if (refs->v[i].on_change == ON_CHANGE_SIGNAL)
            *signal = SIGHUP;
    }
    return 0;
}

/* Files anew, and the task knows; only then they count as given. */
static int put_renewed(struct alloc_secrets *s, struct error *err)
{
    const struct secret_ref_list *refs = &spec_of(s)->secrets;
    struct str_list files = {0};
    int signal = 0;
    int result = write_identity(s, err) < 0 ? -1 : put_changed(s, &files, &signal, err);
    if (s->set->identity)
        str_list_add(&files, spec_of(s)->identity.file);
    if (result == 0 && files.n && s->a->task)
        result = task_secrets_changed(s->a->task, &files, signal, err);
    str_list_clear(&files);
    for (uint32_t i = 0; result == 0 && i < refs->n; i++) {
        const struct secret_item *item = secret_set_find(s->set, refs->v[i].name);
        if (item && is_live(&refs->v[i]))
            note_version(s, item);
    }
    return result;
}

static void renew_in(struct alloc_secrets *s, int64_t delay_ms);
static void renew_later(struct alloc_secrets *s);

static void on_renewed(void *ctx, struct secret_set *set, const struct error *why)
{
    struct alloc_secrets *s = ctx;
    struct error err;
    s->ask = NULL;
    if (why)
        err = *why;
    else
        take(s, set);
    if (why || put_renewed(s, &err) < 0) {
        LOG_W("secrets of a task could not be renewed; trying again", "alloc", id_of(s), "error", err.text);
        renew_in(s, AGAIN_MS);
        return;
    }
    allocation_save(s->a);
    renew_later(s);
}

static void renew(struct alloc_secrets *s)
{
    if (s->follows && !s->ask)
        s->ask = secret_source_ask(runner_env(s->a->runner)->secrets, id_of(s), on_renewed, s);
}

static void on_timer(uv_timer_t *timer)
{
    renew(timer->data);
}

static void renew_in(struct alloc_secrets *s, int64_t delay_ms)
{
    uv_timer_start(&s->timer, on_timer, (uint64_t)delay_ms, 0);
}

/* At half of the token's time; without one, when something changes. */
static void renew_later(struct alloc_secrets *s)
{
    int64_t left = (s->set->identity_expires_at - time_now_ms()) / 2;
    if (s->set->identity)
        renew_in(s, left > RENEW_LEAST_MS ? left : RENEW_LEAST_MS);
    else
        uv_timer_stop(&s->timer);
}

void alloc_secrets_look(struct alloc_secrets *s)
{
    const struct secret_ref_list *refs = &spec_of(s)->secrets;
    for (uint32_t i = 0; i < refs->n; i++) {
        const char *now = kv_get(&s->a->spec->secrets, refs->v[i].name), *had = kv_get(&s->a->record.secrets, refs->v[i].name);
        if (is_live(&refs->v[i]) && now && (!had || strcmp(now, had))) {
            renew(s);
            return;
        }
    }
}

/* After a new start of the agent the values are asked for at once, so that a restart needs no servers. */
void alloc_secrets_follow(struct alloc_secrets *s)
{
    s->follows = true;
    if (s->set)
        renew_later(s);
    else
        renew(s);
    alloc_secrets_look(s);
}

void alloc_secrets_rest(struct alloc_secrets *s)
{
    stop_asking(s);
    secret_files_remove(files_of(s), id_of(s));
}

/* --- life --- */

struct alloc_secrets *alloc_secrets_new(struct allocation *a)
{
    struct alloc_secrets *s = NEW(struct alloc_secrets);
    s->a = a;
    uv_timer_init(runner_env(a->runner)->loop, &s->timer);
    s->timer.data = s;
    return s;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void alloc_secrets_free(struct alloc_secrets *s, bool keep_files)
{
    if (!s)
        return;
    stop_asking(s);
    if (!keep_files)
        secret_files_remove(files_of(s), id_of(s));
    take(s, NULL);
    uv_close((uv_handle_t *)&s->timer, on_closed);
}
