#include "agent/dns_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/net4.h"
#include "model/namespace.h"

#define REPLICA_ANY (-1)

/* What a name asks for. */
struct wish {
    const struct network_service *service;
    int64_t replica;                 /* REPLICA_ANY: those that serve */
    char port[64];                   /* of a service record; "": none */
    bool udp;
};

bool dns_is_ours(const char *name)
{
    size_t n = strlen(name), zone = strlen(DNS_ZONE);
    return n >= zone && !strcmp(name + n - zone, DNS_ZONE) && (n == zone || name[n - zone - 1] == '.');
}

/* Takes the first label of *rest away; false: there is none, or it is too long. */
static bool label_take(const char **rest, char *out, size_t size)
{
    size_t n = strcspn(*rest, ".");
    if (!n || n >= size)
        return false;
    memcpy(out, *rest, n);
    out[n] = 0;
    *rest += n + ((*rest)[n] == '.');
    return true;
}

/* Of the job, whose services are all of its namespace, or by its qualified name. */
static const struct network_service *service_find(const struct agent_network *table, const char *job, const char *name)
{
    for (uint32_t i = 0; i < table->services.n; i++) {
        const struct network_service *s = &table->services.v[i];
        if (job ? !strcmp(s->job, job) && !strcmp(namespace_bare(s->name), name) : !strcmp(s->name, name))
            return s;
    }
    return NULL;
}

/* What is left of a name behind the service: the zone, or for those who are of no job a namespace before it. */
static const struct network_service *service_of(const struct agent_network *table, const char *job, const char *label,
                                                const char *rest)
{
    char namespace[NAMESPACE_SIZE];
    if (!strcmp(rest, DNS_ZONE))
        return service_find(table, job, label);
    if (job || !label_take(&rest, namespace, sizeof namespace) || strcmp(rest, DNS_ZONE))
        return NULL;
    CLEANUP_FREE char *name = namespace_qualify(namespace, label);
    return service_find(table, job, name);
}

static bool wish_read(const struct agent_network *table, const char *job, const char *name, struct wish *w)
{
    char label[64], protocol[8];
    *w = (struct wish){.replica = REPLICA_ANY};
    if (!label_take(&name, label, sizeof label))
        return false;
    if (label[0] == '_') {
        snprintf(w->port, sizeof w->port, "%s", label + 1);
        if (!label_take(&name, protocol, sizeof protocol) || (strcmp(protocol, "_tcp") && strcmp(protocol, "_udp")))
            return false;
        w->udp = !strcmp(protocol, "_udp");
        if (!label_take(&name, label, sizeof label))
            return false;
    } else if (strspn(label, "0123456789") == strlen(label) && strlen(label) < 10) {
        w->replica = atoll(label);
        if (!label_take(&name, label, sizeof label))
            return false;
    }
    w->service = service_of(table, job, label, name);
    return w->service != NULL;
}

/* Where the one who asks reaches it. */
static bool address_of(const struct network_replica *r, const char *job, uint32_t *out)
{
    return ip4_parse(job && r->address ? r->address : r->ip, out);
}

static bool is_meant(const struct wish *w, const struct network_replica *r)
{
    return w->replica == REPLICA_ANY ? r->serves : r->replica == w->replica;
}

/* While one replica takes another's place both have the index: the one that serves is meant. */
static bool is_hidden(const struct wish *w, const struct network_replica *r)
{
    for (uint32_t i = 0; w->replica != REPLICA_ANY && !r->serves && i < w->service->replicas.n; i++)
        if (w->service->replicas.v[i].serves && w->service->replicas.v[i].replica == r->replica)
            return true;
    return false;
}

enum dns_code dns_names_code(const struct agent_network *table, const char *job, const struct dns_query *q)
{
    struct wish w;
    if (!wish_read(table, job, q->name, &w))
        return DNS_NO_NAME;
    for (uint32_t i = 0; w.replica != REPLICA_ANY && i < w.service->replicas.n; i++)
        if (w.service->replicas.v[i].replica == w.replica)
            return DNS_OK;
    return w.replica == REPLICA_ANY ? DNS_OK : DNS_NO_NAME;
}

static void add_service(const struct wish *w, const struct network_replica *r, const char *job, uint32_t address,
                        struct dns_answer *a, bool addresses)
{
    char target[DNS_NAME_SIZE], namespace[NAMESPACE_SIZE];
    const char *name = w->service->name;
    bool apart = !job && !namespace_has(NULL, name);
    snprintf(target, sizeof target, "%lld.%s%s%s." DNS_ZONE, (long long)r->replica, namespace_bare(name), apart ? "." : "",
             apart ? namespace_of(name, namespace) : "");
    for (uint32_t i = 0; i < r->ports.n; i++) {
        const struct alloc_port *p = &r->ports.v[i];
        if (strcmp(p->name, w->port) || (p->protocol == PROTOCOL_UDP) != w->udp)
            continue;
        if (addresses)
            dns_answer_address(a, target, address, DNS_TTL_S, true);
        else
            dns_answer_service(a, (uint16_t)(job && r->address && p->port ? p->port : p->host), target, DNS_TTL_S);
    }
}

void dns_names_answer(const struct agent_network *table, const char *job, const struct dns_query *q, struct dns_answer *a)
{
    struct wish w;
    uint32_t address;
    if (!wish_read(table, job, q->name, &w))
        return;
    /* The addresses of service records come behind all of these. */
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < w.service->replicas.n; i++) {
            const struct network_replica *r = &w.service->replicas.v[i];
            if (!is_meant(&w, r) || is_hidden(&w, r) || !address_of(r, job, &address))
                continue;
            if (w.port[0] && (q->type == DNS_SRV || q->type == DNS_ANY))
                add_service(&w, r, job, address, a, round);
            else if (!w.port[0] && !round && (q->type == DNS_A || q->type == DNS_ANY))
                dns_answer_address(a, NULL, address, DNS_TTL_S, false);
        }
}
