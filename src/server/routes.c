/* The table of the API. A row is all there is to a route: see route.h. */
#include "server/api.h"
#include "server/api_types.h"
#include "server/events.h"
#include "server/proxy.h"
#include "server/request.h"

static const struct query_param expected_index_query[] = {
    {"expected_index", "Refuse when the job changed after this index; 0: when it exists.", false}, {0}};
static const struct query_param purge_query[] = {
    {"purge", "true: forget the versions and ended allocations too.", false}, {0}};
static const struct query_param allocs_query[] = {
    {"service", "Only those of this service.", false},
    {"node", "Only those on this node: id, beginning of an id, or name.", false}, {0}};
static const struct query_param service_query[] = {{"service", "Only those of this service.", false}, {0}};
static const struct query_param logs_query[] = {
    {"stream", "stdout (unless told) or stderr.", false},
    {"follow", "true: go on with what is written from now on.", false},
    {"tail", "Only the last so many lines.", false},
    {"since", "Only what was written since this time (RFC 3339).", false},
    {"from", "Instead of tail and since: go on at this place, NUMBER-OFFSET. An answer says in `" LOG_POSITION_HEADER
             "` where it begins; who was cut off after N bytes of it asks for NUMBER-(OFFSET+N).", false}, {0}};
static const struct query_param exec_query[] = {
    {"command", "The command and its arguments, as a JSON array of strings.", true},
    {"tty", "true: with a terminal.", false},
    {"rows", "Height of the terminal.", false},
    {"cols", "Width of the terminal.", false}, {0}};
static const struct query_param events_query[] = {
    {"service", "Only events that concern this service.", false},
    {"kind", "Only events of this kind: job, service, alloc, node, deployment.", false}, {0}};
static const struct query_param explain_query[] = {
    {"limit", "How many allocations and how many nodes are told of: 50 unless told, 1000 at most. Allocations that do not "
              "serve come first.", false}, {0}};
static const struct query_param server_query[] = {
    {"name", "Where there is no such server: say why the one of this name was removed.", false},
    {"cluster", "Answer only as a server of the cluster with this id.", false}, {0}};
static const struct query_param node_query[] = {{"node", "Id of the agent's node.", true}, {0}};

#define GET(path_, right_, ...) {.method = HTTP_METHOD_GET, .path = path_, .right = right_, __VA_ARGS__}
#define POST(path_, right_, ...) {.method = HTTP_METHOD_POST, .path = path_, .right = right_, __VA_ARGS__}
#define WATCH(kind, name) .query_sets = QUERY_WAIT, .watch = kind, .watch_name = name
#define LIST(type_, kind) .query_sets = QUERY_WAIT | QUERY_PAGE, .watch = kind, .response = &type_, .list = true
#define WITH_REASON .body = BODY_OPTIONAL, .request = &reason_request_type

const struct route routes[] = {
    GET("/v1/jobs", RIGHT_READ, LIST(job_summary_type, CORE_JOB), .read = api_jobs, .help = "Lists the jobs."),
    POST("/v1/jobs", RIGHT_SUBMIT, .body = BODY_REQUIRED, .request = &job_type, .query = expected_index_query,
         .prepare = api_job_submit, .response = &submit_result_type,
         .help = "Submits a job: a new version of each service that changed; services that it leaves out are stopped."),
    GET("/v1/jobs/{job}", RIGHT_READ, WATCH(CORE_JOB, api_watch_param), .response = &job_type, .read = api_job,
        .help = "A job as it was submitted, with the current versions of its services."),
    {.method = HTTP_METHOD_PUT, .path = "/v1/jobs/{job}", .right = RIGHT_SUBMIT, .body = BODY_REQUIRED,
     .request = &job_type, .query = expected_index_query, .prepare = api_job_put, .response = &submit_result_type,
     .help = "Submits the job of this name."},
    {.method = HTTP_METHOD_DELETE, .path = "/v1/jobs/{job}", .right = RIGHT_SUBMIT, .query = purge_query,
     .prepare = api_job_delete, .response = &write_result_type, .help = "Stops all services of a job."},
    POST("/v1/plan", RIGHT_READ, .query_sets = QUERY_CONSISTENCY, .body = BODY_REQUIRED, .request = &job_type, .response = &plan_type,
         .prepare = api_plan_prepare, .read = api_plan,
         .help = "What a submit of this job would change, start, stop and keep; changes nothing."),
    GET("/v1/services", RIGHT_READ, LIST(service_status_type, CORE_ANY), .read = api_services,
        .help = "Lists the services and how they stand."),
    GET("/v1/services/{service}", RIGHT_READ, WATCH(CORE_ANY, NULL), .response = &service_detail_type,
        .read = api_service, .help = "A service: how it stands, and its current version."),
    {.method = HTTP_METHOD_PATCH, .path = "/v1/services/{service}", .right = RIGHT_SUBMIT, .body = BODY_REQUIRED,
     .write = api_service_patch, .response = &submit_result_type,
         .help = "Changes fields of a service by a JSON merge patch (RFC 7396) of its spec."},
    {.method = HTTP_METHOD_DELETE, .path = "/v1/services/{service}", .right = RIGHT_SUBMIT, .query = purge_query,
     .prepare = api_service_delete, .response = &service_result_type, .help = "Stops one service."},
    POST("/v1/services/{service}/scale", RIGHT_SUBMIT, .body = BODY_REQUIRED, .request = &scale_request_type,
         .prepare = api_service_scale, .response = &service_result_type, .help = "Sets the number of replicas."),
    POST("/v1/services/{service}/deploy", RIGHT_SUBMIT, .body = BODY_REQUIRED, .request = &deploy_request_type,
         .write = api_service_deploy, .response = &submit_result_type,
         .help = "Makes a new version with another image or environment."),
    POST("/v1/services/{service}/rollback", RIGHT_SUBMIT, .body = BODY_OPTIONAL, .request = &rollback_request_type,
         .prepare = api_service_rollback, .response = &service_result_type,
         .help = "Makes an older version the current one again."),
    POST("/v1/services/{service}/restart", RIGHT_SUBMIT, .prepare = api_service_restart,
         .response = &service_result_type,
         .help = "Restarts the replicas of a service."),
    GET("/v1/services/{service}/versions", RIGHT_READ, WATCH(CORE_SERVICE, api_watch_param),
        .response = &service_version_type, .list = true, .read = api_versions,
        .help = "The versions of a service that are kept."),
    GET("/v1/allocs", RIGHT_READ, LIST(alloc_type, CORE_ALLOC), .query = allocs_query, .read = api_allocs,
        .help = "Lists the allocations."),
    GET("/v1/allocs/{alloc}", RIGHT_READ, WATCH(CORE_ALLOC, api_watch_alloc), .response = &alloc_type,
        .read = api_alloc, .help = "An allocation, by id or unique beginning of it."),
    GET("/v1/allocs/{alloc}/logs", RIGHT_LOGS, .place = PLACE_MEMBER, .query = logs_query, .content_type = "application/octet-stream",
        .prepare = proxy_logs_prepare, .read = proxy_read, .respond = proxy_respond,
        .help = "What the task wrote, from its node's agent."),
    GET("/v1/allocs/{alloc}/exec", RIGHT_EXEC, .place = PLACE_MEMBER, .query = exec_query, .content_type = "application/octet-stream",
        .prepare = proxy_exec_prepare, .read = proxy_read, .respond = proxy_respond,
        .help = "Runs a command in the task; Connection: Upgrade, Upgrade: mentat-exec."),
    POST("/v1/allocs/{alloc}/stop", RIGHT_SUBMIT, WITH_REASON, .write = api_alloc_stop, .response = &write_result_type,
         .help = "Stops an allocation; the scheduler replaces it when its service wants it."),
    POST("/v1/allocs/{alloc}/restart", RIGHT_SUBMIT, WITH_REASON, .write = api_alloc_restart,
         .response = &write_result_type,
         .help = "Restarts the task of an allocation where it is."),
    POST("/v1/allocs/{alloc}/signal", RIGHT_SUBMIT, .place = PLACE_MEMBER, .body = BODY_REQUIRED, .request = &signal_request_type,
         .read = proxy_read, .respond = proxy_respond, .help = "Sends a signal to the task's main process."),
    GET("/v1/nodes", RIGHT_READ, LIST(node_type, CORE_NODE), .read = api_nodes, .help = "Lists the nodes."),
    GET("/v1/nodes/{node}", RIGHT_READ, WATCH(CORE_NODE, api_watch_node), .response = &node_type, .read = api_node,
        .help = "A node, by id, unique beginning of it, or name."),
    {.method = HTTP_METHOD_DELETE, .path = "/v1/nodes/{node}", .right = RIGHT_OPERATE, .write = api_node_delete,
     .response = &write_result_type,
     .help = "Forgets a node that is down or empty."},
    POST("/v1/nodes/{node}/drain", RIGHT_OPERATE, WITH_REASON, .write = api_node_drain, .response = &write_result_type,
         .help = "Moves everything away from a node; replacements start first."),
    POST("/v1/nodes/{node}/enable", RIGHT_OPERATE, WITH_REASON, .write = api_node_enable,
         .response = &write_result_type,
         .help = "Lets a node take allocations again."),
    POST("/v1/nodes/{node}/disable", RIGHT_OPERATE, WITH_REASON, .write = api_node_disable,
         .response = &write_result_type,
         .help = "Keeps what a node runs, and gives it nothing new."),
    GET("/v1/deployments", RIGHT_READ, LIST(deployment_type, CORE_DEPLOYMENT), .query = service_query,
        .read = api_deployments, .help = "Lists the deployments."),
    GET("/v1/deployments/{deployment}", RIGHT_READ, WATCH(CORE_DEPLOYMENT, api_watch_param),
        .response = &deployment_type, .read = api_deployment, .help = "A deployment."),
    GET("/v1/explain/{subject}", RIGHT_READ, .query_sets = QUERY_CONSISTENCY, .query = explain_query, .content_type = "application/json", .read = api_explain,
        .help = "Why a service or an allocation is where it is, or is not placed: each node's verdict."),
    GET("/v1/events", RIGHT_READ, .place = PLACE_MEMBER, .query_sets = QUERY_WAIT | QUERY_PAGE, .watch = CORE_ANY, .query = events_query, .positions = true,
        .response = &event_type, .list = true, .prepare = events_prepare, .read = events_read,
        .respond = events_respond,
        .help = "What happened: as server-sent events from now on (or after index, or Last-Event-ID), or with Accept: "
                "application/json as a list of what is kept."),
    GET("/v1/policy", RIGHT_READ, .response = &policy_type, .read = api_policy,
        .help = "What services may do beyond their security profiles, and who may use which."),
    {.method = HTTP_METHOD_PUT, .path = "/v1/policy", .right = RIGHT_OPERATE, .body = BODY_REQUIRED,
     .request = &policy_type, .prepare = api_policy_set, .response = &write_result_type,
     .help = "Puts a policy in place of the one before; what runs goes on."},
    GET("/v1/cluster", RIGHT_READ, .place = PLACE_HERE, .response = &server_status_type, .read = api_cluster,
        .help = "How this server stands."),
    GET("/v1/cluster/servers", RIGHT_READ, .query_sets = QUERY_CONSISTENCY, .limit_ms = 2000, .response = &server_report_type, .list = true,
        .read = api_cluster, .respond = api_servers_respond,
        .help = "How all servers stand, by their own word: the leader asks each one, or with stale the one that is asked."),
    POST("/v1/cluster/servers", RIGHT_OPERATE, .limit_ms = 30000, .body = BODY_REQUIRED, .request = &join_request_type,
         .response = &join_result_type, .prepare = api_server_join_prepare, .run = api_server_join,
         .help = "A server joins, first without a vote until it has caught up, or says what changed of it."),
    GET("/v1/cluster/servers/{server}", RIGHT_READ, .query = server_query, .limit_ms = 2000, .response = &server_view_type,
        .read = api_server, .help = "A server, by name or id, as the leader sees it."),
    {.method = HTTP_METHOD_DELETE, .path = "/v1/cluster/servers/{server}", .right = RIGHT_OPERATE, .limit_ms = 30000,
     .run = api_server_remove, .help = "Takes a server, by name or id, out of the cluster."},
    POST("/v1/cluster/transfer", RIGHT_OPERATE, .limit_ms = 30000, .body = BODY_OPTIONAL, .request = &transfer_request_type,
         .run = api_cluster_transfer, .help = "Lets another server lead."),
    POST("/v1/cluster/tokens", RIGHT_OPERATE, .body = BODY_OPTIONAL, .request = &token_request_type,
         .response = &token_result_type, .write = api_join_token, .applied = api_join_token_made,
         .help = "Makes a token with which one server can join, once."),
    POST("/v1/cluster/init", RIGHT_OPERATE, .place = PLACE_HERE, .response = &server_status_type, .run = api_cluster_init,
         .help = "Lets the server that is asked, and waits for it, be a cluster of one; nothing where it is in one."),
    POST("/v1/cluster/join", RIGHT_OPERATE, .place = PLACE_HERE, .body = BODY_REQUIRED, .request = &enter_request_type,
         .response = &server_status_type, .run = api_cluster_join,
         .help = "Lets the server that is asked join the cluster of a token; it leaves a cluster of its own that is empty."),
    GET("/v1/snapshot", RIGHT_OPERATE, .content_type = "application/octet-stream", .read = api_snapshot,
        .query_sets = QUERY_CONSISTENCY, .limit_ms = 120000, .help = "The whole state as a file, for a backup."),
    {.method = HTTP_METHOD_PUT, .path = "/v1/snapshot", .right = RIGHT_OPERATE, .limit_ms = LIMIT_MS_MAX, .body = BODY_REQUIRED,
     .run = api_snapshot_restore, .response = &write_result_type,
     .help = "Puts the state of a snapshot in place of the current one, on all servers; tasks that it knows go on."},
    GET("/v1/snapshots", RIGHT_OPERATE, .response = &snapshot_file_type, .list = true, .prepare = api_snapshots,
        .help = "The snapshots that the server which answers has taken by its schedule, newest first."),
    GET("/v1/metrics", RIGHT_READ, .place = PLACE_HERE, .content_type = "text/plain; version=0.0.4", .read = api_metrics,
        .respond = api_metrics_respond, .help = "Metrics in the text format of Prometheus."),
    GET("/v1/healthz", RIGHT_PUBLIC, .response = &health_info_type, .prepare = api_healthz,
        .help = "200 while the process serves."),
    GET("/v1/readyz", RIGHT_PUBLIC, .place = PLACE_HERE, .response = &health_info_type, .read = api_readyz,
        .help = "200 while a leader is known and requests can be answered."),
    GET("/v1/openapi.json", RIGHT_PUBLIC, .content_type = "application/json", .prepare = api_openapi,
        .help = "This description, as an OpenAPI 3.1 document."),
    GET("/v1/version", RIGHT_PUBLIC, .response = &version_info_type, .prepare = api_version,
        .help = "Which release answers."),
    POST("/v1/agent/register", RIGHT_AGENT, .body = BODY_REQUIRED, .request = &agent_hello_type,
         .response = &agent_welcome_type, .prepare = api_agent_register, .applied = api_agent_registered,
         .help = "An agent says what its node is."),
    POST("/v1/agent/heartbeat", RIGHT_AGENT, .body = BODY_REQUIRED, .request = &agent_heartbeat_type,
         .response = &agent_welcome_type, .read = api_agent_heartbeat, .help = "An agent lives; 404 means: register again."),
    GET("/v1/agent/allocs", RIGHT_AGENT, .place = PLACE_MEMBER, WATCH(CORE_NODE_WORK, api_watch_agent), .query = node_query,
        .response = &agent_work_type, .read = api_agent_allocs,
        .help = "What changed for a node since an index; everything without one."),
    POST("/v1/agent/report", RIGHT_AGENT, .body = BODY_REQUIRED, .request = &agent_report_type,
         .prepare = api_agent_report, .applied = api_agent_reported,
         .help = "How an agent's allocations stand."),
    GET("/v1/agent/ingress", RIGHT_AGENT, .place = PLACE_MEMBER, WATCH(CORE_INGRESS, NULL), .query = node_query,
        .response = &agent_ingress_type, .read = api_agent_ingress,
        .help = "The ways in from outside, and the replicas that take their requests: the whole table."),
    POST("/v1/agent/ingress", RIGHT_AGENT, .body = BODY_REQUIRED, .request = &ingress_report_type,
         .prepare = api_ingress_report, .applied = api_ingress_reported,
         .help = "Which table an ingress node's proxy follows, and which leaving replicas it has no connection to."),
};
const size_t route_count = sizeof routes / sizeof *routes;
