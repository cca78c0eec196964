#include "agent/ingress/access_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The end of a line, from its last " service=" on: what clients send stands before that. See render.c. */
#define TAIL_SIZE 1024

static const char *last_of(const char *text, const char *word)
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, word)); at++)
        found = at;
    return found;
}

/* Copies the field's value up to the next space. */
static bool take(const char *text, const char *key, char *out, size_t size)
{
    const char *at = strstr(text, key);
    if (!at)
        return false;
    at += strlen(key);
    size_t n = strcspn(at, " ");
    if (!n || n >= size)
        return false;
    memcpy(out, at, n);
    out[n] = '\0';
    return true;
}

static bool take_number(const char *text, const char *key, int64_t *out)
{
    char number[20], *end;
    if (!take(text, key, number, sizeof number))
        return false;
    *out = strtoll(number, &end, 10);
    return !*end;
}

bool access_line_parse(const char *line, size_t n, struct access_line *out)
{
    char tail[TAIL_SIZE], replica[INET6_ADDRSTRLEN + 8];
    size_t kept = n < sizeof tail ? n : sizeof tail - 1;
    memcpy(tail, line + (n - kept), kept);
    tail[kept] = '\0';
    const char *from = strlen(tail) == kept ? last_of(tail, " service=") : NULL;
    if (!from || !take(from, " service=", out->backend, sizeof out->backend) || !take(from, " replica=", replica, sizeof replica)
        || !take_number(from, " response_ms=", &out->response_ms) || out->response_ms < 0)
        return false;
    char *colon = strrchr(replica, ':');
    if (!colon || colon == replica || (size_t)(colon - replica) >= sizeof out->ip)
        return false;
    snprintf(out->ip, sizeof out->ip, "%.*s", (int)(colon - replica), replica);
    out->port = atoi(colon + 1);
    return out->port > 0;
}
