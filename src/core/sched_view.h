/* Sched_view: the nodes as one kind of request sees them.
 *
 * A signature is what requests have in common as far as single nodes go: driver, constraints, affinities, spread,
 * distinct, static ports. It divides the nodes into those it cannot use and groups: nodes in one group have equal
 * affinity and equal values of the attributes of spread and distinct, so they differ by free room only. Each group is a
 * tree by score. A signature has one common view, and each service one of its own, which starts as a copy of the
 * common one and differs in the nodes that hold the service's replicas.
 *
 * Views follow the index's journal when they are used. All of this is a cache: dropping it changes no choice. */
#pragma once
#include "core/sched_index.h"

/* Why a node is not for a request; the smaller ones are looked at first. The index tells which constraint or port. */
enum reason_kind {
    REASON_NONE, REASON_GONE, REASON_DOWN, REASON_DRAINING, REASON_INELIGIBLE, REASON_NO_DRIVER, REASON_SICK_DRIVER,
    REASON_CONSTRAINT, REASON_PORT, REASON_DISTINCT, REASON_CPU, REASON_MEMORY, REASON_DISK, REASON_DYNAMIC_PORTS,
};
#define REASON_CODE(kind, index) ((int32_t)(kind) << 16 | (int32_t)(index))
#define REASON_KIND(code) ((enum reason_kind)((code) >> 16))
#define REASON_INDEX(code) ((uint32_t)(code) & 0xffff)

struct group {
    UT_hash_handle hh;
    uint32_t number;
    int64_t affinity;
    uint64_t tie;                    /* orders groups of equal score, together with the request's seed */
    char *spread;                    /* value of the spread attribute, "" when there is none */
    char **distinct;                 /* values of the distinct attributes */
    size_t key_len;
    char *key;
};

struct need {
    struct tree_room room;
    int32_t ports[PORT_FAMILIES];    /* of the dynamic range */
};
bool need_equal(const struct need *a, const struct need *b);

/* A request that found no node, and why; good until anything changes. */
struct failure {
    bool known;
    uint64_t journal_at;
    struct need need;
    struct sched_reason_list why;
};

/* A group as a view has it. */
struct view_group {
    struct tree *root;
    bool best_known, best_found;     /* for the view's `need` */
    int64_t best_score;
    struct tally_value *spread;      /* services' views only; NULL when the signature does not ask */
    struct tally_value **distinct;
};

/* Where a node is in a view. */
struct position { int64_t score; uint64_t tie; uint32_t stamp; int32_t group; /* below 0: minus the reason's code */ };
#define POSITIONS_PER_CHUNK 64
struct position_chunk { uint32_t refs; struct position v[POSITIONS_PER_CHUNK]; };

struct view {
    struct signature *signature;
    struct sched_service *service;   /* NULL: the common view */
    struct position_chunk **chunks;  /* shared with the common view until they differ */
    uint32_t n_chunks;
    struct view_group *groups;
    uint32_t n_groups;
    uint64_t journal_at;
    struct need need;                /* of the groups' best_score */
    struct failure failure;
    TAILQ_ENTRY(view) link;
};

struct class_verdict { uint64_t serial; int32_t verdict; };

struct signature {
    UT_hash_handle hh;
    char *key;
    size_t key_len;
    const char *driver;              /* NULL: none is needed */
    struct matcher *constraints, *affinities;
    int64_t *weights, weight_sum;    /* of the affinities; the sum of their sizes */
    uint32_t n_constraints, n_affinities;
    char *spread;                    /* attribute, NULL when there is none or it is the node */
    bool spread_node, distinct_node;
    struct str_list distinct;        /* attributes */
    struct port_list ports;          /* static ones, without names */
    bool by_node;                    /* asks for what differs on every node: verdicts per class would be wrong */
    struct class_verdict *verdicts;  /* by class id */
    uint32_t n_verdicts;
    struct group *groups_by_key, **groups;
    uint32_t n_groups;
    struct view common;
    struct failure failure;
    TAILQ_ENTRY(signature) link;
};

/* The service's view for the spec, made or brought up to date. Valid until the next call. */
struct view *view_get(struct sched *s, const struct service *spec, struct sched_service *service);
/* Of a service that has no replicas any more, whose view is the common one again. Frees the service's record too when
 * nothing else holds it. */
void view_forget(struct sched *s, struct sched_service *service);
void view_forget_all(struct sched *s);

/* The signature of the spec, made when it is new. */
struct signature *signature_get(struct sched *s, const struct service *spec);
void signature_free(struct signature *sig);          /* its views must be gone already */

/* The node's group, or minus the code of the reason against it: state, driver, constraints. */
int32_t signature_verdict(struct sched *s, struct signature *sig, const struct sched_node *n);
/* The code for the first static port that is taken, or 0; free_anyway as in port_choose. */
int32_t signature_port_taken(const struct signature *sig, const struct sched_node *n,
                             const struct alloc_port_list *free_anyway);
/* The part of the score that depends on the node's replicas of the service. */
int64_t signature_company_score(const struct signature *sig, int64_t count);
/* Makes room for groups that the signature found meanwhile. */
void view_grow(struct sched *s, struct view *v);
