/* World: a cluster of virtual nodes in virtual time around one core (and a second one that applies the same log).
 * Everything that happens comes from the seed. */
#pragma once
#include <uthash.h>

#include "base/random.h"
#include "core/command.h"
#include "core/core.h"
#include "counts.h"

enum fate { FATE_GOOD, FATE_FAILS, FATE_NEVER_HEALTHY, FATE_FLAPS, FATE_COUNT };

/* What a virtual agent runs. */
struct task {
    char id[16];
    bool is_task, checked;               /* mode task; has a health check */
    enum fate fate;
    enum alloc_state state;
    uint64_t seq, acked;
    int64_t next_at, sent_at, started_at, generation, restarts;
    bool stopping;
    UT_hash_handle hh;
};

/* What an agent was told of the replicas of a service. */
struct told { char service[16]; char *peers; UT_hash_handle hh; };

struct virtual_node {
    struct node facts;
    bool up;                             /* its agent runs and reaches the servers */
    bool registered;
    int64_t lost_at;
    uint64_t since;
    struct task *tasks;
    struct told *told;
};

/* A message on its way: a report, a decision of a leader that was replaced meanwhile. */
struct message { int64_t at; uint64_t order; uint32_t node; char *bytes; size_t len; char *task; uint64_t seq; };

struct seen { char id[16]; enum alloc_state ended; UT_hash_handle hh; };

struct knobs {
    uint32_t nodes, steps, services, count;
    bool second, check_each;             /* second core; invariants after every command (else after every step) */
    bool calm;                           /* settling: no faults, no failing tasks */
    bool verbose;
};

struct world {
    struct random r;
    struct knobs k;
    struct core *core, *second;
    uint64_t index;
    int64_t now;
    struct virtual_node *nodes;
    struct message *messages;
    uint32_t message_count, message_cap;
    uint64_t order;
    struct seen *seen;
    struct counts *counts;
    char failure[1024];                  /* empty: none */
};

void world_init(struct world *w, uint64_t seed, const struct knobs *k, struct counts *counts);
void world_clear(struct world *w);
void world_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool world_failed(const struct world *w) { return w->failure[0] != 0; }
static inline bool chance(struct world *w, uint32_t percent) { return random_below(&w->r, 100) < percent; }
static inline void count(struct world *w, enum count what) { w->counts->v[what]++; }
/* Puts one command into the log: both cores apply it. Returns false when it was refused. */
bool world_apply(struct world *w, const void *bytes, size_t len);
bool world_command(struct world *w, struct command *c);           /* encodes, applies, clears */
void world_post(struct world *w, struct message m);               /* takes over bytes and task */
void world_deliver(struct world *w);                              /* what is due now */
void world_decide(struct world *w);                               /* the leader decides until there is nothing left */
void world_settle(struct world *w);                               /* faults end; runs on until it should be quiet */
void world_restart_core(struct world *w);                         /* snapshot, restore, go on with the restored one */
void world_compare(struct world *w);                              /* both cores must be equal */

void world_show(struct world *w);                                 /* prints the state, for a case that failed */

/* agent.c */
void agents_run(struct world *w);                                 /* registers, polls, moves tasks on, reports */
int64_t agents_next(const struct world *w);                       /* when the next task moves; INT64_MAX: never */
void agent_lose(struct world *w, uint32_t node, bool tasks_die);
void agent_return(struct world *w, uint32_t node);
void agent_ack(struct world *w, uint32_t node, const char *task, uint64_t seq);
void agent_clear(struct virtual_node *n);

/* actions.c */
void action_random(struct world *w);
void action_submit(struct world *w);

/* check.c */
void check_invariants(struct world *w);
void check_placed(struct world *w);                               /* right after a decision was applied */
void check_decided(struct world *w);                              /* the leader has nothing left to decide */
void check_quiet(struct world *w);
