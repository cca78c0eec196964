/* What a container that somebody else made is as a service of Mentat. Pure: from the engine's words about the container
 * and its image to a job of one service, and to what of it a service cannot have. */
#pragma once
#include "model/model.h"
#include "model/value.h"

struct describe_facts {
    const char *node;                /* name; the service is bound to it */
    const char *ip;                  /* at which ports are published later; NULL: every address */
    const char *volume_root;
    int64_t memory_bytes;            /* that it uses now; 0: not known */
};
/* container and image: answers of GET /containers/ID/json and /images/ID/json. Fills `out` (raw memory), which is the
 * caller's to clear whatever is returned. -1 when what the engine said is not understood. */
int docker_describe(const struct value *container, const struct value *image, const struct describe_facts *facts,
                    struct found_container *out, struct error *err);

/* Whether a container, as it was made, stays within these privileges. What no profile allows is refused whatever they are. */
struct privileges;
int docker_describe_allowed(const struct value *container, const struct privileges *may, struct error *err);
