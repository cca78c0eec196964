#include "agent/ingress/counters.h"

#include <string.h>

#include "base/mem.h"

struct counter *counter_of(struct counter_list *l, const char *name)
{
    uint32_t from = 0, to = l->n;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        int order = strcmp(l->v[middle].name, name);
        if (order == 0)
            return &l->v[middle];
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    l->v = mem_realloc_array(l->v, l->n + 1, sizeof *l->v);
    memmove(l->v + from + 1, l->v + from, (l->n - from) * sizeof *l->v);
    l->n++;
    l->v[from] = (struct counter){.name = mem_strdup(name)};
    return &l->v[from];
}

void counter_time(struct counter *c, int64_t response_ms)
{
    if (!c->times)
        c->times = NEW(struct times);
    c->times->counts[latency_step(response_ms)]++;
    c->times->all++;
    c->times->sum_ms += response_ms;
}

void counters_clear(struct counter_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].times);
    }
    free(l->v);
    *l = (struct counter_list){0};
}

void counter_follow(struct answer_stat *total, struct answer_stat *seen, const struct answer_stat *now)
{
#define SUM(member) (total->member += now->member >= seen->member ? now->member - seen->member : now->member)
    SUM(requests);
    for (size_t i = 0; i < ARRAY_LEN(total->status); i++)
        SUM(status[i]);
    SUM(bytes_in);
    SUM(bytes_out);
    SUM(connections);
    SUM(connect_errors);
    SUM(response_errors);
    SUM(retries);
    SUM(redispatches);
#undef SUM
    total->sessions = now->sessions;
    total->queued = now->queued;
    total->response_ms = now->response_ms;
    total->total_ms = now->total_ms;
    *seen = *now;
}
