/* The agent API's metrics of running tasks. A metric's lines stand together, as its readers ask for, so the tasks are
 * looked at once and written down afterwards. */
#include <stdbool.h>

#include "agent/api_streams.h"
#include "agent/metric_labels.h"
#include "agent/vm_metrics.h"
#include "base/mem.h"
#include "model/namespace.h"

struct measured {
    char *labels;
    struct task_stats stats;
};
struct measured_list {
    struct measured *v;
    size_t n, cap;
};

static void look(void *ctx, const struct runner_view *view)
{
    struct measured_list *l = ctx;
    struct task_stats stats;
    if (!view->task || task_stats(view->task, &stats, NULL) < 0)
        return;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 32;
        l->v = mem_realloc_array(l->v, l->cap, sizeof *l->v);
    }
    const struct alloc *a = &view->record->alloc;
    CLEANUP_FREE char *owner = metric_labels(a->service);
    l->v[l->n++] = (struct measured){
        .labels = mem_printf("job=\"%s\",%s,replica=\"%lld\",alloc=\"%s\"", namespace_bare(a->job ? a->job : a->service), owner,
                             (long long)a->replica, a->id),
        .stats = stats,
    };
}

static void add_head(struct buf *out, const char *name, bool level, const char *help)
{
    buf_printf(out, "# HELP mentat_%s %s\n# TYPE mentat_%s %s\n", name, help, name, level ? "gauge" : "counter");
}

static void add_task_rows(const struct measured_list *l, struct buf *out)
{
    add_head(out, "task_cpu_seconds_total", false, "Processor time that a task has used.");
    for (size_t i = 0; i < l->n; i++)
        buf_printf(out, "mentat_task_cpu_seconds_total{%s} %.6f\n", l->v[i].labels, l->v[i].stats.cpu_seconds);
    add_head(out, "task_memory_bytes", true, "Memory that a task has on this node.");
    for (size_t i = 0; i < l->n; i++)
        buf_printf(out, "mentat_task_memory_bytes{%s} %lld\n", l->v[i].labels, (long long)l->v[i].stats.memory_bytes);
}

static void add_vm_row(const struct measured_list *l, int metric, struct buf *out)
{
    const struct vm_metric_row *row = &vm_metric_rows[metric];
    bool if_told = row->kind == VM_LEVEL_IF_TOLD;
    for (size_t i = 0; i < l->n; i++) {
        const struct vm_metrics *vm = l->v[i].stats.vm;
        if (vm && (vm->v[metric] || !if_told))
            buf_printf(out, "mentat_vm_%s{%s%s%s} %.15g\n", row->name, l->v[i].labels, row->labels ? "," : "",
                       row->labels ? row->labels : "", (double)(vm->v[metric] - if_told) * row->unit);
    }
}

void api_task_metrics(struct runner *runner, struct buf *out)
{
    struct measured_list l = {0};
    bool any_vm = false;
    runner_each(runner, look, &l);
    for (size_t i = 0; i < l.n; i++)
        any_vm |= l.v[i].stats.vm != NULL;
    if (l.n)
        add_task_rows(&l, out);
    for (int k = 0; any_vm && k < VM_METRIC_COUNT; k++) {
        const struct vm_metric_row *row = &vm_metric_rows[k];
        CLEANUP_FREE char *name = mem_printf("vm_%s", row->name);
        if (row->help)
            add_head(out, name, row->kind != VM_SUM, row->help);
        add_vm_row(&l, k, out);
    }
    for (size_t i = 0; i < l.n; i++)
        free(l.v[i].labels);
    free(l.v);
}
