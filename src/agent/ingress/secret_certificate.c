#include "agent/ingress/secret_certificate.h"

#include <string.h>
#include <unistd.h>

#include "agent/ingress/ingress_internal.h"
#include "base/base64.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "model/namespace.h"

static char *file_of(const struct ingress_node *in, const char *name)
{
    return mem_printf("%s/issued/%s@secret.pem", in->directory, name);
}

static struct secret_certificate *find(const struct ingress_node *in, const char *name)
{
    for (uint32_t i = 0; i < in->secret_certificates.n; i++)
        if (!strcmp(in->secret_certificates.v[i].name, name))
            return &in->secret_certificates.v[i];
    return NULL;
}

static void forget(struct secret_certificate *s)
{
    free(s->name);
    free(s->problem);
}

void secret_certificates_clear(struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->secret_certificates.n; i++)
        forget(&in->secret_certificates.v[i]);
    free(in->secret_certificates.v);
    in->secret_certificates = (struct secret_certificates){0};
}

static void remove_unwanted(struct ingress_node *in)
{
    struct secret_certificates *l = &in->secret_certificates;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->v[i].wanted) {
            l->v[kept++] = l->v[i];
            continue;
        }
        CLEANUP_FREE char *path = file_of(in, l->v[i].name);
        unlink(path);
        forget(&l->v[i]);
    }
    l->n = kept;
}

void secret_certificates_follow(struct ingress_node *in)
{
    struct secret_certificates *l = &in->secret_certificates;
    bool lacks = false;
    for (uint32_t i = 0; i < l->n; i++)
        l->v[i].wanted = 0;
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress_route *r = &in->table.routes.v[i];
        const char *name = r->ingress.certificate;
        if (!name || !r->certificate_version || !namespace_is_qualified_name(name))
            continue;
        struct secret_certificate *s = find(in, name);
        if (!s) {
            l->v = mem_realloc_array(l->v, l->n + 1, sizeof *l->v);
            s = &l->v[l->n++];
            *s = (struct secret_certificate){.name = mem_strdup(name)};
        }
        s->wanted = r->certificate_version;
        lacks |= s->wanted > s->have;
    }
    remove_unwanted(in);
    if (lacks)
        in->o.needs_certificate(in->o.ctx);
}

char *ingress_certificate_wanted(const struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->secret_certificates.n; i++)
        if (in->secret_certificates.v[i].wanted > in->secret_certificates.v[i].have)
            return mem_strdup(in->secret_certificates.v[i].name);
    return NULL;
}

/* A host that this certificate is to serve and is not for; *some: there is one that it is for. */
static const char *uncovered(const struct ingress_node *in, const char *name, const struct certificate_list *one, bool *some)
{
    const char *host = NULL;
    *some = false;
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress *way = &in->table.routes.v[i].ingress;
        if (!way->certificate || !way->host || strcmp(way->certificate, name))
            continue;
        if (certificates_cover(one, way->host))
            *some = true;
        else
            host = way->host;
    }
    return host;
}

static int put(struct ingress_node *in, struct secret_certificate *s, const struct secret_value *value, struct error *err)
{
    CLEANUP_WIPE struct buf pem = {0};
    CLEANUP_FREE char *path = file_of(in, s->name), *folder = mem_printf("%s/issued", in->directory);
    struct certificate c = {0};
    buf_reserve(&pem, value->value ? strlen(value->value) + 1 : 1);
    if (!value->value || !base64_read(value->value, &pem) || strlen(pem.data) != pem.len)
        return error_set(err, ERROR_INVALID, "it is no text");
    if (certificate_parse(pem.data, &c, err) < 0)
        return -1;
    struct certificate_list one = {.v = &c, .n = 1};
    bool some;
    const char *host = uncovered(in, s->name, &one, &some);
    int rc = 0;
    if (host && !some)
        rc = error_set(err, ERROR_INVALID, "it is for %s, not for %s", c.hosts.n ? c.hosts.v[0] : "no host", host);
    else if (host)
        s->problem = mem_printf("that of version %llu of secret %s is not for %s, and is served for the others",
                                (unsigned long long)value->version, s->name, host);
    if (!rc)
        s->expires_at = c.expires_at;
    certificate_clear(&c);
    if (rc)
        return rc;
    return dir_make(folder, 0700, err) < 0 ? -1 : file_write(path, pem.data, pem.len, 0600, err);
}

/* Why it is not as it should be; NULL: it is. The caller's. */
static char *problem_of(const struct secret_certificate *s)
{
    if (s->problem || !s->expires_at || s->expires_at >= time_now_ms())
        return mem_strdup(s->problem);
    return mem_printf("that of version %llu of secret %s has expired; it is served all the same", (unsigned long long)s->have, s->name);
}

void ingress_certificate(struct ingress_node *in, const struct secret_value *value)
{
    struct secret_certificate *s = value->name ? find(in, value->name) : NULL;
    struct error err;
    if (!s)
        return;
    s->have = value->version > s->wanted ? value->version : s->wanted;   /* what cannot be used is not asked for again */
    free(steal(&s->problem));
    if (put(in, s, value, &err) < 0)
        s->problem = mem_printf("version %llu of secret %s cannot be used: %s", (unsigned long long)value->version, s->name, err.text);
    CLEANUP_FREE char *problem = problem_of(s);
    if (problem)
        LOG_W("a certificate cannot be used", "reason", problem);
    acme_changed(in);
}

void secret_certificates_report(const struct ingress_node *in, struct acme_certificate_list *out)
{
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress *way = &in->table.routes.v[i].ingress;
        const struct secret_certificate *s = way->certificate && way->host ? find(in, way->certificate) : NULL;
        if (!s || !s->have)
            continue;
        struct acme_certificate *c = list_add_zero((struct list *)out, &acme_certificate_type);
        *c = (struct acme_certificate){.host = mem_strdup(way->host), .expires_at = s->expires_at, .problem = problem_of(s)};
    }
}
