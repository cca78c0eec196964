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
    FIELD(rollback_request, 1, FIELD_UINT, version, .help = "Version to go back to; 0 or absent: the one before."),
    {0},
};
TYPE(rollback_request, "Which version a service shall go back to.");

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

static const struct field job_summary_fields[] = {
    FIELD(job_summary, 1, FIELD_STRING, name, .help = "Name of the job."),
    FIELD(job_summary, 2, FIELD_STR_LIST, services, .help = "Names of its services."),
    FIELD(job_summary, 3, FIELD_UINT, modify_index, .help = "Index of the last change."),
    {0},
};
TYPE(job_summary, "A job in short.");

static const struct field service_detail_fields[] = {
    FIELD(service_detail, 1, FIELD_OBJECT, status, .type = &service_status_type, .help = "How the service stands."),
    FIELD(service_detail, 2, FIELD_OBJECT, current, .type = &service_version_type, .help = "Its current version."),
    {0},
};
TYPE(service_detail, "A service: how it stands, and its current version.");

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
    {0},
};
TYPE(server_status, "How this server stands.");

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
    FIELD(submit_result, 1, FIELD_STRING, job, .help = "Name of the job."),
    FIELD(submit_result, 2, FIELD_UINT, index, .help = "Index of the change."),
    FIELD(submit_result, 3, FIELD_LIST, services, .type = &submitted_service_type, .help = "Its services."),
    {0},
};
TYPE(submit_result, "What a submit did.");

static const struct field service_result_fields[] = {
    FIELD(service_result, 1, FIELD_STRING, service, .help = "Name of the service."),
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
