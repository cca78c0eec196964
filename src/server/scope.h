/* Scope: whether whoever asks may do this with these objects: the services that a request is about, and the node for which
 * an agent speaks. Asked on the core thread, where the objects are known, each time before a request is served. */
#pragma once
#include "server/control.h"

/* 0, or -1 with err. */
int scope_check(struct control *c, const struct request *r, struct error *err);
/* Whether an item of a list may be seen. */
bool scope_sees(const struct request *r, const struct type *type, const void *item);
/* Whether a service may be, by its qualified name; "": one that is gone, NULL: all there are. */
bool scope_sees_service(const struct request *r, const char *service);
/* Whether something in this namespace may be. */
bool scope_sees_namespace(const struct request *r, const char *namespace);
