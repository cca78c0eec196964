/* Secrets and the keys of tasks' tokens, as the leader sealed them: the core never sees a value. When a secret changes, the
 * services that name it are restarted, or their agents told, as each says. */
#include <string.h>

#include "core/apply.h"
#include "core/ingress.h"
#include "model/namespace.h"
#include "model/secret.h"

#define SECRETS_MOST 10000u
#define SERVICES_MOST 100u
#define VERSIONS_KEPT_OF_SECRET 10u
#define SEALED_MOST (SECRET_BYTES_MOST * 2)     /* as text */
#define SEALED_ALL_MOST (64u << 20)             /* of all secrets together */
#define IDENTITY_KEYS_MOST 8u

static struct secret *find(struct core *c, const char *name)
{
    return (struct secret *)(uintptr_t)secrets_find(&c->secrets, name);      /* the core's own */
}

uint64_t core_secret_next_version(const struct core *c, const char *name)
{
    const struct secret *s = secrets_find(&c->secrets, name);
    return (s ? s->versions.v[s->versions.n - 1].version : c->secrets.floor) + 1;
}

static void secret_event(struct core *c, const char *name, const char *to, const char *what)
{
    state_event_by_actor(c, (struct event_text){.kind = "secret", .subject = name, .to = to}, what);
    c->secrets.modify_index = c->index;
}

static void answer(struct core *c, uint64_t version, struct buf *body)
{
    buf_printf(body, "{\"index\":%llu,\"version\":%llu}", (unsigned long long)c->index, (unsigned long long)version);
}

/* --- who gets it --- */

static int admit_name(const struct core *c, const char *name, const char *service, const char *where, struct error *err)
{
    const struct secret *s = secrets_find_for(&c->secrets, service, name);
    if (!s)
        return error_set(err, ERROR_INVALID, "service %s: %s: there is no secret %.64s%s; `mt secret put %.64s` makes it",
                         service, where, name, namespace_has(NULL, service) ? "" : " in its namespace", name);
    if (!secret_is_for(s, service))
        return error_set(err, ERROR_DENIED, "service %s: %s: secret %.64s is not for this service; `mt secret put --services` says "
                         "for which it is", service, where, name);
    return 0;
}

/* The login of a registry is looked for at the start alone: releases before this one took any name. */
int secrets_admit(const struct core *c, const struct service *s, struct error *err)
{
    for (uint32_t i = 0; i < s->secrets.n; i++)
        if (admit_name(c, s->secrets.v[i].name, s->name, "secrets", err))
            return -1;
    for (uint32_t i = 0; i < s->ingress.n; i++)
        if (s->ingress.v[i].certificate && admit_name(c, s->ingress.v[i].certificate, s->name, "ingress", err))
            return -1;
    return 0;
}

void secrets_add_to_work(const struct core *c, const struct version_entry *v, struct agent_work *out)
{
    const struct secret_ref_list *refs = &v->v.spec.secrets;
    if (!refs->n)
        return;
    struct service_secrets *to = list_add_zero((struct list *)&out->secrets, &service_secrets_type);
    to->service = mem_strdup(v->v.service);
    to->version = v->v.version;
    for (uint32_t i = 0; i < refs->n; i++) {
        const struct secret *s = secrets_find_for(&c->secrets, v->v.service, refs->v[i].name);
        CLEANUP_FREE char *number = s ? mem_printf("%llu", (unsigned long long)secret_version(s, 0)->version) : NULL;
        if (number)
            kv_set(&to->secrets, refs->v[i].name, number);
    }
}

/* Tasks that run to their end are left alone: their next run gets the new value. */
static bool wants_restart(const struct service *spec, const char *secret)
{
    for (uint32_t i = 0; i < spec->secrets.n && spec->mode != MODE_TASK; i++)
        if (!strcmp(spec->secrets.v[i].name, secret) && spec->secrets.v[i].on_change == ON_CHANGE_RESTART)
            return true;
    return false;
}

static void tell(struct core *c, struct service_entry *s, const struct secret *secret)
{
    struct alloc_entry *a;
    if (secret->versions.n > 1 && wants_restart(&s->current->v.spec, namespace_bare(secret->name))) {
        service_restart(c, s);
        state_event(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name},
                    "restart of all replicas: secret %s has a new version", secret->name);
        return;
    }
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_wanted(a))
            state_send_again(c, a);
}

static void tell_all(struct core *c, const struct secret *secret)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, &c->services) {
        const struct service *spec = &s->current->v.spec;
        if (service_serves_certificate(spec, secret))
            ingress_set_changed(c, s);
        if (!s->stopped && namespace_same(s->name, secret->name) && service_names_secret(spec, namespace_bare(secret->name)))
            tell(c, s, secret);
    }
}

/* --- commands --- */

static uint64_t sealed_bytes(const struct core *c)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->secrets.secrets.n; i++)
        for (uint32_t k = 0; k < c->secrets.secrets.v[i].versions.n; k++)
            sum += strlen(c->secrets.secrets.v[i].versions.v[k].sealed);
    return sum;
}

static int check_put(struct core *c, const struct command_secret_put *p, struct error *err)
{
    char namespace[NAMESPACE_SIZE];
    if (!p->name || !namespace_is_qualified_name(p->name))
        return error_set(err, ERROR_INVALID, "\"%.64s\" is not a name of a secret: use lower-case letters, digits and hyphens, "
                         "at most 63", p->name ? p->name : "");
    if (!p->sealed || strlen(p->sealed) > SEALED_MOST)
        return error_set(err, ERROR_INVALID, "a secret takes at most %u bytes", SECRET_BYTES_MOST);
    if (namespace_admits(c, namespace_of(p->name, namespace), err))
        return -1;
    if (p->services.n > SERVICES_MOST)
        return error_set(err, ERROR_INVALID, "services: at most %u; `web-*` stands for all that begin so", SERVICES_MOST);
    if (p->version != core_secret_next_version(c, p->name))
        return error_set(err, ERROR_CONFLICT, "secret %s was changed at the same time; look at it, and try again", p->name);
    if (!find(c, p->name) && c->secrets.secrets.n >= SECRETS_MOST)
        return error_set(err, ERROR_TOO_MANY, "there are %u secrets already", SECRETS_MOST);
    if (sealed_bytes(c) + strlen(p->sealed) > SEALED_ALL_MOST)
        return error_set(err, ERROR_TOO_MANY, "all secrets together take %u MiB already; delete those that nobody needs",
                         SEALED_ALL_MOST >> 20);
    return 0;
}

int apply_secret_put(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_secret_put *p = payload;
    if (check_put(c, p, err))
        return -1;
    struct secret *s = find(c, p->name);
    if (!s) {
        s = secrets_insert(&c->secrets, p->name);
        s->create_index = c->index;
    }
    if (p->set_services) {
        str_list_clear(&s->services);
        for (uint32_t i = 0; i < p->services.n; i++)
            str_list_add(&s->services, p->services.v[i]);
    }
    struct secret_version *v = list_add_zero((struct list *)&s->versions, &secret_version_type);
    *v = (struct secret_version){.version = p->version, .sealed = mem_strdup(p->sealed), .bytes = p->bytes, .created_at = c->now,
                                 .created_by = mem_strdup(c->actor), .create_index = c->index};
    if (s->versions.n > VERSIONS_KEPT_OF_SECRET)
        list_remove((struct list *)&s->versions, &secret_version_type, 0);
    s->modify_index = c->index;
    CLEANUP_FREE char *what = mem_printf("version %llu put", (unsigned long long)p->version);
    secret_event(c, s->name, "put", what);
    tell_all(c, s);
    answer(c, p->version, body);
    return 0;
}

static const char *user_of(struct core *c, const struct secret *secret)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, &c->services)
        if (!s->stopped && service_uses_secret(&s->current->v.spec, secret))
            return s->name;
    return NULL;
}

int apply_secret_delete(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const char *name = ((const struct command_secret_delete *)payload)->name;
    struct secret *s = find(c, name);
    if (!s)
        return error_set(err, ERROR_NOT_FOUND, "there is no secret %.64s; `mt secret list` lists them", name ? name : "");
    const char *user = user_of(c, s);
    if (user)
        return error_set(err, ERROR_CONFLICT, "service %s names secret %s; take it out of its file first", user, name);
    uint64_t last = core_secret_next_version(c, name) - 1;
    if (last > c->secrets.floor)
        c->secrets.floor = last;
    secret_event(c, name, "deleted", "deleted");
    list_remove((struct list *)&c->secrets.secrets, &secret_type, (uint32_t)(s - c->secrets.secrets.v));
    answer(c, last, body);
    return 0;
}

/* --- another key of the cluster --- */

static struct secret_version *find_version(struct core *c, const char *place)
{
    const char *slash = strchr(place, '/');
    CLEANUP_FREE char *name = slash ? mem_strndup(place, (size_t)(slash - place)) : NULL;
    struct secret *s = find(c, name);
    uint64_t version = slash ? strtoull(slash + 1, NULL, 10) : 0;
    return s && version ? (struct secret_version *)(uintptr_t)secret_version(s, version) : NULL;
}

static struct identity_key *find_key(struct core *c, const char *id)
{
    for (uint32_t i = 0; id && i < c->secrets.keys.n; i++)
        if (!strcmp(c->secrets.keys.v[i].id, id))
            return &c->secrets.keys.v[i];
    return NULL;
}

int apply_secret_reseal(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_secret_reseal *p = payload;
    for (uint32_t i = 0; i < p->secrets.n + p->keys.n; i++) {
        const struct kv *kv = i < p->secrets.n ? &p->secrets.v[i] : &p->keys.v[i - p->secrets.n];
        if (!kv->value || !*kv->value || strlen(kv->value) > SEALED_MOST)
            return error_set(err, ERROR_INVALID, "%.64s: a sealed value is needed", kv->key);
    }
    for (uint32_t i = 0; i < p->secrets.n; i++) {
        struct secret_version *v = find_version(c, p->secrets.v[i].key);
        if (v)
            mem_set_string(&v->sealed, p->secrets.v[i].value);
    }
    for (uint32_t i = 0; i < p->keys.n; i++) {
        struct identity_key *k = find_key(c, p->keys.v[i].key);
        if (k)
            mem_set_string(&k->sealed, p->keys.v[i].value);
    }
    if (p->cluster_key) {
        mem_set_string(&c->secrets.cluster_key, p->cluster_key);
        secret_event(c, p->cluster_key, "in force", "key of the cluster");
    }
    c->secrets.modify_index = c->index;
    return 0;
}

/* --- tokens of tasks --- */

int apply_identity_key(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_identity_key *p = payload;
    if (!p->key.id || !p->key.public_key || !p->key.sealed)
        return error_set(err, ERROR_INVALID, "a key needs an id, its public and its sealed part");
    if (find_key(c, p->key.id))
        return error_set(err, ERROR_EXISTS, "there is a key %.64s already", p->key.id);
    for (uint32_t i = 0; i < p->drop.n; i++) {
        const struct identity_key *old = find_key(c, p->drop.v[i]);
        if (old)
            list_remove((struct list *)&c->secrets.keys, &identity_key_type, (uint32_t)(old - c->secrets.keys.v));
    }
    if (c->secrets.keys.n >= IDENTITY_KEYS_MOST)       /* whoever asks drops what is too much */
        list_remove((struct list *)&c->secrets.keys, &identity_key_type, 0);
    struct identity_key *k = list_add_zero((struct list *)&c->secrets.keys, &identity_key_type);
    type_copy(&identity_key_type, k, &p->key);
    k->created_at = c->now;
    secret_event(c, k->id, "made", "key of tasks' tokens made");
    return 0;
}
