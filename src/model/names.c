#include "model/model.h"

const char *const driver_kind_names[] = {"none", "firecracker", "docker", "exec", NULL};
const char *const service_mode_names[] = {"service", "every-node", "task", NULL};
const char *const protocol_names[] = {"tcp", "udp", "http", NULL};
const char *const constraint_op_names[] = {"=", "!=", "<", "<=", ">", ">=", "in", "matches", "exists", "distinct", NULL};
const char *const health_type_names[] = {"none", "http", "tcp", "exec", NULL};
const char *const restart_then_names[] = {"reschedule", "fail", NULL};
const char *const analysis_then_names[] = {"promote", "pause", NULL};
const char *const analysis_outcome_names[] = {"none", "open", "passed", "failed", "inconclusive", NULL};
const char *const deploy_strategy_names[] = {"rolling", "blue-green", "canary", NULL};
const char *const network_link_names[] = {"none", "vxlan", "routes", NULL};
const char *const pull_policy_names[] = {"missing", "always", "never", NULL};
const char *const security_profile_names[] = {"default", "firecracker", "docker-hardened", "docker-legacy", "exec-internal",
                                              NULL};
const char *const secret_change_names[] = {"restart", "signal", "none", NULL};

const char *const alloc_state_names[] = {"pending", "starting", "running", "healthy", "unhealthy", "stopping", "complete",
                                         "failed", "lost", NULL};
const char *const alloc_desired_names[] = {"run", "stop", NULL};
const char *const alloc_leaving_names[] = {"no", "to stop", "to restart", NULL};
const char *const node_state_names[] = {"ready", "draining", "ineligible", "down", NULL};
const char *const deployment_state_names[] = {"running", "paused", "successful", "failed", "reverted", "cancelled", NULL};
const char *const service_state_names[] = {"pending", "running", "degraded", "complete", "failed", "stopped",
                                         "stopping", NULL};
