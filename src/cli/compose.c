/* Happy path: the text becomes a value, variables are replaced in it, each service is taken key by key by the tables of
 * compose_service.c, and the whole is checked as any other job. What does not pass that check is left out, and told. */
#include "cli/compose.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/compose_import.h"

#define SERVICES_MAX 1000

void left_add_at(struct import *im, const char *path, int line, int column, const char *fmt, ...)
{
    va_list ap;
    char message[640];
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    /* Not by problem_add: that ends after the first hundred. */
    struct problem_list *l = im->left;
    l->v = mem_realloc_array(l->v, l->n + 1, sizeof *l->v);
    l->v[l->n++] = (struct problem){.path = mem_strdup(path), .message = mem_strdup(message), .line = line, .column = column};
}

void left_add(struct import_service *i, const struct value_entry *e, const char *fmt, ...)
{
    va_list ap;
    char message[600];
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    CLEANUP_FREE char *path = mem_printf("services.%s.%s", i->key, e->key);
    left_add_at(i->im, path, e->line, e->column, "%s", message);
}

/* --- what passes no check --- */

static void field_reset(const struct field *f, void *value)
{
    switch (f->kind) {
    case FIELD_OBJECT: type_clear(f->type, value); type_init(f->type, value); break;
    case FIELD_LIST: list_clear(value, f->type); break;
    case FIELD_STR_LIST: str_list_clear(value); break;
    case FIELD_MAP: kv_clear(value); break;
    case FIELD_STRING: mem_set_string(value, NULL); break;
    default: break;
    }
}

/* "services[2].config.env.A": config's env, and when that was not enough (deep false) the whole of config. */
static void drop(struct import *im, const struct problem *p, bool deep)
{
    unsigned k;
    int n = 0;
    char key[64] = "", part[64] = "";
    if (sscanf(p->path, "services[%u]%n", &k, &n) != 1 || k >= im->job->services.n)
        return;
    struct service *s = &im->job->services.v[k];
    sscanf(p->path + n, ".%63[a-z_].%63[a-z_]", key, part);
    const struct field *f = type_field(&service_type, key);
    if (!f || f->flags & FIELD_REQUIRED)
        return;
    void *value = (char *)s + f->offset;
    const struct field *within = deep && f->kind == FIELD_OBJECT ? type_field(f->type, part) : NULL;
    CLEANUP_FREE char *path = mem_printf("services.%s", s->name);
    left_add_at(im, path, 0, 0, "%s%s%s is left out: %s", key, within ? "." : "", within ? within->name : "", p->message);
    field_reset(within ? within : f, within ? (char *)value + within->offset : value);
}

/* 0 when the job is valid. */
static int check(struct import *im, struct problem_list *problems)
{
    for (int round = 0; round < 3; round++) {
        problem_list_clear(problems);
        type_validate(&job_type, im->job, "", problems);
        for (uint32_t k = 0; round < 2 && k < problems->n; k++)
            drop(im, &problems->v[k], round == 0);
    }
    return problems->n ? -1 : 0;
}

/* --- services --- */

static bool name_is_taken(const struct import *im, const char *name)
{
    for (uint32_t k = 0; k < im->job->services.n; k++)
        if (im->job->services.v[k].name && !strcmp(im->job->services.v[k].name, name))
            return true;
    return false;
}

static char *name_choose(const struct import *im, const char *key)
{
    CLEANUP_FREE char *base = compose_name(key);
    char *name = mem_strdup(base);
    for (unsigned n = 2; name_is_taken(im, name); n++) {
        free(name);
        name = mem_printf("%.50s-%u", base, n);
    }
    return name;
}

static bool is_chosen(const struct import *im, const struct value *v)
{
    const struct value *profiles = value_path(v, "profiles");
    if (!profiles || profiles->kind != VALUE_LIST || !profiles->n)
        return true;
    for (uint32_t k = 0; k < profiles->n; k++)
        for (uint32_t n = 0; n < im->options->profiles->n; n++)
            if (!strcmp(compose_scalar(&profiles->entries[k].value), im->options->profiles->v[n]))
                return true;
    return false;
}

static void take_key(struct import_service *i, const struct value_entry *e)
{
    const struct compose_key *key = compose_service_key(e->key);
    if (key && key->take)
        key->take(i, e);
    else if (!text_has_prefix(e->key, "x-"))
        left_add(i, e, "%s", key ? key->why : "Mentat has nothing like it");
}

static void take_service(struct import *im, const struct value_entry *e)
{
    CLEANUP_FREE char *path = mem_printf("services.%s", e->key);
    if (e->value.kind != VALUE_MAP) {
        left_add_at(im, path, e->line, e->column, "a service is a map");
        return;
    }
    if (!is_chosen(im, &e->value)) {
        left_add_at(im, path, e->line, e->column, "the service is started by its profiles alone: take it in with --profile");
        return;
    }
    if (im->job->services.n >= SERVICES_MAX) {
        left_add_at(im, path, e->line, e->column, "a job has %d services at most", SERVICES_MAX);
        return;
    }
    char *name = name_choose(im, e->key);
    struct service *s = list_add((struct list *)(void *)&im->job->services, &service_type);
    mem_set_string(&s->name, name);
    free(name);
    s->driver = DRIVER_DOCKER;
    if (strcmp(s->name, e->key))
        left_add_at(im, path, e->line, e->column, "the service is named %s here, and found by that name", s->name);
    struct import_service i = {.im = im, .key = e->key, .v = &e->value, .s = s};
    for (uint32_t k = 0; k < e->value.n; k++)
        take_key(&i, &e->value.entries[k]);
    compose_service_finish(&i);
    if (!s->config.image) {
        left_add_at(im, path, e->line, e->column, "the service has neither image nor build, and is left out");
        list_remove((struct list *)(void *)&im->job->services, &service_type, im->job->services.n - 1);
    }
}

/* --- the file --- */

static void take_top(struct import *im, const struct value_entry *e)
{
    static const struct { const char *key, *why; } known[] = {
        {"services", NULL}, {"name", NULL}, {"version", NULL}, {"networks", NULL}, {"volumes", NULL},
        {"secrets", "put each by `mt secret put`, and name it under `secrets` with the file: then it is in /run/secrets as well"},
        {"configs", "put the files into the images or into volumes"},
        {"include", "import the other file by itself, or use `docker compose config` first"},
    };
    for (size_t k = 0; k < ARRAY_LEN(known); k++)
        if (!strcmp(known[k].key, e->key)) {
            if (known[k].why)
                left_add_at(im, e->key, e->line, e->column, "%s", known[k].why);
            return;
        }
    if (!text_has_prefix(e->key, "x-"))
        left_add_at(im, e->key, e->line, e->column, "Mentat has nothing like it");
}

/* Settings of networks and volumes: drivers, labels, names. */
static void take_settings(struct import *im, const char *kind)
{
    const struct value *all = value_path(im->root, kind);
    for (uint32_t k = 0; all && all->kind == VALUE_MAP && k < all->n; k++) {
        const struct value_entry *e = &all->entries[k];
        for (uint32_t n = 0; e->value.kind == VALUE_MAP && n < e->value.n; n++) {
            const struct value_entry *setting = &e->value.entries[n];
            CLEANUP_FREE char *path = mem_printf("%s.%s.%s", kind, e->key, setting->key);
            if (!text_has_prefix(setting->key, "x-") && strcmp(setting->key, "external"))
                left_add_at(im, path, setting->line, setting->column, "Mentat makes %s by itself, without settings", kind);
        }
    }
}

static int take_all(struct import *im, struct problem_list *problems)
{
    const struct value *services = value_path(im->root, "services");
    const char *name = value_text(im->root, "name");
    if (!services || services->kind != VALUE_MAP) {
        problem_add_at(problems, "", im->root->line, im->root->column, "no compose file: there is no map `services`");
        return -1;
    }
    im->job->name = text_make_name(im->options->job ? im->options->job : name ? name : im->options->project, "job");
    for (uint32_t k = 0; k < im->root->n; k++)
        take_top(im, &im->root->entries[k]);
    for (uint32_t k = 0; k < services->n; k++)
        take_service(im, &services->entries[k]);
    take_settings(im, "networks");
    take_settings(im, "volumes");
    if (!im->job->services.n) {
        problem_add_at(problems, "services", services->line, services->column, "no service can be taken over");
        return -1;
    }
    return check(im, problems);
}

int compose_import(const char *text, size_t len, const struct compose_options *options, struct job *job,
                   struct problem_list *left, struct problem_list *problems)
{
    struct value root;
    *job = (struct job){0};
    int result = value_from_foreign_yaml(text, len, &root, problems);
    if (result == 0) {
        struct import im = {.options = options, .job = job, .left = left, .root = &root};
        compose_interpolate(&im, &root, "");
        result = take_all(&im, problems);
    }
    value_clear(&root);
    if (result < 0)
        type_clear(&job_type, job);
    return result;
}
