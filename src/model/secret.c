#include "model/secret.h"

#include <string.h>

#include "model/namespace.h"
#include "model/profile.h"
#include "model/table.h"

static uint32_t place_of(const struct secrets *all, const char *name, bool *found)
{
    uint32_t low = 0, high = all->secrets.n;
    *found = false;
    while (low < high && !*found) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(all->secrets.v[middle].name, name);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
        *found = order == 0;
    }
    return high;
}

const struct secret *secrets_find(const struct secrets *all, const char *name)
{
    bool found = false;
    uint32_t at = name ? place_of(all, name, &found) : 0;
    return found ? &all->secrets.v[at] : NULL;
}

const struct secret *secrets_find_for(const struct secrets *all, const char *service, const char *name)
{
    char namespace[NAMESPACE_SIZE];
    CLEANUP_FREE char *qualified = namespace_qualify(namespace_of(service, namespace), name);
    return secrets_find(all, qualified);
}

struct secret *secrets_insert(struct secrets *all, const char *name)
{
    bool found;
    uint32_t at = place_of(all, name, &found);
    list_add_zero((struct list *)&all->secrets, &secret_type);
    memmove(&all->secrets.v[at + 1], &all->secrets.v[at], (all->secrets.n - 1 - at) * sizeof(struct secret));
    all->secrets.v[at] = (struct secret){.name = mem_strdup(name)};
    return &all->secrets.v[at];
}

const struct secret_version *secret_version(const struct secret *s, uint64_t version)
{
    for (uint32_t i = s->versions.n; i-- > 0;)
        if (!version || s->versions.v[i].version == version)
            return &s->versions.v[i];
    return NULL;
}

bool secret_is_for(const struct secret *s, const char *service)
{
    return namespace_same(s->name, service) && (!s->services.n || policy_matches(&s->services, namespace_bare(service)));
}

const struct secret_ref *service_names_secret(const struct service *s, const char *secret)
{
    for (uint32_t i = 0; i < s->secrets.n; i++)
        if (!strcmp(s->secrets.v[i].name, secret))
            return &s->secrets.v[i];
    return NULL;
}

bool service_serves_certificate(const struct service *s, const struct secret *secret)
{
    for (uint32_t i = 0; i < s->ingress.n && namespace_same(s->name, secret->name); i++)
        if (s->ingress.v[i].certificate && !strcmp(s->ingress.v[i].certificate, namespace_bare(secret->name)))
            return true;
    return false;
}

bool service_uses_secret(const struct service *s, const struct secret *secret)
{
    const char *bare = namespace_bare(secret->name);
    return namespace_same(s->name, secret->name) && (service_names_secret(s, bare) || service_serves_certificate(s, secret) ||
                                                     (s->config.registry_auth && !strcmp(s->config.registry_auth, bare)));
}

const char *service_login(const struct service *s)
{
    return s->driver == DRIVER_DOCKER ? s->config.registry_auth : NULL;
}

bool service_has_secrets(const struct service *s)
{
    return s->secrets.n || s->identity.audience.n || service_login(s);
}

/* --- tables --- */

static const struct field secret_version_fields[] = {
    UINT(secret_version, version, 1, .help = "Its number."),
    STRING(secret_version, sealed, 2, .flags = FIELD_SECRET, .help = "The value, under the cluster's key."),
    INT(secret_version, bytes, 3, .help = "Size of the value."),
    TIME(secret_version, created_at, 4, .help = "When it was put."),
    STRING(secret_version, created_by, 5, .help = "Who put it."),
    UINT(secret_version, create_index, 6, .help = "Index at which it was put."),
    {0},
};
TABLE(secret_version, secret_version_fields, "One value that a secret had or has.");

static const struct field secret_fields[] = {
    STRING(secret, name, 1, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the secret."),
    STR_LIST(secret, services, 2, .help = "Which services may have it; none: all that name it."),
    LIST(secret, versions, 3, secret_version, .help = "The versions that are kept, oldest first; the last one is in force."),
    UINT(secret, create_index, 4, .help = "Index at which it was made."),
    UINT(secret, modify_index, 5, .help = "Index of the last change."),
    {0},
};
TABLE(secret, secret_fields, "A secret, without its values.");

static const struct field identity_key_fields[] = {
    STRING(identity_key, id, 1, .help = "Its `kid`."),
    STRING(identity_key, public_key, 2, .help = "The public point: x and y, each as base64url, with a dot between."),
    STRING(identity_key, sealed, 3, .flags = FIELD_SECRET, .help = "The private key, under the cluster's key."),
    TIME(identity_key, created_at, 4, .help = "When it was made."),
    {0},
};
TABLE(identity_key, identity_key_fields, "What tokens of tasks are signed with.");

static const struct field secrets_fields[] = {
    LIST(secrets, secrets, 1, secret, .help = "Secrets, in order of name."),
    LIST(secrets, keys, 2, identity_key, .help = "Keys of the tokens of tasks, oldest first."),
    UINT(secrets, floor, 3, .help = "Versions up to this one were those of secrets that are gone."),
    UINT(secrets, modify_index, 4, .help = "Index of the last change."),
    STRING(secrets, cluster_key, 5, .help = "Id of the key of the cluster that is in force."),
    {0},
};
TABLE(secrets, secrets_fields, "What the servers keep sealed.");

static const struct field service_secrets_fields[] = {
    STRING(service_secrets, service, 1, .help = "Name of the service."),
    UINT(service_secrets, version, 2, .help = "Its version."),
    MAP(service_secrets, secrets, 3, .help = "Which version of each of its secrets is in force."),
    {0},
};
TABLE(service_secrets, service_secrets_fields, "How the secrets of a service stand.");

static const struct field secret_value_fields[] = {
    STRING(secret_value, name, 1, .flags = FIELD_QUALIFIED, .help = "Name of the secret."),
    UINT(secret_value, version, 2, .help = "Its version."),
    STRING(secret_value, value, 3, .help = "The value, in base64."),
    {0},
};
TABLE(secret_value, secret_value_fields, "A secret's value, for the agent whose task gets it.");

static const struct field agent_secrets_fields[] = {
    LIST(agent_secrets, secrets, 1, secret_value, .help = "The values, each secret once."),
    STRING(agent_secrets, identity, 2, .help = "The token that says which task it is."),
    TIME(agent_secrets, identity_expires_at, 3, .help = "Until when that is good."),
    {0},
};
TABLE(agent_secrets, agent_secrets_fields, "What the task of one allocation gets.");
