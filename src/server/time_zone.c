#include "server/time_zone.h"

#include <stdio.h>
#include <string.h>

#include "base/tz.h"

/* A name of a zone, or a rule itself. */
static int find_rule(const char *zone, char rule[static TZ_RULE_SIZE], struct error *err)
{
    if (tz_rule_find(zone && *zone ? zone : "UTC", rule, err) == 0)
        return 0;
    if (strlen(zone) >= TZ_RULE_SIZE || tz_rule_check(zone, NULL))
        return -1;
    snprintf(rule, TZ_RULE_SIZE, "%s", zone);
    return 0;
}

int time_zone_resolve(struct job *job, struct problem_list *problems, struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < job->services.n; i++) {
        struct service *s = &job->services.v[i];
        char rule[TZ_RULE_SIZE];
        struct error problem;
        if (!s->schedule) {
            mem_set_string(&s->time_zone_rule, NULL);
        } else if (find_rule(s->time_zone, rule, &problem) == 0) {
            mem_set_string(&s->time_zone_rule, rule);
        } else {
            CLEANUP_FREE char *path = mem_printf("services[%u].time_zone", i);
            problem_add(problems, path, "%s", problem.text);
            rc = error_set(err, ERROR_INVALID, "%s: %s", path, problem.text);
        }
    }
    return rc;
}
