#include "agent/ingress/measure.h"

#include <inttypes.h>
#include <string.h>

#include "agent/ingress/access_log.h"
#include "agent/ingress/ingress_internal.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define LINE_MAX_BYTES 65536         /* a longer one is none of the proxy's */

static void forget(struct measured *m)
{
    free(m->service);
    counters_clear(&m->before);
    free(m->versions);
}

static void forget_log(struct measure *m)
{
    if (m->log)
        log_reader_close(steal(&m->log));
    free(steal(&m->line));
    m->line_len = 0;
}

void measure_clear(struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->measure.n; i++)
        forget(&in->measure.v[i]);
    free(in->measure.v);
    forget_log(&in->measure);
    in->measure = (struct measure){0};
}

/* --- times --- */

static struct measured *of_service(const struct ingress_node *in, const char *service)
{
    for (uint32_t i = 0; i < in->measure.n; i++)
        if (!strcmp(in->measure.v[i].service, service))
            return &in->measure.v[i];
    return NULL;
}

static struct measured_version *of_version(struct measured *m, uint64_t version)
{
    for (uint32_t i = 0; i < m->n_versions; i++)
        if (m->versions[i].version == version)
            return &m->versions[i];
    m->versions = mem_realloc_array(m->versions, m->n_versions + 1, sizeof *m->versions);
    m->versions[m->n_versions] = (struct measured_version){.version = version};
    return &m->versions[m->n_versions++];
}

static void on_line(struct ingress_node *in, const char *line, size_t n)
{
    struct access_line l;
    const struct backend *b = access_line_parse(line, n, &l) ? layout_find(&in->wanted, l.backend) : NULL;
    struct measured *m = b && b->service ? of_service(in, b->service) : NULL;
    if (b && b->service && !b->tcp)
        counter_time(counter_of(&in->totals, b->name), l.response_ms);
    for (uint32_t i = 0; m && m->since && i < b->n_slots; i++)
        if (*b->slots[i].alloc && b->slots[i].port == l.port && !strcmp(b->slots[i].ip, l.ip)) {
            of_version(m, b->slots[i].version)->latencies[latency_step(l.response_ms)]++;
            return;
        }
}

static void keep(struct measure *m, const char *bytes, size_t n)
{
    if (m->line_len + n > LINE_MAX_BYTES)
        m->line_len = n = 0;
    m->line = mem_realloc(m->line, m->line_len + n + 1);
    memcpy(m->line + m->line_len, bytes, n);
    m->line_len += n;
}

static void on_log(void *arg, const void *bytes, size_t n)
{
    struct ingress_node *in = arg;
    struct measure *m = &in->measure;
    const char *at = bytes, *end = at + n;
    for (const char *stop; (stop = memchr(at, '\n', (size_t)(end - at))); at = stop + 1) {
        if (!m->line_len) {
            on_line(in, at, (size_t)(stop - at));
            continue;
        }
        keep(m, at, (size_t)(stop - at));
        on_line(in, m->line, m->line_len);
        m->line_len = 0;
    }
    if (at < end)
        keep(m, at, (size_t)(end - at));
}

/* It cannot be read any more; metrics.c begins anew. */
static void on_log_end(void *arg, const struct error *err)
{
    forget_log(&((struct ingress_node *)arg)->measure);
}

static const struct log_events log_events = {.data = on_log, .end = on_log_end};

void measure_read(struct ingress_node *in)
{
    if (!in->measure.log && in->o.config->access_log)
        in->measure.log = log_reader_open(in->o.loop, in->directory, &(struct log_query){.stream = LOG_STDOUT, .follow = true},
                                          &log_events, in);
}

/* --- what is asked for --- */

static bool is_asked(const struct ingress_node *in, const struct measured *m)
{
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress_route *r = &in->table.routes.v[i];
        if (r->measured == m->index && r->service && !strcmp(r->service, m->service))
            return true;
    }
    return false;
}

void measure_follow(struct ingress_node *in)
{
    struct measure *m = &in->measure;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (is_asked(in, &m->v[i]))
            m->v[kept++] = m->v[i];
        else
            forget(&m->v[i]);
    }
    m->n = kept;
    for (uint32_t i = 0; i < in->table.routes.n; i++) {
        const struct ingress_route *r = &in->table.routes.v[i];
        if (!r->measured || !r->service || of_service(in, r->service))
            continue;
        m->v = mem_realloc_array(m->v, m->n + 1, sizeof *m->v);
        m->v[m->n++] = (struct measured){.service = mem_strdup(r->service), .index = r->measured};
    }
    if (m->n)
        metrics_watch(in);
}

/* --- counters --- */

/* "VERSION" of "SERVICE VERSION"; NULL: of another service. */
static const char *version_name(const struct measured *m, const struct counter *c)
{
    size_t n = strlen(m->service);
    return !strncmp(c->name, m->service, n) && c->name[n] == ' ' ? c->name + n + 1 : NULL;
}

static void begin(struct ingress_node *in, struct measured *m)
{
    m->since = time_now_ms();
    for (uint32_t i = 0; i < in->versions.n; i++) {
        const char *version = version_name(m, &in->versions.v[i]);
        if (version)
            counter_of(&m->before, version)->values = in->versions.v[i].values;
    }
}

bool measure_look(struct ingress_node *in)
{
    bool some = false;
    for (uint32_t i = 0; i < in->measure.n; i++) {
        struct measured *m = &in->measure.v[i];
        some |= m->since != 0;
        if (!m->since && in->counters_known)
            begin(in, m);
    }
    return some;
}

static void report_latencies(const struct measured *m, struct version_measure *to)
{
    for (uint32_t i = 0; i < m->n_versions; i++)
        for (unsigned k = 0; m->versions[i].version == to->version && k < LATENCY_STEPS; k++)
            if (m->versions[i].latencies[k]) {
                struct latency *l = list_add_zero((struct list *)&to->latencies, &latency_type);
                *l = (struct latency){latency_step_ms(k), m->versions[i].latencies[k]};
            }
}

static void report_version(struct measured *m, const char *version, const struct answer_stat *now, struct version_measure *to)
{
    const struct answer_stat *before = &counter_of(&m->before, version)->values;
    to->version = strtoull(version, NULL, 10);
    to->requests = now->connections - before->connections;
    to->errors = now->status[5] + now->response_errors - before->status[5] - before->response_errors;
    if (to->errors > to->requests)             /* a request that was tried again is counted when it ends */
        to->errors = to->requests;
    report_latencies(m, to);
}

void measure_report(const struct ingress_node *in, struct ingress_measure_list *out)
{
    for (uint32_t i = 0; i < in->measure.n; i++) {
        struct measured *m = &in->measure.v[i];
        if (!m->since)
            continue;
        struct ingress_measure *to = list_add_zero((struct list *)out, &ingress_measure_type);
        to->service = mem_strdup(m->service);
        to->measured = m->index;
        to->since = m->since;
        for (uint32_t k = 0; k < in->versions.n; k++) {
            const char *version = version_name(m, &in->versions.v[k]);
            if (version)
                report_version(m, version, &in->versions.v[k].values,
                               list_add_zero((struct list *)&to->versions, &version_measure_type));
        }
    }
}
