/* Order: services that start only once others of their job are healthy (`after`). It holds back the replicas of a new
 * version, and tasks that have not run; what runs, and what replaces it, never. Private to src/core. */
#pragma once
#include "core/state.h"

/* The first service that this one has to wait for; NULL: none. */
const struct service_entry *order_waits_for(struct core *c, const struct service_entry *s);
/* Something of the service changed: those that may wait for it look again. */
void order_wake(struct core *c, const struct service_entry *s);
