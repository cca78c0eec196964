/* Status: how a service stands. Private to src/core. */
#pragma once
#include "core/eligible.h"

void service_status_fill(struct core *c, struct service_entry *s, struct service_status *out);   /* *out is zero before */
