#include "agent/restart_policy.h"

#include "base/timefmt.h"

#define RESTART_MAX_DELAY_MS 30000

static int64_t delay_of(const struct restart *policy, int64_t backoff)
{
    int64_t delay = policy->delay_ms;
    while (backoff-- > 0 && delay < RESTART_MAX_DELAY_MS)
        delay = delay ? delay * 2 : 0;
    return delay < RESTART_MAX_DELAY_MS ? delay : RESTART_MAX_DELAY_MS;
}

static void drop_old_marks(struct alloc_record *r, int64_t before)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->restarts.n; i++)
        if (r->restarts.v[i].at > before)
            r->restarts.v[kept++] = r->restarts.v[i];
    r->restarts.n = kept;
}

struct restart_decision restart_decide(struct alloc_record *r, const struct service *spec, bool clean,
                                       int64_t started_ms, int64_t now_ms)
{
    const struct restart *policy = &spec->restart;
    if (clean && spec->mode == MODE_TASK)
        return (struct restart_decision){.verdict = RESTART_COMPLETE};
    drop_old_marks(r, now_ms - policy->window_ms);
    if (now_ms - started_ms >= policy->window_ms)
        r->backoff = 0;
    if ((int64_t)r->restarts.n >= policy->attempts)
        return (struct restart_decision){.verdict = RESTART_FAILED};
    r->restarts.v = mem_realloc_array(r->restarts.v, r->restarts.n + 1, sizeof(*r->restarts.v));
    r->restarts.v[r->restarts.n++].at = now_ms;
    r->report.restarts++;
    return (struct restart_decision){
        .verdict = RESTART_AGAIN,
        .delay_ms = delay_of(policy, r->backoff++),
        .number = r->restarts.n,
    };
}

void restart_describe(const struct restart_decision *d, const struct service *spec, struct buf *out)
{
    char text[TIME_TEXT_SIZE];
    if (d->verdict == RESTART_AGAIN) {
        duration_format(text, d->delay_ms);
        buf_printf(out, "; restart %lld of %lld in %s", (long long)d->number, (long long)spec->restart.attempts, text);
    } else if (d->verdict == RESTART_FAILED && spec->restart.attempts) {
        duration_format(text, spec->restart.window_ms);
        buf_printf(out, "; %lld restart%s within %s %s used up", (long long)spec->restart.attempts,
                   spec->restart.attempts == 1 ? "" : "s", text, spec->restart.attempts == 1 ? "is" : "are");
    }
}
