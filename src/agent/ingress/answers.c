#include "agent/ingress/answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SLOT_NUMBER_MAX 4096
#define COLUMNS_MAX 256
/* Bits of srv_admin_state; 0x04 (it began in maintenance) is only a memory. */
#define ADMIN_OUT 0x63
#define ADMIN_DRAIN 0x18

/* Cuts the next line off *rest, which is changed; false at the end. */
static bool next_line(char **rest, char **line)
{
    if (!**rest)
        return false;
    *line = *rest;
    size_t n = strcspn(*rest, "\n");
    *rest += n + ((*rest)[n] == '\n');
    (*line)[n] = '\0';
    if (n && (*line)[n - 1] == '\r')
        (*line)[n - 1] = '\0';
    return true;
}

/* Cuts a line into its columns; more than max are left. Empty columns count when `by` is no blank. */
static size_t cut(char *line, char by, char **columns, size_t max)
{
    size_t n = 0;
    for (char *p = line; n < max;) {
        if (by == ' ')
            p += strspn(p, " \t");
        if (by == ' ' && !*p)
            break;
        columns[n++] = p;
        p += by == ' ' ? strcspn(p, " \t") : strcspn(p, (char[]){by, '\0'});
        if (!*p)
            break;
        *p++ = '\0';
    }
    return n;
}

static int column_of(char **names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return (int)i;
    return -1;
}

/* --- processes --- */

int answer_processes(const char *text, struct answer_processes *out, struct error *err)
{
    *out = (struct answer_processes){0};
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line, *columns[8];
    enum { PART_NONE, PART_CURRENT, PART_OLD, PART_OTHER } part = PART_NONE;
    while (next_line(&rest, &line)) {
        const char *failed = strstr(line, "[failed:");
        if (failed)
            out->failed = strtol(failed + 8, NULL, 10);
        if (line[0] == '#') {
            part = strstr(line, "old workers") ? PART_OLD : strstr(line, "workers") ? PART_CURRENT
                 : strstr(line, "programs") ? PART_OTHER : part;
            continue;
        }
        if (cut(line, ' ', columns, ARRAY_LEN(columns)) < 2)
            continue;
        int pid = (int)strtol(columns[0], NULL, 10);
        if (pid <= 0)
            continue;
        if (!strcmp(columns[1], "master"))
            out->master = pid;
        else if (!strcmp(columns[1], "worker") && part == PART_CURRENT)
            out->current = pid;
        else if (!strcmp(columns[1], "worker") && part == PART_OLD && out->n_old < ANSWER_WORKERS_MAX)
            out->old[out->n_old++] = pid;
    }
    return out->master ? 0 : error_set(err, ERROR_CORRUPT, "the proxy did not tell its processes");
}

/* --- servers --- */

struct server_columns { int backend, server, address, port, admin, weight, most; };

static bool server_columns_find(char *line, struct server_columns *c)
{
    char *names[COLUMNS_MAX];
    size_t n = cut(line + 1, ' ', names, ARRAY_LEN(names));      /* without the "#" */
    c->backend = column_of(names, n, "be_name");
    c->server = column_of(names, n, "srv_name");
    c->address = column_of(names, n, "srv_addr");
    c->port = column_of(names, n, "srv_port");
    c->admin = column_of(names, n, "srv_admin_state");
    c->weight = column_of(names, n, "srv_uweight");
    const int all[] = {c->backend, c->server, c->address, c->port, c->admin, c->weight};
    c->most = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i] < 0)
            return false;
        if (all[i] > c->most)
            c->most = all[i];
    }
    return true;
}

/* Number of "s12"; 0: it is another server. */
static long slot_number(const char *name)
{
    char *end;
    if (name[0] != 's' || name[1] < '1' || name[1] > '9')
        return 0;
    long n = strtol(name + 1, &end, 10);
    return *end || n > SLOT_NUMBER_MAX ? 0 : n;
}

static void server_take(char **columns, const struct server_columns *c, struct layout *into)
{
    long number = slot_number(columns[c->server]);
    if (!number || !*columns[c->backend])
        return;
    struct backend *b = layout_add(into, columns[c->backend]);
    backend_grow(b, (uint32_t)number);
    struct slot *s = &b->slots[number - 1];
    long admin = strtol(columns[c->admin], NULL, 10);
    *s = (struct slot){
        .mode = admin & ADMIN_OUT ? SLOT_OUT : admin & ADMIN_DRAIN ? SLOT_DRAIN : SLOT_READY,
        .port = (int)strtol(columns[c->port], NULL, 10),
        .weight = (int)strtol(columns[c->weight], NULL, 10),
    };
    snprintf(s->ip, sizeof s->ip, "%.*s", (int)sizeof s->ip - 1, columns[c->address]);
}

int answer_servers(const char *text, struct layout *into, struct error *err)
{
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line, *columns[COLUMNS_MAX];
    struct server_columns at = {0};
    bool have = false, any = false;
    while (next_line(&rest, &line)) {
        if (line[0] == '#') {
            have = server_columns_find(line, &at);
            if (!have)
                return error_set(err, ERROR_CORRUPT, "the proxy tells its servers in a way that is not understood");
            any = true;
        } else if (have && cut(line, ' ', columns, ARRAY_LEN(columns)) > (size_t)at.most) {
            server_take(columns, &at, into);
        }
    }
    return any ? 0 : error_set(err, ERROR_CORRUPT, "the proxy did not tell its servers: %.100s", text);
}

/* --- maps, info --- */

void answer_map(const char *text, struct kv_list *into)
{
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line, *columns[4];
    while (next_line(&rest, &line))
        if (!strncmp(line, "0x", 2) && cut(line, ' ', columns, ARRAY_LEN(columns)) == 3)
            kv_set(into, columns[1], columns[2]);
}

void answer_structure(const char *text, char out[static STRUCTURE_SIZE])
{
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line;
    *out = '\0';
    while (next_line(&rest, &line))
        if (!strncmp(line, "description: ", 13))
            snprintf(out, STRUCTURE_SIZE, "%.16s", line + 13);
}

void answer_certificates(const char *text, struct kv_list *into)
{
    static const char file[] = "Filename: ", mark[] = "SHA1 FingerPrint: ";
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line, *name = NULL;
    while (next_line(&rest, &line)) {
        if (!strncmp(line, file, sizeof file - 1))
            kv_set(into, name = line + sizeof file - 1, "");
        else if (name && !strncmp(line, mark, sizeof mark - 1))
            kv_set(into, name, line + sizeof mark - 1);
    }
}

/* --- stats --- */

/* The columns by their names; the order is that of struct answer_stat from `sessions` on. */
static const char *const stat_names[] = {
    "scur", "qcur", "req_tot", "hrsp_other", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "bin", "bout", "stot",
    "econ", "eresp", "wretr", "wredis", "rtime", "ttime",
};

static void stat_take(char **columns, size_t n, const int *at, struct answer_stat *s)
{
    long long *const to[] = {
        &s->sessions, &s->queued, &s->requests, &s->status[0], &s->status[1], &s->status[2], &s->status[3], &s->status[4],
        &s->status[5], &s->bytes_in, &s->bytes_out, &s->connections, &s->connect_errors, &s->response_errors, &s->retries,
        &s->redispatches, &s->response_ms, &s->total_ms,
    };
    _Static_assert(ARRAY_LEN(to) == ARRAY_LEN(stat_names), "one name for each member");
    for (size_t i = 0; i < ARRAY_LEN(to); i++)
        if (at[i] >= 0 && (size_t)at[i] < n)
            *to[i] = strtoll(columns[at[i]], NULL, 10);
    s->proxy = columns[0];
    s->server = columns[1];
}

int answer_stats(const char *text, void (*each)(void *ctx, const struct answer_stat *s), void *ctx, struct error *err)
{
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy, *line, *columns[COLUMNS_MAX];
    int at[ARRAY_LEN(stat_names)];
    bool have = false;
    while (next_line(&rest, &line)) {
        size_t n;
        if (!strncmp(line, "# ", 2)) {
            n = cut(line + 2, ',', columns, ARRAY_LEN(columns));
            have = n > 2 && !strcmp(columns[0], "pxname") && !strcmp(columns[1], "svname");
            for (size_t i = 0; i < ARRAY_LEN(at); i++)
                at[i] = column_of(columns, n, stat_names[i]);
            if (!have || at[0] < 0 || at[1] < 0)
                return error_set(err, ERROR_CORRUPT, "the proxy tells its counters in a way that is not understood");
        } else if (have && (n = cut(line, ',', columns, ARRAY_LEN(columns))) > 2) {
            struct answer_stat s = {0};
            stat_take(columns, n, at, &s);
            each(ctx, &s);
        }
    }
    return have ? 0 : error_set(err, ERROR_CORRUPT, "the proxy did not tell its counters: %.100s", text);
}
