/* Launch: what one start of a task needs, made ready before the driver is asked: everything interpolated, the
 * directories there. */
#pragma once
#include "agent/alloc_record.h"
#include "agent/task_env.h"

struct launch {
    char *alloc_dir;
    struct config config;            /* with entrypoint, command and args interpolated */
    struct kv_list env;              /* complete */
    struct str_list secret_env;      /* names of those in it whose values are secrets */
    struct volume_list volumes;      /* of config and service, sources being paths on this host */
    struct alloc_port_list ports;
    char *owner;                     /* user of the host to whom new volumes are given; NULL: the agent's, or the driver gives them */
    char *adopt;                     /* what runs already, with the ports that it has; NULL: nothing */
    char *secrets_dir;               /* on this host, with the task's secrets; NULL: it has none */
    char *service;                   /* whose the volumes are, as directories; NULL: they are none */
    int64_t replica;
    char *ip;                        /* at which the host ports are reached; NULL: not known */
};

/* Interpolates everything. Pure; fails with what the user has to change. */
int launch_build(const struct task_facts *facts, const char *alloc_dir, const char *volume_root, struct launch **out,
                 struct error *err);
/* Makes the directories, and looks whether somebody else has a host port; blocking, for a worker. A new volume of
 * a process of the host belongs to its config.user, and so do its secrets, which are there; what a container's user is, its
 * driver knows. */
int launch_prepare(const struct launch *l, struct error *err);
void launch_free(struct launch *l);
DEFINE_CLEANUP(launch_free, struct launch)
