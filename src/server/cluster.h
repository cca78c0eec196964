/* Cluster: this server among the others: what each one says of itself (core: members) beside who votes (consensus).
 *
 * A server that is in the membership, and not known as what it is, says so: the leader by a command, others by a call to
 * the leader's API. The leader removes a voter that has been dead for long once enough others are there. */
#pragma once
#include "server/api_types.h"
#include "server/control.h"

void cluster_start(struct control *c);
void cluster_stop(struct control *c);
/* Something may have changed (role, members, state): looks whether this server has something to say. */
void cluster_look(struct control *c);

/* At the leader: a server that hears it, and did not say yet that it has applied everything up to index; NULL: none. Until the
 * next turn. */
const char *cluster_lacks(const struct control *c, uint64_t index);

/* What this server says of itself, with cluster and token when it has them; the caller clears it (join_request_type). */
void cluster_introduce(const struct control *c, struct join_request *out);
/* A server of the membership by id or name; 0 with err when there is none. */
uint64_t cluster_find(const struct control *c, const char *text, struct error *err);
/* Appends the servers as this one sees them. */
void cluster_view(const struct control *c, struct server_view_list *out);
/* Fills the answer to GET /v1/cluster; borrows, so `out` is only good until the next turn, but for out->servers, which
 * the caller clears. texts: room for numbers. */
struct status_texts { char id[24], leader[24], hash[24], cluster[24]; };
void cluster_status(const struct control *c, struct server_status *out, struct status_texts *texts);

/* --- at the leader: a change of the membership in two steps (log's membership, state), each durable --- */
typedef void cluster_done(void *ctx, const struct error *err);     /* err NULL: done */
/* Out of the membership, then out of the state. done() exactly once, never from inside. */
void cluster_remove(struct control *c, uint64_t id, const char *reason, cluster_done *done, void *ctx);
