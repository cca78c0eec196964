/* Transport, its halves: transport.c (whom to know, dialling, sending) and connection.c (bytes and greetings). */
#pragma once
#include <sys/queue.h>

#include "base/log.h"
#include "consensus/transport.h"
#include "consensus/wire.h"
#include "net/address.h"
#include "net/stream_open.h"

#define ROOM_BYTES (1u << 20)       /* may wait for a slow peer */
#define GREETING_MS 5000
#define PING_MS 1000
#define SILENCE_MS 4000             /* so long without a sign, and a connection is dead */
#define MESSAGE_MAX (64u << 20)

struct remote;

/* One that was dialled belongs to its remote; one that was accepted gets one by its greeting. */
struct connection {
    LIST_ENTRY(connection) next;
    struct transport *transport;
    struct stream *stream;
    struct remote *remote;          /* NULL: accepted, and not greeted yet */
    bool dialled;
    bool open;                      /* greeted both ways */
    bool was_full;
    bool refused;                   /* and it was said why */
    uint64_t since_ms, heard_ms, pinged_ms;
    struct buf in;
};
LIST_HEAD(connections, connection);

/* Another server. */
struct remote {
    LIST_ENTRY(remote) next;
    uint64_t id;
    bool member;                    /* wanted; else known only because it dialled */
    char *address;                  /* by the membership; NULL: not known */
    char *said_address;             /* by its own greeting */
    char *release;                  /* NULL: never met */
    unsigned command_version;
    struct connection *out, *in;
    uint64_t dial_ms, backoff_ms;   /* next attempt; wait after it */
    unsigned attempts;
    char trouble[200];              /* the last one that was logged */
};
LIST_HEAD(remotes, remote);

struct transport {
    struct network network;
    struct transport_options options;
    char *release, *address;
    uint64_t cluster_id, server_id;     /* 0: not begun */
    int port;
    uv_tcp_t listener;
    uv_timer_t timer;
    struct stream_shared *shared;
    struct remotes remotes;
    struct connections connections;
    unsigned strangers;             /* accepted, and not greeted yet */
    struct log_limit refusals;
    int open_handles;
    bool closing;
    void (*closed)(void *ctx);
    void *ctx;
};

uint64_t transport_now_ms(const struct transport *t);
struct remote *transport_remote(struct transport *t, uint64_t id);      /* made when it is new */
struct wire_greeting transport_greeting(const struct transport *t, uint64_t to);
/* What a greeting said. Dials back soon, if that is not done yet. */
void transport_met(struct transport *t, struct remote *r, const struct wire_greeting *g);
void transport_trouble(struct remote *r, const char *why);
/* Logs it; whoever is refused comes again and again. */
void transport_refused(struct transport *t, const char *peer, const char *why);
/* The connection is gone; it is freed when this returns. */
void transport_lost(struct connection *c);
/* Connections and other servers are looked after now and then while there are any. */
void transport_look_after(struct transport *t);

void connection_dial(struct transport *t, struct remote *r, const struct address *address);
void connection_accept(struct transport *t);
void connection_send(struct connection *c, enum wire_kind kind, struct buf *content);   /* takes it over */
void connection_tick(struct connection *c, uint64_t now_ms);
void connection_close(struct connection *c);
