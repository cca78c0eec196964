/* Happy path of a query: read → is it of our zone? answered at once from the table. Else it goes to the first resolver with an
 * id of its own, from a port of its own, by the same transport; what comes back with that id and question goes to the one
 * who asked. A resolver that is silent: the next one is asked; none is left: the answer says that it failed.
 *
 * Everything is bounded: connections, queries under way, sizes, times. What is too much is dropped, and asked again. */
#include "agent/dns.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/dns_names.h"
#include "agent/resolvers.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/net4.h"
#include "base/random.h"
#include "base/timefmt.h"

#define QUERY_MOST 1024
#define FORWARDS_MOST 256
#define CONNECTIONS_MOST 64
#define BACKLOG 64
#define RESOLVER_MS 2000             /* patience with one */
#define IDLE_MS 10000                /* of a connection */
#define RESOLVERS_AGE_MS 5000
#define LENGTH_SIZE 2                /* before each message of a stream */

struct forward;

struct connection {
    LIST_ENTRY(connection) link;
    struct dns *d;
    uv_tcp_t tcp;
    uv_timer_t idle;
    uint8_t in[LENGTH_SIZE + QUERY_MOST];
    size_t n;
    struct forward *forward;         /* its query is under way: nothing more is read */
    int handles;
    bool closing;
};

struct forward {
    LIST_ENTRY(forward) link;
    struct dns *d;
    struct connection *connection;   /* who asks, or by UDP: */
    struct sockaddr_in client;
    union { uv_handle_t handle; uv_udp_t udp; uv_tcp_t tcp; uv_stream_t stream; } to;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    uint8_t query[LENGTH_SIZE + QUERY_MOST];     /* with an id of its own; the length first */
    size_t n;                        /* of the message */
    uint16_t id;                     /* the client's */
    unsigned resolver;               /* whose turn is next */
    uint8_t *in;                     /* of a stream */
    size_t in_n;
    int handles;
    bool open, answered;
};

struct dns {
    struct dns_options options;
    uv_udp_t udp;
    uv_tcp_t tcp;
    struct agent_network table;
    LIST_HEAD(, connection) connections;
    LIST_HEAD(, forward) forwards;
    unsigned n_connections, n_forwards;
    struct resolvers resolvers;
    int64_t resolvers_at;
    uint8_t in[DNS_TCP_MOST];
    uint8_t out[LENGTH_SIZE + DNS_TCP_MOST];
    int handles;                     /* and objects that have handles */
    bool closing;
};

static void dns_release(struct dns *d)
{
    if (--d->handles)
        return;
    type_clear(&agent_network_type, &d->table);
    free(d);
}

/* --- resolvers --- */

static void read_resolvers(struct dns *d)
{
    CLEANUP_BUF struct buf text = {0};
    int64_t now = time_monotonic_ms();
    if (d->resolvers_at && now - d->resolvers_at < RESOLVERS_AGE_MS)
        return;
    d->resolvers_at = now;
    bool read = !d->options.resolvers->n && file_read("/etc/resolv.conf", 65536, &text, NULL) == 0;
    resolvers_read(&d->resolvers, d->options.resolvers, read ? text.data : "", d->options.address);
}

/* --- answers --- */

static void on_written(uv_write_t *w, int status)
{
    free(w);
}

static void connection_close(struct connection *c);
static void connection_next(struct connection *c);

/* Sends a message to a connection, whose next query is read then. */
static void connection_answer(struct connection *c, const uint8_t *bytes, size_t n)
{
    struct { uv_write_t w; uint8_t bytes[]; } *m = mem_alloc(sizeof *m + LENGTH_SIZE + n);
    m->bytes[0] = (uint8_t)(n >> 8);
    m->bytes[1] = (uint8_t)n;
    memcpy(m->bytes + LENGTH_SIZE, bytes, n);
    uv_buf_t b = uv_buf_init((char *)m->bytes, (unsigned)(LENGTH_SIZE + n));
    if (uv_write(&m->w, (uv_stream_t *)&c->tcp, &b, 1, on_written) < 0) {
        free(m);
        connection_close(c);
    }
}

static void udp_answer(struct dns *d, const struct sockaddr_in *client, uint8_t *bytes, size_t n)
{
    uv_buf_t b = uv_buf_init((char *)bytes, (unsigned)n);
    if (!d->closing)
        uv_udp_try_send(&d->udp, &b, 1, (const struct sockaddr *)client);     /* what is lost is asked again */
}

/* From our own zone, or an error. Returns the length. */
static size_t answer_make(struct dns *d, const uint8_t *bytes, const struct dns_query *q, int code, const char *job,
                          bool ours, size_t size)
{
    struct dns_answer a;
    dns_answer_begin(&a, d->out, size, bytes, q, (enum dns_code)code, ours);
    if (ours && code == DNS_OK)
        dns_names_answer(&d->table, job, q, &a);
    return dns_answer_end(&a, q);
}

/* --- to a resolver and back --- */

static void forward_ask(struct forward *f);

static void forward_released(struct forward *f)
{
    if (--f->handles)
        return;
    struct dns *d = f->d;
    free(f->in);
    free(f);
    dns_release(d);
}

static void on_forward_closed(uv_handle_t *h)
{
    forward_released(h->data);
}

static void forward_hang_up(struct forward *f)
{
    if (f->open)
        uv_close(&f->to.handle, on_forward_closed);
    f->open = false;
}

static void forward_end(struct forward *f)
{
    if (f->answered)
        return;
    f->answered = true;
    LIST_REMOVE(f, link);
    f->d->n_forwards--;
    if (f->connection)
        f->connection->forward = NULL;
    forward_hang_up(f);
    uv_close((uv_handle_t *)&f->timer, on_forward_closed);
}

/* The message goes back under the id that the client knows. */
static void forward_answer(struct forward *f, uint8_t *bytes, size_t n)
{
    struct connection *c = f->connection;
    bytes[0] = (uint8_t)(f->id >> 8);
    bytes[1] = (uint8_t)f->id;
    forward_end(f);
    if (!c) {
        udp_answer(f->d, &f->client, bytes, n);
        return;
    }
    connection_answer(c, bytes, n);
    if (!c->closing)
        connection_next(c);
}

static void forward_fail(struct forward *f)
{
    struct dns_query q;
    dns_query_read(f->query + LENGTH_SIZE, f->n, &q);
    size_t n = answer_make(f->d, f->query + LENGTH_SIZE, &q, DNS_FAILED, NULL, false, q.size);
    forward_answer(f, f->d->out, n);
}

static void forward_took(struct forward *f, uint8_t *bytes, size_t n)
{
    if (dns_answers(bytes, n, f->query + LENGTH_SIZE, f->n))
        forward_answer(f, bytes, n);
}

static void on_forward_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct forward *f = h->data;
    *out = uv_buf_init((char *)f->d->in, sizeof f->d->in);
}

static void on_forward_udp(uv_udp_t *h, ssize_t n, const uv_buf_t *b, const struct sockaddr *from, unsigned flags)
{
    struct forward *f = h->data;
    if (n < 0)
        forward_ask(f);
    else if (n > 0 && !(flags & UV_UDP_PARTIAL))
        forward_took(f, (uint8_t *)b->base, (size_t)n);
}

static void on_forward_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct forward *f = h->data;
    if (n < 0 || f->in_n + (size_t)(n > 0 ? n : 0) > LENGTH_SIZE + DNS_TCP_MOST) {
        forward_ask(f);
        return;
    }
    memcpy(f->in + f->in_n, b->base, (size_t)n);
    f->in_n += (size_t)n;
    size_t length = f->in_n >= LENGTH_SIZE ? (size_t)f->in[0] << 8 | f->in[1] : SIZE_MAX - LENGTH_SIZE;
    if (f->in_n >= LENGTH_SIZE + length)
        forward_took(f, f->in + LENGTH_SIZE, length);
}

static void on_forward_written(uv_write_t *w, int status)
{
}

static void on_forward_connected(uv_connect_t *c, int status)
{
    struct forward *f = c->data;
    if (f->answered || status == UV_ECANCELED)
        return;
    uv_buf_t b = uv_buf_init((char *)f->query, (unsigned)(LENGTH_SIZE + f->n));
    if (status < 0 || uv_read_start(&f->to.stream, on_forward_alloc, on_forward_read) < 0
        || uv_write(&f->write, &f->to.stream, &b, 1, on_forward_written) < 0)
        forward_ask(f);
}

static int udp_ask(struct forward *f, const struct sockaddr_in *to)
{
    uv_buf_t b = uv_buf_init((char *)f->query + LENGTH_SIZE, (unsigned)f->n);
    uv_udp_init(f->d->options.loop, &f->to.udp);
    f->open = true;
    return uv_udp_connect(&f->to.udp, (const struct sockaddr *)to) < 0
        || uv_udp_recv_start(&f->to.udp, on_forward_alloc, on_forward_udp) < 0
        || uv_udp_try_send(&f->to.udp, &b, 1, NULL) < 0 ? -1 : 0;
}

static int tcp_ask(struct forward *f, const struct sockaddr_in *to)
{
    uv_tcp_init(f->d->options.loop, &f->to.tcp);
    f->open = true;
    f->connect.data = f;
    f->in_n = 0;
    return uv_tcp_connect(&f->connect, &f->to.tcp, (const struct sockaddr *)to, on_forward_connected);
}

static void on_forward_timer(uv_timer_t *t)
{
    forward_ask(t->data);
}

static void on_again(uv_handle_t *h)
{
    struct forward *f = h->data;
    if (f->answered) {
        forward_released(f);
        return;
    }
    f->handles--;
    forward_ask(f);
}

/* The next resolver, once the handle of the one before has closed. */
static void forward_ask(struct forward *f)
{
    if (f->open) {
        f->open = false;
        uv_close(&f->to.handle, on_again);
        return;
    }
    const struct sockaddr_in *to = resolvers_next(&f->d->resolvers, &f->resolver);
    if (!to) {
        forward_fail(f);
        return;
    }
    f->handles++;
    f->to.handle.data = f;
    uv_timer_start(&f->timer, on_forward_timer, RESOLVER_MS, 0);
    if ((f->connection ? tcp_ask(f, to) : udp_ask(f, to)) < 0)
        forward_ask(f);
}

/* False: it is too much. */
static bool forward_begin(struct dns *d, const uint8_t *bytes, size_t n, const struct dns_query *q, struct connection *c,
                          const struct sockaddr_in *client)
{
    uint16_t id;
    if (d->n_forwards == FORWARDS_MOST)
        return false;
    struct forward *f = NEW(struct forward);
    *f = (struct forward){.d = d, .connection = c, .id = q->id, .n = n, .handles = 1};
    if (client)
        f->client = *client;
    else
        f->in = mem_alloc(LENGTH_SIZE + DNS_TCP_MOST);
    random_system(&id, sizeof id);
    memcpy(f->query + LENGTH_SIZE, bytes, n);
    memcpy(f->query + LENGTH_SIZE, &id, sizeof id);
    f->query[0] = (uint8_t)(n >> 8);
    f->query[1] = (uint8_t)n;
    d->handles++;
    d->n_forwards++;
    LIST_INSERT_HEAD(&d->forwards, f, link);
    if (c)
        c->forward = f;
    uv_timer_init(d->options.loop, &f->timer);
    f->timer.data = f;
    forward_ask(f);
    return true;
}

/* --- queries --- */

/* Returns the length of an answer in d->out, or 0: there is none now. */
static size_t query_take(struct dns *d, const uint8_t *bytes, size_t n, uint32_t from, struct connection *c,
                         const struct sockaddr_in *client)
{
    struct dns_query q;
    int code = dns_query_read(bytes, n, &q);
    if (code < 0)
        return 0;
    size_t size = c ? DNS_TCP_MOST : q.size;
    if (code == DNS_OK && dns_is_ours(q.name)) {
        CLEANUP_FREE char *job = d->options.job_of(d->options.ctx, from);
        return answer_make(d, bytes, &q, (int)dns_names_code(&d->table, job, &q), job, true, size);
    }
    if (code == DNS_OK) {
        read_resolvers(d);
        if (!d->resolvers.refuse && d->resolvers.n)
            return forward_begin(d, bytes, n, &q, c, client) ? 0 : answer_make(d, bytes, &q, DNS_FAILED, NULL, false, size);
        code = d->resolvers.refuse ? DNS_REFUSED : DNS_FAILED;
    }
    return answer_make(d, bytes, &q, code, NULL, false, size);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct dns *d = h->data;
    *out = uv_buf_init((char *)d->in, sizeof d->in);
}

static void on_udp(uv_udp_t *h, ssize_t n, const uv_buf_t *b, const struct sockaddr *from, unsigned flags)
{
    struct dns *d = h->data;
    if (n <= 0 || n > QUERY_MOST || !from || from->sa_family != AF_INET || flags & UV_UDP_PARTIAL)
        return;
    struct sockaddr_in client;
    memcpy(&client, from, sizeof client);
    size_t length = query_take(d, (const uint8_t *)b->base, (size_t)n, ntohl(client.sin_addr.s_addr), NULL, &client);
    if (length)
        udp_answer(d, &client, d->out, length);
}

/* --- connections --- */

static void on_connection_closed(uv_handle_t *h)
{
    struct connection *c = h->data;
    if (--c->handles)
        return;
    struct dns *d = c->d;
    free(c);
    dns_release(d);
}

static void connection_close(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    LIST_REMOVE(c, link);
    c->d->n_connections--;
    if (c->forward) {
        struct forward *f = c->forward;
        forward_end(f);
        f->connection = NULL;
    }
    uv_close((uv_handle_t *)&c->tcp, on_connection_closed);
    uv_close((uv_handle_t *)&c->idle, on_connection_closed);
}

static void on_idle(uv_timer_t *t)
{
    connection_close(t->data);
}

static void on_connection_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    struct connection *c = h->data;
    *out = uv_buf_init((char *)c->in + c->n, (unsigned)(sizeof c->in - c->n));
}

static uint32_t connection_from(struct connection *c)
{
    struct sockaddr_in in = {0};
    int n = sizeof in;
    uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&in, &n);
    return ntohl(in.sin_addr.s_addr);
}

static void on_connection_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct connection *c = h->data;
    if (n < 0) {
        connection_close(c);
        return;
    }
    c->n += (size_t)n;
    connection_next(c);
}

/* Takes the queries that have come, one after the other; one that is on its way to a resolver holds up those behind it. */
static void connection_next(struct connection *c)
{
    while (!c->forward && !c->closing && c->n >= LENGTH_SIZE) {
        size_t length = (size_t)c->in[0] << 8 | c->in[1];
        if (length > QUERY_MOST || !length) {
            connection_close(c);
            return;
        }
        if (c->n < LENGTH_SIZE + length)
            break;
        uint8_t query[QUERY_MOST];
        memcpy(query, c->in + LENGTH_SIZE, length);
        c->n -= LENGTH_SIZE + length;
        memmove(c->in, c->in + LENGTH_SIZE + length, c->n);
        size_t n = query_take(c->d, query, length, connection_from(c), c, NULL);
        if (n)
            connection_answer(c, c->d->out, n);
    }
    if (c->closing)
        return;
    uv_timer_start(&c->idle, on_idle, IDLE_MS, 0);
    if (c->forward)
        uv_read_stop((uv_stream_t *)&c->tcp);
    else
        uv_read_start((uv_stream_t *)&c->tcp, on_connection_alloc, on_connection_read);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct dns *d = server->data;
    if (status < 0)
        return;
    struct connection *c = NEW(struct connection);
    c->d = d;
    c->handles = 2;
    uv_tcp_init(d->options.loop, &c->tcp);
    uv_timer_init(d->options.loop, &c->idle);
    c->tcp.data = c->idle.data = c;
    d->handles++;
    d->n_connections++;
    LIST_INSERT_HEAD(&d->connections, c, link);
    if (uv_accept(server, (uv_stream_t *)&c->tcp) < 0 || d->n_connections > CONNECTIONS_MOST)
        connection_close(c);
    else
        connection_next(c);
}

/* --- life --- */

/* The address comes with the first machine's bridge, and goes with it. */
static int socket_bind(int type, uint32_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(DNS_PORT), .sin_addr.s_addr = htonl(address)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
    if (fd >= 0 && setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &yes, sizeof yes) == 0
        && (type != SOCK_STREAM || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0)
        && bind(fd, (struct sockaddr *)&in, sizeof in) == 0)
        return fd;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    errno = failed;
    return -1;
}

static void on_closed(uv_handle_t *h)
{
    dns_release(h->data);
}

int dns_open(const struct dns_options *options, struct dns **out, struct error *err)
{
    char text[NET4_TEXT_SIZE];
    ip4_format(text, options->address);
    int udp = socket_bind(SOCK_DGRAM, options->address), tcp = udp < 0 ? -1 : socket_bind(SOCK_STREAM, options->address);
    if (tcp < 0) {
        error_set(err, errno == EADDRINUSE ? ERROR_CONFLICT : ERROR_UNAVAILABLE, "cannot answer names at %s, port %d: %s", text,
                  DNS_PORT, strerror(errno));
        if (udp >= 0)
            close(udp);
        return -1;
    }
    struct dns *d = NEW(struct dns);
    d->options = *options;
    d->handles = 2;
    uv_udp_init(options->loop, &d->udp);
    uv_tcp_init(options->loop, &d->tcp);
    d->udp.data = d->tcp.data = d;
    uv_udp_open(&d->udp, udp);
    uv_tcp_open(&d->tcp, tcp);
    int rc = uv_udp_recv_start(&d->udp, on_alloc, on_udp);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&d->tcp, BACKLOG, on_connection);
    if (rc == 0) {
        *out = d;
        return 0;
    }
    dns_close(d);
    return error_set(err, rc == UV_EADDRINUSE ? ERROR_CONFLICT : ERROR_UNAVAILABLE, "cannot answer names at %s, port %d: %s", text,
                     DNS_PORT, uv_strerror(rc));
}

void dns_follow(struct dns *d, const struct agent_network *table)
{
    type_clear(&agent_network_type, &d->table);
    type_copy(&agent_network_type, &d->table, table);
}

void dns_close(struct dns *d)
{
    struct connection *c;
    struct forward *f;
    if (!d)
        return;
    d->closing = true;
    while ((c = LIST_FIRST(&d->connections)))
        connection_close(c);
    while ((f = LIST_FIRST(&d->forwards)))
        forward_end(f);
    uv_close((uv_handle_t *)&d->udp, on_closed);
    uv_close((uv_handle_t *)&d->tcp, on_closed);
}
