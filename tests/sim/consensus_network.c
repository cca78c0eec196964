/* Connections: from each server to each one it wants, one way each. In order while they last; what is under way when one
 * breaks is lost. In a wild world messages also come twice, out of order, and from connections long gone. */
#include "consensus_world.h"

#define FULL_BYTES (1u << 20)

struct message_in_flight {
    unsigned from, to;          /* slots */
    uint64_t epoch;
    struct buf bytes;
    bool twin;                  /* a copy of one that was sent */
};

static struct server *of_network(struct network *network)
{
    return container_of(network, struct server, network);
}

static bool up(const struct server *s)
{
    return s->consensus && !s->closed && !s->fatal;
}

static bool wants(const struct server *s, const struct server *other)
{
    return membership_find(&s->wanted, other->id) || other->links[s->slot].connected;
}

static void connect_later(struct server *s, unsigned slot, uint64_t in_us)
{
    struct link *l = &s->links[slot];
    if (l->connected || l->connecting)
        return;
    l->connecting = true;
    schedule(in_us, (struct event){.type = EVENT_CONNECT, .server = s, .life = s->life, .lane = slot});
}

static void disconnect(struct server *s, unsigned slot)
{
    struct link *l = &s->links[slot];
    if (!l->connected)
        return;
    l->connected = l->was_full = false;
    l->epoch++;
    l->in_flight = 0;
    if (!up(s))
        return;
    consensus_peer_down(s->consensus, world->servers[slot]->id);
    connect_later(s, slot, 50000 + pick(500000));
}

void network_break(struct server *from, struct server *to)
{
    disconnect(from, to->slot);
}

static void try_to_connect(struct server *s, unsigned slot)
{
    struct server *other = world->servers[slot];
    struct link *l = &s->links[slot];
    l->connecting = false;
    if (l->connected || !wants(s, other))
        return;
    if (!up(other) || l->blocked || other->links[s->slot].blocked) {
        connect_later(s, slot, 100000 + pick(900000));
        return;
    }
    l->connected = true;
    l->epoch++;
    l->last_us = world->now_us;
    consensus_peer_up(s->consensus, other->id);
    connect_later(other, s->slot, some_time(world->profile.net_us));
}

static void net_want(struct network *network, const struct membership *membership)
{
    struct server *s = of_network(network);
    membership_clear(&s->wanted);
    s->wanted = membership_copy(membership);
    for (unsigned i = 0; i < world->n_servers; i++) {
        struct server *other = world->servers[i];
        if (other == s)
            continue;
        if (wants(s, other))
            connect_later(s, i, some_time(world->profile.net_us));
        else
            disconnect(s, i);
    }
}

static void put_on_the_wire(struct server *s, struct server *other, struct buf *bytes, bool twin)
{
    struct link *l = &s->links[other->slot];
    struct message_in_flight *m = NEW(struct message_in_flight);
    *m = (struct message_in_flight){.from = s->slot, .to = other->slot, .epoch = l->epoch, .bytes = *bytes, .twin = twin};
    *bytes = (struct buf){0};
    uint64_t at = world->now_us + some_time(world->profile.net_us) + m->bytes.len / 100;
    if (world->profile.wild && !world->calm && one_in(20))
        at += pick(3000000);
    if (!world->profile.wild && at < l->last_us)
        at = l->last_us;
    l->last_us = at;
    if (!twin)
        l->in_flight += m->bytes.len;
    totals.messages++;
    schedule(at - world->now_us, (struct event){.type = EVENT_DELIVER, .server = other, .life = other->life, .message = m});
}

static void net_send(struct network *network, uint64_t to, struct buf *message)
{
    struct server *s = of_network(network);
    struct server *other = server_by_id(to);
    CLEANUP_BUF struct buf bytes = *message;
    *message = (struct buf){0};
    if (!other || !s->links[other->slot].connected)
        return;
    bool wild = world->profile.wild && !world->calm;
    if (s->links[other->slot].blocked || (wild && one_in(40))) {
        totals.lost++;
        return;
    }
    if (wild && one_in(20)) {
        struct buf copy = {0};
        buf_add(&copy, bytes.data, bytes.len);
        put_on_the_wire(s, other, &copy, true);
    }
    put_on_the_wire(s, other, &bytes, false);
}

static size_t net_room(struct network *network, uint64_t to)
{
    struct server *s = of_network(network);
    struct server *other = server_by_id(to);
    if (!other || !s->links[other->slot].connected)
        return 0;
    struct link *l = &s->links[other->slot];
    if (l->in_flight < FULL_BYTES)
        return FULL_BYTES - l->in_flight;
    l->was_full = true;
    return 0;
}

static struct network_peer net_peer(struct network *network, uint64_t id)
{
    struct server *s = of_network(network);
    struct server *other = server_by_id(id);
    bool connected = other && s->links[other->slot].connected;
    return (struct network_peer){.connected = connected, .release = "sim", .command_version = 3};
}

void network_init(struct server *s)
{
    s->network = (struct network){.send = net_send, .room = net_room, .peer = net_peer, .want = net_want};
    s->host.network = &s->network;
}

void network_free_message(struct message_in_flight *m)
{
    buf_free(&m->bytes);
    free(m);
}

static void deliver(struct server *s, struct message_in_flight *m)
{
    struct server *from = world->servers[m->from];
    struct link *l = &from->links[m->to];
    bool current = l->connected && l->epoch == m->epoch;
    if (current && !m->twin)
        l->in_flight -= m->bytes.len;
    struct error err = {0};
    if (current || world->profile.wild)
        CHECK(consensus_message(s->consensus, from->id, m->bytes.data, m->bytes.len, &err) == 0, "server %u: %s", s->slot,
              err.text);
    if (current && l->was_full && l->in_flight < FULL_BYTES / 2 && up(from)) {
        l->was_full = false;
        consensus_peer_room(from->consensus, s->id);
    }
}

void network_event(struct server *s, const struct event *e)
{
    switch (e->type) {
    case EVENT_DELIVER:
        deliver(s, e->message);
        network_free_message(e->message);
        break;
    case EVENT_CONNECT:
        try_to_connect(s, e->lane);
        break;
    case EVENT_LOST:
        if (s->links[e->lane].epoch == e->epoch)
            disconnect(s, e->lane);
        break;
    default:
        break;
    }
}

static void notice_later(struct server *s, unsigned slot, uint64_t in_us)
{
    struct link *l = &s->links[slot];
    if (l->connected)
        schedule(in_us, (struct event){.type = EVENT_LOST, .server = s, .life = s->life, .lane = slot, .epoch = l->epoch});
}

void network_down(struct server *s)
{
    for (unsigned i = 0; i < world->n_servers; i++) {
        struct link *l = &s->links[i];
        l->connected = l->connecting = l->was_full = false;
        l->epoch++;
        l->in_flight = 0;
        notice_later(world->servers[i], s->slot, some_time(world->profile.net_us));
    }
    membership_clear(&s->wanted);
}

void network_block(struct server *from, struct server *to, bool blocked)
{
    from->links[to->slot].blocked = blocked;
    if (!blocked)
        return;
    /* Either end sees that nothing is answered any more. */
    notice_later(from, to->slot, 500000 + pick(4000000));
    notice_later(to, from->slot, 500000 + pick(4000000));
}
