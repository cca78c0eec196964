/* Core fuzz: uses a core in all ways that reading has, decides, and checks that a snapshot of it is it. */
#pragma once
#include "core/core.h"

/* now_ms: of the deciding leader. The next command has the index. */
void core_fuzz_use(struct core *c, uint64_t index, int64_t now_ms);
