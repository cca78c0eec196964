/* Network: connections to the other servers. Messages arrive whole and in order for as long as a connection lasts, or are
 * lost with it. The real one is transport.h; the simulator has its own. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "consensus/membership.h"

/* What is known of another server, by its last greeting. */
struct network_peer {
    bool connected;             /* messages can be sent to it */
    const char *release;        /* NULL: never met. Valid until the loop's next turn, as is address */
    const char *address;        /* where it wants to be dialled; NULL: never met */
    unsigned command_version;   /* 0: never met */
};

/* Implementations put this first. */
struct network {
    /* Takes the message's memory over. Lost when it is not connected. */
    void (*send)(struct network *network, uint64_t to, struct buf *message);
    /* Bytes that may be sent now without making much wait; 0: not connected, or enough is waiting. consensus_peer_room()
     * when that changes. */
    size_t (*room)(struct network *network, uint64_t to);
    struct network_peer (*peer)(struct network *network, uint64_t id);
    /* Connections to these servers are wanted (this server itself may be among them), and to no others. */
    void (*want)(struct network *network, const struct membership *membership);
    uint64_t refused;           /* connections of who is no server of this cluster */
};
