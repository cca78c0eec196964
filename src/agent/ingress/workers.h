/* Workers: the processes of a running proxy as the agent knows them. The current one takes new connections; what it serves is
 * read from itself. Those before it finish their connections after a reload. They cannot be told of servers any more, but
 * their clients may send another request on a connection that was idle: so they are told, by a map, to hand every new
 * request over to the current one. */
#pragma once
#include <sys/queue.h>

#include "agent/ingress/admin.h"
#include "agent/ingress/answers.h"
#include "agent/ingress/counters.h"

struct worker {
    LIST_ENTRY(worker) link;
    int pid;
    bool current, loaded;
    bool handed_over;                /* an old one: it sends nothing new to any replica */
    char structure[STRUCTURE_SIZE];
    struct layout actual;
    struct counter_list counted;     /* as it told last */
    bool certificates_read;
    struct kv_list certificates;     /* name to fingerprint; of the current one */
};
LIST_HEAD(worker_list, worker);

/* Takes over what the master told. */
void workers_follow(struct worker_list *l, const struct answer_processes *processes);
void workers_clear(struct worker_list *l);
/* NULL: there is none. */
struct worker *workers_current(const struct worker_list *l);
size_t workers_count(const struct worker_list *l);
struct worker *workers_find(const struct worker_list *l, int pid);

/* What is asked of a process; worker_done comes later and says whether it could be told. The worker is found again by its
 * pid, since it may be gone meanwhile. */
struct worker_job;
typedef void worker_done(void *arg, int pid, const struct error *err);
/* Reads all of it: structure, servers, maps (those whose bit of `maps` is set). */
void worker_load(struct admin *a, struct worker_list *l, int pid, unsigned maps, worker_done *done, void *arg);
/* Of an old one. */
void worker_hand_over(struct admin *a, struct worker_list *l, int pid, worker_done *done, void *arg);
/* Sends the commands, then reads the touched backends back, and the maps when they were changed. */
void worker_change(struct admin *a, struct worker_list *l, int pid, const char *commands, const struct str_list *touched,
                   unsigned maps, worker_done *done, void *arg);
