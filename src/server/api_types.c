#include "server/api_types.h"

#define FIELD(struct_, tag_, kind_, member, ...) \
    {.name = #member, .tag = tag_, .kind = kind_, .offset = offsetof(struct struct_, member), __VA_ARGS__}
#define TYPE(name_, help_) \
    const struct type name_##_type = {.name = #name_, .size = sizeof(struct name_), \
                                      .fields = name_##_fields, .help = help_}

static const struct field scale_request_fields[] = {
    FIELD(scale_request, 1, FIELD_INT, count, .flags = FIELD_REQUIRED, .min = 0, .max = 100000,
          .help = "Replicas wanted."),
    {0},
};
TYPE(scale_request, "How many replicas a service shall have.");

static const struct field rollback_request_fields[] = {
    FIELD(rollback_request, 1, FIELD_UINT, version,
          .help = "Version to go back to; 0 or absent: the newest other one that did not fail."),
    {0},
};
TYPE(rollback_request, "Which version a service shall go back to.");

static const struct field promote_request_fields[] = {
    FIELD(promote_request, 1, FIELD_INT, percent, .min = 0, .max = 100,
          .help = "Part of the requests at which a canary pauses again; 0 or absent: all of them."),
    {0},
};
TYPE(promote_request, "How far a canary is promoted.");

static const char *const strategy_names[] = {"unchanged", "rolling", "blue-green", "canary", NULL};
static const struct field deploy_request_fields[] = {
    FIELD(deploy_request, 1, FIELD_STRING, image, .help = "New value of config.image."),
    FIELD(deploy_request, 2, FIELD_ENUM, strategy, .names = strategy_names, .default_text = "unchanged",
          .help = "New value of deploy.strategy."),
    FIELD(deploy_request, 3, FIELD_MAP, env, .help = "Variables to set in env."),
    {0},
};
TYPE(deploy_request, "What a new version of a service has other than the current one.");

static const struct field reason_request_fields[] = {
    FIELD(reason_request, 1, FIELD_STRING, reason, .help = "Why, for the events."),
    {0},
};
TYPE(reason_request, "Why something is done.");

static const struct field signal_request_fields[] = {
    FIELD(signal_request, 1, FIELD_STRING, signal, .flags = FIELD_REQUIRED,
          .help = "Name of the signal, such as SIGHUP."),
    {0},
};
TYPE(signal_request, "A signal for the task's main process.");

static const struct field volume_request_fields[] = {
    FIELD(volume_request, 1, FIELD_STRING, service, .flags = FIELD_REQUIRED, .help = "Service whose replica is to have it; of another namespace than default: NAMESPACE.SERVICE."),
    FIELD(volume_request, 2, FIELD_SIZE_MB, size_mb, .min = 16, .max = INT32_MAX, .default_text = "1024",
          .help = "How large its file system is."),
    {0},
};
TYPE(volume_request, "A volume that is made before its replica comes.");

static const struct field job_summary_fields[] = {
    FIELD(job_summary, 1, FIELD_STRING, name, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the job."),
    FIELD(job_summary, 2, FIELD_STR_LIST, services, .help = "Names of its services."),
    FIELD(job_summary, 3, FIELD_UINT, modify_index, .help = "Index of the last change."),
    {0},
};
TYPE(job_summary, "A job in short.");

static const struct field service_detail_fields[] = {
    FIELD(service_detail, 1, FIELD_OBJECT, status, .type = &service_status_type, .help = "How the service stands."),
    FIELD(service_detail, 2, FIELD_OBJECT, current, .type = &service_version_type, .help = "Its current version."),
    FIELD(service_detail, 3, FIELD_LIST, ingress_problems, .type = &ingress_problem_type, .help = "What keeps requests from outside from "
          "reaching it."),
    {0},
};
TYPE(service_detail, "A service: how it stands, and its current version.");

static const char *const volume_state_names[] = {"used", "free", "unreachable", NULL};
static const struct field volume_view_fields[] = {
    FIELD(volume_view, 1, FIELD_STRING, service, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Service whose it is."),
    FIELD(volume_view, 2, FIELD_INT, replica, .help = "And which replica's."),
    FIELD(volume_view, 3, FIELD_STRING, node_id, .help = "Id of the node that holds it."),
    FIELD(volume_view, 4, FIELD_STRING, node_name, .help = "Name of that node."),
    FIELD(volume_view, 5, FIELD_STRING, name, .help = "Its directory below the node's volume root."),
    FIELD(volume_view, 6, FIELD_INT, size_mb, .help = "How large its file system is; 0: it is a directory."),
    FIELD(volume_view, 7, FIELD_INT, used_mb, .help = "What it takes of the node's disk."),
    FIELD(volume_view, 8, FIELD_ENUM, state, .names = volume_state_names,
          .help = "used: an allocation has it; unreachable: its node is down."),
    FIELD(volume_view, 9, FIELD_STRING, alloc, .help = "The allocation that has it."),
    {0},
};
TYPE(volume_view, "A volume: a block image of a microVM, or a directory.");

static const struct field server_view_fields[] = {
    FIELD(server_view, 1, FIELD_STRING, id, .help = "Id of the server."),
    FIELD(server_view, 2, FIELD_STRING, name, .help = "Its name; null until it said so."),
    FIELD(server_view, 3, FIELD_STRING, address, .help = "host:port of its API."),
    FIELD(server_view, 4, FIELD_STRING, raft_address, .help = "host:port at which other servers reach it."),
    FIELD(server_view, 5, FIELD_STRING, version, .help = "Its release."),
    FIELD(server_view, 6, FIELD_STRING, membership, .help = "voter, standby (catches up, without a vote) or none."),
    FIELD(server_view, 7, FIELD_BOOL, leader, .help = "It leads."),
    FIELD(server_view, 8, FIELD_BOOL, self, .help = "It is the one that answers."),
    FIELD(server_view, 9, FIELD_BOOL, connected, .help = "The one that answers is connected to it."),
    FIELD(server_view, 10, FIELD_INT, contact_ms, .help = "Milliseconds since this leader last heard of it; -1: not yet."),
    FIELD(server_view, 11, FIELD_UINT, match_index, .help = "Up to where it has the log; known to the leader only."),
    FIELD(server_view, 12, FIELD_UINT, lag, .help = "Entries that it lacks; known to the leader only."),
    {0},
};
TYPE(server_view, "A server as the one that answers sees it.");

static const struct field server_status_fields[] = {
    FIELD(server_status, 1, FIELD_STRING, id, .help = "Id of the server in the cluster."),
    FIELD(server_status, 2, FIELD_STRING, name, .help = "Name of the server."),
    FIELD(server_status, 3, FIELD_STRING, role, .help = "starting, follower, candidate or leader."),
    FIELD(server_status, 4, FIELD_STRING, leader, .help = "Id of the known leader."),
    FIELD(server_status, 5, FIELD_STRING, version, .help = "Release of the program."),
    FIELD(server_status, 6, FIELD_UINT, term, .help = "Term of the election."),
    FIELD(server_status, 7, FIELD_UINT, last_index, .help = "Last index in the log."),
    FIELD(server_status, 8, FIELD_UINT, commit_index, .help = "Last index that is durable."),
    FIELD(server_status, 9, FIELD_UINT, applied_index, .help = "Last index that the state holds."),
    FIELD(server_status, 10, FIELD_UINT, snapshot_index, .help = "Index of the last snapshot on disk."),
    FIELD(server_status, 11, FIELD_TIME, snapshot_at, .help = "When this process wrote it."),
    FIELD(server_status, 12, FIELD_TIME, started_at, .help = "When this process started."),
    FIELD(server_status, 13, FIELD_UINT, log_bytes, .help = "Size of the log on disk."),
    FIELD(server_status, 14, FIELD_UINT, disk_free_bytes, .help = "Free disk under data_dir, as last seen."),
    FIELD(server_status, 15, FIELD_BOOL, no_space, .help = "Writes are refused because the disk is full."),
    FIELD(server_status, 16, FIELD_STRING, state_hash, .help = "Running hash of all that was applied."),
    FIELD(server_status, 17, FIELD_INT, nodes, .help = "Nodes known."),
    FIELD(server_status, 18, FIELD_INT, services, .help = "Services known."),
    FIELD(server_status, 19, FIELD_INT, allocs, .help = "Allocations known, ended ones too."),
    FIELD(server_status, 20, FIELD_STRING, hold, .help = "Why silent nodes are not taken for dead now."),
    FIELD(server_status, 21, FIELD_TIME, backup_at, .help = "When the last scheduled snapshot was written."),
    FIELD(server_status, 22, FIELD_STRING, backup_problem, .help = "Why the last one failed."),
    FIELD(server_status, 23, FIELD_STRING, cluster_id, .help = "Id of the cluster; null: this server is in none yet."),
    FIELD(server_status, 24, FIELD_STRING, membership, .help = "voter, standby (catches up, without a vote) or none."),
    FIELD(server_status, 25, FIELD_STRING, forming, .help = "What this server waits for to be in a cluster."),
    FIELD(server_status, 26, FIELD_STRING, address, .help = "host:port of its API."),
    FIELD(server_status, 27, FIELD_STRING, raft_address, .help = "host:port at which other servers reach it."),
    FIELD(server_status, 28, FIELD_INT, leader_contact_ms,
          .help = "Milliseconds since it heard of its leader; 0: it leads; -1: never."),
    FIELD(server_status, 29, FIELD_LIST, servers, .type = &server_view_type, .help = "All servers, as it sees them."),
    FIELD(server_status, 30, FIELD_BOOL, needs_token,
          .help = "It asked to join and was refused for good; it waits for another token."),
    FIELD(server_status, 31, FIELD_STRING, removed,
          .help = "By the word of another server it is not a member any more: why, and how it comes back."),
    FIELD(server_status, 32, FIELD_STRING, admin_token_file,
          .help = "Where it writes an administrator's token while there is none; null: no tokens are asked for."),
    FIELD(server_status, 33, FIELD_BOOL, makes_certificates, .help = "The cluster makes its certificates itself (tls: auto)."),
    {0},
};
TYPE(server_status, "How this server stands.");

static const struct field server_report_fields[] = {
    FIELD(server_report, 1, FIELD_OBJECT, server, .type = &server_view_type,
          .help = "What the server that answers knows of it."),
    FIELD(server_report, 2, FIELD_BOOL, reached, .help = "It was asked itself, and answered."),
    FIELD(server_report, 3, FIELD_STRING, problem, .help = "Why it was not."),
    FIELD(server_report, 4, FIELD_OBJECT, status, .type = &server_status_type, .help = "What it says."),
    {0},
};
TYPE(server_report, "A server of the cluster.");

static const struct field join_request_fields[] = {
    FIELD(join_request, 1, FIELD_STRING, id, .flags = FIELD_REQUIRED, .help = "Id of the server."),
    FIELD(join_request, 2, FIELD_STRING, name, .flags = FIELD_REQUIRED, .help = "Its name."),
    FIELD(join_request, 3, FIELD_STRING, address, .flags = FIELD_REQUIRED, .help = "host:port of its API."),
    FIELD(join_request, 4, FIELD_STRING, raft_address, .flags = FIELD_REQUIRED,
          .help = "host:port at which other servers reach it."),
    FIELD(join_request, 5, FIELD_STRING, version, .help = "Its release."),
    FIELD(join_request, 6, FIELD_INT, level, .help = "Newest kinds of commands that it knows."),
    FIELD(join_request, 7, FIELD_STRING, cluster_id, .help = "The cluster that it is of; absent: none yet."),
    FIELD(join_request, 8, FIELD_STRING, token, .help = "A join token."),
    FIELD(join_request, 9, FIELD_OBJECT, certificate, .type = &certificate_state_type, .help = "Its certificate."),
    {0},
};
TYPE(join_request, "A server that wants to join, or whose facts changed.");

static const struct field join_result_fields[] = {
    FIELD(join_result, 1, FIELD_STRING, cluster_id, .help = "Id of the cluster."),
    FIELD(join_result, 2, FIELD_STRING, membership, .help = "What the server is in it: standby, or voter."),
    {0},
};
TYPE(join_result, "The server is in the cluster.");

static const struct field enter_request_fields[] = {
    FIELD(enter_request, 1, FIELD_STRING, token, .flags = FIELD_REQUIRED,
          .help = "A join token, as `mt cluster token` prints it."),
    {0},
};
TYPE(enter_request, "Which cluster this server shall join.");

static const struct field transfer_request_fields[] = {
    FIELD(transfer_request, 1, FIELD_STRING, to, .help = "Name or id of a server; absent: the one that is most up to date."),
    {0},
};
TYPE(transfer_request, "Which server shall lead.");

static const struct field token_request_fields[] = {
    {.name = "ttl", .tag = 1, .kind = FIELD_DURATION, .offset = offsetof(struct token_request, ttl_ms),
     .default_text = "1h", .min = 1000, .max = 604800000, .help = "How long it can be used."},
    FIELD(token_request, 2, FIELD_BOOL, agents, .help = "true: for agents; else for servers."),
    FIELD(token_request, 3, FIELD_INT, uses, .default_text = "1", .min = 1, .max = 10000,
          .help = "How many agents may join with it; servers: 1."),
    FIELD(token_request, 4, FIELD_BOOL, ingress, .help = "Their nodes may take requests from outside: `ingress: true` in agent.yaml counts."),
    {0},
};
TYPE(token_request, "What a join token shall be.");

static const struct field token_result_fields[] = {
    FIELD(token_result, 1, FIELD_STRING, token, .help = "The token; it is shown only now."),
    FIELD(token_result, 2, FIELD_TIME, expires_at, .help = "Until when it can be used."),
    {0},
};
TYPE(token_result, "A join token.");

static const struct field access_request_fields[] = {
    FIELD(access_request, 1, FIELD_STRING, name, .flags = FIELD_REQUIRED, .help = "Who or what will use it."),
    FIELD(access_request, 2, FIELD_STR_LIST, roles, .flags = FIELD_REQUIRED | FIELD_SCALAR_OK,
          .help = "Its roles: reader, deployer, operator, admin, or roles of the cluster."),
    {.name = "ttl", .tag = 3, .kind = FIELD_DURATION, .offset = offsetof(struct access_request, ttl_ms),
     .default_text = "2160h", .min = 0, .max = 315360000000, .help = "How long it is good; 0s: until it is revoked."},
    {0},
};
TYPE(access_request, "What a token shall be.");

static const struct field whoami_fields[] = {
    FIELD(whoami, 1, FIELD_STRING, kind, .help = "token, agent, server; local: the API asks for no tokens."),
    FIELD(whoami, 2, FIELD_STRING, name, .help = "Name of the token, the node or the server."),
    FIELD(whoami, 3, FIELD_STRING, id, .help = "Id of the token."),
    FIELD(whoami, 4, FIELD_STR_LIST, roles, .help = "Its roles."),
    FIELD(whoami, 5, FIELD_TIME, expires_at, .help = "Until when it is good."),
    {0},
};
TYPE(whoami, "Who asks.");

static const struct field authorities_view_fields[] = {
    FIELD(authorities_view, 1, FIELD_STRING, hash, .help = "Of the one that signs: what `--ca-hash` takes."),
    FIELD(authorities_view, 2, FIELD_LIST, authorities, .type = &authority_type, .help = "All that are believed."),
    FIELD(authorities_view, 3, FIELD_STRING, mark, .help = "Of these; servers and nodes with another one are behind."),
    FIELD(authorities_view, 4, FIELD_STR_LIST, behind, .help = "Servers and nodes that have no certificate of these yet."),
    FIELD(authorities_view, 5, FIELD_STRING, certificates, .help = "Their certificates, as PEM."),
    FIELD(authorities_view, 6, FIELD_STRING, cluster_key, .help = "Id of the key with which the cluster seals."),
    FIELD(authorities_view, 7, FIELD_LIST, revoked, .type = &revocation_type, .help = "Of servers and nodes that were removed."),
    {0},
};
TYPE(authorities_view, "The authorities of the cluster's certificates, and how far a change of them is.");

static const struct field authority_bundle_fields[] = {
    FIELD(authority_bundle, 1, FIELD_STRING, certificates, .help = "As PEM."),
    FIELD(authority_bundle, 2, FIELD_STRING, hash, .help = "Of the one that signs; null: this server has no certificate of it yet. It proves nothing here."),
    {0},
};
TYPE(authority_bundle, "The certificates of the authorities that are believed in this cluster.");

static const struct field authority_import_fields[] = {
    FIELD(authority_import, 1, FIELD_STRING, certificate, .flags = FIELD_REQUIRED, .help = "The authority's certificate, and its chain, as PEM."),
    FIELD(authority_import, 2, FIELD_STRING, key, .flags = FIELD_REQUIRED, .help = "Its private key, as PEM, without a passphrase."),
    {0},
};
TYPE(authority_import, "An authority of yours.");

static const struct field snapshot_file_fields[] = {
    FIELD(snapshot_file, 1, FIELD_STRING, name, .help = "Name of the file."),
    FIELD(snapshot_file, 2, FIELD_STRING, path, .help = "Where it is on the server that answers."),
    FIELD(snapshot_file, 3, FIELD_UINT, bytes, .help = "Its size."),
    FIELD(snapshot_file, 4, FIELD_STRING, problem, .help = "Why it cannot be read."),
    FIELD(snapshot_file, 5, FIELD_OBJECT, info, .type = &snapshot_info_type, .help = "What it holds."),
    {0},
};
TYPE(snapshot_file, "A snapshot that was taken by the schedule.");

static const struct field version_info_fields[] = {
    FIELD(version_info, 1, FIELD_STRING, version, .help = "Release of the server."),
    FIELD(version_info, 2, FIELD_STRING, api, .help = "Version of the API."),
    {0},
};
TYPE(version_info, "Which release answers.");

static const struct field secret_request_fields[] = {
    FIELD(secret_request, 1, FIELD_STRING, value, .flags = FIELD_REQUIRED, .help = "The value, in base64."),
    FIELD(secret_request, 2, FIELD_STR_LIST, services, .flags = FIELD_SCALAR_OK,
          .help = "Which services may have it: names, `web-*`, or `*`; none: as it is, and all for a new secret."),
    {0},
};
TYPE(secret_request, "A new version of a secret.");

static const struct field namespace_view_fields[] = {
    FIELD(namespace_view, 1, FIELD_STRING, name, .help = "Name of the namespace."),
    FIELD(namespace_view, 2, FIELD_OBJECT, quota, .type = &quota_type, .help = "What its services may want; 0: no limit."),
    FIELD(namespace_view, 3, FIELD_OBJECT, wanted, .type = &quota_type, .help = "What they want."),
    FIELD(namespace_view, 4, FIELD_INT, jobs, .help = "How many jobs it has, stopped ones too."),
    FIELD(namespace_view, 5, FIELD_INT, secrets, .help = "How many secrets it has."),
    {0},
};
TYPE(namespace_view, "A namespace, and what its services want.");

static const struct field keys_request_fields[] = {
    FIELD(keys_request, 1, FIELD_STRING, keys, .flags = FIELD_REQUIRED, .help = "The keys, one a line, the one to seal with first; or as a file that is locked holds them."),
    {0},
};
TYPE(keys_request, "Keys of the cluster: from its leader, or from a copy of cluster-keys.");

static const struct field secret_result_fields[] = {
    FIELD(secret_result, 1, FIELD_UINT, index, .help = "Index of the change."),
    FIELD(secret_result, 2, FIELD_UINT, version, .help = "The version that it made, or was the last one."),
    {0},
};
TYPE(secret_result, "What was done to a secret.");

static const struct field secret_summary_fields[] = {
    FIELD(secret_summary, 1, FIELD_STRING, name, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the secret."),
    FIELD(secret_summary, 2, FIELD_UINT, version, .help = "The version that is in force."),
    FIELD(secret_summary, 3, FIELD_INT, versions, .help = "How many versions are kept."),
    FIELD(secret_summary, 4, FIELD_INT, bytes, .help = "Size of the value."),
    FIELD(secret_summary, 5, FIELD_STR_LIST, services, .help = "Which services may have it; none: all that name it."),
    FIELD(secret_summary, 6, FIELD_TIME, modified_at, .help = "When its last version was put."),
    FIELD(secret_summary, 7, FIELD_STRING, modified_by, .help = "Who put it."),
    {0},
};
TYPE(secret_summary, "A secret in short.");

static const struct field secret_detail_fields[] = {
    FIELD(secret_detail, 1, FIELD_OBJECT, secret, .type = &secret_type, .help = "The secret, without its values."),
    FIELD(secret_detail, 2, FIELD_STR_LIST, used_by, .help = "Services whose current version names it."),
    {0},
};
TYPE(secret_detail, "A secret, and who uses it.");

static const struct field health_info_fields[] = {
    FIELD(health_info, 1, FIELD_STRING, status, .help = "ok"),
    {0},
};
TYPE(health_info, "That the server is well.");

static const struct field submitted_service_fields[] = {
    FIELD(submitted_service, 1, FIELD_STRING, name, .help = "Name of the service."),
    FIELD(submitted_service, 2, FIELD_UINT, version, .help = "Its current version."),
    FIELD(submitted_service, 3, FIELD_BOOL, changed, .help = "Whether this submit made the version."),
    FIELD(submitted_service, 4, FIELD_STRING, deployment,
          .help = "Deployment that brings it out; null when none is needed."),
    {0},
};
TYPE(submitted_service, "A service of a submitted job.");

static const struct field submit_result_fields[] = {
    FIELD(submit_result, 1, FIELD_STRING, job, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the job."),
    FIELD(submit_result, 2, FIELD_UINT, index, .help = "Index of the change."),
    FIELD(submit_result, 3, FIELD_LIST, services, .type = &submitted_service_type, .help = "Its services."),
    {0},
};
TYPE(submit_result, "What a submit did.");

static const struct field service_result_fields[] = {
    FIELD(service_result, 1, FIELD_STRING, service, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the service."),
    FIELD(service_result, 2, FIELD_UINT, index, .help = "Index of the change."),
    FIELD(service_result, 3, FIELD_UINT, version, .help = "Its current version."),
    FIELD(service_result, 4, FIELD_STRING, deployment,
          .help = "Deployment that brings it out; null when none is needed."),
    {0},
};
TYPE(service_result, "What was done to a service.");

static const struct field write_result_fields[] = {
    FIELD(write_result, 1, FIELD_UINT, index, .help = "Index of the change."),
    {0},
};
TYPE(write_result, "When the change was made.");
