/* Commands: one file each, one row each. The table is in commands.c. */
#pragma once
#include "cli/cli.h"

extern const struct command_row cmd_abort, cmd_adopt, cmd_allocs, cmd_cluster, cmd_completion, cmd_deploy, cmd_dev, cmd_doctor, cmd_events, cmd_exec, cmd_explain, cmd_logs, cmd_metrics,
    cmd_node, cmd_nodes, cmd_plan, cmd_policy, cmd_promote, cmd_restart, cmd_rollback, cmd_run, cmd_scale, cmd_schema, cmd_services, cmd_status,
    cmd_login, cmd_logout, cmd_role, cmd_token, cmd_snapshot, cmd_stop, cmd_validate, cmd_version, cmd_versions;
