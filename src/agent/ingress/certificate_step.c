/* Certificates come from files that anybody may change at any time: they are looked at every two seconds by the worker pool,
 * copied for the proxy when they changed, and the process that takes new connections is given what it lacks, one after the
 * other, and asked what it has. */
#include <openssl/crypto.h>
#include <string.h>

#include "agent/ingress/ingress_internal.h"
#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "model/ingress_rules.h"

#define LOOK_MS 2000
#define SOON_MS (14 * INT64_C(86400000))
#define TOLD_MAX 1000                /* what servers take of a node */

struct certificate_look {
    uv_work_t work;
    struct ingress_node *in;         /* NULL: nobody wants to know any more */
    char *directory, *sources[2];
    struct certificate_list found;
    struct error err;
};

/* --- looking --- */

static void look_run(uv_work_t *work)
{
    struct certificate_look *l = work->data;
    certificates_read((const char *const *)l->sources, ARRAY_LEN(l->sources), &l->found);
    certificates_write(l->directory, RENDER_FALLBACK, &l->found, &l->err);
    OPENSSL_thread_stop();           /* the thread is the pool's, and goes without telling OpenSSL */
}

static bool same(const struct certificate_list *a, const struct certificate_list *b)
{
    for (uint32_t i = 0; i < a->n && a->n == b->n; i++)
        if (strcmp(a->v[i].name, b->v[i].name) || strcmp(a->v[i].fingerprint, b->v[i].fingerprint))
            return false;
    return a->n == b->n && a->problems.n == b->problems.n;
}

static void log_found(const struct certificate_list *l)
{
    for (uint32_t i = 0; i < l->problems.n; i++)
        LOG_W("a certificate cannot be used", "reason", l->problems.v[i]);
    for (uint32_t i = 0; i < l->n; i++) {
        char when[TIME_TEXT_SIZE];
        int64_t left = l->v[i].expires_at - time_now_ms();
        time_format(when, l->v[i].expires_at);
        if (left < 0)
            LOG_W("a certificate has expired; it is served all the same", "file", l->v[i].name, "expired", when);
        else if (left < SOON_MS)
            LOG_W("a certificate expires soon", "file", l->v[i].name, "expires", when);
    }
}

static void look_free(struct certificate_look *l)
{
    certificates_clear(&l->found);
    for (size_t i = 0; i < ARRAY_LEN(l->sources); i++)
        free(l->sources[i]);
    free(l->directory);
    free(l);
}

static void on_timer(uv_timer_t *timer);

static void look_done(uv_work_t *work, int status)
{
    struct certificate_look *l = work->data;
    struct ingress_node *in = l->in;
    if (in) {
        in->certificate_look = NULL;
        if (in->stopped) {
            ingress_stopped(in);
            look_free(l);
            return;
        }
        bool first = !in->certificates_known;
        if (l->err.code) {
            LOG_W("the proxy's certificates cannot be written", "error", l->err.text);
        } else {
            in->certificates_known = true;
            if (first || !same(&l->found, &in->certificates)) {
                log_found(&l->found);
                struct certificate_list old = in->certificates;
                in->certificates = l->found;
                l->found = old;
                certificates_tell(in);
                ingress_step(in);
            }
        }
        uv_timer_start(&in->certificate_timer, on_timer, LOOK_MS, 0);
    }
    look_free(l);
}

static void on_timer(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    if (in->stopped)
        return;
    struct certificate_look *l = in->certificate_look = NEW(struct certificate_look);
    l->in = in;
    l->directory = mem_strdup(in->directory);
    l->sources[0] = mem_strdup(in->o.config->certificates);
    l->sources[1] = mem_printf("%s/issued", in->directory);
    l->work.data = l;
    uv_queue_work(in->o.loop, &l->work, look_run, look_done);
}

void certificate_watch(struct ingress_node *in)
{
    uv_timer_start(&in->certificate_timer, on_timer, 0, 0);
}

void certificate_forget(struct ingress_node *in)
{
    if (in->certificate_look)
        in->certificate_look->in = NULL;
}

/* --- telling the servers --- */

/* The one for this host that holds longest; NULL: there is none. */
static const struct certificate *best_for(const struct ingress_node *in, const char *host)
{
    const struct certificate *best = NULL;
    for (uint32_t i = 0; i < in->certificates.n; i++) {
        const struct certificate *c = &in->certificates.v[i];
        if ((!best || c->expires_at > best->expires_at) && certificates_cover(&(struct certificate_list){.v = in->certificates.v + i, .n = 1}, host))
            best = c;
    }
    return best;
}

static bool is_told(const struct acme_certificate_list *l, const char *host)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].host, host))
            return true;
    return false;
}

void file_certificates_report(const struct ingress_node *in, struct acme_certificate_list *out)
{
    for (uint32_t i = 0; in->certificates_known && i < in->table.routes.n && out->n < TOLD_MAX; i++) {
        const struct ingress *way = &in->table.routes.v[i].ingress;
        if (!way->tls || way->acme || way->certificate || !way->host || ingress_host_problem(way->host))
            continue;
        const struct certificate *c = best_for(in, way->host);
        if ((c && c->expires_at >= time_now_ms()) || is_told(out, way->host))
            continue;
        char when[TIME_TEXT_SIZE];
        time_format(when, c ? c->expires_at : 0);
        struct acme_certificate *to = list_add_zero((struct list *)out, &acme_certificate_type);
        to->host = mem_strdup(way->host);
        to->problem = c ? mem_printf("%s has expired on %s; it is served all the same", strrchr(c->name, '/') + 1, when)
                        : mem_printf("no file in %s of this node is for it; it is served with one that browsers warn of",
                                     in->o.config->certificates);
    }
}

void certificates_tell(struct ingress_node *in)
{
    struct ingress_report report;
    CLEANUP_BUF struct buf bytes = {0};
    if (!in->certificates_known || !in->table.index)
        return;
    type_init(&ingress_report_type, &report);
    ingress_report(in, &report);
    for (uint32_t i = 0; i < report.acme.certificates.n; i++)
        type_encode(&acme_certificate_type, &report.acme.certificates.v[i], &bytes);
    type_clear(&ingress_report_type, &report);
    uint64_t hash = hash_bytes(bytes.data, bytes.len, 0) | 1;
    if (hash == in->certificates_told)
        return;
    in->certificates_told = hash;
    acme_changed(in);
}

/* --- telling the proxy --- */

static void on_have(void *arg, const struct error *err, const char *answer)
{
    struct ingress_node *in = arg;
    in->busy = false;
    if (in->closing || in->proxy != PROXY_RUNNING)
        return;
    struct worker *w = workers_current(&in->workers);
    if (!err && w) {
        kv_clear(&w->certificates);
        answer_certificates(answer, &w->certificates);
        w->certificates_read = true;
        ingress_step(in);
    } else {
        ingress_step_in(in, LOOK_MS);
    }
}

static void on_list(void *arg, const struct error *err, const char *answer)
{
    struct ingress_node *in = arg;
    in->busy = false;
    struct worker *w = workers_current(&in->workers);
    if (in->closing || in->proxy != PROXY_RUNNING || !w)
        return;
    if (err) {
        ingress_step_in(in, LOOK_MS);
        return;
    }
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *copy = mem_strdup(answer);
    char *rest = NULL;
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (line[0] != '#' && line[strcspn(line, " ")] == '\0')
            buf_printf(&text, "show ssl cert %s\n", line);
    in->busy = true;
    admin_ask(in->admin, w->pid, text.len ? text.data : "show ssl cert " RENDER_FALLBACK, on_have, in);
}

static void on_told(void *arg, const struct error *err, const char *answer)
{
    struct ingress_node *in = arg;
    struct worker *w = workers_current(&in->workers);
    in->busy = false;
    if (in->closing || in->proxy != PROXY_RUNNING || !w)
        return;
    LOG_D("the proxy says", "text", err ? err->text : answer);
    w->certificates_read = false;
    ingress_step(in);
}

/* The command for the first difference; false when there is none. */
static bool difference(const struct ingress_node *in, const struct worker *w, struct buf *out)
{
    for (uint32_t i = 0; i < in->certificates.n; i++) {
        const struct certificate *c = &in->certificates.v[i];
        const char *has = kv_get(&w->certificates, c->name);
        if (has && !strcmp(has, c->fingerprint))
            continue;
        if (!has)
            buf_printf(out, "new ssl cert %s;", c->name);
        buf_printf(out, "set ssl cert %s <<\n", c->name);
        for (const char *p = c->pem; *p; p++)        /* an empty line would end the payload */
            if (*p != '\r' && !(*p == '\n' && p > c->pem && p[-1] == '\n'))
                buf_add_char(out, *p);
        buf_printf(out, "\ncommit ssl cert %s", c->name);
        if (!has)
            buf_printf(out, ";add ssl crt-list " RENDER_CRT_LIST " %s", c->name);
        return true;
    }
    for (uint32_t k = 0; k < w->certificates.n; k++) {
        const char *name = w->certificates.v[k].key;
        bool wanted = !strcmp(name, RENDER_FALLBACK);
        for (uint32_t i = 0; i < in->certificates.n && !wanted; i++)
            wanted = !strcmp(in->certificates.v[i].name, name);
        if (wanted)
            continue;
        buf_printf(out, "del ssl crt-list " RENDER_CRT_LIST " %s;del ssl cert %s", name, name);
        return true;
    }
    return false;
}

bool step_certificates(struct ingress_node *in)
{
    struct worker *w = workers_current(&in->workers);
    if (!in->o.config->https_port || !in->certificates_known || in->proxy != PROXY_RUNNING || in->reloading || !w || !w->loaded)
        return false;
    if (!w->certificates_read) {
        in->busy = true;
        admin_ask(in->admin, w->pid, "show ssl crt-list " RENDER_CRT_LIST, on_list, in);
        return true;
    }
    CLEANUP_BUF struct buf text = {0};
    if (!difference(in, w, &text)) {
        in->certificate_rounds = 0;
        return false;
    }
    /* One that it does not take stays out until the next audit; the others are served. */
    if (in->certificate_rounds++ > in->certificates.n + w->certificates.n + 5)
        return false;
    in->busy = true;
    admin_ask_whole(in->admin, w->pid, text.data, on_told, in);
    return true;
}
