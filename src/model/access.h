/* Access: what whoever asks may do, as data: rights, roles made of rules, tokens that carry roles. From the table of
 * rights come the checks, the API's description, and docs/access.md. */
#pragma once
#include "model/model.h"

/* One right per kind of harm. RIGHT_UNSET is what a route's row has that forgot it: nobody has that right. */
enum right {
    RIGHT_UNSET,
    RIGHT_PUBLIC,       /* whether the server is well, and its description: no state */
    RIGHT_SELF,         /* to ask who one is: whoever has an identity */
    RIGHT_READ,
    RIGHT_LOGS,
    RIGHT_SUBMIT,
    RIGHT_SCALE,
    RIGHT_DEPLOY,
    RIGHT_EXEC,
    RIGHT_DRAIN,
    RIGHT_ADOPT,
    RIGHT_CLUSTER,
    RIGHT_POLICY,
    RIGHT_ACCESS,
    RIGHT_SECRETS,
    RIGHT_REVEAL,
    RIGHT_AGENT,        /* to speak for a node: agents alone */
    RIGHT_COUNT
};

/* The whole cluster; a namespace; services of a namespace. */
enum right_on { ON_CLUSTER, ON_NAMESPACE, ON_SERVICES };

struct right_row {
    const char *name;
    bool granted;       /* by roles; the others belong to what one is */
    enum right_on on;   /* what a rule may narrow it to */
    const char *help;
};
extern const struct right_row rights[RIGHT_COUNT];
const char *right_name(enum right right);

/* What the roles of one token come to. All zero: nothing. */
struct grant {
    unsigned everywhere;             /* bits of rights that nothing narrows */
    /* In these namespaces, on these services of theirs (empty: on all). */
    struct grant_part { unsigned rights; struct str_list namespaces, services; } *parts;
    uint32_t n;
};
/* Adds a role's rules. */
void grant_add_role(struct grant *g, const struct role *role);
/* Adds what the roles of these names come to: those that are always there, and those of the list. */
void grant_add_names(struct grant *g, const struct str_list *names, const struct role_list *roles);
void grant_clear(struct grant *g);
/* On something at least; on this service, by its qualified name; on something in this namespace; on all there is. */
bool grant_allows(const struct grant *g, enum right right);
bool grant_allows_service(const struct grant *g, enum right right, const char *service);
bool grant_allows_in(const struct grant *g, enum right right, const char *namespace);
bool grant_allows_all(const struct grant *g, enum right right);

bool role_is_builtin(const char *name);

/* Markdown for docs/access.md: the rights and the roles that are always there. */
void access_markdown(struct buf *out);
