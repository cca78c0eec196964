/* Process cgroup: the use of resources of a process's control groups, whoever made them. */
#pragma once
#include "agent/cgroup.h"

/* What the group that pid is in uses: a container's, when it is a container's main process. */
int process_cgroup_usage(int pid, struct cgroup_usage *out, struct error *err);
