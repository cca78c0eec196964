#include "server/time_zone.h"

#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define ZONE_FOLDER "/usr/share/zoneinfo"
#define ZONE_FILE_MAX (256 * 1024)

/* Names of zones: "Europe/Berlin", "Etc/GMT+1". Nothing that leaves the folder. */
static bool is_zone_name(const char *s)
{
    if (*s == '/' || strstr(s, "..") || strlen(s) > 64)
        return false;
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_+-") == strlen(s);
}

/* A POSIX rule has an offset behind the first name: "CET-1CEST,M3.5.0,M10.5.0/3", "<+03>-3". */
static bool looks_like_rule(const char *s)
{
    size_t name = *s == '<' ? strcspn(s, ">") + 1 : strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    return name >= 3 && s[name] && strchr("+-0123456789", s[name]) && !strchr(s, '/');
}

/* The last line of a zone file (RFC 8536, version 2 and later) is the rule for all times behind its table. */
static char *rule_of_file(const char *name)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *path = mem_printf(ZONE_FOLDER "/%s", name);
    if (file_read(path, ZONE_FILE_MAX, &text, NULL) || text.len < 46 || memcmp(text.data, "TZif", 4) || !text.data[4] ||
        text.data[text.len - 1] != '\n')
        return NULL;
    text.data[text.len - 1] = '\0';
    const char *line = memrchr(text.data, '\n', text.len - 1);
    return line && line[1] ? mem_strdup(line + 1) : NULL;
}

static char *find_rule(const char *zone)
{
    if (!zone || !*zone || !strcmp(zone, "UTC"))
        return mem_strdup("UTC0");
    char *rule = is_zone_name(zone) ? rule_of_file(zone) : NULL;
    /* A rule with times of day has slashes too: only a name that is no file and has a comma can be one. */
    if (!rule && (looks_like_rule(zone) || strchr(zone, ',')))
        rule = mem_strdup(zone);
    return rule;
}

int time_zone_resolve(struct job *job, struct problem_list *problems, struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < job->services.n; i++) {
        struct service *s = &job->services.v[i];
        if (!s->schedule) {
            mem_set_string(&s->time_zone_rule, NULL);
            continue;
        }
        char *rule = find_rule(s->time_zone);
        free(s->time_zone_rule);
        s->time_zone_rule = rule;
        if (rule)
            continue;
        CLEANUP_FREE char *path = mem_printf("services[%u].time_zone", i);
        problem_add(problems, path, "no time zone \"%.64s\" on this server; write a name such as Europe/Berlin (the "
                    "package tzdata has them), UTC, or a POSIX rule such as CET-1CEST,M3.5.0,M10.5.0/3", s->time_zone);
        rc = error_set(err, ERROR_INVALID, "%s: no time zone \"%.64s\" on this server", path, s->time_zone);
    }
    return rc;
}
