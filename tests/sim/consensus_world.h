/* The consensus simulator: servers with the real consensus on virtual disks and a virtual network, in virtual time, all
 * from one seed. consensus_sim.c: seeds and what happens in them; consensus_server.c: a server and its lives;
 * consensus_network.c: connections; consensus_oracle.c: what must hold. */
#pragma once
#include <stdio.h>

#include "base/random.h"
#include "consensus/consensus_internal.h"
#include "virtual_disk.h"

#define SERVERS_MAX 12
#define COMMANDS_MAX 4096
#define INDEX_MAX 65536
#define TERMS_MAX 65536
#define SEGMENT_BYTES (24 * 1024)
#define RESERVE_BYTES (64 * 1024)
#define ELECTION_MS 500
#define HEARTBEAT_MS 50

enum fate { FATE_OPEN, FATE_ACKNOWLEDGED, FATE_REFUSED, FATE_UNKNOWN };

struct command {
    uint64_t id;
    enum fate fate;
    uint64_t index;             /* where it was acknowledged */
    size_t len;
    uint64_t floor;             /* of a barrier: the state must hold everything up to this index */
    bool barrier;
    struct server *server;      /* that was asked */
    unsigned life;
};

struct applied {
    uint64_t index, id;
};

enum event_type { EVENT_NONE, EVENT_TICK, EVENT_TURN, EVENT_WORK, EVENT_DONE, EVENT_DELIVER, EVENT_CONNECT, EVENT_LOST,
                  EVENT_START, EVENT_CLIENT, EVENT_FAULT };

struct event {
    uint64_t at_us, order;
    enum event_type type;
    struct server *server;
    unsigned life;              /* of the server; other lives' events are void */
    unsigned lane;
    uint64_t epoch;             /* of the connection, or the ticks */
    struct message_in_flight *message;
};

struct lane {
    STAILQ_HEAD(, executor_job) jobs;
    bool busy;
};

struct link {                   /* from its server to another one */
    bool connected;
    bool connecting;
    bool blocked;               /* nothing passes in this direction */
    uint64_t epoch;             /* grows with each connection */
    uint64_t last_us;           /* delivery of the last message: they keep their order */
    size_t in_flight;           /* bytes */
    bool was_full;
};

struct server {
    struct consensus_host host;
    struct executor executor;
    struct network network;
    unsigned slot;
    uint64_t id;
    struct virtual_disk *disk;
    struct consensus *consensus;    /* NULL: down */
    unsigned life;
    bool first_start;               /* makes the cluster */
    bool gone;                      /* never starts again */
    bool leaving;                   /* its removal was asked for */
    bool corrupt;                   /* tells another hash of its state: it must stop, and no other */
    bool full;
    bool fatal, closing, closed;
    uint64_t paused_until_us;
    int64_t clock_ppm;              /* how much faster its clock runs */
    uint64_t clock_offset_ms;
    unsigned tick_ms;
    uint64_t tick_epoch;
    uint64_t disk_us;               /* how long a disk operation takes, about */
    struct lane lanes[EXECUTOR_LANE_COUNT];
    STAILQ_HEAD(, executor_job) finished;
    struct membership wanted;
    struct link links[SERVERS_MAX]; /* to the server in that slot */

    struct applied *state;
    size_t n_state, cap_state;
    uint64_t state_hash;
    uint64_t leads_term;            /* noted as its leader */
    uint64_t commit_seen;
    uint64_t *durable_terms;        /* of the last life's log, from durable_first on: what it called stored */
    uint64_t durable_first, n_durable;
};

struct totals {
    uint64_t seeds, lives, crashes, kills, stops, proposals, acknowledged, refused, no_space, unknown, snapshots, restores,
        elections, messages, lost, partitions, pauses, slow_disks, full_disks, adds, removes, promotions, transfers,
        replacements, corruptions, barriers, lease_checks, installs, disk_faults;
};

enum break_mode { BREAK_NONE, BREAK_SYNC, BREAK_NAMES, BREAK_VOTE, BREAK_CLOCK, BREAK_STATE, BREAK_WIPE };

struct profile {                    /* what this seed is about */
    unsigned servers;               /* at the beginning */
    uint64_t seconds;
    uint64_t client_us;             /* between proposals, about */
    uint64_t fault_us;              /* between faults; 0: none */
    uint64_t net_us;                /* how long a message takes, about */
    bool wild;                      /* messages overtake each other, come twice, or much later */
    bool fat;                       /* the state is large: snapshots take several parts */
    bool changes;                   /* members come and go */
    bool disk_faults;
    uint64_t message_bytes;         /* of entries in a message; 0: the usual */
    bool quiet;                     /* clients pause for seconds */
};

struct world {
    uint64_t seed;
    struct random random;
    struct profile profile;
    uint64_t now_us, orders;
    struct event *heap;
    size_t n_heap, cap_heap;
    struct server *servers[SERVERS_MAX];
    unsigned n_servers;
    uint64_t next_id;
    struct server *dead;            /* gone for good, or about to be; still a member */
    bool calm;                      /* the end: no more faults */
    bool over;                      /* who stops starts no more */

    struct command commands[COMMANDS_MAX];
    size_t n_commands;
    uint64_t committed[INDEX_MAX];  /* id + 1 of the command at an index; 0: not known, or none */
    uint64_t committed_term[INDEX_MAX];
    uint64_t commit_max;            /* known by any server */
    uint64_t acknowledged_max;      /* index */
    uint64_t leaders[TERMS_MAX];    /* id */
};

extern struct world *world;
extern struct totals totals;
extern bool verbose;
extern enum break_mode break_mode;

#define CHECK(cond, ...) ((cond) ? (void)0 : violated(#cond, __FILE__, __LINE__, __VA_ARGS__))
__attribute__((format(printf, 4, 5))) _Noreturn void violated(const char *cond, const char *file, int line,
                                                              const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);

static inline uint64_t pick(uint64_t limit) { return random_below(&world->random, limit); }
static inline bool one_in(uint64_t n) { return pick(n) == 0; }
/* Around `about`: mostly near it, sometimes far. */
uint64_t some_time(uint64_t about_us);
void schedule(uint64_t in_us, struct event e);

/* consensus_server.c */
struct server *server_new(bool first);
void server_free(struct server *s);
void server_start(struct server *s);        /* or tries again later, when its disk fails meanwhile */
void server_crash(struct server *s);        /* the power fails; starts again later, unless it is gone */
void server_stop(struct server *s);         /* gracefully */
void server_event(struct server *s, const struct event *e);
struct command *server_propose(struct server *s, size_t len);
void server_barrier(struct server *s);
uint64_t server_now_ms(const struct server *s);
struct server *server_by_id(uint64_t id);

/* consensus_network.c */
struct message_in_flight;
void network_init(struct server *s);
void network_event(struct server *s, const struct event *e);
void network_free_message(struct message_in_flight *m);
void network_down(struct server *s);        /* its process ended */
void network_up(struct server *s);
void network_block(struct server *from, struct server *to, bool blocked);
void network_break(struct server *from, struct server *to);

/* consensus_oracle.c */
void oracle_applied(struct server *s, uint64_t index, uint64_t id);
void oracle_restored(struct server *s, uint64_t index);
void oracle_answered(struct command *c, enum consensus_outcome outcome, uint64_t index);
void oracle_after_event(struct server *s);
void oracle_life_ends(struct server *s);
void oracle_life_begins(struct server *s);
void oracle_compare_logs(void);
void oracle_end(const struct server *leader);
