/* Security profiles: what a task may do on its node, as data. One row a profile, one member of it a privilege. From this
 * table come the checks of servers and agents, what drivers do, what `mt plan` says, and docs/security.md. */
#pragma once
#include "model/model.h"

struct privileges {
    bool root;                       /* run as root */
    bool writable_root;              /* write to the container's own root file system */
    bool new_privileges;             /* gain privileges by set-user-ID programs and file capabilities */
    bool any_network;                /* join a named network, instead of the job's own or none */
    bool any_volume;                 /* use directories of other services below the volume root */
    bool engine_seccomp;             /* the engine's default filter of system calls, instead of the strict one */
    const char *const *capabilities; /* n_capabilities of them, without CAP_ */
    uint32_t n_capabilities;
    int64_t tmpfs_mb;                /* size of /tmp in memory; 0: it is a part of the root file system */
    int64_t pids;                    /* processes and threads: the limit, and the highest that a service may set; 0: none */
};

struct profile {
    const char *name;
    enum driver_kind driver;
    const char *help;
    bool named;                      /* in a new cluster only for services that the policy names */
    struct privileges may;
};

/* The row of a service's profile; PROFILE_DEFAULT gives that of the driver. */
const struct profile *profile_of(enum driver_kind driver, enum security_profile profile);

/* The profile's row with the service's own changes; borrows from both. */
void privileges_of(const struct service *s, struct privileges *out);
/* In what the service goes beyond its profile: names of privileges, "capabilities.NET_ADMIN". */
void privileges_loosened(const struct service *s, struct str_list *out);
/* Every name that privileges_loosened can give, but for capabilities; NULL-ended. */
extern const char *const privilege_names[];

/* What no profile allows, and what the service's own does not; without policy. */
int security_check(const struct service *s, struct error *err);
/* Whether the cluster's policy lets this service use its profile, and go beyond it. */
int policy_check(const struct policy *p, const struct service *s, struct error *err);
/* What a new cluster begins with: the profiles that are not for all by themselves are for services that it will name.
 * Fills raw memory; the caller clears it. */
void policy_restricted(struct policy *p);
/* "web", "web-*" or "*". */
bool policy_matches(const struct str_list *patterns, const char *word);
/* The same for a qualified name: "web-*" are those of default, "team-a.web-*" and "team-a.*" those of a namespace, "*" all. */
bool policy_matches_service(const struct str_list *patterns, const char *service);

/* Markdown for docs/security.md. */
void profiles_markdown(struct buf *out);
