/* Tables of what the servers keep and the agents report. Their tags are in logs and snapshots for ever. */
#include "model/model.h"
#include "model/table.h"

static const struct field driver_info_fields[] = {
    STRING(driver_info, name, 1, .help = "Name of the driver."),
    BOOL(driver_info, healthy, 2, .help = "It can run tasks now."),
    STRING(driver_info, version, 3, .help = "Version of what it drives."),
    STRING(driver_info, detail, 4, .help = "Why it cannot."),
    {0},
};
TABLE(driver_info, driver_info_fields, "A driver of a node.");

static const struct field certificate_state_fields[] = {
    STRING(certificate_state, mark, 1, .help = "Of the authorities when it was given; see `mt ca status`."),
    TIME(certificate_state, until, 2, .help = "When it expires."),
    {0},
};
TABLE(certificate_state, certificate_state_fields, "A certificate that the cluster gave.");
static const struct field cluster_network_fields[] = {
    STRING(cluster_network, range, 1, .default_text = "10.64.0.0/12",
           .help = "What the servers hand out to nodes for their microVMs; `none`: each agent.yaml has a network of its own."),
    INT(cluster_network, node_bits, 2, .default_text = "24", RANGE(9, 29), .help = "Each node gets a network of so many bits."),
    ENUM(cluster_network, link, 3, network_link_names, .default_text = "vxlan",
         .help = "How machines of different nodes reach each other: `vxlan`; `routes`, where all nodes are neighbours; `none`."),
    INT(cluster_network, vni, 4, .default_text = "4646", RANGE(1, 16777215), .help = "Number of the VXLAN; one for each cluster."),
    INT(cluster_network, port, 5, .default_text = "4789", RANGE(1, 65535), .help = "UDP port of the VXLAN."),
    {0},
};
TABLE(cluster_network, cluster_network_fields, "The network of all microVMs; the same on every server.");

static const struct field node_network_fields[] = {
    STRING(node_network, wanted, 1, .help = "What its agent asks for: auto, or a network of its own."),
    STRING(node_network, subnet, 2, .help = "The node's part of the network of microVMs."),
    STRING(node_network, problem, 3, .help = "Why it has none."),
    ENUM(node_network, link, 4, network_link_names, .help = "How its machines reach those of other nodes."),
    INT(node_network, vni, 5, .help = "Number of the VXLAN."),
    INT(node_network, port, 6, .help = "UDP port of the VXLAN."),
    {0},
};
TABLE(node_network, node_network_fields, "A node's part of the network of microVMs.");

static const struct field node_volume_fields[] = {
    STRING(node_volume, name, 1, .help = "Its directory below the node's volume root."),
    STRING(node_volume, service, 2, .help = "Whose it is."),
    INT(node_volume, replica, 3, .help = "And which replica's."),
    INT(node_volume, size_mb, 4, .help = "How large its file system is; 0: it is a directory."),
    INT(node_volume, used_mb, 5, .help = "What it takes of the node's disk, to within a sixteenth; of a directory, its first 20000 files."),
    {0},
};
TABLE(node_volume, node_volume_fields, "A volume, on the disk of its node.");

static const struct field node_fields[] = {
    STRING(node, id, 1, .help = "Id of the node."),
    STRING(node, name, 2, .help = "Name of the node."),
    STRING(node, address, 3, .help = "host:port of the agent API."),
    STRING_AS(node, node_class, "class", 4, .help = "Class, for constraints."),
    STRING(node, ip, 5, .help = "Address at which its replicas are reached."),
    STRING(node, version, 6, .help = "Version of the agent."),
    ENUM(node, state, 7, node_state_names, .help = "State of the node."),
    STRING(node, state_reason, 8, .help = "Why it is in this state."),
    STRING(node, arch, 9, .help = "Machine architecture."),
    STRING(node, kernel, 10, .help = "Version of the kernel."),
    BOOL(node, kvm, 11, .help = "It can run microVMs."),
    FLOAT(node, cpus, 12, .help = "Processors that Mentat may use."),
    INT(node, memory_mb, 13, .help = "Memory that Mentat may use."),
    INT(node, disk_mb, 14, .help = "Disk that Mentat may use."),
    LIST(node, drivers, 15, driver_info, .help = "What it can run."),
    MAP(node, meta, 16, .help = "Keys and values from the agent's configuration."),
    TIME(node, registered_at, 17, .help = "When it registered first."),
    TIME(node, state_since, 18, .help = "When its state changed last."),
    UINT(node, create_index, 19, .help = "Index at which it appeared."),
    UINT(node, modify_index, 20, .help = "Index at which it changed last."),
    BOOL(node, ingress, 21, .help = "It takes requests from outside, by a proxy of its own."),
    OBJECT(node, certificate, 22, certificate_state, .help = "Its agent's certificate."),
    OBJECT(node, network, 23, node_network, .help = "Its part of the network of microVMs."),
    STR_LIST(node, ingress_problems, 45, .help = "What keeps requests from outside from getting in here."),
    LIST(node, volumes, 30, node_volume, .help = "Volumes that it holds; GET /v1/volumes lists them."),
    DURATION(node, volume_lease_ms, "volume_lease", 31,
             .help = "How long it may use volumes while no server answers it; 0: no other node has them."),
    {0},
};
TABLE(node, node_fields, "A host that runs tasks.");

static const struct field alloc_port_fields[] = {
    STRING(alloc_port, name, 1, .help = "Name of the port."),
    INT(alloc_port, port, 2, .help = "Port that the task listens on."),
    INT(alloc_port, host, 3, .help = "Port of the node."),
    ENUM(alloc_port, protocol, 4, protocol_names, .help = "Protocol of the port."),
    {0},
};
TABLE(alloc_port, alloc_port_fields, "A port of an allocation.");

static const struct field alloc_fields[] = {
    STRING(alloc, id, 1, .help = "Id of the allocation."),
    STRING(alloc, service, 2, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Its service."),
    STRING(alloc, job, 3, .flags = FIELD_QUALIFIED, .help = "Its job."),
    UINT(alloc, version, 4, .help = "Version of the service."),
    INT(alloc, replica, 5, .help = "Stable index of the replica."),
    STRING(alloc, node_id, 6, .help = "Id of its node."),
    STRING(alloc, node_name, 7, .help = "Name of its node."),
    ENUM(alloc, desired, 8, alloc_desired_names, .help = "What the servers want of it."),
    STRING(alloc, desired_reason, 9, .help = "Why they want it."),
    ENUM(alloc, state, 10, alloc_state_names, .help = "State of the replica."),
    STRING(alloc, reason, 11, .help = "Why it is in this state."),
    FLOAT(alloc, cpus, 12, .help = "Processors that it holds."),
    INT(alloc, memory_mb, 13, .help = "Memory that it holds."),
    INT(alloc, disk_mb, 14, .help = "Disk that it holds."),
    LIST(alloc, ports, 15, alloc_port, .help = "Its ports."),
    STRING(alloc, ip, 16, .help = "Address at which it is reached."),
    INT(alloc, exit_code, 17, .help = "Exit status of the last run, when exited."),
    INT(alloc, exit_signal, 18, .help = "Signal that ended the last run."),
    BOOL(alloc, exited, 19, .help = "The last run has ended."),
    BOOL(alloc, oom, 20, .help = "The last run ended for want of memory."),
    INT(alloc, restarts, 21, .help = "Restarts by the agent."),
    INT(alloc, generation, 22, .help = "Raised by each asked-for restart."),
    STRING(alloc, previous, 23, .help = "The allocation that it replaces."),
    STRING(alloc, deployment, 24, .help = "The deployment that it belongs to."),
    INT(alloc, attempt, 25, .help = "Reschedules in a row of this replica."),
    TIME(alloc, created_at, 26, .help = "When it was placed."),
    TIME(alloc, started_at, 27, .help = "When the last run began."),
    TIME(alloc, finished_at, 28, .help = "When the last run ended."),
    TIME(alloc, state_since, 29, .help = "When its state changed last."),
    UINT(alloc, create_index, 30, .help = "Index at which it appeared."),
    UINT(alloc, modify_index, 31, .help = "Index at which it changed last."),
    ENUM(alloc, leaving, 32, alloc_leaving_names, .help = "Whether it takes no new requests any more, and what for."),
    STRING(alloc, address, 33, .help = "Address of its own, on the network of microVMs."),
    BOOL(alloc, paused, 34, .help = "Its task is to stand still, until it is resumed."),
    {0},
};
TABLE(alloc, alloc_fields, "One replica on one node.");

static const struct field service_version_fields[] = {
    STRING(service_version, service, 1, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the service."),
    STRING(service_version, job, 2, .flags = FIELD_QUALIFIED, .help = "Name of its job."),
    UINT(service_version, version, 3, .help = "1, 2, …"),
    OBJECT(service_version, spec, 4, service, .help = "The service as it was submitted."),
    TIME(service_version, submitted_at, 5, .help = "When it was submitted."),
    STRING(service_version, submitted_by, 6, .help = "Who submitted it."),
    STRING(service_version, why, 7, .help = "Where it comes from: submitted, or a rollback."),
    UINT(service_version, create_index, 8, .help = "Index at which it appeared."),
    {0},
};
TABLE(service_version, service_version_fields, "One immutable version of a service.");

static const struct field service_status_fields[] = {
    STRING(service_status, name, 1, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Name of the service."),
    STRING(service_status, job, 2, .flags = FIELD_QUALIFIED, .help = "Name of its job."),
    ENUM(service_status, driver, 3, driver_kind_names, .help = "What runs it."),
    ENUM(service_status, mode, 4, service_mode_names, .help = "Its mode."),
    UINT(service_status, version, 5, .help = "The current version."),
    ENUM(service_status, state, 6, service_state_names, .help = "How it stands."),
    STRING(service_status, reason, 7, .help = "Why it is not as desired."),
    INT(service_status, desired, 8, .help = "Replicas that are wanted."),
    INT(service_status, placed, 9, .help = "Replicas that have a node."),
    INT(service_status, running, 10, .help = "Replicas that run."),
    INT(service_status, healthy, 11, .help = "Replicas that are healthy."),
    INT(service_status, failed, 12, .help = "Replicas that failed."),
    STRING(service_status, deployment, 13, .help = "Its last deployment."),
    TIME(service_status, next_run_at, 14, .help = "Next run of a scheduled task."),
    UINT(service_status, create_index, 15, .help = "Index at which it appeared."),
    UINT(service_status, modify_index, 16, .help = "Index at which it changed last."),
    {0},
};
TABLE(service_status, service_status_fields, "How a service stands.");

static const struct field analysis_side_fields[] = {
    INT(analysis_side, requests, 1, .help = "Requests that it got."),
    INT(analysis_side, errors, 2, .help = "Those that failed."),
    INT(analysis_side, p99_ms, 3, .help = "Milliseconds that 99 % of its answers took at most; 0: not known."),
    {0},
};
static TABLE(analysis_side, analysis_side_fields, "What was seen of a version's requests.");

static const struct field deployment_analysis_fields[] = {
    ENUM(deployment_analysis, outcome, 1, analysis_outcome_names, .help = "What came of it."),
    TIME(deployment_analysis, since, 2, .help = "When its window began."),
    OBJECT(deployment_analysis, canary, 3, analysis_side, .help = "Of the new version."),
    OBJECT(deployment_analysis, stable, 4, analysis_side, .help = "Of the version before."),
    {0},
};
static TABLE(deployment_analysis, deployment_analysis_fields, "How a new version compares with the one before.");

static const struct field deployment_fields[] = {
    STRING(deployment, id, 1, .help = "Id of the deployment."),
    STRING(deployment, service, 2, .flags = FIELD_QUALIFIED | FIELD_NAMESPACE, .help = "Its service."),
    STRING(deployment, job, 3, .flags = FIELD_QUALIFIED, .help = "Its job."),
    UINT(deployment, version, 4, .help = "The version that is rolled out."),
    UINT(deployment, previous_version, 5, .help = "The version before it."),
    ENUM(deployment, strategy, 6, deploy_strategy_names, .help = "How it is rolled out."),
    ENUM(deployment, state, 7, deployment_state_names, .help = "How it stands."),
    STRING(deployment, reason, 8, .help = "Why it stands so."),
    INT(deployment, desired, 9, .help = "Replicas that are wanted."),
    INT(deployment, placed, 10, .help = "Replicas of the version that have a node."),
    INT(deployment, healthy, 11, .help = "Replicas of the version that are healthy."),
    INT(deployment, unhealthy, 12, .help = "Replicas of the version that are unhealthy or failed."),
    TIME(deployment, created_at, 13, .help = "When it began."),
    TIME(deployment, finished_at, 14, .help = "When it ended."),
    UINT(deployment, create_index, 15, .help = "Index at which it appeared."),
    UINT(deployment, modify_index, 16, .help = "Index at which it changed last."),
    INT(deployment, traffic_percent, 17, .help = "blue-green, canary: part of the requests that the version gets."),
    INT(deployment, target_percent, 18, .help = "blue-green, canary: part that it is to get before it pauses or ends."),
    TIME(deployment, standby_until, 19, .help = "blue-green: until when the version before stands by."),
    OBJECT(deployment, analysis, 20, deployment_analysis, .help = "canary, rolling: its requests, when it is judged by them."),
    {0},
};
TABLE(deployment, deployment_fields, "The change from one version to the next.");

static const struct field event_fields[] = {
    UINT(event, index, 1, .help = "Index of the command that caused it."),
    INT(event, seq, 2, .help = "Number within the command."),
    TIME(event, time, 3, .help = "When it happened."),
    STRING(event, kind, 4, .help = "job, service, alloc, node or deployment."),
    STRING(event, subject, 5, .help = "Id or name of what it speaks of."),
    STRING(event, service, 6, .help = "The service that it concerns."),
    STRING(event, alloc, 7, .help = "The allocation that it concerns."),
    STRING(event, node, 8, .help = "The node that it concerns."),
    STRING(event, from, 9, .help = "The state before."),
    STRING(event, to, 10, .help = "The state after."),
    STRING(event, reason, 11, .help = "Why, in plain words."),
    STRING(event, namespace, 12, .help = "Whose it is, where that is not default."),
    {0},
};
TABLE(event, event_fields, "Something that happened.");

static const struct field member_fields[] = {
    STRING(member, id, 1, .help = "Id of the server."),
    STRING(member, name, 2, .help = "Name of the server."),
    STRING(member, address, 3, .help = "host:port of its API."),
    STRING(member, raft_address, 4, .help = "host:port at which other servers reach it."),
    STRING(member, version, 5, .help = "Release of its program."),
    INT(member, level, 6, .help = "Newest kinds of commands that it knows."),
    TIME(member, joined_at, 7, .help = "When it joined."),
    UINT(member, create_index, 8, .help = "Index at which it appeared."),
    UINT(member, modify_index, 9, .help = "Index at which it changed last."),
    OBJECT(member, certificate, 10, certificate_state, .help = "Its certificate."),
    {0},
};
TABLE(member, member_fields, "A server of the cluster.");

static const struct field join_token_fields[] = {
    STRING(join_token, id, 1, .help = "Id of the token."),
    STRING(join_token, secret_hash, 2, .flags = FIELD_SECRET, .help = "Hash of its secret."),
    STRING(join_token, created_by, 3, .help = "Who asked for it."),
    STRING(join_token, used_by, 4, .help = "Who joined with it last: a server's id, or an agent's node."),
    TIME(join_token, created_at, 5, .help = "When it was made."),
    TIME(join_token, expires_at, 6, .help = "Until when it can be used."),
    TIME(join_token, used_at, 7, .help = "When it was used."),
    BOOL(join_token, agents, 8, .help = "It is for agents."),
    INT(join_token, uses, 9, .help = "How many may join with it."),
    INT(join_token, used, 10, .help = "How many did."),
    BOOL(join_token, ingress, 11, .help = "Their nodes may take requests from outside."),
    {0},
};
TABLE(join_token, join_token_fields, "Lets one server join the cluster, once, or some agents.");

const char *const authority_state_names[] = {"coming", "signing", "leaving", NULL};
static const struct field authority_fields[] = {
    STRING(authority, id, 1, .help = "SHA-256 of its public key: what `--ca-hash` and join tokens name it by."),
    STRING(authority, certificate, 2, .help = "Its certificate, as PEM."),
    STRING(authority, cross, 3, .help = "The same key signed by the authority before it."),
    STRING(authority, sealed_key, 4, .flags = FIELD_SECRET, .help = "Its private key, sealed."),
    ENUM(authority, state, 5, authority_state_names, .help = "coming (believed, does not sign yet), signing, or leaving (still believed)."),
    TIME(authority, created_at, 6, .help = "When it was made."),
    TIME(authority, since, 7, .help = "Since when it is in this state."),
    TIME(authority, until, 8, .help = "When it is taken out at the latest, of one that leaves."),
    {0},
};
TABLE(authority, authority_fields, "An authority of the cluster's certificates.");

static const struct field alloc_report_fields[] = {
    STRING(alloc_report, id, 1, .help = "Id of the allocation."),
    UINT(alloc_report, seq, 2, .help = "Counts up per allocation."),
    ENUM(alloc_report, state, 3, alloc_state_names, .help = "State of the replica."),
    STRING(alloc_report, reason, 4, .help = "Why it is in this state."),
    TIME(alloc_report, time, 5, .help = "When the agent saw it."),
    INT(alloc_report, exit_code, 6, .help = "Exit status of the last run, when exited."),
    INT(alloc_report, exit_signal, 7, .help = "Signal that ended the last run."),
    BOOL(alloc_report, exited, 8, .help = "The last run has ended."),
    BOOL(alloc_report, oom, 9, .help = "The last run ended for want of memory."),
    INT(alloc_report, restarts, 10, .help = "Restarts by the agent."),
    TIME(alloc_report, started_at, 11, .help = "When the last run began."),
    TIME(alloc_report, finished_at, 12, .help = "When the last run ended."),
    STRING(alloc_report, ip, 13, .help = "Address at which it is reached."),
    STRING(alloc_report, address, 14, .help = "Address of its own, on the network of microVMs."),
    {0},
};
TABLE(alloc_report, alloc_report_fields, "What an agent says of one allocation.");

static const struct field agent_report_fields[] = {
    STRING(agent_report, node_id, 1, .help = "Id of the node."),
    LIST(agent_report, allocs, 2, alloc_report, .help = "What changed on it."),
    {0},
};
TABLE(agent_report, agent_report_fields, "A batch of reports of one agent.");

static const struct field agent_hello_fields[] = {
    OBJECT(agent_hello, node, 1, node, .help = "The node and its facts."),
    STRING(agent_hello, cluster, 2, .help = "The cluster whose word it last took."),
    INT(agent_hello, tasks, 3, .help = "Tasks that run by that word."),
    {0},
};
TABLE(agent_hello, agent_hello_fields, "An agent registers.");

static const struct field agent_welcome_fields[] = {
    DURATION(agent_welcome, heartbeat_ms, "heartbeat", 1, .help = "Time between heartbeats."),
    UINT(agent_welcome, index, 2, .help = "Index that the server has reached."),
    STR_LIST(agent_welcome, servers, 3, .help = "Addresses of the APIs of all servers; empty when not known."),
    STRING(agent_welcome, cluster, 4, .help = "Which cluster this is."),
    STRING(agent_welcome, certificate_mark, 5, .help = "Of the cluster's authorities: whose certificate has another mark asks for a new one."),
    STRING(agent_welcome, network, 6, .help = "The network of microVMs, as the leader is configured."),
    LIST(agent_welcome, revoked, 7, revocation, .help = "Servers that were removed: their certificates are believed no more."),
    {0},
};
TABLE(agent_welcome, agent_welcome_fields, "The answer to a registration or a heartbeat.");

static const struct field agent_heartbeat_fields[] = {
    STRING(agent_heartbeat, node_id, 1, .help = "Id of the node."),
    {0},
};
TABLE(agent_heartbeat, agent_heartbeat_fields, "An agent is alive.");

static const struct field peer_fields[] = {
    STRING(peer, alloc, 1, .help = "Id of the replica's allocation."),
    STRING(peer, node_id, 2, .help = "Id of its node."),
    INT(peer, replica, 3, .help = "Stable index of the replica."),
    STRING(peer, ip, 4, .help = "Address at which it is reached."),
    LIST(peer, ports, 5, alloc_port, .help = "Its ports."),
    {0},
};
TABLE(peer, peer_fields, "Where a replica is reached, for the others of its service.");

static const struct field service_peers_fields[] = {
    STRING(service_peers, service, 1, .help = "Name of the service."),
    LIST(service_peers, peers, 2, peer, .help = "Its replicas, in their order."),
    {0},
};
TABLE(service_peers, service_peers_fields, "The replicas of a service.");

static const struct field agent_work_fields[] = {
    UINT(agent_work, index, 1, .help = "Index up to which this is complete."),
    BOOL(agent_work, full, 2, .help = "It is everything, not only what changed."),
    LIST(agent_work, services, 3, service_version, .help = "Versions that the allocations name."),
    LIST(agent_work, allocs, 4, alloc, .help = "Allocations of the node."),
    STR_LIST(agent_work, gone, 5, .help = "Allocations that the servers have forgotten."),
    LIST(agent_work, peers, 6, service_peers, .help = "Replicas of the services whose tasks are told of each other."),
    LIST(agent_work, secrets, 7, service_secrets, .help = "How the secrets stand that the services name."),
    {0},
};
TABLE(agent_work, agent_work_fields, "What an agent has to know.");

static const struct field network_node_fields[] = {
    STRING(network_node, name, 1, .help = "Name of the node."),
    STRING(network_node, ip, 2, .help = "Address at which it is reached."),
    STRING(network_node, subnet, 3, .help = "Its part of the network."),
    {0},
};
TABLE(network_node, network_node_fields, "Another node's part of the network of microVMs.");

static const struct field network_replica_fields[] = {
    STRING(network_replica, alloc, 1, .help = "Id of the replica's allocation."),
    INT(network_replica, replica, 2, .help = "Stable index of the replica."),
    STRING(network_replica, ip, 3, .help = "Address of its node at which it is reached."),
    STRING(network_replica, address, 4, .help = "Address of its own; none: it is not a machine."),
    LIST(network_replica, ports, 5, alloc_port, .help = "Its ports."),
    BOOL(network_replica, serves, 6, .help = "It is healthy, or runs without a check, and is to stay."),
    {0},
};
TABLE(network_replica, network_replica_fields, "A replica that the machines of a node may name.");

static const struct field network_service_fields[] = {
    STRING(network_service, name, 1, .help = "Name of the service."),
    STRING(network_service, job, 2, .help = "Its job."),
    LIST(network_service, replicas, 3, network_replica, .help = "Its replicas that live."),
    {0},
};
TABLE(network_service, network_service_fields, "A service that the machines of a node may name.");

static const struct field agent_network_fields[] = {
    UINT(agent_network, index, 1, .help = "Index of all of this."),
    OBJECT(agent_network, own, 2, node_network, .help = "The node's part."),
    LIST(agent_network, nodes, 3, network_node, .help = "The parts of the other nodes."),
    LIST(agent_network, services, 4, network_service, .help = "The services of each job that has a machine on the node."),
    {0},
};
TABLE(agent_network, agent_network_fields, "The network of microVMs, as one node has to know it.");

static const struct field ingress_target_fields[] = {
    STRING(ingress_target, alloc, 1, .help = "Id of the replica's allocation."),
    UINT(ingress_target, version, 2, .help = "Its version of the service."),
    STRING(ingress_target, ip, 3, .help = "Address at which it is reached."),
    INT(ingress_target, port, 4, .help = "Port at which it is reached."),
    INT(ingress_target, weight, 5, .help = "Its part of the new requests, 0 to 256; 0: none."),
    BOOL(ingress_target, leaving, 6, .help = "It gets no new requests, and stops when those under way are done."),
    BOOL(ingress_target, canary, 7, .help = "With `canary_percent`: it is of the new version."),
    {0},
};
TABLE(ingress_target, ingress_target_fields, "A replica that takes requests.");

static const struct field ingress_route_fields[] = {
    STRING(ingress_route, service, 1, .help = "Name of the service."),
    STRING(ingress_route, job, 2, .help = "Its job."),
    OBJECT(ingress_route, ingress, 3, ingress, .help = "The entry of its `ingress`."),
    LIST(ingress_route, targets, 4, ingress_target, .help = "Its replicas."),
    UINT(ingress_route, certificate_version, 6, .help = "Which version of the secret that `certificate` names is in force."),
    UINT(ingress_route, measured, 5, .help = "A canary is judged: its versions are measured since the table of this index."),
    INT(ingress_route, canary_percent, 7, .help = "With `sticky_header`, during a canary: the part of the header's values that it gets."),
    {0},
};
TABLE(ingress_route, ingress_route_fields, "A way in from outside, and where it leads.");

static const struct field acme_challenge_fields[] = {
    STRING(acme_challenge, host, 1, .help = "The host that is to be proven."),
    STRING(acme_challenge, token, 2, .help = "What is asked for, below /.well-known/acme-challenge/."),
    STRING(acme_challenge, answer, 3, .help = "What is answered."),
    BOOL(acme_challenge, ready, 4, .help = "Every ingress node answers so."),
    {0},
};
TABLE(acme_challenge, acme_challenge_fields, "A challenge of ACME, of the kind http-01.");

static const struct field ingress_problem_fields[] = {
    STRING(ingress_problem, node, 1, .help = "Name of the ingress node; empty: there is none."),
    STRING(ingress_problem, problem, 2, .help = "What does not work, and why."),
    STRING(ingress_problem, service, 3, .flags = FIELD_QUALIFIED, .help = "Whose way in; none: all of the node's."),
    {0},
};
TABLE(ingress_problem, ingress_problem_fields, "What keeps a way in from working.");

static const struct field agent_ingress_fields[] = {
    UINT(agent_ingress, index, 1, .help = "Index of the table."),
    LIST(agent_ingress, routes, 2, ingress_route, .help = "The whole table."),
    LIST(agent_ingress, challenges, 3, acme_challenge, .help = "What is answered to ACME servers."),
    {0},
};
TABLE(agent_ingress, agent_ingress_fields, "What an ingress node has to know.");

static const struct field latency_fields[] = {
    INT(latency, ms, 1, .help = "Milliseconds, of the fixed steps of a histogram."),
    INT(latency, requests, 2, .help = "Requests that took no longer, and longer than the step before."),
    {0},
};
TABLE(latency, latency_fields, "A step of a histogram.");

static const struct field version_measure_fields[] = {
    UINT(version_measure, version, 1, .help = "The version."),
    INT(version_measure, requests, 2, .help = "Requests that its replicas got."),
    INT(version_measure, errors, 3, .help = "Those that were answered with 5xx, or not to the end."),
    LIST(version_measure, latencies, 4, latency, .help = "How long its replicas took to answer, in order."),
    {0},
};
TABLE(version_measure, version_measure_fields, "What a node measured of a version.");

static const struct field ingress_measure_fields[] = {
    STRING(ingress_measure, service, 1, .help = "Name of the service."),
    UINT(ingress_measure, measured, 2, .help = "As the table asked."),
    INT(ingress_measure, since, 3, .help = "When the node began, in milliseconds since 1970."),
    LIST(ingress_measure, versions, 4, version_measure, .help = "Its versions."),
    {0},
};
TABLE(ingress_measure, ingress_measure_fields, "What a node measured of a service.");

static const struct field acme_certificate_fields[] = {
    STRING(acme_certificate, host, 1, .help = "Its host."),
    TIME(acme_certificate, expires_at, 2, .help = "When it expires; 0: there is none yet."),
    STRING(acme_certificate, problem, 3, .help = "Why there is no newer one."),
    {0},
};
TABLE(acme_certificate, acme_certificate_fields, "A certificate that a node got by ACME.");

static const struct field acme_report_fields[] = {
    INT(acme_report, seq, 1, .help = "Grows with each change."),
    LIST(acme_report, challenges, 2, acme_challenge, .help = "What is to be answered to the ACME server."),
    LIST(acme_report, certificates, 3, acme_certificate, .help = "How its certificates stand."),
    {0},
};
TABLE(acme_report, acme_report_fields, "How a node gets certificates by ACME.");

static const struct field ingress_report_fields[] = {
    STRING(ingress_report, node_id, 1, .help = "Id of the node."),
    UINT(ingress_report, applied, 2, .help = "Index of the table that its proxy follows."),
    STR_LIST(ingress_report, idle, 3, .help = "Leaving replicas that its proxy has no connection to."),
    STRING(ingress_report, problem, 4, .help = "Why a newer table is not followed."),
    OBJECT(ingress_report, acme, 6, acme_report, .help = "How it gets certificates."),
    LIST(ingress_report, measures, 5, ingress_measure, .help = "What was measured of services whose canary is judged."),
    {0},
};
TABLE(ingress_report, ingress_report_fields, "How an ingress node's proxy stands.");

static const struct field found_container_fields[] = {
    STRING(found_container, id, 1, .help = "Id of the container."),
    STRING(found_container, name, 2, .help = "Name of the container."),
    OBJECT(found_container, job, 3, job, .help = "The job that it would be."),
    STR_LIST(found_container, notes, 4, .help = "What later versions have differently."),
    STR_LIST(found_container, losses, 5, .help = "Data that later versions will not find."),
    STR_LIST(found_container, obstacles, 6, .help = "Why it cannot be a service."),
    {0},
};
TABLE(found_container, found_container_fields, "A container of a node, as the service that it would be.");
