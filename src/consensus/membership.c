#include "consensus/membership.h"

#include <string.h>

#define MEMBERS_MAX 64
#define ADDRESS_MAX 512

void membership_encode(struct buf *out, const struct raft_configuration *configuration)
{
    buf_add_varint(out, configuration->n);
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        buf_add_u64(out, server->id);
        buf_add_u8(out, (uint8_t)server->role);
        buf_add_varint(out, strlen(server->address));
        buf_add_string(out, server->address);
    }
}

static int decode_server(struct cursor *c, struct raft_configuration *configuration)
{
    uint64_t id, len;
    uint8_t role;
    const uint8_t *bytes;
    if (!cursor_u64(c, &id) || !cursor_u8(c, &role) || !cursor_varint(c, &len) || len > ADDRESS_MAX ||
        !cursor_bytes(c, len, &bytes) || memchr(bytes, 0, len) || id == 0 || role > RAFT_SPARE)
        return -1;
    CLEANUP_FREE char *address = mem_strndup((const char *)bytes, len);
    return raft_configuration_add(configuration, id, address, role) == 0 ? 0 : -1;
}

int membership_decode(const void *bytes, size_t len, struct raft_configuration *configuration, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint64_t n;
    int rv = cursor_varint(&c, &n) && n <= MEMBERS_MAX ? 0 : -1;
    for (uint64_t i = 0; rv == 0 && i < n; i++)
        rv = decode_server(&c, configuration);
    if (rv == 0 && !cursor_left(&c))
        return 0;
    raft_configuration_close(configuration);
    raft_configuration_init(configuration);
    return error_set(err, ERROR_CORRUPT, "the list of members is malformed");
}
