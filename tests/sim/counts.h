/* Counts: what the cases went through. What never happens proves nothing, so a long run fails on a zero. */
#pragma once
#include <stdint.h>

#define COUNTS(X) \
    X(COMMANDS, "commands") \
    X(REFUSED, "commands that were refused, broken ones among them") \
    X(REPEATED, "requests repeated with their key and answered as the first time") \
    X(PLACED, "replicas placed") \
    X(RETRIED, "replicas tried again after they had failed") \
    X(NO_ROOM, "services that had no room") \
    X(EVERY_NODE, "replicas of every-node services placed") \
    X(TASKS, "tasks that completed") \
    X(RUNS, "scheduled runs") \
    X(RUNS_SKIPPED, "scheduled runs skipped: the one before them still ran") \
    X(PRIORITIES, "decisions over services of different priority") \
    X(SPREAD, "replicas placed by spread") \
    X(DISTINCT, "replicas placed by a distinct constraint") \
    X(AFFINITIES, "replicas placed by affinity") \
    X(STATIC_PORTS, "replicas placed with a static port") \
    X(VOLUMES, "replicas placed with a volume") \
    X(NODES_LOST, "nodes lost") \
    X(NODES_BACK, "nodes that came back") \
    X(NODES_REBORN, "nodes that came back with a new disk") \
    X(NODES_DRAINED, "nodes drained") \
    X(NODES_FORGOTTEN, "nodes forgotten after three days") \
    X(NODES_REMOVED, "nodes removed") \
    X(DRAIN_MOVES, "replicas that left a draining node") \
    X(SCALED_UP, "services scaled up") \
    X(SCALED_DOWN, "services scaled down") \
    X(STOPPED, "services stopped") \
    X(PURGED, "services purged") \
    X(RESTARTED, "replicas restarted with their service") \
    X(ALLOCS_RESTARTED, "single replicas restarted") \
    X(ALLOCS_STOPPED, "single replicas stopped") \
    X(ROLLBACKS, "services rolled back") \
    X(DEPLOYED, "rollouts that succeeded") \
    X(DEPLOY_FAILED, "rollouts that failed") \
    X(REVERTED, "rollouts that failed and were taken back") \
    X(SUPERSEDED, "rollouts cancelled by a newer version") \
    X(PAUSED, "rollouts that paused beside the older version") \
    X(PROMOTED, "pauses ended by their users") \
    X(STANDBYS, "pauses that ended by themselves") \
    X(ABORTED, "rollouts aborted by their users") \
    X(ROLLED_BACK, "rollouts taken back by a rollback") \
    X(ANALYSES_PASSED, "canaries that passed their analysis") \
    X(ANALYSES_FAILED, "canaries that did not") \
    X(ANALYSES_OPEN, "analyses that came to nothing") \
    X(ROLLOUTS_PASSED, "rollouts in batches that passed their analysis") \
    X(ROLLOUTS_WORSE, "rollouts in batches that did not") \
    X(ROLLOUTS_OPEN, "rollouts in batches whose analysis came to nothing") \
    X(SHARES, "canaries that had their part") \
    X(TABLES, "ingress tables that proxies took") \
    X(LEFT, "replicas that left the traffic in time") \
    X(TAKEN_OUT, "replicas that rollouts took out of the traffic before their replacements were there") \
    X(LEFT_LATE, "replicas that did not leave in time") \
    X(HELD, "services that waited for another one") \
    X(LEADERS, "leaders") \
    X(LEADERS_LOST, "leaders lost") \
    X(COMMANDS_LOST, "commands lost with their leader") \
    X(DECISIONS_LOST, "decisions lost") \
    X(DECISIONS_INHERITED, "decisions that outlived their leader") \
    X(DECISIONS_IN_VAIN, "decisions of servers that did not lead") \
    X(DECISIONS_LATE, "decisions that turned up late") \
    X(DECISIONS_OVERTAKEN, "decisions with other commands before them in the log") \
    X(NOT_PLACED, "placements that did not hold any more") \
    X(SNAPSHOTS, "snapshots") \
    X(SERVER_RESTARTS, "servers restarted from their snapshot and the log") \
    X(SNAPSHOTS_SENT, "snapshots sent to servers that lagged") \
    X(LAGGED, "agents told of work by servers that lagged") \
    X(PASSED_OVER, "full work of servers that lagged, passed over") \
    X(REPORTS_LOST, "reports lost") \
    X(REPORTS_TWICE, "reports that came twice") \
    X(REPORTS_LATE, "reports overtaken by newer ones") \
    X(AGENT_RESTARTS, "tasks restarted by their agent") \
    X(FRESH_LEADERS, "leaders from a snapshot, asked what the old one left to be decided") \
    X(PLANS, "plans and explanations")

#define COUNT_ENUM(name, text) COUNT_##name,
enum count { COUNTS(COUNT_ENUM) COUNT_COUNT };
#undef COUNT_ENUM

struct counts { uint64_t v[COUNT_COUNT]; };
