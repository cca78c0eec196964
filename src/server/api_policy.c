#include <string.h>

#include "core/command.h"
#include "server/api.h"

API_READ(api_policy)
{
    type_to_json(&policy_type, core_policy(c->core), &r->answer.body);
    return 0;
}

/* Two rules for one profile: both would have to let a service pass, which nobody who writes them means. */
static int check_profiles(const struct policy *p, struct error *err)
{
    for (uint32_t i = 0; i < p->profiles.n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(p->profiles.v[i].name, p->profiles.v[k].name))
                return error_set(err, ERROR_INVALID, "profiles[%u]: profile %s is named twice; give it one rule with all its "
                                 "services", i, p->profiles.v[i].name);
    return 0;
}

API_PREPARE(api_policy_set)
{
    struct command_policy_set payload = {.policy = *(struct policy *)r->body};      /* borrowed */
    if (check_profiles(&payload.policy, err))
        return -1;
    request_command(r, COMMAND_POLICY_SET, &payload);
    return 0;
}
