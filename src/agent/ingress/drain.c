/* When may a leaving replica stop? When no process of the proxy has a request or connection of it, two looks in a row: a
 * request may be on its way from the choice of a replica to the count of it. Looks begin quickly, since most requests are
 * short, and become rarer. */
#include <stdlib.h>
#include <string.h>

#include "agent/ingress/ingress_internal.h"
#include "base/log.h"

#define FIRST_PAUSE_MS 20
#define MOST_PAUSE_MS 250
#define LOOKS 2

static bool waits(const struct slot *s)
{
    return s->leaving && s->quiet < LOOKS;
}

bool drain_idle(const struct slot *s)
{
    return s->leaving && s->quiet >= LOOKS;
}

static bool waits_any(const struct backend *b)
{
    for (uint32_t k = 0; k < b->n_slots; k++)
        if (waits(&b->slots[k]))
            return true;
    return false;
}

/* Their names begin with their service's. */
static bool same_service(const char *backend, const char *other)
{
    size_t n = strcspn(backend, ".");
    return !strncmp(backend, other, n + 1);
}

/* The question for all backends that a process has of services with replicas that are waited for: an old process may have
 * them by another name, or have others. Empty when there are none. */
static void question(const struct ingress_node *in, const struct worker *w, struct buf *out)
{
    const char *asked = NULL;
    for (uint32_t i = 0; i < in->wanted.n; i++) {
        const struct backend *b = in->wanted.backends[i];
        if (!waits_any(b) || (asked && same_service(asked, b->name)))      /* they are in order of name */
            continue;
        asked = b->name;
        for (uint32_t k = 0; k < w->actual.n; k++)
            if (same_service(asked, w->actual.backends[k]->name))
                buf_printf(out, "show stat %s 4 -1\n", w->actual.backends[k]->name);
    }
}

struct asked {
    struct ingress_node *in;
    int pid;
    const struct worker *worker;     /* when it has answered */
};

static bool same_place(const struct slot *a, const struct slot *b)
{
    return a->port == b->port && !strcmp(a->ip, b->ip);
}

/* A slot that is out has the address that it had in this process, and no matter which one as it is wanted. */
static void on_stat(void *ctx, const struct answer_stat *s)
{
    struct asked *a = ctx;
    const struct backend *from = layout_find(&a->worker->actual, s->proxy);
    long number = s->server[0] == 's' ? strtol(s->server + 1, NULL, 10) : 0;
    if (!from || number < 1 || number > from->n_slots || s->sessions + s->queued <= 0)
        return;
    for (uint32_t i = 0; i < a->in->wanted.n; i++) {
        struct backend *b = a->in->wanted.backends[i];
        bool own = !strcmp(b->name, s->proxy);
        for (uint32_t k = 0; (own || same_service(s->proxy, b->name)) && k < b->n_slots; k++)
            if ((own && k == (uint32_t)number - 1) || same_place(&b->slots[k], &from->slots[number - 1]))
                b->slots[k].seen = true;
    }
}

static void round_end(struct ingress_node *in)
{
    bool news = false, more = false;
    bool valid = !in->drain_failed && in->drain_generation == in->generation && in->in_force;
    for (uint32_t i = 0; i < in->wanted.n; i++)
        for (uint32_t k = 0; k < in->wanted.backends[i]->n_slots; k++) {
            struct slot *s = &in->wanted.backends[i]->slots[k];
            if (!waits(s))
                continue;
            s->quiet = valid && !s->seen ? s->quiet + 1 : 0;
            s->seen = false;
            news |= s->quiet == LOOKS;
            more |= waits(s);
        }
    if (news)
        in->o.report(in->o.ctx);
    if (more && in->in_force) {
        in->drain_pause_ms += in->drain_pause_ms / 2;
        if (in->drain_pause_ms > MOST_PAUSE_MS)
            in->drain_pause_ms = MOST_PAUSE_MS;
        uv_timer_again(&in->drain_timer);
        uv_timer_set_repeat(&in->drain_timer, (uint64_t)in->drain_pause_ms);
    } else {
        uv_timer_stop(&in->drain_timer);
    }
}

static void on_answer(void *arg, const struct error *err, const char *answer)
{
    CLEANUP_FREE struct asked *a = arg;
    struct ingress_node *in = a->in;
    if (in->closing)
        return;
    struct error own;
    a->worker = workers_find(&in->workers, a->pid);
    in->drain_failed |= err || !a->worker || answer_stats(answer, on_stat, a, &own) < 0;
    if (--in->drain_asked == 0)
        round_end(in);
}

static void ask(struct ingress_node *in, const struct worker *w)
{
    CLEANUP_BUF struct buf text = {0};
    question(in, w, &text);
    in->drain_failed |= !w->loaded;
    if (!text.len)
        return;
    struct asked *a = NEW(struct asked);
    *a = (struct asked){in, w->pid};
    in->drain_asked++;
    admin_ask(in->admin, w->pid, text.data, on_answer, a);
}

static bool any_waits(const struct ingress_node *in)
{
    for (uint32_t i = 0; i < in->wanted.n; i++)
        if (waits_any(in->wanted.backends[i]))
            return true;
    return false;
}

static void on_timer(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    struct worker *w;
    if (in->drain_asked || in->reloading || !in->in_force)
        return;
    if (!any_waits(in)) {
        uv_timer_stop(timer);
        return;
    }
    in->drain_failed = false;
    in->drain_generation = in->generation;
    LIST_FOREACH(w, &in->workers, link)
        ask(in, w);
    if (!in->drain_asked)
        round_end(in);
}

void drain_watch(struct ingress_node *in)
{
    in->drain_pause_ms = FIRST_PAUSE_MS;
    uv_timer_start(&in->drain_timer, on_timer, 1, FIRST_PAUSE_MS);
}
