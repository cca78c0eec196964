/* Secrets: sealed by the leader before they become a command, opened for who may read them and for the agents whose tasks get
 * them. No value is in a log line, an event or an error. */
#include <inttypes.h>
#include <string.h>

#include "base/base64.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/namespace.h"
#include "model/secret.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/scope.h"
#include "server/vault.h"
#include "server/workload_identity.h"

static int find(struct control *c, const char *name, const struct secret **out, struct error *err)
{
    *out = secrets_find(core_secrets(c->core), name);
    return *out ? 0 : error_set(err, ERROR_NOT_FOUND, "there is no secret %.64s; `mt secret list` lists them", name);
}

/* --- for people --- */

static void summarize(const struct secret *s, struct secret_summary *out)
{
    const struct secret_version *last = secret_version(s, 0);
    *out = (struct secret_summary){.name = s->name, .version = last->version, .versions = s->versions.n, .bytes = last->bytes,
                                   .services = s->services, .modified_at = last->created_at, .modified_by = last->created_by};
}

API_READ(api_secrets)
{
    const struct secret_list *all = &core_secrets(c->core)->secrets;
    buf_add_string(&r->answer.body, "{\"items\":[");
    bool some = false;
    for (uint32_t i = 0; i < all->n; i++) {
        struct secret_summary s;         /* borrows */
        summarize(&all->v[i], &s);
        if (!scope_sees(r, &secret_summary_type, &s))
            continue;
        buf_add_string(&r->answer.body, some ? "," : "");
        type_show_json(&secret_summary_type, &s, &r->answer.body);
        some = true;
    }
    buf_printf(&r->answer.body, "],\"next_cursor\":\"\",\"index\":%" PRIu64 "}", core_index(c->core));
    return 0;
}

API_READ(api_secret)
{
    const struct secret *s;
    const char *after = NULL;
    if (find(c, r->params[0], &s, err))
        return -1;
    struct secret_detail detail = {.secret = *s};       /* borrowed, but for used_by */
    for (const struct service_version *v; (v = core_service_next(c->core, after)); after = v->service)
        if (service_uses_secret(&v->spec, s))
            str_list_add(&detail.used_by, namespace_bare(v->service));
    type_show_json(&secret_detail_type, &detail, &r->answer.body);
    str_list_clear(&detail.used_by);
    return 0;
}

static void write_value(const struct secret *s, const struct secret_version *v, const struct buf *plain, struct buf *out)
{
    CLEANUP_WIPE struct buf text = {0};
    buf_reserve(&text, plain->len * 2 + 4);
    base64_add(&text, plain->data, plain->len);
    struct secret_value value = {.name = s->name, .version = v->version, .value = text.data};
    buf_reserve(out, text.len + 256);
    type_show_json(&secret_value_type, &value, out);
}

API_READ(api_secret_value)
{
    const struct secret *s;
    uint64_t number;
    CLEANUP_WIPE struct buf plain = {0};
    if (find(c, r->params[0], &s, err) || request_query_number(r, "version", 0, UINT64_MAX, &number, err))
        return -1;
    const struct secret_version *v = secret_version(s, number);
    if (!v)
        return error_set(err, ERROR_NOT_FOUND, "secret %s has no version %" PRIu64 " any more; `mt secret history %s` lists them",
                         s->name, number, s->name);
    if (vault_open_secret(c, s->name, v, &plain, err))
        return -1;
    write_value(s, v, &plain, &r->answer.body);
    return 0;
}

API_READ(api_secret_put)
{
    const struct secret_request *body = r->body;
    const char *name = r->params[0];
    CLEANUP_WIPE struct buf plain = {0};
    CLEANUP_BUF struct buf sealed = {0};
    if (!namespace_is_qualified_name(name))
        return error_set(err, ERROR_INVALID, "\"%.64s\" is not a name of a secret: use lower-case letters, digits and hyphens, "
                         "at most 63", namespace_bare(name));
    buf_reserve(&plain, strlen(body->value));
    if (!base64_read(body->value, &plain))
        return error_set(err, ERROR_INVALID, "value: is not base64");
    if (!plain.len || plain.len > SECRET_BYTES_MOST)
        return error_set(err, ERROR_TOO_LARGE, "value: a secret has 1 to %u bytes, not %zu", SECRET_BYTES_MOST, plain.len);
    uint64_t version = core_secret_next_version(c->core, name);
    if (vault_seal_secret(c, name, version, &plain, &sealed, err))
        return -1;
    struct command_secret_put payload = {.name = (char *)(uintptr_t)name, .sealed = sealed.data, .version = version,
                                         .bytes = (int64_t)plain.len, .services = body->services,      /* borrowed */
                                         .set_services = body->services.n > 0};
    request_command(r, COMMAND_SECRET_PUT, &payload);
    return 0;
}

API_PREPARE(api_secret_delete)
{
    struct command_secret_delete payload = {.name = (char *)(uintptr_t)r->params[0]};
    request_command(r, COMMAND_SECRET_DELETE, &payload);
    return 0;
}

/* --- for agents --- */

static int add_value(struct control *c, const char *name, const char *service, struct buf *out, struct error *err)
{
    CLEANUP_WIPE struct buf plain = {0};
    const struct secret *s = secrets_find_for(core_secrets(c->core), service, name);
    if (!s || !secret_is_for(s, service))
        return error_set(err, ERROR_CONFLICT, s ? "secret %s is not for service %s" : "there is no secret %s for service %s", name,
                         service);
    const struct secret_version *v = secret_version(s, 0);
    if (vault_open_secret(c, s->name, v, &plain, err))
        return -1;
    if (out->data[out->len - 1] != '[')
        buf_add_char(out, ',');
    write_value(s, v, &plain, out);
    return 0;
}

static int add_values(struct control *c, const struct service *spec, struct buf *out, struct error *err)
{
    const char *login = service_login(spec);
    for (uint32_t i = 0; i < spec->secrets.n; i++) {
        const char *name = spec->secrets.v[i].name;
        if (service_names_secret(spec, name) != &spec->secrets.v[i])
            continue;                /* named twice, told once */
        if (add_value(c, name, spec->name, out, err))
            return -1;
    }
    return login && !service_names_secret(spec, login) ? add_value(c, login, spec->name, out, err) : 0;
}

static int check_transport(const struct request *r, struct error *err)
{
    if (!r->http->tls && !http_peer_is_own_host(r->http))
        return error_set(err, ERROR_DENIED, "secrets do not go over the network in plain text: set tls_cert, tls_key and tls_ca");
    return 0;
}

/* The allocation must be wanted, and on this very node; values go over TLS, or stay on this host. */
static int check_reader(struct control *c, const struct request *r, const struct alloc **alloc, struct error *err)
{
    const char *node = request_query(r, "node"), *id = request_query(r, "alloc");
    *alloc = core_alloc(c->core, id);
    if (!*alloc || strcmp((*alloc)->node_id, node) || !alloc_wanted(*alloc))
        return error_set(err, ERROR_DENIED, "node %.64s has no allocation %.64s that is to run", node, id);
    return check_transport(r, err);
}

static int add_identity(struct control *c, const struct alloc *a, const struct service *spec, struct buf *out, struct error *err)
{
    int64_t expires_at;
    char text[TIME_TEXT_SIZE];
    buf_add_string(out, ",\"identity\":\"");
    if (workload_identity_sign(c, a, spec, out, &expires_at, err))
        return -1;
    time_format(text, expires_at);
    buf_printf(out, "\",\"identity_expires_at\":\"%s\"", text);
    return 0;
}

API_READ(api_agent_secrets)
{
    const struct alloc *a;
    if (check_reader(c, r, &a, err))
        return -1;
    const struct service_version *v = core_version(c->core, a->service, a->version);
    if (!v)
        return error_set(err, ERROR_CONFLICT, "version %" PRIu64 " of service %s is not kept any more", a->version, a->service);
    CLEANUP_WIPE struct buf out = {0};
    buf_reserve(&out, SECRET_BYTES_MOST);
    buf_add_string(&out, "{\"secrets\":[");
    if (add_values(c, &v->spec, &out, err))
        return -1;
    buf_add_char(&out, ']');
    if (v->spec.identity.audience.n && add_identity(c, a, &v->spec, &out, err))
        return -1;
    buf_add_char(&out, '}');
    buf_reserve(&r->answer.body, out.len);
    buf_add(&r->answer.body, out.data, out.len);
    return 0;
}

/* What an ingress node serves is for it to read; nothing else. */
static bool is_served(const struct control *c, const struct secret *secret)
{
    const char *after = NULL;
    for (const struct service_version *v; (v = core_service_next(c->core, after)); after = v->service)
        if (service_serves_certificate(&v->spec, secret) && secret_is_for(secret, v->service))
            return true;
    return false;
}

API_READ(api_agent_certificate)
{
    const struct secret *s;
    const char *name = request_query(r, "secret");
    const struct node *n = core_node(c->core, request_query(r, "node"));
    CLEANUP_WIPE struct buf plain = {0};
    if (check_transport(r, err))
        return -1;
    if (find(c, name, &s, err))
        return error_set(err, ERROR_CONFLICT, "there is no secret %.64s", name);    /* not as if there were no such node */
    if (!n || !n->ingress || !is_served(c, s))
        return error_set(err, ERROR_DENIED, "node %.64s is no ingress node, or no service has an `ingress` with this certificate",
                         request_query(r, "node"));
    const struct secret_version *v = secret_version(s, 0);
    if (vault_open_secret(c, name, v, &plain, err))
        return -1;
    write_value(s, v, &plain, &r->answer.body);
    return 0;
}
