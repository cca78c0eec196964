/* The proxy is asked for its counters every five seconds; what the agent's metrics show is that old at most. A service's
 * versions are told apart by the slots of their replicas, which is what a canary is judged by. */
#include <inttypes.h>
#include <string.h>

#include "agent/ingress/ingress_internal.h"
#include "agent/metric_labels.h"
#include "base/mem.h"

#define ASK_MS 5000
#define ASK_MEASURED_MS 1000                 /* while a canary is judged */
#define QUESTION "show stat -1 6 -1"         /* backends and servers */

struct metrics_answer {
    struct ingress_node *in;
    int pid;
};

struct reading {
    struct ingress_node *in;
    struct worker *worker;
};

/* "SERVICE VERSION" of a slot; NULL: nobody has it. The caller's. */
static char *version_of(const struct ingress_node *in, const struct answer_stat *s, long number)
{
    const struct backend *b = layout_find(&in->wanted, s->proxy);
    if (!b || number < 1 || number > b->n_slots || !*b->slots[number - 1].alloc)
        return NULL;
    return mem_printf("%s %" PRIu64, b->service, b->slots[number - 1].version);
}

static void on_stat(void *ctx, const struct answer_stat *s)
{
    struct reading *r = ctx;
    const struct backend *b = layout_find(&r->in->wanted, s->proxy);
    if (!b || !b->service)
        return;
    if (!strcmp(s->server, "BACKEND")) {
        counter_follow(&counter_of(&r->in->totals, s->proxy)->values, &counter_of(&r->worker->counted, s->proxy)->values, s);
        return;
    }
    long number = s->server[0] == 's' ? strtol(s->server + 1, NULL, 10) : 0;
    CLEANUP_FREE char *version = version_of(r->in, s, number);
    CLEANUP_FREE char *slot = mem_printf("%s/%s", s->proxy, s->server);
    struct answer_stat nobody = {0};
    counter_follow(version ? &counter_of(&r->in->versions, version)->values : &nobody,
                   &counter_of(&r->worker->counted, slot)->values, s);
}

static void on_answer(void *arg, const struct error *err, const char *answer)
{
    struct metrics_answer *m = arg;
    struct worker *w = m->in->closing || err ? NULL : workers_find(&m->in->workers, m->pid);
    struct reading r = {m->in, w};
    struct error own;
    if (w)
        m->in->counters_known |= answer_stats(answer, on_stat, &r, &own) == 0;
    free(m);
}

void metrics_ask(struct ingress_node *in)
{
    struct worker *w;
    LIST_FOREACH(w, &in->workers, link) {
        struct metrics_answer *m = NEW(struct metrics_answer);
        *m = (struct metrics_answer){in, w->pid};
        admin_ask(in->admin, w->pid, QUESTION, on_answer, m);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    uv_timer_set_repeat(timer, in->measure.n ? ASK_MEASURED_MS : ASK_MS);
    measure_read(in);
    if (measure_look(in))
        in->o.report(in->o.ctx);
    if (in->in_force && !in->reloading)
        metrics_ask(in);
}

void metrics_watch(struct ingress_node *in)
{
    uv_timer_start(&in->metrics_timer, on_timer, 1000, ASK_MS);
}

/* --- as text --- */

static void add_head(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_printf(out, "# HELP mentat_ingress_%s %s\n# TYPE mentat_ingress_%s %s\n", name, help, name, kind);
}

struct row { const char *name, *kind, *help; size_t offset; };
#define ROW(name_, kind_, help_, member) {name_, kind_, help_, offsetof(struct answer_stat, member)}
static const struct row rows[] = {
    ROW("requests_total", "counter", "Requests.", requests),
    ROW("connections_total", "counter", "Connections and requests that were given to a replica.", connections),
    ROW("received_bytes_total", "counter", "Bytes of requests.", bytes_in),
    ROW("sent_bytes_total", "counter", "Bytes of answers.", bytes_out),
    ROW("connect_errors_total", "counter", "Connections to replicas that could not be made.", connect_errors),
    ROW("response_errors_total", "counter", "Answers that a replica broke off.", response_errors),
    ROW("retries_total", "counter", "Requests that were tried again.", retries),
    ROW("redispatches_total", "counter", "Requests that were given to another replica.", redispatches),
    ROW("sessions", "gauge", "Requests and connections at the moment.", sessions),
    ROW("response_milliseconds", "gauge", "Mean time to a replica's answer, of the last 1024 requests.", response_ms),
    ROW("total_milliseconds", "gauge", "Mean time from a request to the end of its answer, of the last 1024 requests.", total_ms),
};

static const struct backend *backend_of(const struct ingress_node *in, const struct counter *c)
{
    const struct backend *b = layout_find(&in->wanted, c->name);
    return b && b->service && !b->unused ? b : NULL;
}

static void add_answers(const struct ingress_node *in, struct buf *out)
{
    add_head(out, "answers_total", "counter", "Answers by their status.");
    for (uint32_t i = 0; i < in->totals.n; i++) {
        const struct counter *c = &in->totals.v[i];
        const struct backend *b = backend_of(in, c);
        CLEANUP_FREE char *owner = b ? metric_labels(b->service) : NULL;
        for (int k = 1; b && !b->tcp && k <= 5; k++)
            buf_printf(out, "mentat_ingress_answers_total{%s,backend=\"%s\",status=\"%dxx\"} %lld\n", owner, c->name, k,
                       c->values.status[k]);
    }
}

static void add_versions(const struct ingress_node *in, struct buf *out)
{
    static const char *const help[] = {"Requests that replicas of a version got.", "Those that it answered with 5xx, or broke off."};
    for (int k = 0; k < 2; k++) {
        const char *name = k ? "version_errors_total" : "version_requests_total";
        add_head(out, name, "counter", help[k]);
        for (uint32_t i = 0; i < in->versions.n; i++) {
            const struct counter *c = &in->versions.v[i];
            size_t n = strcspn(c->name, " ");
            long long value = k ? c->values.status[5] + c->values.response_errors : c->values.connections;
            CLEANUP_FREE char *service = mem_strndup(c->name, n), *owner = metric_labels(service);
            buf_printf(out, "mentat_ingress_%s{%s,version=\"%s\"} %lld\n", name, owner, c->name + n + 1, value);
        }
    }
}

/* Upper ends in milliseconds, each that of a step of latency.h. */
static const int64_t time_ends[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384, 32768, 65536};

static void add_times(const struct ingress_node *in, struct buf *out)
{
    add_head(out, "response_seconds", "histogram", "Time from a request's end to the head of its replica's answer.");
    for (uint32_t i = 0; i < in->totals.n; i++) {
        const struct times *t = in->totals.v[i].times;
        const struct backend *b = backend_of(in, &in->totals.v[i]);
        if (!t || !b)
            continue;
        CLEANUP_FREE char *owner = metric_labels(b->service), *labels = mem_printf("%s,backend=\"%s\"", owner, b->name);
        int64_t below = 0;
        unsigned step = 0;
        for (size_t k = 0; k < ARRAY_LEN(time_ends); k++) {
            while (step < LATENCY_STEPS && latency_step_ms(step) <= time_ends[k])
                below += t->counts[step++];
            buf_printf(out, "mentat_ingress_response_seconds_bucket{%s,le=\"%g\"} %" PRId64 "\n", labels, (double)time_ends[k] / 1000, below);
        }
        buf_printf(out, "mentat_ingress_response_seconds_bucket{%s,le=\"+Inf\"} %" PRId64 "\n", labels, t->all);
        buf_printf(out, "mentat_ingress_response_seconds_sum{%s} %.3f\n", labels, (double)t->sum_ms / 1000);
        buf_printf(out, "mentat_ingress_response_seconds_count{%s} %" PRId64 "\n", labels, t->all);
    }
}

void ingress_metrics(const struct ingress_node *in, struct buf *out)
{
    const struct worker *w;
    int old = 0;
    LIST_FOREACH(w, &in->workers, link)
        old += !w->current;
    add_head(out, "up", "gauge", "1 while the proxy runs and follows the newest table of routes.");
    buf_printf(out, "mentat_ingress_up %d\n", in->in_force && in->proxy == PROXY_RUNNING);
    add_head(out, "old_processes", "gauge", "Processes that finish their connections after a reload.");
    buf_printf(out, "mentat_ingress_old_processes %d\n", old);
    add_head(out, "reloads_total", "counter", "Reloads of the proxy by this agent.");
    buf_printf(out, "mentat_ingress_reloads_total %" PRIu64 "\n", in->reloads);
    add_head(out, "certificate_expiry_seconds", "gauge", "Seconds since 1970 at which a certificate expires.");
    for (uint32_t i = 0; i < in->certificates.n; i++)
        buf_printf(out, "mentat_ingress_certificate_expiry_seconds{file=\"%s\"} %" PRId64 "\n", in->certificates.v[i].name,
                   in->certificates.v[i].expires_at / 1000);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        add_head(out, rows[r].name, rows[r].kind, rows[r].help);
        for (uint32_t i = 0; i < in->totals.n; i++) {
            const struct backend *b = backend_of(in, &in->totals.v[i]);
            CLEANUP_FREE char *owner = b ? metric_labels(b->service) : NULL;
            if (b)
                buf_printf(out, "mentat_ingress_%s{%s,backend=\"%s\"} %lld\n", rows[r].name, owner, b->name,
                           *(const long long *)((const char *)&in->totals.v[i].values + rows[r].offset));
        }
    }
    add_answers(in, out);
    add_times(in, out);
    add_versions(in, out);
}
