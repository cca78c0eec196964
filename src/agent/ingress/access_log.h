/* One line of the proxy's access log, as far as it tells how long a replica took. Pure. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACCESS_NAME_SIZE 256

struct access_line {
    char backend[ACCESS_NAME_SIZE];
    char ip[INET6_ADDRSTRLEN];
    int port;
    int64_t response_ms;             /* from the request's end to the head of the answer */
};

/* False: it is no line of a request that a replica answered. The line has no end of line and need not end with a zero. */
bool access_line_parse(const char *line, size_t n, struct access_line *out);
