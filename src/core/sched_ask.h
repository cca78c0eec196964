/* Sched_ask: one request against one node: does it fit, what is its score, and why not. */
#pragma once
#include "core/sched_view.h"

struct ask {
    struct sched *s;
    const struct sched_request *request;
    struct view *view;
    struct need need;
    const struct sched_node *prefer, *avoid;
    const struct sched_alloc *ignored;       /* its room and ports are free for this request */
    bool ignored_counts;                     /* it is a replica of the same service: not counted either */
    int32_t ignored_ports[PORT_FAMILIES];    /* how many dynamic ports it gives back */
};

/* What the score consists of, in parts of SCORE_ONE. */
struct score { int64_t packing, company, affinity, spread, previous, total; };

struct candidate {
    const struct sched_node *node;           /* NULL: none */
    struct score score;
    uint64_t group_tie, node_tie;
};

void ask_init(struct ask *a, struct sched *s, const struct sched_request *request);

/* 0 with *out filled when the node fits, else the reason's code. */
int32_t ask_node(const struct ask *a, const struct sched_node *n, struct candidate *out);
/* The order of choice: by score, then by hashes of the group and of the node that the seed turns. */
bool candidate_is_better(const struct candidate *a, const struct candidate *b);

/* What the group's nodes have in common: their part of the score; false when `distinct` excludes them all, with *which
 * the place in the signature's list. */
bool ask_group(const struct ask *a, uint32_t group, struct score *score, uint32_t *which);
uint64_t ask_group_tie(const struct ask *a, uint32_t group);
uint64_t ask_node_tie(const struct ask *a, const struct sched_node *n);
bool ask_has_ports(const struct ask *a, const struct sched_node *n);
/* What is free for this request. */
struct tree_room ask_free_room(const struct ask *a, const struct sched_node *n);

/* Counts all nodes (only_node: that one) under their first reasons. */
void ask_reasons(const struct ask *a, struct sched_reason_list *why);
/* The reason in words; `most` is the most that is free among the nodes that it speaks of, `example` one of these, or
 * NULL. */
void reason_format(const struct ask *a, int32_t code, const struct tree_room *most, const struct sched_node *example,
                   struct buf *out);
void reason_list_copy(struct sched_reason_list *to, const struct sched_reason_list *from);
