/* What stands in the way of a start is found before the driver is asked, and said so that it can be mended. */
#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/launch.h"
#include "base/file.h"

/* Somebody else's socket on 127.0.0.1; the port comes back in *port. */
static int taken(int type, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int prepare(enum protocol protocol, int port, const char *ip, struct error *err)
{
    struct service spec;
    struct alloc alloc;
    type_init(&service_type, &spec);
    type_init(&alloc_type, &alloc);
    spec.driver = DRIVER_EXEC;
    struct alloc_port *p = list_add((struct list *)&alloc.ports, &alloc_port_type);
    *p = (struct alloc_port){.name = mem_strdup("http"), .port = 80, .host = port, .protocol = protocol};
    struct kv_list none = {0};
    struct task_facts facts = {.spec = &spec, .alloc = &alloc, .node_name = "n1", .ip = ip, .node_meta = &none,
                               .peers = &none};
    CLEANUP(launch_free) struct launch *l = NULL;
    char dir[] = "/tmp/mentat-launch-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(launch_build(&facts, dir, "/nowhere", &l, err), 0);
    int rc = launch_prepare(l, err);
    rmdir(dir);
    type_clear(&service_type, &spec);
    type_clear(&alloc_type, &alloc);
    return rc;
}

static void a_host_port_of_another_program_is_told(void **state)
{
    struct error err = {0};
    int port, fd = taken(SOCK_STREAM, &port);
    assert_int_equal(prepare(PROTOCOL_TCP, port, "127.0.0.1", &err), -1);
    CLEANUP_FREE char *expected = mem_printf("host port %d/tcp (port `http`) is taken by another program on this node", port);
    assert_string_equal(err.text, expected);
    assert_int_equal(prepare(PROTOCOL_TCP, port, NULL, &err), -1);           /* on any address */
    assert_int_equal(prepare(PROTOCOL_TCP, port, "127.0.0.2", &err), 0);     /* that of another node on this host */
    assert_int_equal(prepare(PROTOCOL_UDP, port, "127.0.0.1", &err), 0);
    close(fd);
    assert_int_equal(prepare(PROTOCOL_TCP, port, "127.0.0.1", &err), 0);
    fd = taken(SOCK_DGRAM, &port);
    assert_int_equal(prepare(PROTOCOL_UDP, port, "127.0.0.1", &err), -1);
    assert_non_null(strstr(err.text, "/udp"));
    close(fd);
}

/* A node may be reached at an address that none of its interfaces has: there is nothing to look at then. */
static void an_address_of_nobody_here_is_not_looked_at(void **state)
{
    struct error err = {0};
    int port, fd = taken(SOCK_STREAM, &port);
    assert_int_equal(prepare(PROTOCOL_TCP, port, "192.0.2.1", &err), 0);
    close(fd);
}

/* Variables are replaced in the command too; a volume that is new belongs to who runs the task. */
static void the_command_is_interpolated_and_a_new_volume_is_its_users(void **state)
{
    struct service spec;
    struct alloc alloc;
    struct error err = {0};
    struct stat st;
    char dir[] = "/tmp/mentat-launch-XXXXXX";
    assert_non_null(mkdtemp(dir));
    CLEANUP_FREE char *old = mem_printf("%s/old/0", dir), *fresh = mem_printf("%s/new/0", dir);
    assert_int_equal(dir_make(old, 0755, &err), 0);
    type_init(&service_type, &spec);
    type_init(&alloc_type, &alloc);
    spec.driver = DRIVER_EXEC;
    mem_set_string(&spec.config.user, "4242");
    str_list_add(&spec.config.command, "/opt/${node.name}/run");
    for (int i = 0; i < 2; i++) {
        struct volume *v = list_add((struct list *)&spec.volumes, &volume_type);
        mem_set_string(&v->source, i ? "new" : "old");
        mem_set_string(&v->target, "/data");
    }
    struct kv_list none = {0};
    struct task_facts facts = {.spec = &spec, .alloc = &alloc, .node_name = "n1", .ip = "127.0.0.1", .node_meta = &none,
                               .peers = &none};
    CLEANUP(launch_free) struct launch *l = NULL;
    assert_int_equal(launch_build(&facts, dir, dir, &l, &err), 0);
    assert_string_equal(l->config.command.v[0], "/opt/n1/run");
    assert_int_equal(launch_prepare(l, &err), 0);
    assert_int_equal(stat(old, &st), 0);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(stat(fresh, &st), 0);
    assert_int_equal(st.st_uid, geteuid() == 0 ? 4242 : geteuid());
    dir_remove(dir);
    type_clear(&service_type, &spec);
    type_clear(&alloc_type, &alloc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_port_of_another_program_is_told),
        cmocka_unit_test(an_address_of_nobody_here_is_not_looked_at),
        cmocka_unit_test(the_command_is_interpolated_and_a_new_volume_is_its_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
