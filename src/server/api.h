/* API: the handlers of the route table, by what they are about. */
#pragma once
#include "server/control.h"

#define API_READ(name) int name(struct control *c, struct request *r, struct error *err)
#define API_PREPARE(name) int name(struct request *r, struct error *err)

/* api_read.c */
API_READ(api_jobs); API_READ(api_job); API_READ(api_services); API_READ(api_service); API_READ(api_versions);
API_READ(api_allocs); API_READ(api_alloc); API_READ(api_nodes); API_READ(api_node); API_READ(api_deployments);
API_READ(api_deployment); API_READ(api_plan); API_READ(api_explain);
const char *api_watch_param(struct control *c, const struct request *r);
const char *api_watch_alloc(struct control *c, const struct request *r);
const char *api_watch_node(struct control *c, const struct request *r);

/* api_volumes.c */
API_READ(api_volumes); API_READ(api_volume_create); API_READ(api_volume_delete);

/* api_write.c */
API_PREPARE(api_job_submit); API_PREPARE(api_container_adopt); API_PREPARE(api_job_put); API_PREPARE(api_plan_prepare); API_PREPARE(api_job_delete);
API_PREPARE(api_service_scale); API_PREPARE(api_service_restart); API_PREPARE(api_service_rollback);
API_PREPARE(api_service_promote); API_PREPARE(api_service_abort);
API_PREPARE(api_service_delete);
API_READ(api_service_patch); API_READ(api_service_deploy);
API_READ(api_alloc_stop); API_READ(api_alloc_restart); API_READ(api_alloc_pause); API_READ(api_alloc_resume);
API_READ(api_node_drain); API_READ(api_node_enable); API_READ(api_node_disable); API_READ(api_node_lost); API_READ(api_node_ingress);
API_READ(api_node_delete);

/* api_namespace.c */
API_READ(api_namespaces); API_READ(api_namespace);
API_PREPARE(api_namespace_put); API_PREPARE(api_namespace_delete);

/* api_policy.c */
API_READ(api_policy);
API_PREPARE(api_policy_set);

/* api_access.c */
API_READ(api_tokens); API_READ(api_token_self); API_READ(api_token_create); API_READ(api_roles);
API_PREPARE(api_token_revoke); API_PREPARE(api_role_set); API_PREPARE(api_role_delete);
void api_token_created(struct control *c, struct request *r);

/* api_secret.c */
API_READ(api_secrets); API_READ(api_secret); API_READ(api_secret_value); API_READ(api_secret_put); API_READ(api_agent_secrets);
API_READ(api_agent_certificate);
API_PREPARE(api_secret_delete);
API_READ(api_jwks);                 /* workload_identity.c */
void api_secret_rotate(struct control *c, struct request *r);

/* vault.c */
void api_cluster_keys(struct control *c, struct request *r);
/* api_certificates.c */
API_PREPARE(api_certificate_prepare);
void api_certificate(struct control *c, struct request *r);
API_READ(api_authorities); API_READ(api_authority_bundle); API_READ(api_authority_rotate); API_READ(api_authority_import);


/* api_agent.c */
API_PREPARE(api_agent_report);
API_PREPARE(api_ingress_report);
API_READ(api_agent_register); API_READ(api_agent_heartbeat); API_READ(api_agent_allocs); API_READ(api_agent_network); API_READ(api_agent_ingress);
void api_agent_registered(struct control *c, struct request *r);
void api_agent_reported(struct control *c, struct request *r);
void api_ingress_reported(struct control *c, struct request *r);
const char *api_watch_agent(struct control *c, const struct request *r);

/* api_status.c */
API_READ(api_metrics); API_READ(api_readyz);
API_PREPARE(api_healthz); API_PREPARE(api_version); API_PREPARE(api_openapi);
void api_metrics_respond(struct request *r);

/* snapshots.c, restore.c */
API_READ(api_snapshot);
API_PREPARE(api_snapshots);
void api_snapshot_restore(struct control *c, struct request *r);

/* api_cluster.c, join.c, knock.c */
API_READ(api_cluster); API_READ(api_server);
API_READ(api_join_token);
void api_join_token_made(struct control *c, struct request *r);
void api_servers_respond(struct request *r);
int api_server_join_prepare(struct request *r, struct error *err);
void api_server_join(struct control *c, struct request *r);
void api_server_remove(struct control *c, struct request *r);
void api_cluster_transfer(struct control *c, struct request *r);
void api_cluster_init(struct control *c, struct request *r);
void api_cluster_join(struct control *c, struct request *r);
