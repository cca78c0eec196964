/* The inside of the ingress, shared by ingress.c (steps and life), drain.c (when a leaving replica is idle)
 * certificate_step.c and metrics.c. */
#pragma once
#include "agent/ingress/acme.h"
#include "agent/ingress/certificates.h"
#include "agent/ingress/changes.h"
#include "agent/ingress/files.h"
#include "agent/ingress/ingress.h"
#include "agent/ingress/measure.h"
#include "agent/ingress/plan.h"
#include "agent/ingress/process.h"
#include "agent/ingress/secret_certificate.h"
#include "agent/ingress/workers.h"

enum proxy_state { PROXY_UNKNOWN /* it is looked for, or starts */, PROXY_GONE, PROXY_RUNNING };

struct ingress_node {
    struct ingress_options o;
    char *directory;
    struct render_options render;
    struct process *process;
    struct admin *admin;
    struct worker_list workers;
    uv_timer_t timer;                /* the next step */
    uv_timer_t drain_timer;          /* the next look at leaving replicas */
    uv_timer_t audit_timer;
    int open_handles;

    enum proxy_state proxy;
    bool busy;                       /* a step is under way */
    int64_t look_at;                 /* when the master is to be asked for its processes; INT64_MAX: never */
    int64_t began_at, start_after;   /* of the process; when it may be started again */
    int64_t start_pause_ms;
    int64_t ended_at;                /* since when it does not serve although it did; 0: it does, or never did */

    struct agent_ingress table;
    bool table_new;
    struct layout wanted;
    bool planned;                    /* wanted is what the table says */
    uint64_t generation;             /* of wanted */
    char structure[STRUCTURE_SIZE];
    bool files_old;
    struct files_write *writing;

    bool reloading;
    int64_t reloaded_at, reload_after;   /* when the last one began; not before that, since one failed */
    long failed_before;              /* reloads that had failed */
    int current_before;
    unsigned rounds;                 /* of changes for this generation */

    uint64_t applied;
    bool in_force;                   /* `applied` is the table's, in every process */
    char *left_out, *failing;        /* why not all is in force */

    size_t drain_asked;              /* answers of this round that are missing */
    bool drain_failed;
    uint64_t drain_generation;
    int64_t drain_pause_ms;

    struct certificate_list certificates;
    bool certificates_known;
    uint64_t certificates_told;      /* hash of what was said of hosts' certificates; 0: nothing yet */
    struct certificate_look *certificate_look;
    uv_timer_t certificate_timer;
    unsigned certificate_rounds;
    struct acme acme;
    struct secret_certificates secret_certificates;

    uv_timer_t metrics_timer;
    struct counter_list totals;      /* of backends */
    struct counter_list versions;    /* "SERVICE VERSION" */
    bool counters_known;             /* the proxy was asked for them since this agent began */
    struct measure measure;
    uint64_t reloads;

    bool closing;
    void (*stopped)(void *ctx);      /* it is being ended for good */
    void *stopped_ctx;
};

/* Takes the next step now, or in a while. */
void ingress_step(struct ingress_node *in);
void ingress_step_in(struct ingress_node *in, int64_t ms);

/* It is being ended for good: what is still under way is awaited, then all is taken away. */
void ingress_stopped(struct ingress_node *in);

/* The table came into force: looks at its leaving replicas until all are idle. */
void drain_watch(struct ingress_node *in);
/* It leaves, and nothing of it is under way any more. */
bool drain_idle(const struct slot *s);

/* Looks at the files of certificates from now on. */
void certificate_watch(struct ingress_node *in);
void certificate_forget(struct ingress_node *in);
/* Adds the hosts that a file of the node should have a certificate for, and has none that holds. */
void file_certificates_report(const struct ingress_node *in, struct acme_certificate_list *out);
/* The servers are told when something else is to be said of hosts' certificates. */
void certificates_tell(struct ingress_node *in);
/* A step: the next certificate that the proxy lacks, has otherwise or should not have. */
bool step_certificates(struct ingress_node *in);

/* Asks for counters from now on. */
void metrics_watch(struct ingress_node *in);
/* Now: a process that is told to end takes what it counted along. */
void metrics_ask(struct ingress_node *in);
