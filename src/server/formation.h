/* Formation: how a server with an empty directory comes into a cluster.
 *
 *   alone          no `servers`, `expect` 1 (the default): it is a cluster of one at once; others may join later
 *   by founding    `servers` lists all: once the first `expect` of them see each other, all without a cluster, the one with
 *                  the lowest id makes the cluster, and the others join it. Whoever finds a cluster there joins that
 *   by command     `expect: 0`: waits for `mt cluster init` (alone) or `mt cluster join` (by a token)
 *
 * What it is joining is kept in a file until it is a member, so that a crash in between ends nothing. */
#pragma once
#include "server/control.h"

/* The directory has a state already, or is made one: starts consensus, now or when the way is clear. -1 with err. */
int formation_start(struct control *c, struct error *err);
void formation_stop(struct control *c);
/* Before anything else runs: the id that this server will have. fresh: its directory holds nothing of a cluster, or what is
 * to be discarded. */
int formation_find_id(const struct server_config *config, uint64_t *id, bool *fresh, struct error *err);

/* The id that this server will have, or has. */
uint64_t formation_server_id(const struct control *c);
/* With consensus started, but not a member yet. */
bool formation_is_joining(const struct control *c);
/* It asked to join and was refused for good; it waits for another token. */
bool formation_needs_token(const struct control *c);
const char *formation_token(const struct control *c);             /* NULL: joins without */
/* APIs of servers that may be asked: of the configuration, or of the token. */
const struct str_list *formation_addresses(const struct control *c);
/* It is a member. */
void formation_end(struct control *c);

/* Commands. -1 with err when this server is in a cluster that it cannot leave so. */
int formation_init(struct control *c, struct error *err);
int formation_join(struct control *c, const char *token, struct error *err);
