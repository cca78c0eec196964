/* Apply: one function for each kind of command. Private to src/core. Each checks everything before it changes
 * anything: a refused command (-1 with err set) leaves the state as it was. body is the API's JSON answer. */
#pragma once
#include "core/state.h"

typedef int apply_fn(struct core *c, const void *payload, struct buf *body, struct error *err);

apply_fn apply_job_submit, apply_job_delete;
apply_fn apply_service_scale, apply_service_restart, apply_service_rollback, apply_service_delete;
apply_fn apply_service_promote, apply_service_abort;
apply_fn apply_node_register, apply_node_state, apply_node_remove, apply_node_fenced, apply_node_ingress;
apply_fn apply_alloc_report, apply_alloc_stop, apply_alloc_restart, apply_alloc_pause, apply_alloc_resume;
apply_fn apply_decide;
apply_fn apply_member_set, apply_member_remove, apply_join_token, apply_event;
apply_fn apply_restore_chunk, apply_restore;
apply_fn apply_policy_set;
apply_fn apply_ingress_report;
apply_fn apply_clock;
apply_fn apply_secret_put, apply_secret_delete, apply_secret_reseal, apply_identity_key;
apply_fn apply_authority_set, apply_authority_remove, apply_enrol;
apply_fn apply_namespace_put, apply_namespace_delete;
apply_fn apply_role_set, apply_role_delete, apply_token_create, apply_token_revoke;

/* A new version of a service (spec is copied) and, when replicas have to be replaced, its deployment, whose id comes
 * back (NULL: none). NULL spec of the current version: the first one. */
struct new_version {
    const struct service *spec;
    const char *why;
    bool revert;                       /* of a failed deployment */
    const char *taken_back;            /* why the running deployment is; NULL: a newer version replaces it */
};
const char *service_add_version(struct core *c, struct service_entry *s, const struct new_version *v);
/* apply_job.c: whether an object from outside keeps to its table; the first problem is told. */
int object_admits(const struct type *t, const void *object, struct error *err);
/* Whether the profiles and the cluster's policy let this be submitted. */
int policy_admits(const struct core *c, const struct service *s, struct error *err);
/* apply_namespace.c: whether it is there; NULL: default. */
int namespace_admits(const struct core *c, const char *name, struct error *err);
/* Whether a job, whose names are qualified, may be submitted: for submit and plan alike. */
int job_admits(const struct core *c, const struct job *job, struct error *err);
/* apply_secret.c: whether each secret that it names is there, and for it. */
int secrets_admit(const struct core *c, const struct service *s, struct error *err);
/* Once for a version of a service, when it names some. */
void secrets_add_to_work(const struct core *c, const struct version_entry *v, struct agent_work *out);
/* All its replicas, one after the other as its `deploy` allows. */
void service_restart(struct core *c, struct service_entry *s);
void service_stop(struct core *c, struct service_entry *s, bool purge, const char *reason);
/* Also one that is stopped: `even_stopped`. NULL with err. */
struct service_entry *service_find(struct core *c, const char *name, bool even_stopped, struct error *err);
/* The answer to a request about one service; deployment may be NULL. */
void service_answer(struct core *c, const struct service_entry *s, const char *deployment, struct buf *body);

/* apply_deploy.c. old: the version before the current one; revert: it takes back a failed one, and is not taken back. */
struct deployment_entry *deployment_begin(struct core *c, struct service_entry *s, const struct version_entry *old,
                                          bool revert);
void deployment_change(struct core *c, const struct decide_deployment *p);
/* Back to the version before: the id of the deployment that does it, if one is needed. */
const char *deployment_take_back(struct core *c, struct deployment_entry *d, const char *reason);
/* A newer version comes while the current one stands beside an older one (beside.h), or that one comes back. */
void deployment_supersede(struct core *c, struct deployment_entry *d, bool goes_back);
void deployment_finish(struct core *c, struct deployment_entry *d, enum deployment_state state, const char *reason);
/* A replica that is to stop, or to be restarted: first it leaves the traffic, when it is in there. The second call, once it
 * has left, does it; one that comes too early changes nothing. */
void alloc_stop(struct core *c, struct alloc_entry *a, const char *reason);
void alloc_restart(struct core *c, struct alloc_entry *a, int64_t generation, const char *reason);
/* Certificates of a server (by id) or node (by name) that there are are believed no more, until they have expired; until 0:
 * nothing. */
void authority_revoke_name(struct core *c, const char *id, const char *role, int64_t until);
/* The node without live allocations, and the ended ones that it ran. */
void node_forget(struct core *c, struct node_entry *n);
/* Forgets a service that is to be purged, once its last allocation is gone. */
void service_purge_when_empty(struct core *c, struct service_entry *s);
/* Forgets a snapshot that is being sent: at once, or when its pieces stopped coming long ago. */
void staging_drop(struct core *c);
void staging_expire(struct core *c);
