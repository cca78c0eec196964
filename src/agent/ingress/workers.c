#include "agent/ingress/workers.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static void worker_free(struct worker *w)
{
    LIST_REMOVE(w, link);
    layout_clear(&w->actual);
    kv_clear(&w->certificates);
    counters_clear(&w->counted);
    free(w);
}

struct worker *workers_find(const struct worker_list *l, int pid)
{
    struct worker *w;
    LIST_FOREACH(w, l, link)
        if (w->pid == pid)
            return w;
    return NULL;
}

struct worker *workers_current(const struct worker_list *l)
{
    struct worker *w;
    LIST_FOREACH(w, l, link)
        if (w->current)
            return w;
    return NULL;
}

size_t workers_count(const struct worker_list *l)
{
    size_t n = 0;
    struct worker *w;
    LIST_FOREACH(w, l, link)
        n++;
    return n;
}

void workers_clear(struct worker_list *l)
{
    while (!LIST_EMPTY(l))
        worker_free(LIST_FIRST(l));
}

static bool told(const struct answer_processes *p, int pid)
{
    for (size_t i = 0; i < p->n_old; i++)
        if (p->old[i] == pid)
            return true;
    return p->current == pid;
}

static void follow_one(struct worker_list *l, int pid, bool current)
{
    struct worker *w = workers_find(l, pid);
    if (!w) {
        w = NEW(struct worker);
        w->pid = pid;
        LIST_INSERT_HEAD(l, w, link);
    }
    w->current = current;
}

void workers_follow(struct worker_list *l, const struct answer_processes *p)
{
    struct worker *w, *next;
    for (w = LIST_FIRST(l); w; w = next) {
        next = LIST_NEXT(w, link);
        if (!told(p, w->pid))
            worker_free(w);
    }
    for (size_t i = 0; i < p->n_old; i++)
        follow_one(l, p->old[i], false);
    if (p->current)
        follow_one(l, p->current, true);
}

/* --- reading and changing: one question after the other --- */

enum question { ASK_HAND_OVER, ASK_CHANGE, ASK_INFO, ASK_SERVERS, ASK_MAP_HTTP, ASK_MAP_HTTPS, ASK_MAP_ACME, ASK_MAP_STICKY,
                ASK_COUNT };

struct worker_job {
    struct admin *admin;
    struct worker_list *list;
    int pid;
    unsigned questions;              /* bits of enum question that are still to be asked */
    enum question asked;
    bool all;                        /* the whole of it is read */
    char *commands, *servers;
    worker_done *done;
    void *arg;
};

static void job_next(struct worker_job *j);

static void job_end(struct worker_job *j, const struct error *err)
{
    int pid = j->pid;
    worker_done *done = j->done;
    void *arg = j->arg;
    free(j->commands);
    free(j->servers);
    free(j);
    done(arg, pid, err);
}

/* Free text: "No such server." and its like. What counts is what is read back; this is for who looks for the reason. */
static void log_objections(int pid, const char *answer)
{
    char *rest = NULL;
    CLEANUP_FREE char *copy = mem_strdup(answer);
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (*line && !strstr(line, "changed from") && !strstr(line, "no need to change"))
            LOG_D("the proxy says", "pid", LOG_I64(pid), "text", line);
}

static int take(struct worker_job *j, struct worker *w, const char *answer, struct error *err)
{
    struct kv_list map = {0};
    switch (j->asked) {
    case ASK_HAND_OVER:
        answer_map(answer, &map);
        w->handed_over = map.n == 1;
        kv_clear(&map);
        return w->handed_over ? 0 : error_set(err, ERROR_CORRUPT, "the proxy did not hand over: %.100s", answer);
    case ASK_CHANGE:
        log_objections(j->pid, answer);
        return 0;
    case ASK_INFO:
        answer_structure(answer, w->structure);
        return 0;
    case ASK_SERVERS:
        if (j->all) {
            for (uint32_t i = 0; i < w->actual.n; i++)
                w->actual.backends[i]->n_slots = 0;
        }
        return answer_servers(answer, &w->actual, err);
    case ASK_MAP_HTTP:
    case ASK_MAP_HTTPS:
    case ASK_MAP_ACME:
    case ASK_MAP_STICKY:
        kv_clear(&w->actual.maps[j->asked - ASK_MAP_HTTP]);
        answer_map(answer, &w->actual.maps[j->asked - ASK_MAP_HTTP]);
        return 0;
    case ASK_COUNT:
        break;
    }
    return 0;
}

static void on_answer(void *arg, const struct error *err, const char *answer)
{
    struct worker_job *j = arg;
    struct worker *w = workers_find(j->list, j->pid);
    struct error own;
    if (err || !w) {
        error_set(&own, ERROR_NOT_FOUND, "process %d of the proxy is gone", j->pid);
        job_end(j, err ? err : &own);
        return;
    }
    if (take(j, w, answer, &own) < 0)
        job_end(j, &own);
    else
        job_next(j);
}

static void job_next(struct worker_job *j)
{
    if (!j->questions) {
        struct worker *w = workers_find(j->list, j->pid);
        if (j->all && w)
            w->loaded = true;
        job_end(j, NULL);
        return;
    }
    j->asked = (enum question)__builtin_ctz(j->questions);
    j->questions &= j->questions - 1;
    CLEANUP_FREE char *map = j->asked >= ASK_MAP_HTTP ? mem_printf("show map %s", map_files[j->asked - ASK_MAP_HTTP]) : NULL;
    const char *text = j->asked == ASK_HAND_OVER ? "add map " RENDER_HANDOVER_MAP " " RENDER_HANDOVER_KEY " 1\nshow map " RENDER_HANDOVER_MAP
                     : j->asked == ASK_CHANGE ? j->commands : j->asked == ASK_INFO ? "show info"
                     : j->asked == ASK_SERVERS ? j->servers : map;
    admin_ask(j->admin, j->pid, text, on_answer, j);
}

static struct worker_job *job_new(struct admin *a, struct worker_list *l, int pid, unsigned maps, worker_done *done, void *arg)
{
    struct worker_job *j = NEW(struct worker_job);
    *j = (struct worker_job){.admin = a, .list = l, .pid = pid, .questions = maps * (1u << ASK_MAP_HTTP), .done = done, .arg = arg};
    return j;
}

void worker_load(struct admin *a, struct worker_list *l, int pid, unsigned maps, worker_done *done, void *arg)
{
    struct worker_job *j = job_new(a, l, pid, maps, done, arg);
    j->all = true;
    j->questions |= 1u << ASK_INFO | 1u << ASK_SERVERS;
    j->servers = mem_strdup("show servers state");
    job_next(j);
}

void worker_hand_over(struct admin *a, struct worker_list *l, int pid, worker_done *done, void *arg)
{
    struct worker_job *j = job_new(a, l, pid, 0, done, arg);
    j->questions = 1u << ASK_HAND_OVER;
    job_next(j);
}

void worker_change(struct admin *a, struct worker_list *l, int pid, const char *commands, const struct str_list *touched,
                   unsigned maps, worker_done *done, void *arg)
{
    struct worker_job *j = job_new(a, l, pid, maps, done, arg);
    CLEANUP_BUF struct buf servers = {0};
    for (uint32_t i = 0; i < touched->n; i++)
        buf_printf(&servers, "show servers state %s\n", touched->v[i]);
    j->questions |= 1u << ASK_CHANGE | (touched->n ? 1u << ASK_SERVERS : 0);
    j->commands = mem_strdup(commands);
    j->servers = buf_steal(&servers);
    job_next(j);
}
