/* DNS: what queries say, what is answered to whom, and what does not fit. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "agent/dns_names.h"
#include "agent/resolvers.h"
#include "base/buf.h"

#define EDNS "\0\0\51\x10\0\0\0\0\0\0\0"

static void put_name(struct buf *b, const char *name)
{
    while (*name) {
        size_t n = strcspn(name, ".");
        buf_add_u8(b, (uint8_t)n);
        buf_add(b, name, n);
        name += n + (name[n] == '.');
    }
    buf_add_u8(b, 0);
}

static void query_make(struct buf *b, const char *name, uint16_t type, bool edns)
{
    const uint8_t head[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns}, tail[] = {(uint8_t)(type >> 8), (uint8_t)type, 0, 1};
    buf_clear(b);
    buf_add(b, head, sizeof head);
    put_name(b, name);
    buf_add(b, tail, sizeof tail);
    if (edns)
        buf_add(b, EDNS, sizeof EDNS - 1);
}

static int read_query(const struct buf *b, struct dns_query *q)
{
    return dns_query_read((const uint8_t *)b->data, b->len, q);
}

static void queries_are_read(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    struct dns_query q;
    query_make(&b, "0.Web.Mentat", DNS_A, false);
    assert_int_equal(read_query(&b, &q), DNS_OK);
    assert_string_equal(q.name, "0.web.mentat");
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.type, DNS_A);
    assert_int_equal(q.end, b.len);
    assert_int_equal(q.size, DNS_UDP_SIZE);
    query_make(&b, "web.mentat", DNS_SRV, true);
    assert_int_equal(read_query(&b, &q), DNS_OK);
    assert_true(q.extended);
    assert_int_equal(q.size, DNS_UDP_MOST);
    query_make(&b, "", DNS_A, false);
    assert_int_equal(read_query(&b, &q), DNS_OK);
    assert_string_equal(q.name, "");
}

static void what_is_no_query_is_refused(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    struct dns_query q;
    query_make(&b, "web.mentat", DNS_A, true);
    for (size_t n = 0; n < b.len; n++)
        assert_int_equal(dns_query_read((const uint8_t *)b.data, n, &q), n < DNS_HEADER_SIZE ? -1 : DNS_MALFORMED);
    b.data[2] |= (char)0x80;         /* an answer: two servers must not speak with each other for ever */
    assert_int_equal(read_query(&b, &q), -1);
    query_make(&b, "web.mentat", DNS_A, false);
    b.data[2] |= 0x28;               /* an update */
    assert_int_equal(read_query(&b, &q), DNS_NOT_DONE);
    query_make(&b, "web.mentat", DNS_A, false);
    b.data[5] = 2;
    assert_int_equal(read_query(&b, &q), DNS_MALFORMED);
    query_make(&b, "web.mentat", DNS_A, false);
    b.data[12] = (char)0xc0;         /* a pointer to itself */
    b.data[13] = 12;
    assert_int_equal(read_query(&b, &q), DNS_MALFORMED);
    CLEANUP_FREE char *label = mem_alloc(64), *name = mem_printf("%s", "");
    memset(label, 'x', 63);
    free(name);
    name = mem_printf("%s.%s.%s.%s.%s", label, label, label, label, label);
    query_make(&b, name, DNS_A, false);
    assert_int_equal(read_query(&b, &q), DNS_MALFORMED);
}

static void replica_add(struct network_service *s, int64_t replica, const char *ip, const char *address, bool serves)
{
    struct network_replica *r = list_add_zero((struct list *)&s->replicas, &network_replica_type);
    *r = (struct network_replica){.replica = replica, .ip = mem_strdup(ip), .address = mem_strdup(address), .serves = serves};
    struct alloc_port *p = list_add_zero((struct list *)&r->ports, &alloc_port_type);
    *p = (struct alloc_port){.name = mem_strdup("http"), .port = 80, .host = 20000 + replica, .protocol = PROTOCOL_HTTP};
}

static struct network_service *service_add(struct agent_network *t, const char *name, const char *job)
{
    struct network_service *s = list_add_zero((struct list *)&t->services, &network_service_type);
    s->name = mem_strdup(name);
    s->job = mem_strdup(job);
    return s;
}

/* "code: records" of an answer, addresses and ports; " cut" when it says so. */
static const char *ask(const struct agent_network *t, const char *job, const char *name, uint16_t type)
{
    static char text[256];
    CLEANUP_BUF struct buf b = {0};
    uint8_t out[DNS_UDP_MOST];
    struct dns_query q;
    struct dns_answer a;
    query_make(&b, name, type, false);
    assert_int_equal(read_query(&b, &q), DNS_OK);
    enum dns_code code = dns_names_code(t, job, &q);
    dns_answer_begin(&a, out, q.size, (const uint8_t *)b.data, &q, code, true);
    if (code == DNS_OK)
        dns_names_answer(t, job, &q, &a);
    size_t end = dns_answer_end(&a, &q);
    assert_true(end <= DNS_UDP_SIZE);
    assert_true(dns_answers(out, end, (const uint8_t *)b.data, b.len));
    size_t n = (size_t)snprintf(text, sizeof text, "%d:", out[3] & 15), at = q.end;
    for (unsigned i = out[6] * 256u + out[7]; i && n < sizeof text - 30; i--) {
        unsigned length = out[at + 10] * 256u + out[at + 11];
        const uint8_t *d = out + at + 12;
        n += (size_t)(out[at + 3] == DNS_A ? snprintf(text + n, sizeof text - n, " %u.%u.%u.%u", d[0], d[1], d[2], d[3])
                                           : snprintf(text + n, sizeof text - n, " %u", d[4] * 256u + d[5]));
        at += 12 + length;
    }
    if (out[2] & 2)
        snprintf(text + n, sizeof text - n, " cut");
    return text;
}

static void names_lead_to_replicas(void **state)
{
    struct agent_network t = {0};
    struct network_service *web = service_add(&t, "web", "a");
    replica_add(web, 0, "192.0.2.1", "10.64.0.2", true);
    replica_add(web, 1, "192.0.2.2", "10.64.1.2", false);
    replica_add(web, 2, "192.0.2.3", NULL, true);
    replica_add(service_add(&t, "web2", "b"), 0, "192.0.2.1", "10.64.0.9", true);
    assert_string_equal(ask(&t, "a", "web.mentat", DNS_A), "0: 10.64.0.2 192.0.2.3");
    assert_string_equal(ask(&t, "a", "1.web.mentat", DNS_A), "0: 10.64.1.2");
    assert_string_equal(ask(&t, "a", "web.mentat", DNS_AAAA), "0:");
    assert_string_equal(ask(&t, "a", "_http._tcp.web.mentat", DNS_SRV), "0: 80 20002");
    assert_string_equal(ask(&t, "a", "_http._udp.web.mentat", DNS_SRV), "0:");
    /* Who is no machine is led to the nodes. */
    assert_string_equal(ask(&t, NULL, "web.mentat", DNS_A), "0: 192.0.2.1 192.0.2.3");
    assert_string_equal(ask(&t, NULL, "_http._tcp.web.mentat", DNS_SRV), "0: 20000 20002");
    assert_string_equal(ask(&t, NULL, "web2.mentat", DNS_A), "0: 192.0.2.1");
    /* What is not there, or of another job. */
    static const char *const none[] = {"3.web.mentat", "web2.mentat", "mentat", "web", "a.web.mentat", "x.0.web.mentat", "_http.web.mentat",
                                       "99999999999.web.mentat"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        assert_string_equal(ask(&t, "a", none[i], DNS_A), "3:");
    assert_true(dns_is_ours("mentat") && dns_is_ours("x.mentat"));
    assert_false(dns_is_ours("xmentat") || dns_is_ours("mentat.org") || dns_is_ours(""));
    /* Those of another namespace have its name behind theirs, but for machines of their own job. */
    replica_add(service_add(&t, "team-a.web", "team-a.a"), 0, "192.0.2.9", "10.64.4.2", true);
    assert_string_equal(ask(&t, "team-a.a", "web.mentat", DNS_A), "0: 10.64.4.2");
    assert_string_equal(ask(&t, "team-a.a", "web.team-a.mentat", DNS_A), "3:");
    assert_string_equal(ask(&t, "a", "web.mentat", DNS_A), "0: 10.64.0.2 192.0.2.3");
    assert_string_equal(ask(&t, NULL, "web.team-a.mentat", DNS_A), "0: 192.0.2.9");
    assert_string_equal(ask(&t, NULL, "web.default.mentat", DNS_A), "0: 192.0.2.1 192.0.2.3");
    assert_string_equal(ask(&t, NULL, "web.team-b.mentat", DNS_A), "3:");
    /* The one that takes its place hides the one before. */
    replica_add(&t.services.v[0], 1, "192.0.2.4", "10.64.3.2", true);
    assert_string_equal(ask(&t, "a", "1.web.mentat", DNS_A), "0: 10.64.3.2");
    type_clear(&agent_network_type, &t);
}

static void what_does_not_fit_is_told(void **state)
{
    struct agent_network t = {0};
    struct network_service *s = service_add(&t, "many", "a");
    for (int i = 0; i < 200; i++) {
        char address[INET_ADDRSTRLEN];
        snprintf(address, sizeof address, "10.64.0.%d", i + 2);
        replica_add(s, i, "192.0.2.1", address, true);
    }
    assert_non_null(strstr(ask(&t, "a", "7.many.mentat", DNS_A), "10.64.0.9"));
    CLEANUP_BUF struct buf b = {0};
    uint8_t out[DNS_UDP_SIZE + 1] = {[DNS_UDP_SIZE] = 0x77};
    struct dns_query q;
    struct dns_answer a;
    query_make(&b, "many.mentat", DNS_A, true);
    read_query(&b, &q);
    dns_answer_begin(&a, out, DNS_UDP_SIZE, (const uint8_t *)b.data, &q, DNS_OK, true);
    dns_names_answer(&t, "a", &q, &a);
    assert_true(dns_answer_end(&a, &q) <= DNS_UDP_SIZE);
    assert_true(out[2] & 2);
    assert_int_equal(out[DNS_UDP_SIZE], 0x77);
    type_clear(&agent_network_type, &t);
}

static const struct str_list none = {0};

static void assert_resolver(const struct sockaddr_in *in, const char *address, uint16_t port)
{
    char text[INET_ADDRSTRLEN];
    assert_non_null(in);
    assert_string_equal(inet_ntop(AF_INET, &in->sin_addr, text, sizeof text), address);
    assert_int_equal(ntohs(in->sin_port), port);
}

static void resolvers_are_the_hosts_or_ones_own(void **state)
{
    static const char conf[] = "# nameserver 9.9.9.9\nsearch a\nnameserver 10.0.0.1 # first\nnameserver\t10.0.0.2\r\nnameserver \n"
                               "10.0.0.7\nnameserver fe80::1\nnameserver 10.64.0.1\nnameserver 10.0.0.3";
    struct str_list own = {0}, refuse = {0};
    struct resolvers r;
    resolvers_read(&r, &none, conf, 0x0a400001);
    assert_int_equal(r.n, 3);
    assert_resolver(&r.v[0], "10.0.0.1", 53);
    assert_resolver(&r.v[1], "10.0.0.2", 53);
    assert_resolver(&r.v[2], "10.0.0.3", 53);
    str_list_add(&own, "10.64.0.1:5353");
    str_list_add(&own, "10.64.0.1");
    resolvers_read(&r, &own, conf, 0x0a400001);
    assert_int_equal(r.n, 1);
    assert_resolver(&r.v[0], "10.64.0.1", 5353);
    assert_false(r.refuse);
    str_list_add(&refuse, "none");
    resolvers_read(&r, &refuse, conf, 0x0a400001);
    assert_true(r.refuse && !r.n);
    struct buf many = {0};
    for (int i = 1; i < 100; i++)
        buf_printf(&many, "nameserver 10.0.1.%d\n", i);
    resolvers_read(&r, &none, many.data, 0);
    assert_int_equal(r.n, RESOLVERS_MOST);
    buf_free(&many);
    str_list_clear(&own);
    str_list_clear(&refuse);
}

/* A question goes on while resolv.conf is written anew. */
static void fewer_resolvers_than_before_are_no_reading_past_them(void **state)
{
    static const char three[] = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
    struct resolvers r;
    for (unsigned turns = 0; turns <= 3; turns++) {
        unsigned turn = 0;
        resolvers_read(&r, &none, three, 0);
        for (unsigned i = 0; i < turns; i++)
            assert_ptr_equal(resolvers_next(&r, &turn), &r.v[i]);
        resolvers_read(&r, &none, "nameserver 10.0.0.9\n", 0);
        if (!turns)
            assert_resolver(resolvers_next(&r, &turn), "10.0.0.9", 53);
        for (int again = 0; again < 2; again++)
            assert_null(resolvers_next(&r, &turn));
        resolvers_read(&r, &none, "", 0);
        assert_null(resolvers_next(&r, &turn));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_are_read),
        cmocka_unit_test(what_is_no_query_is_refused),
        cmocka_unit_test(names_lead_to_replicas),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(resolvers_are_the_hosts_or_ones_own),
        cmocka_unit_test(fewer_resolvers_than_before_are_no_reading_past_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
