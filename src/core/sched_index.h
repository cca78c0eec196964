/* Sched_index: what the scheduler knows: nodes with their free room, what runs on them, and where the replicas of
 * each service are. Every change of a node is put in a journal, which the views (sched_view.h) follow. */
#pragma once
#include <sys/queue.h>
#include <uthash.h>

#include "core/sched.h"
#include "core/sched_constraint.h"
#include "core/sched_ports.h"
#include "core/sched_tree.h"

/* Chains of at most a few: the records that a search passes over are rarely in the processor's cache. */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 4U

/* Scores are whole numbers, so that sums are exact and equal scores are really equal. */
#define SCORE_ONE INT64_C(1000000)
/* Each replica of the service with the same value of the spread attribute. Above all that follows together. */
#define SCORE_SPREAD (10 * SCORE_ONE)
/* Where the replica was before. Above bin packing, affinities and company together. */
#define SCORE_PREVIOUS (9 * SCORE_ONE / 2)
/* Affinities: from -1 to 1. Bin packing: from 0 to 1. */
/* Each replica of the same service on the node, up to five. */
#define SCORE_COMPANY (SCORE_ONE / 5)
#define COMPANY_MOST 5

#define JOURNAL_SIZE (1u << 14)

/* Nodes of equal facts, but for id and name: what a constraint says of one it says of all. */
struct sched_class {
    UT_hash_handle hh;
    uint32_t id;                     /* small, used again */
    uint64_t serial;                 /* never used again */
    uint32_t refs;
    size_t len;
    char key[];
};

struct sched_alloc {
    UT_hash_handle hh;
    struct sched_node *node;
    struct sched_service *service;
    struct tree_room room;
    struct alloc_port_list ports;    /* without names */
    TAILQ_ENTRY(sched_alloc) link;
    char id[];
};

/* What each placement reads and writes stands together: in a large cluster every line of it comes from far away. */
struct sched_node {
    uint32_t slot;
    uint64_t tie;
    struct tree_room total, used;
    int64_t packing;                 /* score of bin packing as the node stands */
    struct sched_class *class;
    TAILQ_HEAD(, sched_alloc) allocs;
    struct port_set ports;
    UT_hash_handle hh;
    struct node facts;
};

/* How many replicas of a service are where an attribute has one value. */
struct tally_value {
    UT_hash_handle hh;
    int64_t count;
    char value[];
};
struct tally {
    char *attribute;
    struct tally_value *values;      /* never taken out: views point at them */
    LIST_ENTRY(tally) link;
};

struct presence {
    UT_hash_handle hh;
    uint32_t slot;
    int64_t count;
};

struct sched_service {
    UT_hash_handle hh;
    struct presence *presence;       /* by slot */
    LIST_HEAD(, tally) tallies;
    struct view *view;               /* of its last request, or NULL */
    int64_t allocs;
    char name[];
};

TAILQ_HEAD(view_list, view);
TAILQ_HEAD(signature_list, signature);

struct sched {
    struct sched_node *by_id;
    struct sched_node **nodes;       /* by slot; NULL: free */
    uint32_t *stamps;                /* by slot: grows with each change, also over the slot's next nodes */
    uint32_t n_slots, cap_slots, n_nodes;
    uint32_t *free_slots, n_free_slots;
    struct sched_alloc *allocs;
    struct sched_service *services;
    struct sched_class *classes;
    uint32_t *free_classes, n_free_classes, n_classes;
    uint64_t class_serial;
    uint32_t journal[JOURNAL_SIZE];  /* slots of changed nodes; the last JOURNAL_SIZE of them */
    uint64_t journal_at;
    struct tree_pool pool;
    struct signature *signatures;
    struct signature_list signatures_by_use;   /* last used first */
    struct view_list views_by_use;             /* services' views, last used first */
    uint32_t n_views;
};

int64_t cpus_to_nano(double cpus);
struct tree_room node_free_room(const struct sched_node *n);
/* Best fit as Borg and Nomad have it: the fuller the node by both cpu and memory, the better, by
 * (20 - 10^free_cpu - 10^free_memory) / 18 (the "BestFit v3" of Google's cluster schedulers; Nomad's ScoreFit). Taken
 * as the node stands, before the placement: then the order of the nodes is the same for every replica. */
int64_t packing_score(const struct tree_room *total, const struct tree_room *used);

struct sched_node *sched_node_find(const struct sched *s, const char *id);
struct sched_alloc *sched_alloc_find(const struct sched *s, const char *id);
/* The service's record, made when there is none. */
struct sched_service *sched_service_get(struct sched *s, const char *name);
/* Frees the record when nothing holds it any more. */
void sched_service_drop_unused(struct sched *s, struct sched_service *service);
int64_t service_count_on(const struct sched_service *service, uint32_t slot);
/* The count for a value of the attribute ("" for nodes without it); kept up to date from now on. */
struct tally_value *service_tally(struct sched *s, struct sched_service *service, const char *attribute,
                                  const char *value);
