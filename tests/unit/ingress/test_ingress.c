/* What the ingress does without a proxy: slots of replicas, commands for differences, texts that are written and read. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "agent/ingress/access_log.h"
#include "agent/ingress/answers.h"
#include "agent/ingress/changes.h"
#include "agent/ingress/plan.h"
#include "agent/ingress/render.h"
#include "base/text.h"
#include "model/ingress_rules.h"

static const struct plan_limits limits = {.http = true, .https = true};

static struct ingress_route *add_route(struct agent_ingress *table, const char *service, const char *host, const char *path)
{
    struct ingress_route *r = list_add((struct list *)&table->routes, &ingress_route_type);
    r->service = mem_strdup(service);
    r->ingress.host = mem_strdup(host);
    mem_set_string(&r->ingress.path, path);
    r->ingress.port = mem_strdup("http");
    return r;
}

static struct ingress_target *add_target(struct ingress_route *r, unsigned number, int64_t weight)
{
    struct ingress_target *t = list_add((struct list *)&r->targets, &ingress_target_type);
    t->alloc = mem_printf("%012x", number);
    t->ip = mem_printf("10.0.0.%u", number);
    t->port = 8000 + number;
    t->weight = weight;
    return t;
}

/* The problem is the caller's. */
static char *follow(struct layout *l, const struct agent_ingress *table)
{
    char *problem = NULL;
    plan_follow(l, table, &limits, &problem);
    return problem;
}

static void a_replica_keeps_its_slot(void **state)
{
    struct layout l = {0};
    struct agent_ingress table = {0};
    struct ingress_route *r = add_route(&table, "web", "a.example.com", "/");
    for (unsigned i = 1; i <= 3; i++)
        add_target(r, i, 100);
    assert_null(follow(&l, &table));
    struct backend *b = layout_find(&l, "web.http");
    assert_non_null(b);
    assert_int_equal(b->n_slots, 8);
    assert_string_equal(b->slots[1].alloc, "000000000002");
    list_remove((struct list *)&r->targets, &ingress_target_type, 0);
    add_target(r, 4, 100);
    assert_null(follow(&l, &table));
    assert_string_equal(b->slots[1].alloc, "000000000002");
    assert_string_equal(b->slots[3].alloc, "000000000004");      /* the one that was just freed is taken last */
    assert_int_equal(b->slots[0].mode, SLOT_OUT);
    for (unsigned i = 5; i < 12; i++)
        add_target(r, i, 100);
    assert_null(follow(&l, &table));
    assert_int_equal(b->n_slots, 32);
    assert_string_equal(b->slots[1].alloc, "000000000002");
    list_remove((struct list *)&table.routes, &ingress_route_type, 0);
    assert_null(follow(&l, &table));
    assert_true(b->unused);
    assert_int_equal(b->slots[1].mode, SLOT_OUT);
    assert_int_equal(l.maps[MAP_HTTP].n, 0);
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
}

static void weights_and_leaving(void **state)
{
    struct layout l = {0};
    struct agent_ingress table = {0};
    add_route(&table, "web", "a.example.com", "/");
    add_route(&table, "web", "b.example.com", "/")->ingress.sticky = true;
    for (unsigned i = 0; i < 2; i++) {
        add_target(&table.routes.v[i], 1, 100);
        add_target(&table.routes.v[i], 2, 0);
        add_target(&table.routes.v[i], 3, 100)->leaving = true;
    }
    assert_null(follow(&l, &table));
    const struct backend *plain = layout_find(&l, "web.http"), *sticky = layout_find(&l, "web.http.sticky");
    assert_int_equal(plain->slots[0].mode, SLOT_READY);
    assert_int_equal(plain->slots[1].mode, SLOT_READY);
    assert_int_equal(plain->slots[1].weight, 0);
    assert_int_equal(plain->slots[2].mode, SLOT_DRAIN);
    assert_int_equal(sticky->slots[0].mode, SLOT_READY);
    assert_int_equal(sticky->slots[1].mode, SLOT_OUT);           /* its cookie leads nowhere */
    assert_int_equal(sticky->slots[2].mode, SLOT_OUT);
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
}

/* A port may be called as the part that says that clients stick. */
static void backends_of_two_namespaces_do_not_meet(void **state)
{
    struct layout l = {0};
    struct agent_ingress table = {0};
    struct ingress_route *one = add_route(&table, "team-a", "a.example.com", "/");
    mem_set_string(&one->ingress.port, "web");
    one->ingress.sticky = true;
    struct ingress_route *two = add_route(&table, "team-a.web", "b.example.com", "/");
    mem_set_string(&two->ingress.port, "sticky");
    add_target(&table.routes.v[0], 1, 100);
    add_target(&table.routes.v[1], 2, 100);
    assert_null(follow(&l, &table));
    assert_int_equal(l.n, 2);
    assert_string_equal(layout_find(&l, "team-a.web.sticky")->slots[0].alloc, "000000000001");
    assert_string_equal(layout_find(&l, "team-a_web.sticky")->slots[0].alloc, "000000000002");
    assert_string_equal(layout_find(&l, "team-a_web.sticky")->service, "team-a.web");
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
}

static void hosts_paths_and_tls(void **state)
{
    struct layout l = {0};
    struct agent_ingress table = {0};
    add_route(&table, "a", "a.example.com", "/");
    add_route(&table, "b", "a.example.com", "/api/")->ingress.tls = true;
    struct ingress_route *both = add_route(&table, "c", "*.example.com", "/");
    both->ingress.tls = true;
    both->ingress.redirect_https = mem_strdup("false");
    struct ingress_route *tcp = add_route(&table, "db", "ignored", "/");
    tcp->ingress.protocol = PROTOCOL_TCP;
    tcp->ingress.listen = 5432;
    assert_null(follow(&l, &table));
    assert_string_equal(kv_get(&l.maps[MAP_HTTP], "a.example.com/"), "a.http");
    assert_string_equal(kv_get(&l.maps[MAP_HTTP], "a.example.com/api/"), MAP_REDIRECT);
    assert_string_equal(kv_get(&l.maps[MAP_HTTPS], "a.example.com/api/"), "b.http");
    assert_null(kv_get(&l.maps[MAP_HTTPS], "a.example.com/"));
    assert_string_equal(kv_get(&l.maps[MAP_HTTP], "*.example.com/"), "c.http");
    assert_string_equal(kv_get(&l.maps[MAP_HTTPS], "*.example.com/"), "c.http");
    assert_true(layout_find(&l, "db.http.tcp5432")->tcp);
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
}

/* why: part of what is said; NULL: it can be served. */
struct odd { const char *text, *why; };

static void assert_odd(const struct odd *o, const char *problem)
{
    if (!o->why != !problem || (o->why && !strstr(problem, o->why)))
        fail_msg("%s: %s", o->text, problem ? problem : "can be served");
}

static void odd_hosts_and_paths_are_told_what_to_do(void **state)
{
    static const struct odd hosts[] = {
        {"*.a-1.example.com", NULL}, {"a_b.example", NULL}, {"10.0.0.1", NULL}, {"xn--bcher-kva.example", NULL},
        {"A.example.com", "lower case"}, {"example.com.", "end with a dot"}, {"b\xc3\xbc" "cher.example", "`xn--` form"},
        {"a.example:80", "without scheme, port"}, {"http://a.example", "without scheme, port"}, {"a.example/x", "without scheme, port"},
        {"[::1]", "without scheme, port"}, {"*", "whole first label"}, {"a.*.example", "whole first label"},
        {"*a.example", "whole first label"}, {"*.*.example", "whole first label"}, {"*.", "is not a host name"},
        {"", "is not a host name"}, {".", "is not a host name"}, {"a..b", "is not a host name"}, {"a..", "is not a host name"},
        {".a", "is not a host name"}, {"-a.example", "is not a host name"}, {"a-.example", "is not a host name"}};
    static const struct odd paths[] = {
        {"/", NULL}, {"/a/", NULL}, {"/a/%20/b~c", NULL}, {"/.well-known/x", NULL}, {"/a/...", NULL}, {"/a..b", NULL}, {"/A", NULL},
        {"", "begin with /"}, {"a", "begin with /"}, {"//", "two slashes"}, {"/a//b", "two slashes"}, {"/a?b=c", "path alone"},
        {"/a#b", "path alone"}, {"/..", "`..` as a part"}, {"/a/../b", "`..` as a part"}, {"/./a", "`..` as a part"},
        {"/a/.", "`..` as a part"}, {"/a%", "%25"}, {"/a%2", "%25"}, {"/%zz", "%25"}, {"/api/*", "end with `*`"}, {"/b\xc3\xbc", "%XX"}};
    CLEANUP_FREE char *label = mem_strdup("a123456789a123456789a123456789a123456789a123456789a123456789abcd.example");
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        assert_odd(&hosts[i], ingress_host_problem(hosts[i].text));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_odd(&paths[i], ingress_path_problem(paths[i].text));
    assert_odd(&(struct odd){label, "is not a host name"}, ingress_host_problem(label));
    assert_null(ingress_host_problem(label + 1));            /* 63 */
}

/* "SERVICE=PART|…". */
static void assert_parts(const char *problem, const char *wanted)
{
    CLEANUP_BUF struct buf got = {0};
    for (char *service, *part; ingress_problem_next(&problem, &service, &part); free(service), free(part))
        buf_printf(&got, "%s=%s|", service ? service : "", part);
    assert_string_equal(got.data ? got.data : "", wanted);
}

static void a_problem_is_of_one_service_or_of_all(void **state)
{
    assert_parts("", "");
    assert_parts("port 80: is taken by another program on this node", "=port 80: is taken by another program on this node|");
    assert_parts("ingress of web", "=ingress of web|");
    assert_parts("ingress of web: a; b; ingress of team-a.web: c", "web=ingress of web: a; b|team-a.web=ingress of team-a.web: c|");
    CLEANUP_FREE char *words = ingress_problem_in_short("the proxy ended: [ALERT] backend web.http: no"),
                      *own = ingress_problem_in_short("port 80: is taken");
    assert_string_equal(words, "the proxy ended");
    assert_string_equal(own, "port 80: is taken");
}

static void nothing_is_injected(void **state)
{
    static const char *const hosts[] = {"a b", "a\nserver x 1.2.3.4:5", "a;del map http.map", "a\"b", "a'b", "a#", "a\\", "<<"};
    static const char *const paths[] = {"/a b", "/a\nb", "/a;b", "/a\"", "/a'", "/a\\", "/<<", "/{a}"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        assert_non_null(ingress_host_problem(hosts[i]));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_non_null(ingress_path_problem(paths[i]));

    struct layout l = {0};
    struct agent_ingress table = {0};
    add_route(&table, "good", "a.example.com", "/");
    add_route(&table, "bad", hosts[1], "/");
    add_route(&table, "web\nbackend x", "b.example.com", "/");
    add_target(add_route(&table, "ip", "c.example.com", "/"), 1, 1)->ip[0] = '\n';
    CLEANUP_FREE char *problem = follow(&l, &table);
    assert_string_equal(problem, "ingress of bad: its host or path cannot be served; ingress of a service: its service or port has no "
                        "proper name; ingress of ip: a replica has no address that a proxy can reach");
    assert_parts(problem, "bad=ingress of bad: its host or path cannot be served|a service=ingress of a service: its service or port "
                 "has no proper name|ip=ingress of ip: a replica has no address that a proxy can reach|");
    assert_int_equal(l.n, 2);
    assert_int_equal(l.maps[MAP_HTTP].n, 2);
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
}

static void expect_commands(struct layout *actual, const struct layout *wanted, const char *text, bool maps)
{
    CLEANUP_BUF struct buf commands = {0};
    struct str_list touched = {0};
    assert_int_equal(changes_between(actual, wanted, &commands, &touched), maps);
    assert_string_equal(commands.data ? commands.data : "", text);
    str_list_clear(&touched);
}

static void commands_bring_more_first(void **state)
{
    struct layout actual = {0}, wanted = {0};
    struct agent_ingress table = {0};
    struct ingress_route *r = add_route(&table, "web", "a.example.com", "/");
    add_target(r, 1, 100);
    assert_null(follow(&actual, &table));
    assert_null(follow(&wanted, &table));
    expect_commands(&actual, &wanted, "", false);
    add_target(r, 2, 50);
    r->targets.v[0].weight = 0;
    add_route(&table, "new", "b.example.com", "/");              /* it comes with a reload */
    add_route(&table, "web", "c.example.com", "/");
    assert_null(follow(&wanted, &table));
    expect_commands(&actual, &wanted,
                    "set server web.http/s2 addr 10.0.0.2 port 8002\nset server web.http/s2 weight 50\n"
                    "set server web.http/s2 state ready\nadd map http.map c.example.com/ web.http\n"
                    "set server web.http/s1 weight 0\n", true);
    table.routes.v[0].targets.v[0].leaving = true;
    assert_null(follow(&wanted, &table));
    struct layout now = {0};
    assert_null(follow(&now, &table));
    now.backends[1]->slots[0].mode = SLOT_READY;
    kv_set(&now.maps[MAP_HTTP], "old.example.com/", "web.http");
    kv_set(&now.maps[MAP_HTTP], "a.example.com/", "new.http");
    expect_commands(&now, &wanted, "set map http.map a.example.com/ web.http\ndel map http.map old.example.com/\n"
                    "set server web.http/s1 state drain\n", true);
    layout_clear(&actual);
    layout_clear(&wanted);
    layout_clear(&now);
    type_clear(&agent_ingress_type, &table);
}

static uint32_t numbers_of(const struct layout *l, const char *server)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->maps[MAP_STICKY].n; i++)
        n += !strcmp(l->maps[MAP_STICKY].v[i].value, server);
    return n;
}

/* Each hundred numbers are divided as the versions are, and evenly among their replicas; a larger part has those of a smaller. */
static void numbers_of_a_header_are_divided(void **state)
{
    struct layout small = {0}, large = {0}, none = {0};
    struct agent_ingress table = {0};
    struct ingress_route *r = add_route(&table, "web", "a.example.com", "/");
    r->ingress.sticky_header = mem_strdup("X-User");
    for (unsigned i = 1; i <= 6; i++)
        add_target(r, i, i == 6 ? 0 : 100)->canary = i > 3;
    r->canary_percent = 10;
    assert_null(follow(&small, &table));
    const char *name = "web.http.by-x-user";
    assert_non_null(layout_find(&small, name));
    assert_int_equal(small.maps[MAP_STICKY].n, 100);
    for (int i = 0; i < 3; i++)
        assert_int_equal(numbers_of(&small, ((const char *[]){"s1", "s2", "s3"})[i]), 30);
    assert_int_equal(numbers_of(&small, "s4"), 5);
    assert_int_equal(numbers_of(&small, "s6"), 0);
    r->canary_percent = 50;
    assert_null(follow(&large, &table));
    for (uint32_t i = 0; i < 10; i++) {
        CLEANUP_FREE char *key = mem_printf("%s/%u", name, i);
        assert_string_equal(kv_get(&small.maps[MAP_STICKY], key), i % 2 ? "s5" : "s4");
        assert_string_equal(kv_get(&large.maps[MAP_STICKY], key), i % 2 ? "s5" : "s4");
    }
    r->canary_percent = 0;
    r->targets.v[0].weight = 0;
    assert_null(follow(&none, &table));
    assert_int_equal(none.maps[MAP_STICKY].n, 0);

    /* They go when the weights hold, and do not come before their backend. */
    CLEANUP_BUF struct buf commands = {0};
    struct str_list touched = {0};
    assert_true(changes_between(&small, &none, &commands, &touched));
    assert_true(text_has_prefix(commands.data, "set server web.http.by-x-user/s1 weight 0\ndel map sticky.map web.http.by-x-user/0\n"));
    layout_clear(&none);
    buf_clear(&commands);
    assert_false(changes_between(&none, &small, &commands, &touched));
    str_list_clear(&touched);
    layout_clear(&small);
    layout_clear(&large);
    type_clear(&agent_ingress_type, &table);
}

static void the_structure_tells_what_needs_a_reload(void **state)
{
    struct ingress_config config;
    type_init(&ingress_config_type, &config);
    struct render_options o = {.config = &config, .directory = "/d", .open_files = 20000, .cookie_key = "k"};
    struct layout l = {0};
    struct agent_ingress table = {0};
    struct ingress_route *r = add_route(&table, "web", "a.example.com", "/");
    char before[STRUCTURE_SIZE], after[STRUCTURE_SIZE];
    assert_null(follow(&l, &table));
    render_structure(&l, &o, before);
    add_target(r, 1, 1);
    add_route(&table, "web", "b.example.com", "/x");
    assert_null(follow(&l, &table));
    render_structure(&l, &o, after);
    assert_string_equal(before, after);
    CLEANUP_BUF struct buf text = {0};
    render_config(&l, &o, &text);
    assert_non_null(strstr(text.data, "backend web.http\n    option forwardfor\n    server s1 10.0.0.1:8001 weight 1\n"
                                      "    server s2 127.0.0.1:1 disabled\n"));
    assert_non_null(strstr(text.data, after));
    add_route(&table, "more", "c.example.com", "/");
    assert_null(follow(&l, &table));
    render_structure(&l, &o, after);
    assert_string_not_equal(before, after);
    assert_null(strstr(text.data, "    gid "));
    o.root = true;
    o.gid = 113;
    buf_clear(&text);
    render_config(&l, &o, &text);
    assert_non_null(strstr(text.data, "    user haproxy\n    chroot /d/empty\n    gid 113\n"));
    layout_clear(&l);
    type_clear(&agent_ingress_type, &table);
    type_clear(&ingress_config_type, &config);
}

static void answers_are_read(void **state)
{
    struct answer_processes p;
    struct error err;
    assert_int_equal(answer_processes(
        "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
        "22912           master          2 [failed: 1]   0d00h00m15s     2.6.12\n# workers\n"
        "23721           worker          0               0d00h00m01s     2.6.12\n# old workers\n"
        "23027           worker          1               0d00h00m14s     2.6.12\n# programs\n\n", &p, &err), 0);
    assert_int_equal(p.current, 23721);
    assert_int_equal(p.n_old, 1);
    assert_int_equal(p.old[0], 23027);
    assert_int_equal(p.failed, 1);
    assert_int_equal(answer_processes("Unknown command.\n", &p, &err), -1);

    struct layout l = {0};
    assert_int_equal(answer_servers(
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight x x x x x x x x srv_fqdn srv_port\n"
        "4 a.web 1 s1 127.0.0.1 2 0 100 100 7 6 3 2 6 0 0 0 - 18081 - 0\n"
        "4 a.web 2 s2 10.0.0.1 2 12 50 1 0 1 0 1 6 0 0 0 - 18082 - 0\n"
        "4 a.web 3 s3 10.0.0.1 2 5 50 1 0 1 0 1 6 0 0 0 - 1 - 0\n"
        "5 handover-http 1 next - 2 0 1 1 0 1 0 1 6 0 0 0 - 0 - 0\n\n", &l, &err), 0);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.backends[0]->n_slots, 3);
    assert_int_equal(l.backends[0]->slots[0].mode, SLOT_READY);
    assert_int_equal(l.backends[0]->slots[1].mode, SLOT_DRAIN);  /* and was in maintenance when it began */
    assert_int_equal(l.backends[0]->slots[1].port, 18082);
    assert_int_equal(l.backends[0]->slots[2].mode, SLOT_OUT);
    assert_int_equal(answer_servers("Can't find backend.\n", &l, &err), -1);
    layout_clear(&l);

    struct kv_list map = {0};
    answer_map("0x55b4be0884c0 a.example.com/ a.web\n0x1 b/ =https\nnothing\n\n", &map);
    assert_int_equal(map.n, 2);
    assert_string_equal(kv_get(&map, "b/"), "=https");
    kv_clear(&map);
    answer_certificates("Filename: a.pem\nStatus: Used\nSHA1 FingerPrint: AB12\n\nFilename: b.pem\nStatus: Empty\n", &map);
    assert_string_equal(kv_get(&map, "a.pem"), "AB12");
    assert_string_equal(kv_get(&map, "b.pem"), "");
    kv_clear(&map);
}

static void add_up(void *ctx, const struct answer_stat *s)
{
    long long *sum = ctx;
    sum[0] += s->sessions;
    sum[1] += s->requests;
    sum[2] += !strcmp(s->server, "s1") && !strcmp(s->proxy, "a.web");
}

static void counters_are_read(void **state)
{
    long long sum[3] = {0};
    struct error err;
    assert_int_equal(answer_stats("# pxname,svname,qcur,qmax,scur,req_tot,\na.web,s1,0,0,3,7,\na.web,s2,,,1,,\n\n"
                                  "# pxname,svname,qcur,qmax,scur,req_tot,\nb.web,s1,0,0,0,1,\n", add_up, sum, &err), 0);
    assert_int_equal(sum[0], 4);
    assert_int_equal(sum[1], 8);
    assert_int_equal(sum[2], 1);
    assert_int_equal(answer_stats("No such proxy.\n", add_up, sum, &err), -1);
}

static void assert_line(const char *line, const char *backend, const char *ip, int port, int64_t ms)
{
    struct access_line l;
    assert_int_equal(access_line_parse(line, strlen(line), &l), backend != NULL);
    if (!backend)
        return;
    assert_string_equal(l.backend, backend);
    assert_string_equal(l.ip, ip);
    assert_int_equal(l.port, port);
    assert_int_equal(l.response_ms, ms);
}

static void times_are_read_from_the_access_log(void **state)
{
    assert_line("time=x host=\"a\" request=\"GET / HTTP/1.1\" status=200 bytes=1 service=web.http replica=10.0.0.1:80 queue_ms=0 "
                "connect_ms=0 response_ms=12 total_ms=20 end=-- retries=0 connections=1", "web.http", "10.0.0.1", 80, 12);
    assert_line("host=\"a\" request=\"GET /\\\" service=evil replica=1.1.1.1:1 response_ms=1 \" service=web.http "
                "replica=fd00::1:80 response_ms=0", "web.http", "fd00::1", 80, 0);
    assert_line("service=web.http replica=10.0.0.1:80 response_ms=1", NULL, NULL, 0, 0);
    assert_line("x service=web.http replica=-:- response_ms=-1", NULL, NULL, 0, 0);
    assert_line("x service=web.http replica=10.0.0.1:80 response_ms=-1", NULL, NULL, 0, 0);
    assert_line("", NULL, NULL, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_keeps_its_slot),
        cmocka_unit_test(weights_and_leaving),
        cmocka_unit_test(backends_of_two_namespaces_do_not_meet),
        cmocka_unit_test(hosts_paths_and_tls),
        cmocka_unit_test(odd_hosts_and_paths_are_told_what_to_do),
        cmocka_unit_test(a_problem_is_of_one_service_or_of_all),
        cmocka_unit_test(nothing_is_injected),
        cmocka_unit_test(commands_bring_more_first),
        cmocka_unit_test(numbers_of_a_header_are_divided),
        cmocka_unit_test(the_structure_tells_what_needs_a_reload),
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(counters_are_read),
        cmocka_unit_test(times_are_read_from_the_access_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
