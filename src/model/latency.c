#include "model/latency.h"

#include "base/mem.h"

#define EXACT_MS 16                  /* a step for each millisecond up to here */
#define STEPS_PER_DOUBLING 8
#define COUNT_MAX (INT64_C(1) << 40)

unsigned latency_step(int64_t ms)
{
    if (ms <= EXACT_MS)
        return ms > 0 ? (unsigned)ms : 0;
    if (ms >= LATENCY_MS_MAX)
        return LATENCY_STEPS - 1;
    unsigned doublings = 0;
    int64_t below = EXACT_MS;
    while (ms > below * 2) {
        below *= 2;
        doublings++;
    }
    int64_t width = below / STEPS_PER_DOUBLING;
    return EXACT_MS + doublings * STEPS_PER_DOUBLING + (unsigned)((ms - below + width - 1) / width);
}

int64_t latency_step_ms(unsigned step)
{
    if (step <= EXACT_MS)
        return step;
    unsigned beyond = step - EXACT_MS - 1, doublings = beyond / STEPS_PER_DOUBLING;
    int64_t below = (int64_t)EXACT_MS << doublings;
    return below + below / STEPS_PER_DOUBLING * (beyond % STEPS_PER_DOUBLING + 1);
}

bool latency_list_valid(const struct latency_list *l)
{
    int64_t before = -1;
    for (uint32_t i = 0; i < l->n; i++) {
        const struct latency *e = &l->v[i];
        if (e->ms <= before || latency_step_ms(latency_step(e->ms)) != e->ms || e->requests < 0 || e->requests > COUNT_MAX)
            return false;
        before = e->ms;
    }
    return true;
}

void latency_list_add(struct latency_list *to, const struct latency_list *more)
{
    struct latency_list sum = {.v = mem_array(to->n + more->n + 1, sizeof(struct latency))};
    for (uint32_t i = 0, k = 0; i < to->n || k < more->n;) {
        bool own = k == more->n || (i < to->n && to->v[i].ms <= more->v[k].ms);
        bool theirs = i == to->n || (k < more->n && more->v[k].ms <= to->v[i].ms);
        sum.v[sum.n] = own ? to->v[i] : more->v[k];
        if (own && theirs)
            sum.v[sum.n].requests += more->v[k].requests;
        sum.n++;
        i += own;
        k += theirs;
    }
    free(to->v);
    *to = sum;
}

int64_t latency_list_count(const struct latency_list *l)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        n += l->v[i].requests;
    return n;
}

int64_t latency_list_beyond(const struct latency_list *l, int64_t ms)
{
    int64_t n = 0;
    for (uint32_t i = l->n; i-- > 0 && l->v[i].ms > ms;)
        n += l->v[i].requests;
    return n;
}

int64_t latency_list_percentile(const struct latency_list *l, int64_t percent)
{
    int64_t all = latency_list_count(l), seen = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        seen += l->v[i].requests;
        if (seen * 100 >= all * percent)
            return l->v[i].ms;
    }
    return 0;
}
