/* World: a cluster in virtual time: servers that share a log, agents with their tasks, and what users and hardware do
 * to them. Everything that happens comes from the seed. */
#pragma once
#include <uthash.h>

#include "base/id.h"
#include "base/random.h"
#include "core/command.h"
#include "core/core.h"
#include "counts.h"

enum fate { FATE_GOOD, FATE_FAILS, FATE_NEVER_HEALTHY, FATE_FLAPS, FATE_CRASHES, FATE_COUNT };

/* What a virtual agent runs. */
struct task {
    char id[ID_LEN + 1];
    bool is_task, checked;               /* mode task; has a health check */
    enum fate fate;
    enum alloc_state state;
    uint64_t seq, acked, delivered;
    int64_t next_at, sent_at, started_at, generation, restarts;
    bool stopping;
    UT_hash_handle hh;
};

/* What the proxy of an ingress node does; see proxy.c. */
struct proxy_target {
    char alloc[ID_LEN + 1], service[16];
    uint64_t version;
    bool sends, told;                    /* told: that it is idle was reported */
    int64_t idle_at;                     /* when the last connection ends, since it leaves; 0: it does not */
};
struct proxy_measure { char service[16]; uint64_t index; int64_t since; };
struct proxy {
    struct proxy_target *v;
    uint32_t n;
    struct proxy_measure *measures;      /* what the table asks for */
    uint32_t n_measures;
    int64_t measured_at;                 /* when it was told last */
    uint64_t applied;                    /* index of its table */
    uint64_t version, sent, acked;       /* of what it has to say */
    int64_t sent_at;
    bool silent;
};

struct virtual_node {
    struct node facts;                   /* as the machine is */
    uint32_t lives;                      /* times that its disk was new, and so its id */
    char *was;                           /* the id before, which the servers still wait for; NULL: none */
    bool up;                             /* its agent runs and reaches the servers */
    bool registered, ask_all;
    int64_t lost_at, register_at;        /* register_at: it asks (again) then */
    uint32_t server;                     /* the one that it reads from */
    struct proxy proxy;
    uint64_t since, floor;               /* index of what it knows; older work in full comes from a server that lags */
    struct task *tasks;
};

/* A message on its way to the leader: an agent's or a proxy's report, or a decision that turns up late. */
struct message {
    int64_t at;
    uint64_t order;
    uint32_t node;
    struct agent_report *report;
    struct ingress_report *ingress;
    uint64_t version;                    /* of the proxy that reports */
    char *decision;
    size_t len;
};

/* --- servers: one log, a core for each server, the leader's role --- */

/* Who waits for what comes of a command. */
enum asker { ASKER_NONE, ASKER_LEADER, ASKER_CLIENT, ASKER_REGISTER, ASKER_REPORT, ASKER_PROXY };
struct origin {
    enum asker asker;
    uint32_t node;                       /* REGISTER, REPORT, PROXY */
    uint64_t version;                    /* PROXY */
    struct agent_report *report;         /* REPORT; owned */
    uint64_t decided_at;                 /* LEADER: the log index that its state had */
};

struct entry {
    uint64_t index, term, hash;          /* hash: of the state after it; 0: nobody has applied it yet */
    char *bytes;
    size_t len;
    struct origin origin;
};

struct server {
    struct core *core;
    uint32_t applied;                    /* entries of the log */
    bool stuck;                          /* applies nothing for now */
    int64_t skew;                        /* of its clock */
    struct buf kept;                     /* its last snapshot on disk; empty: none */
    uint32_t kept_at;
};

#define SERVERS_MOST 5
#define NO_LEADER UINT32_MAX
struct servers {
    struct server v[SERVERS_MOST];
    uint32_t n, leader;
    uint64_t term;
    int64_t led_since;
    struct entry *log;
    uint32_t n_log, cap_log, committed, seen;   /* seen: entries that some server has applied */
    struct core *front;                  /* one that has applied all that was seen */
    bool deciding;                       /* a decision of the leader is on its way through the log */
};

/* --- what the checks remember --- */
struct known_alloc {
    char id[ID_LEN + 1];
    bool volume, every_node;
    enum alloc_state ended;              /* 0: not */
    bool taken_out;                      /* by the last command: a rollout ends it, and it took requests */
    bool target, stopped;                /* target: it was in the ingress table after the last command */
    int64_t generation, left_at;         /* left_at: command time; 0: it does not leave */
    UT_hash_handle hh;
};
struct known_node { char id[ID_LEN + 1]; int64_t state, wanted; const struct node *facts; UT_hash_handle hh; };
struct known_answer { uint64_t request, answer; int64_t time; bool unsure; };
#define KEYS 5
struct known {
    struct known_alloc *allocs;
    struct known_node *nodes;            /* as operators and agents have asked for, by the log alone */
    struct known_answer answers[KEYS];   /* to requests with a key */
};

struct knobs {
    uint32_t nodes, steps, services, count, servers;
    uint32_t trouble;                    /* of the servers, per 1000 events */
    bool check_each;                     /* invariants after every command (else after every step) */
    bool calm;                           /* settling: no faults, no failing tasks */
    bool verbose;
};

struct world {
    struct random r;
    struct knobs k;
    struct servers s;
    int64_t now;
    struct virtual_node *nodes;
    struct message *messages;
    uint32_t message_count, message_cap;
    uint64_t order;
    struct buf repeat;                   /* a request whose answer was not seen */
    struct known known;
    struct counts *counts;
    char failure[1024];                  /* empty: none */
};

void world_init(struct world *w, uint64_t seed, const struct knobs *k, struct counts *counts);
void world_clear(struct world *w);
void world_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool world_failed(const struct world *w) { return w->failure[0] != 0; }
static inline bool wanted(const struct alloc *a) { return alloc_wanted(a) && a->leaving != LEAVING_TO_STOP; }
static inline bool chance(struct world *w, uint32_t percent) { return random_below(&w->r, 100) < percent; }
static inline void count(struct world *w, enum count what) { w->counts->v[what]++; }
void world_post(struct world *w, struct message m);               /* takes over what it points to */
void world_deliver(struct world *w);                              /* what is due now */
void world_settle(struct world *w);                               /* faults end; runs on until it should be quiet */

/* servers.c */
void servers_init(struct world *w);
void servers_clear(struct world *w);
/* Puts a command into the leader's log and takes over what the origin owns; when there is no leader, nothing happens. */
void servers_propose(struct world *w, const void *bytes, size_t len, struct origin origin);
void servers_command(struct world *w, struct command *c, struct origin origin);   /* sets its time, proposes, clears */
void servers_decide(struct world *w);                             /* the leader decides until nothing is left */
void servers_calm(struct world *w);                               /* one leads, all follow, their clocks are right */
void servers_compare(struct world *w);                            /* all of them must be equal, and equal to a replay */
int64_t servers_now(const struct world *w);                       /* by the leader's clock */
struct core *servers_core(struct world *w);                       /* where users look */

/* show.c */
void show_applied(const struct world *w, const struct entry *e, const struct core_result *r);
void show_state(const struct world *w);                           /* for a case that failed */

/* agent.c */
void agents_run(struct world *w);                                 /* registers, polls, moves tasks on, reports */
int64_t agents_next(struct world *w);                             /* when the next task moves; INT64_MAX: never */
bool agents_heard(struct world *w);                               /* the servers know all that there is to know */
void agent_lose(struct world *w, uint32_t node, bool tasks_die);
void agent_return(struct world *w, uint32_t node);
void agent_registered(struct world *w, uint32_t node, bool done);
void agent_delivers(struct world *w, uint32_t node, const struct agent_report *report);   /* counts those that are late */
void agent_ack(struct world *w, uint32_t node, const struct agent_report *report);
void agent_clear(struct virtual_node *n);

/* proxy.c */
void proxy_run(struct world *w, uint32_t node);
int64_t proxy_next(const struct world *w, const struct virtual_node *n);
void proxy_ack(struct world *w, uint32_t node, uint64_t version);
bool proxy_uses(const struct virtual_node *n, const char *alloc, int64_t now);    /* sends to it, or has connections */
/* How a version answers: by its environment, which all of its replicas have. UNKNOWN: it is forgotten. */
enum quality { QUALITY_UNKNOWN, QUALITY_GOOD, QUALITY_SLOW, QUALITY_FAILS };
enum quality quality_of(const struct core *c, const char *service, uint64_t version);
void proxy_clear(struct proxy *p);

/* actions.c */
void action_random(struct world *w);
void action_submit(struct world *w);

/* check.c: invariants, computed anew from what the core shows, with none of its own sums */
void check_invariants(struct world *w, const struct core *c);
void check_kept(struct world *w, const struct core *c);           /* what is kept counted, services asked for last time */
void check_ended(struct world *w, const struct core *c);          /* what has ended stays so */
/* observe.c: single commands: what they should do, and what they did */
void check_decision(struct world *w, const struct core *c, const void *bytes, size_t len);   /* before it is proposed */
void check_applied(struct world *w, const struct core *c, const struct entry *e, const struct core_result *r);
void known_clear(struct known *k);
/* traffic.c */
void check_traffic(struct world *w, const struct core *c, int64_t time);          /* after a command of this time */
/* quiet.c */
void check_decided(struct world *w, struct core *c);              /* the leader has nothing left to decide */
void check_quiet(struct world *w, struct core *c);
