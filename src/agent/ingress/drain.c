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

/* The question for all backends with replicas that are waited for; empty when there are none. */
static void question(const struct ingress_node *in, struct buf *out)
{
    for (uint32_t i = 0; i < in->wanted.n; i++) {
        const struct backend *b = in->wanted.backends[i];
        bool any = false;
        for (uint32_t k = 0; k < b->n_slots && !any; k++)
            any = waits(&b->slots[k]);
        if (any)
            buf_printf(out, "show stat %s 4 -1\n", b->name);
    }
}

static void on_stat(void *ctx, const struct answer_stat *s)
{
    struct ingress_node *in = ctx;
    struct backend *b = layout_find(&in->wanted, s->proxy);
    long number = s->server[0] == 's' ? strtol(s->server + 1, NULL, 10) : 0;
    if (b && number > 0 && number <= b->n_slots && s->sessions + s->queued > 0)
        b->slots[number - 1].seen = true;
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
    struct ingress_node *in = arg;
    if (in->closing)
        return;
    struct error own;
    in->drain_failed |= err || answer_stats(answer, on_stat, in, &own) < 0;
    if (--in->drain_asked == 0)
        round_end(in);
}

static void on_timer(uv_timer_t *timer)
{
    struct ingress_node *in = timer->data;
    CLEANUP_BUF struct buf text = {0};
    if (in->drain_asked || in->reloading || !in->in_force)
        return;
    question(in, &text);
    if (!text.len) {
        uv_timer_stop(timer);
        return;
    }
    in->drain_failed = false;
    in->drain_generation = in->generation;
    struct worker *w;
    LIST_FOREACH(w, &in->workers, link)
        in->drain_asked++;
    LIST_FOREACH(w, &in->workers, link)
        admin_ask(in->admin, w->pid, text.data, on_answer, in);
}

void drain_watch(struct ingress_node *in)
{
    in->drain_pause_ms = FIRST_PAUSE_MS;
    uv_timer_start(&in->drain_timer, on_timer, 1, FIRST_PAUSE_MS);
}
