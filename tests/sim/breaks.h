/* Breaks: the core and what is around it, broken on purpose, to show that the checks notice. */
#pragma once
#include <stdbool.h>

enum broken {
    BREAK_NOTHING,
    BREAK_CAPACITY,      /* nodes say that they are larger than they are */
    BREAK_RECHECK,       /* decisions are applied without a look at the room that is left */
    BREAK_DEMAND,        /* replicas are placed as if they needed nothing */
    BREAK_PORTS,         /* each replica gets the same port */
    BREAK_STOPS,         /* stops are lost */
    BREAK_DRAINS,        /* drains are lost */
    BREAK_WAKES,         /* new room wakes nobody */
    BREAK_STATE,         /* the state depends on something that is not in the log */
    BREAK_ANSWERS,       /* what comes of a command depends on such a thing */
    BREAK_LOG,           /* a follower misses a command now and then */
    BREAK_REPORTS,       /* agents number their reports as they are sent, not as things happened */
    BREAK_LEAVING,       /* replicas stop without leaving the traffic first */
    BREAK_IDLE,          /* replicas that leave stop at once, whatever the proxies say */
    BREAK_SWITCH,        /* the ingress table gives all versions their part at once */
    BREAK_BATCHES,       /* rollouts take as many at once as there are */
    BREAK_MEASURES,      /* ingress nodes see no errors */
};
extern enum broken broken;

/* False when there is no such break. */
bool break_on_purpose(const char *name);
/* True when the failure is the one by which the break should be noticed. */
bool break_is_noticed(const char *failure);
