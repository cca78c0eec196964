#include "cli/commands.h"

#include <stddef.h>

/* In the order of the help text: what one needs first comes first. */
const struct command_row *const commands[] = {
    &cmd_dev, &cmd_run, &cmd_plan, &cmd_validate, &cmd_import, &cmd_schema,
    &cmd_status, &cmd_services, &cmd_allocs, &cmd_nodes, &cmd_volumes, &cmd_explain,
    &cmd_logs, &cmd_exec,
    &cmd_scale, &cmd_restart, &cmd_stop, &cmd_pause, &cmd_resume, &cmd_deploy, &cmd_promote, &cmd_abort, &cmd_rollback, &cmd_versions,
    &cmd_adopt, &cmd_node, &cmd_volume, &cmd_policy, &cmd_cluster, &cmd_snapshot, &cmd_events, &cmd_metrics, &cmd_doctor,
    &cmd_login, &cmd_logout, &cmd_token, &cmd_role, &cmd_namespace, &cmd_secret, &cmd_ca, &cmd_audit,
    &cmd_completion, &cmd_version,
    NULL,
};
