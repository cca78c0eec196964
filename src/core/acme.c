#include "core/acme.h"

#include <string.h>

#include "base/timefmt.h"
#include "core/command.h"
#include "core/ingress.h"
#include "model/ingress_rules.h"

#define CHALLENGES_MAX 16            /* of a node at once */
#define CERTIFICATES_MAX 1000
#define LATE_MOST_MS (10 * 60 * 1000LL)    /* of a report: what is older comes from a node whose clock was set back */

static bool makes_sense(const struct acme_report *r)
{
    for (uint32_t i = 0; i < r->challenges.n; i++)
        if (!ingress_challenge_ok(&r->challenges.v[i]))
            return false;
    for (uint32_t i = 0; i < r->certificates.n; i++)
        if (!r->certificates.v[i].host || ingress_host_problem(r->certificates.v[i].host))
            return false;
    return r->challenges.n <= CHALLENGES_MAX && r->certificates.n <= CERTIFICATES_MAX;
}

static bool same_challenges(const struct acme_challenge_list *a, const struct acme_challenge_list *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i].host, b->v[i].host) || strcmp(a->v[i].token, b->v[i].token) || strcmp(a->v[i].answer, b->v[i].answer))
            return false;
    return true;
}

static const struct acme_certificate *find(const struct acme_report *r, const char *host)
{
    for (uint32_t i = 0; i < r->certificates.n; i++)
        if (strcmp(r->certificates.v[i].host, host) == 0)
            return &r->certificates.v[i];
    return NULL;
}

static void tell_certificate(struct core *c, const struct node_entry *n, const struct acme_certificate *now)
{
    const struct acme_certificate *before = find(&n->acme, now->host);
    struct event_text what = event_of_node(n);
    char until[TIME_TEXT_SIZE];
    bool fails = now->problem && (!before || !before->problem || strcmp(before->problem, now->problem) != 0);
    bool is_new = !now->problem && now->expires_at && (!before || before->expires_at != now->expires_at);
    if (!fails && !is_new)
        return;
    bool apart = core_level(c) >= INGRESS_APART_LEVEL;
    what.service = apart ? ingress_service_of_host(c, now->host) : NULL;
    if (apart && !what.service)              /* it is gone by now: nobody's to hear of */
        return;
    if (fails) {
        state_event(c, what, "no certificate for %.200s: %.300s", now->host, now->problem);
        return;
    }
    time_format(until, now->expires_at);
    state_event(c, what, "it has a certificate for %.200s until %s", now->host, until);
}

void acme_take(struct core *c, struct node_entry *n, const struct acme_report *r)
{
    if (r->seq == 0 || (r->seq <= n->acme.seq && r->seq > n->acme.seq - LATE_MOST_MS) || !makes_sense(r))
        return;
    for (uint32_t i = 0; i < r->certificates.n; i++)
        tell_certificate(c, n, &r->certificates.v[i]);
    bool same = same_challenges(&n->acme.challenges, &r->challenges);
    struct acme_report fresh;
    type_copy(&acme_report_type, &fresh, r);
    for (uint32_t i = 0; i < fresh.challenges.n; i++)
        fresh.challenges.v[i].ready = same && n->acme.challenges.v[i].ready;
    type_clear(&acme_report_type, &n->acme);
    n->acme = fresh;
    if (same)
        return;
    state_touch_ingress(c);
    n->challenges_index = c->index;
}

void acme_follow(struct core *c)
{
    struct node_entry *n;
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link)
        for (uint32_t i = 0; i < n->acme.challenges.n; i++) {
            struct acme_challenge *a = &n->acme.challenges.v[i];
            if (a->ready || !ingress_followed(c, n->challenges_index))
                continue;
            a->ready = true;
            state_touch_ingress(c);
        }
}

void acme_add_challenges(const struct core *c, struct agent_ingress *out)
{
    const struct node_entry *n;
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link)
        for (uint32_t i = 0; i < n->acme.challenges.n; i++)
            type_copy(&acme_challenge_type, list_add_zero((struct list *)&out->challenges, &acme_challenge_type),
                      &n->acme.challenges.v[i]);
}
