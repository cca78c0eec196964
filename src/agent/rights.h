/* Rights: what the agent's process keeps of root's. */
#pragma once
#include "base/error.h"

/* Before threads are begun. Tools, shims and tasks, which it starts, have what root has there, without what no task gets. */
int rights_keep(struct error *err);
