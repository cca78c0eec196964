#include "core/command.h"
#include "server/api.h"

API_READ(api_policy)
{
    type_to_json(&policy_type, core_policy(c->core), &r->answer.body);
    return 0;
}

API_PREPARE(api_policy_set)
{
    struct command_policy_set payload = {.policy = *(struct policy *)r->body};      /* borrowed */
    request_command(r, COMMAND_POLICY_SET, &payload);
    return 0;
}
