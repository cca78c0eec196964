#include "model/access.h"

#include <string.h>

#include "base/text.h"
#include "model/namespace.h"
#include "model/profile.h"
#include "model/table.h"

const struct right_row rights[RIGHT_COUNT] = {
    [RIGHT_UNSET] = {"unset", .help = "Nobody has it."},
    [RIGHT_PUBLIC] = {"public", .help = "Whether the server is well, and which release it is; everybody."},
    [RIGHT_SELF] = {"self", .help = "Who one is; whoever has an identity."},
    [RIGHT_READ] = {"read", true, ON_SERVICES, "Look at services, allocations, deployments and events; at nodes and servers too."},
    [RIGHT_LOGS] = {"logs", true, ON_SERVICES, "Read what tasks wrote."},
    [RIGHT_SUBMIT] = {"submit", true, ON_SERVICES, "Submit, change and stop services, and stop or restart their allocations."},
    [RIGHT_SCALE] = {"scale", true, ON_SERVICES, "Change the number of replicas."},
    [RIGHT_DEPLOY] = {"deploy", true, ON_SERVICES, "Bring out another version of a service, take it back, restart replicas."},
    [RIGHT_EXEC] = {"exec", true, ON_SERVICES, "Run commands inside tasks, and send them signals."},
    [RIGHT_DRAIN] = {"drain", true, ON_CLUSTER, "Drain, enable, disable and forget nodes."},
    [RIGHT_ADOPT] = {"adopt", true, ON_CLUSTER, "See containers that run on nodes without Mentat, with their environment, and take them over."},
    [RIGHT_CLUSTER] = {"cluster", true, ON_CLUSTER, "Let servers join, take them out, take and restore snapshots, make and delete volumes."},
    [RIGHT_POLICY] = {"policy", true, ON_CLUSTER, "Change what services may do beyond their security profiles; namespaces and their quotas."},
    [RIGHT_ACCESS] = {"access", true, ON_CLUSTER, "Make and revoke tokens and roles: whoever has it can give itself all others."},
    [RIGHT_SECRETS] = {"secrets", true, ON_NAMESPACE, "See which secrets there are, put and delete them; not their values."},
    [RIGHT_REVEAL] = {"reveal", true, ON_NAMESPACE, "Read the values of secrets."},
    [RIGHT_AGENT] = {"agent", .help = "Speak for a node; agents alone."},
};

const char *right_name(enum right right)
{
    return (unsigned)right < RIGHT_COUNT ? rights[right].name : rights[RIGHT_UNSET].name;
}

static enum right right_of_name(const char *name)
{
    for (int i = 0; i < RIGHT_COUNT; i++)
        if (rights[i].granted && !strcmp(rights[i].name, name))
            return (enum right)i;
    return RIGHT_UNSET;
}

/* --- what roles come to --- */

#define BIT(right) (1u << (right))
#define READER (BIT(RIGHT_READ) | BIT(RIGHT_LOGS))
#define DEPLOYER (READER | BIT(RIGHT_SUBMIT) | BIT(RIGHT_SCALE) | BIT(RIGHT_DEPLOY))
#define OPERATOR (DEPLOYER | BIT(RIGHT_EXEC) | BIT(RIGHT_DRAIN))
#define ALL (OPERATOR | BIT(RIGHT_ADOPT) | BIT(RIGHT_CLUSTER) | BIT(RIGHT_POLICY) | BIT(RIGHT_ACCESS) | \
             BIT(RIGHT_SECRETS) | BIT(RIGHT_REVEAL))

static const struct { const char *name; unsigned rights; } builtins[] = {
    {"admin", ALL}, {"operator", OPERATOR}, {"deployer", DEPLOYER}, {"reader", READER},
};

static bool find_builtin(const char *name, unsigned *rights_out)
{
    for (size_t i = 0; i < ARRAY_LEN(builtins); i++)
        if (!strcmp(builtins[i].name, name)) {
            *rights_out = builtins[i].rights;
            return true;
        }
    return false;
}

bool role_is_builtin(const char *name)
{
    unsigned ignored;
    return find_builtin(name, &ignored);
}

static unsigned rights_of(const struct role_rule *rule)
{
    unsigned bits = 0;
    for (uint32_t i = 0; i < rule->allow.n; i++)
        bits |= !strcmp(rule->allow.v[i], "*") ? ALL : BIT(right_of_name(rule->allow.v[i]));
    return bits & ALL;
}

/* A rule that names no services is for all. */
static bool rule_is_open(const struct role_rule *rule)
{
    return !rule->services.n || policy_matches(&rule->services, "*");
}

static void copy_list(struct str_list *to, const struct str_list *from)
{
    for (uint32_t i = 0; i < from->n; i++)
        str_list_add(to, from->v[i]);
}

/* Those about the whole cluster need no namespace. */
static unsigned cluster_rights(void)
{
    unsigned bits = 0;
    for (int i = 0; i < RIGHT_COUNT; i++)
        if (rights[i].granted && rights[i].on == ON_CLUSTER)
            bits |= BIT(i);
    return bits;
}

static void add_part(struct grant *g, unsigned bits, const struct str_list *namespaces, const struct str_list *services)
{
    g->everywhere |= bits & cluster_rights();
    if (!(bits & ~cluster_rights()))
        return;
    g->parts = mem_realloc_array(g->parts, g->n + 1, sizeof *g->parts);
    struct grant_part *part = &g->parts[g->n++];
    *part = (struct grant_part){.rights = bits & ~cluster_rights()};
    if (services)
        copy_list(&part->services, services);
    if (namespaces && namespaces->n)
        copy_list(&part->namespaces, namespaces);
    else
        str_list_add(&part->namespaces, NAMESPACE_DEFAULT);
}

void grant_add_role(struct grant *g, const struct role *role)
{
    for (uint32_t i = 0; i < role->rules.n; i++) {
        const struct role_rule *rule = &role->rules.v[i];
        bool open = rule_is_open(rule);
        if (open && policy_matches(&rule->namespaces, NAMESPACE_ANY))
            g->everywhere |= rights_of(rule);
        else
            add_part(g, rights_of(rule), &rule->namespaces, open ? NULL : &rule->services);
    }
}

void grant_add_names(struct grant *g, const struct str_list *names, const struct role_list *roles)
{
    for (uint32_t i = 0; i < names->n; i++) {
        unsigned more = 0;
        if (find_builtin(names->v[i], &more) && more == ALL)
            g->everywhere |= ALL;
        else if (more)
            add_part(g, more, NULL, NULL);
        for (uint32_t k = 0; !more && k < roles->n; k++)
            if (!strcmp(roles->v[k].name, names->v[i]))
                grant_add_role(g, &roles->v[k]);
    }
}

static void grant_part_clear(struct grant_part *part)
{
    str_list_clear(&part->namespaces);
    str_list_clear(&part->services);
}

void grant_clear(struct grant *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        grant_part_clear(&g->parts[i]);
    free(g->parts);
    *g = (struct grant){0};
}

bool grant_allows_all(const struct grant *g, enum right right)
{
    return g->everywhere & BIT(right);
}

bool grant_allows(const struct grant *g, enum right right)
{
    unsigned bits = g->everywhere;
    for (uint32_t i = 0; i < g->n; i++)
        bits |= g->parts[i].rights;
    return bits & BIT(right);
}

bool grant_allows_service(const struct grant *g, enum right right, const char *service)
{
    char namespace[NAMESPACE_SIZE];
    if (grant_allows_all(g, right))
        return true;
    namespace_of(service, namespace);
    for (uint32_t i = 0; i < g->n; i++) {
        const struct grant_part *part = &g->parts[i];
        if (part->rights & BIT(right) && policy_matches(&part->namespaces, namespace) &&
            (!part->services.n || policy_matches(&part->services, namespace_bare(service))))
            return true;
    }
    return false;
}

bool grant_allows_in(const struct grant *g, enum right right, const char *namespace)
{
    if (grant_allows_all(g, right))
        return true;
    for (uint32_t i = 0; i < g->n; i++)
        if (g->parts[i].rights & BIT(right) && policy_matches(&g->parts[i].namespaces, namespace))
            return true;
    return false;
}

/* --- tables --- */

static void check_allow(const struct role_rule *rule, const char *path, struct problem_list *problems)
{
    for (uint32_t i = 0; i < rule->allow.n; i++) {
        const char *word = rule->allow.v[i];
        enum right right = right_of_name(word);
        bool all = !strcmp(word, "*");
        CLEANUP_FREE char *at = mem_printf("%s.allow[%u]", path, i);
        if (right == RIGHT_UNSET && !all)
            problem_add(problems, at, "\"%.64s\" is no right; there are read, logs, submit, scale, deploy, exec, drain, adopt, "
                        "cluster, policy, access, secrets, reveal, and `*` for all of them", word);
        else if (!rule_is_open(rule) && !all && rights[right].on == ON_NAMESPACE)
            problem_add(problems, at, "`%s` is about the whole namespace: put it into a rule without services", word);
        else if (!rule_is_open(rule) && (all || rights[right].on == ON_CLUSTER))
            problem_add(problems, at, "`%s` is about the whole cluster: put it into a rule without services", word);
        else if (rule->namespaces.n && !all && rights[right].on == ON_CLUSTER)
            problem_add(problems, at, "`%s` is about the whole cluster: put it into a rule without namespaces", word);
        else if (all && rule->namespaces.n && !policy_matches(&rule->namespaces, NAMESPACE_ANY))
            problem_add(problems, at, "`*` has the rights about the whole cluster too: name those that are meant");
    }
}

/* Names, beginnings of names, or all. */
static void check_namespaces(const struct role_rule *rule, const char *path, struct problem_list *problems)
{
    for (uint32_t i = 0; i < rule->namespaces.n; i++) {
        const char *word = rule->namespaces.v[i];
        size_t n = strlen(word);
        bool open = n && word[n - 1] == '*';
        CLEANUP_FREE char *name = mem_printf("%.*s%s", (int)(n - open), word, open ? "x" : "");
        CLEANUP_FREE char *at = mem_printf("%s.namespaces[%u]", path, i);
        if (!text_is_name(name))
            problem_add(problems, at, "\"%.64s\" is no namespace: write a name, `team-*` for all that begin so, or `*`", word);
    }
}

static void check_role_rule(const void *object, const char *path, struct problem_list *problems)
{
    check_allow(object, path, problems);
    check_namespaces(object, path, problems);
}

static const struct field role_rule_fields[] = {
    STR_LIST(role_rule, allow, 1, .flags = FIELD_REQUIRED | FIELD_SCALAR_OK, .help = "Rights, or `*` for all."),
    STR_LIST(role_rule, services, 2, .flags = FIELD_SCALAR_OK,
             .help = "On which services: names, `web-*`, or `*`; none: on all."),
    STR_LIST(role_rule, namespaces, 3, .flags = FIELD_SCALAR_OK,
             .help = "In which namespaces: names, `team-*`, or `*`; none: in `default`."),
    {0},
};
static TABLE(role_rule, role_rule_fields, "What a role allows.", .check = check_role_rule);

static const struct field role_fields[] = {
    STRING(role, name, 1, .flags = FIELD_REQUIRED | FIELD_NAME_RULE, .help = "Name of the role."),
    LIST(role, rules, 2, role_rule, .help = "What it allows; each rule adds."),
    UINT(role, modify_index, 3, .flags = FIELD_INTERNAL, .help = "Index at which it changed last."),
    {0},
};
TABLE(role, role_fields, "A set of rights that tokens carry.");

static const struct field access_token_fields[] = {
    STRING(access_token, id, 1, .help = "Id of the token: what stands before its dot."),
    STRING(access_token, name, 2, .help = "Who or what uses it; in events and versions."),
    STRING(access_token, secret_hash, 3, .flags = FIELD_SECRET, .help = "SHA-256 of its secret."),
    STR_LIST(access_token, roles, 4, .help = "Its roles."),
    STRING(access_token, created_by, 5, .help = "Who made it."),
    TIME(access_token, created_at, 6, .help = "When it was made."),
    TIME(access_token, expires_at, 7, .help = "Until when it is good; none: until it is revoked."),
    UINT(access_token, create_index, 8, .help = "Index at which it was made."),
    {0},
};
TABLE(access_token, access_token_fields, "Proves who asks; its secret is shown once, when it is made.");

static const struct field revocation_fields[] = {
    STRING(revocation, name, 1, .help = "Whose: `ID.server` or `NODE.agent`."),
    TIME(revocation, before, 2, .help = "Those that began before."),
    TIME(revocation, until, 3, .help = "When the last one of them expires."),
    {0},
};
TABLE(revocation, revocation_fields, "Certificates that are believed no more although they did not expire.");

static const struct field access_fields[] = {
    LIST(access, roles, 1, role, .help = "Roles."),
    LIST(access, tokens, 2, access_token, .help = "Tokens."),
    UINT(access, modify_index, 3, .help = "Index at which any of it changed last."),
    LIST(access, authorities, 4, authority, .help = "Authorities of the cluster's certificates."),
    LIST(access, revoked, 5, revocation, .help = "Certificates that are believed no more."),
    LIST(access, namespaces, 6, namespace, .help = "Namespaces."),
    MAP(access, ingress_nodes, 7, .help = "Names of nodes, and whether they may take requests from outside: yes or no."),
    {0},
};
TABLE(access, access_fields, "Who may do what.");

/* --- docs --- */

void access_markdown(struct buf *out)
{
    static const char *const on[] = {[ON_CLUSTER] = "the cluster", [ON_NAMESPACE] = "a namespace", [ON_SERVICES] = "services"};
    buf_add_string(out, "| right | on | what it lets one do |\n|---|---|---|\n");
    for (int i = 0; i < RIGHT_COUNT; i++)
        if (rights[i].granted)
            buf_printf(out, "| `%s` | %s | %s |\n", rights[i].name, on[rights[i].on], rights[i].help);
    buf_add_string(out, "\n| role | allows |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(builtins); i++) {
        buf_printf(out, "| `%s` |", builtins[i].name);
        const char *between = " ";
        for (int k = 0; k < RIGHT_COUNT; k++)
            if (builtins[i].rights & BIT(k)) {
                buf_printf(out, "%s`%s`", between, rights[k].name);
                between = ", ";
            }
        buf_add_string(out, " |\n");
    }
}
