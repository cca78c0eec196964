/* Measure: how long replicas took to answer, from the proxy's access log, by service; and while a canary is judged, what this
 * node's proxy saw of each version of its service: requests and errors as the proxy counts them, and those times. */
#pragma once
#include "agent/ingress/counters.h"
#include "agent/logfile.h"
#include "model/latency.h"

struct measured_version {
    uint64_t version;
    int64_t latencies[LATENCY_STEPS];
};
struct measured {
    char *service;
    uint64_t index;                  /* of the table that asked for it */
    int64_t since;                   /* 0: the counters that it begins with are not known yet */
    struct counter_list before;      /* those, by version */
    struct measured_version *versions;
    uint32_t n_versions;
};
struct measure {
    struct measured *v;
    uint32_t n;
    struct log_reader *log;          /* NULL: it is not read */
    char *line;                      /* the beginning of one */
    size_t line_len;
};

struct ingress_node;

/* Reads the access log from now on, when there is one. */
void measure_read(struct ingress_node *in);
/* The table came into force: begins and ends what it asks for. */
void measure_follow(struct ingress_node *in);
/* From time to time: begins with what the proxy's counters say by now. True: there is news for the report. */
bool measure_look(struct ingress_node *in);
void measure_report(const struct ingress_node *in, struct ingress_measure_list *out);
void measure_clear(struct ingress_node *in);
