/* Docker configuration: the block `docker` of agent.yaml. */
#pragma once
#include <stdint.h>

#include "model/field.h"

struct docker_config {
    char *socket;
    char *auth_file;                 /* NULL: none */
    int64_t image_gc_age_ms;
};
extern const struct type docker_config_type;
