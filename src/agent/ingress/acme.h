/* ACME: certificates for the hosts with `acme: true`, which this node gets for itself with uacme, and renews. Their keys stay
 * on the node. What the ACME server asks comes to whichever ingress node, so that challenges go through the servers into the
 * table of routes, and uacme is held back until every node answers.
 *
 * One step a second (acme.c): when a host's certificate is missing, or two thirds of its life are over, and nothing else runs,
 * uacme is started. Its hook, a script, puts the challenge into a file and waits for another one beside it, which says that
 * all nodes have it. What came of it goes where certificate_step.c looks for certificates. */
#pragma once
#include <uv.h>

#include "model/model.h"

struct acme_host {
    char *host;
    bool wanted;                     /* the table has it */
    int64_t expires_at;              /* 0: there is no certificate yet */
    int64_t try_at;                  /* not before */
    int64_t failures;                /* in a row */
    char *problem;
};
struct acme_run;
struct acme {
    uv_timer_t timer;
    struct acme_host *v;
    uint32_t n;
    bool account;                    /* there is one, as far as this agent knows */
    struct acme_run *run;            /* NULL: uacme does not run */
    struct acme_challenge_list challenges;
    int64_t seq, told_at;
};

struct ingress_node;

/* A new table came. */
void acme_follow_table(struct ingress_node *in);
/* There is news for the report, of certificates or challenges. */
void acme_changed(struct ingress_node *in);
void acme_report_fill(const struct ingress_node *in, struct acme_report *out);
/* Ends a uacme that runs: acme.run is NULL soon, and ingress_stopped is called when the ingress is being stopped. */
void acme_end_run(struct ingress_node *in);
/* Lets go of all that is under way; the timer is the caller's to close. */
void acme_close(struct ingress_node *in);
void acme_clear(struct ingress_node *in);
