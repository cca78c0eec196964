/* Audit of requests: which are written down, and what of them. HTTP threads. */
#pragma once
#include "audit/audit.h"
#include "server/request.h"

#define HEADER_REQUEST "X-Mentat-Request"        /* the request's id; taken from servers that hand one on */

/* Writes, commands in tasks, and logs; what agents and servers say of themselves is not. */
bool audit_wants(const struct route *route);
/* Before an audited request is served, where audit is required: -1 with err while lines cannot be written. */
int audit_admit(struct audit *a, struct error *err);
/* Once for each request, when its answer is known, or its stream begins. a NULL: nothing. */
void audit_request(struct audit *a, struct request *r, int status);
/* One that was refused before it was a request. */
void audit_refused(struct audit *a, const struct http_request *http, const struct identity *who, const char *id, int status,
                   const struct error *err);
