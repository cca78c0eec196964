/* The policy of the cluster: what services may do on their nodes. */
#include "core/apply.h"
#include "model/profile.h"

#define RULES_MOST 1000

int policy_admits(const struct core *c, const struct service *s, struct error *err)
{
    return security_check(s, err) < 0 || policy_check(&c->policy, s, err) < 0 ? -1 : 0;
}

int apply_policy_set(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_policy_set *p = payload;
    if (p->initial && core_member_next(c, NULL))
        return 0;
    if (p->policy.profiles.n + p->policy.exceptions.n > RULES_MOST)
        return error_set(err, ERROR_INVALID, "a policy can have %d rules at most", RULES_MOST);
    if (object_admits(&policy_type, &p->policy, err))
        return -1;
    type_clear(&policy_type, &c->policy);
    type_copy(&policy_type, &c->policy, &p->policy);
    state_event_by_actor(c, (struct event_text){.kind = "policy", .subject = "policy"}, "set");
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}
