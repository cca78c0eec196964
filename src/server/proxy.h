/* Proxy: routes that the node's agent answers: logs, exec, signal, and containers that are not Mentat's. The core thread says where the agent is, the HTTP
 * thread calls it and hands bytes through, no faster than the client takes them. */
#pragma once
#include "server/control.h"

int proxy_logs_prepare(struct request *r, struct error *err);
int proxy_exec_prepare(struct request *r, struct error *err);
/* Lets the agent of this node answer; ERROR_UNAVAILABLE when it cannot. */
int proxy_aim(struct request *r, const struct node *n, struct error *err);
int proxy_container_read(struct control *c, struct request *r, struct error *err);
int proxy_read(struct control *c, struct request *r, struct error *err);
void proxy_respond(struct request *r);
