#include "agent/drivers/docker_config.h"

static const struct field docker_config_fields[] = {
    {.name = "socket", .tag = 1, .kind = FIELD_STRING, .offset = offsetof(struct docker_config, socket),
     .default_text = "/var/run/docker.sock", .help = "The Docker engine's socket."},
    {.name = "auth_file", .tag = 2, .kind = FIELD_STRING, .offset = offsetof(struct docker_config, auth_file),
     .help = "Logins of registries, a file as `docker login` writes it (config.json)."},
    {.name = "image_gc_age", .tag = 3, .kind = FIELD_DURATION, .offset = offsetof(struct docker_config, image_gc_age_ms),
     .default_text = "24h", .min = 1000, .max = 31536000000,
     .help = "How long an image that this agent pulled is kept after its last use."},
    {0},
};

const struct type docker_config_type = {
    .name = "docker_config",
    .size = sizeof(struct docker_config),
    .fields = docker_config_fields,
    .help = "How the agent reaches Docker, and what it does with images.",
};
