/* API types: bodies of requests and answers that only the API knows. */
#pragma once
#include "model/model.h"
#include "model/snapshot_file.h"

struct scale_request { int64_t count; };
struct rollback_request { uint64_t version; };
/* strategy: enum deploy_strategy + 1; 0: as it is */
struct promote_request { int64_t percent; };
struct deploy_request { char *image; int strategy; struct kv_list env; };
struct reason_request { char *reason; };
struct signal_request { char *signal; };
struct volume_request { char *service; int64_t size_mb; };

struct job_summary { char *name; struct str_list services; uint64_t modify_index; };
struct service_detail {
    struct service_status status; struct service_version current; struct ingress_problem_list ingress_problems;
};
enum volume_state { VOLUME_USED, VOLUME_FREE, VOLUME_UNREACHABLE };
/* alloc: who has it; NULL: nobody. */
struct volume_view {
    char *service; int64_t replica; char *node_id, *node_name, *name; int64_t size_mb, used_mb;
    enum volume_state state; char *alloc;
};
/* A server as the one that answers sees it. */
struct server_view {
    char *id, *name, *address, *raft_address, *version, *membership;
    bool leader, self, connected;
    int64_t contact_ms; uint64_t match_index, lag;
};
struct server_view_list { struct server_view *v; uint32_t n; };
struct server_status {
    char *id, *name, *role, *leader, *version;
    uint64_t term, last_index, commit_index, applied_index, snapshot_index;
    int64_t snapshot_at, started_at;
    uint64_t log_bytes, disk_free_bytes;
    bool no_space;
    char *state_hash;
    int64_t nodes, services, allocs;
    char *hold, *backup_problem;
    int64_t backup_at;
    char *cluster_id, *membership, *forming, *removed, *address, *raft_address;
    int64_t leader_contact_ms;
    bool needs_token;
    char *admin_token_file;
    bool makes_certificates;
    struct server_view_list servers;
};
/* And with its own word. */
struct server_report { struct server_view server; bool reached; char *problem; struct server_status status; };
struct join_request { char *id, *name, *address, *raft_address, *version; int64_t level; char *cluster_id, *token; struct certificate_state certificate; };
struct join_result { char *cluster_id, *membership; };
struct enter_request { char *token; };
struct transfer_request { char *to; };
struct token_request { int64_t ttl_ms; bool agents; int64_t uses; bool ingress; };
struct token_result { char *token; int64_t expires_at; };
/* name, and how long it is good; ttl_ms 0: until it is revoked. */
struct access_request { char *name; struct str_list roles; int64_t ttl_ms; };
struct whoami { char *kind, *name, *id; struct str_list roles; int64_t expires_at; };
/* value: base64. services empty: as they are. */
struct secret_request { char *value; struct str_list services; };
struct secret_result { uint64_t index, version; };
struct namespace_view { char *name; struct quota quota, wanted; int64_t jobs, secrets; };
struct keys_request { char *keys; };
struct secret_summary { char *name; uint64_t version; int64_t versions, bytes; struct str_list services; int64_t modified_at; char *modified_by; };
struct secret_detail { struct secret secret; struct str_list used_by; };
struct authorities_view {
    char *hash, *mark, *cluster_key, *certificates; struct authority_list authorities; struct str_list behind;
    struct revocation_list revoked;
};
struct authority_bundle { char *certificates, *hash; };
struct authority_import { char *certificate, *key; };
struct snapshot_file { char *name, *path; uint64_t bytes; char *problem; struct snapshot_info info; };
struct version_info { char *version, *api; };
struct health_info { char *status; };

/* What the core answers to writes (src/core/apply_*.c writes the JSON); here for the API's description. */
struct submitted_service { char *name; uint64_t version; bool changed; char *deployment; };
struct submitted_service_list { struct submitted_service *v; uint32_t n; };
struct submit_result { char *job; uint64_t index; struct submitted_service_list services; };
struct service_result { char *service; uint64_t index, version; char *deployment; };
struct write_result { uint64_t index; };

extern const struct type submitted_service_type, submit_result_type, service_result_type, write_result_type;
extern const struct type scale_request_type, rollback_request_type, promote_request_type, deploy_request_type, reason_request_type,
    signal_request_type, volume_request_type, job_summary_type, service_detail_type, volume_view_type, server_status_type, server_view_type,
    server_report_type, join_request_type, join_result_type, enter_request_type, transfer_request_type, token_request_type,
    token_result_type, snapshot_file_type,
    version_info_type, health_info_type, access_request_type, whoami_type,
    secret_request_type, namespace_view_type, keys_request_type, secret_result_type, secret_summary_type, secret_detail_type,
    authorities_view_type, authority_bundle_type, authority_import_type;
