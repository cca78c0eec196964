/* Audit files: a chain that goes on over restarts and files, and shows what was done to it. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "audit/audit.h"
#include "audit/chain.h"
#include "audit/sink.h"
#include "base/file.h"
#include "sandbox/launcher.h"

static char *dir;

static int make_dir(void **state)
{
    char text[] = "/tmp/mentat-audit-XXXXXX";
    dir = mem_strdup(mkdtemp(text));
    return 0;
}

static int remove_dir(void **state)
{
    dir_remove(dir);
    free(dir);
    return 0;
}

static struct audit *open_audit(uint64_t file_bytes, unsigned files_most, int64_t keep_ms)
{
    struct audit *a;
    struct error err;
    struct audit_options o = {.dir = dir, .server = "s1", .file_bytes = file_bytes, .files_most = files_most, .keep_ms = keep_ms};
    if (audit_open(&a, &o, &err))
        fail_msg("%s", err.text);
    return a;
}

static void add(struct audit *a, const char *who)
{
    struct error err;
    struct audit_record r = {.request = "0011223344556677", .kind = "token", .who = who, .peer = "10.0.0.1:5", .method = "POST",
                             .path = "/v1/jobs?x=\"\n", .status = 200};
    assert_int_equal(audit_write(a, &r, &err), 0);
}

static size_t whole(void)
{
    struct chain_report report;
    struct error err;
    if (chain_verify(dir, &report, &err))
        fail_msg("%s", err.text);
    return report.lines;
}

static void broken_at(const char *place)
{
    struct chain_report report;
    struct error err;
    assert_int_equal(chain_verify(dir, &report, &err), -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
    if (!strstr(err.text, place))
        fail_msg("%s: not %s", err.text, place);
}

static char *path_of(unsigned number)
{
    CLEANUP_FREE char *name = chain_file_name(number);
    return mem_printf("%s/%s", dir, name);
}

static void edit(unsigned number, const char *from, const char *to)
{
    CLEANUP_FREE char *path = path_of(number);
    CLEANUP_BUF struct buf text = {0};
    struct error err;
    assert_int_equal(file_read(path, 1 << 20, &text, &err), 0);
    char *at = strstr(text.data, from);
    assert_non_null(at);
    CLEANUP_FREE char *now = mem_printf("%.*s%s%s", (int)(at - text.data), text.data, to, at + strlen(from));
    assert_int_equal(file_write(path, now, strlen(now), 0600, &err), 0);
}

static void the_chain_goes_on_over_restarts(void **state)
{
    struct audit *a = open_audit(1 << 20, 4, 3600000);
    assert_int_equal(whole(), 1);
    add(a, "ann");
    audit_close(a);
    a = open_audit(1 << 20, 4, 3600000);
    add(a, "bob");
    audit_close(a);
    assert_int_equal(whole(), 3);
    struct stat st;
    CLEANUP_FREE char *path = path_of(1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void what_is_done_to_it_shows(void **state)
{
    static const struct { const char *from, *to, *place; } edits[] = {
        {"\"who\":\"bob\"", "\"who\":\"eve\"", "audit-000001.log:3"},
        {"\"status\":200", "\"status\":201", "audit-000001.log:2"},
        {"\"hash\":\"", "\"hash\":\"0", "audit-000001.log:1"},
        {"{\"time\"", "{ \"time\"", "audit-000001.log:1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        struct audit *a = open_audit(1 << 20, 4, 3600000);
        add(a, "ann");
        add(a, "bob");
        add(a, "cid");
        audit_close(a);
        assert_int_equal(whole(), 4);
        edit(1, edits[i].from, edits[i].to);
        broken_at(edits[i].place);
        remove_dir(NULL);
        make_dir(NULL);
    }
}

static void a_line_that_is_taken_out_shows(void **state)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *path = path_of(1);
    struct error err;
    struct audit *a = open_audit(1 << 20, 4, 3600000);
    for (int i = 0; i < 4; i++)
        add(a, "ann");
    audit_close(a);
    assert_int_equal(file_read(path, 1 << 20, &text, &err), 0);
    char *second = strchr(text.data, '\n') + 1, *third = strchr(second, '\n') + 1;
    CLEANUP_FREE char *now = mem_printf("%.*s%s", (int)(second - text.data), text.data, third);
    assert_int_equal(file_write(path, now, strlen(now), 0600, &err), 0);
    broken_at(":2");
}

static void files_follow_each_other_and_old_ones_go(void **state)
{
    struct audit *a = open_audit(600, 3, 3600000);
    for (int i = 0; i < 20; i++)
        add(a, "ann");
    audit_close(a);
    unsigned *numbers;
    size_t count;
    struct error err;
    assert_int_equal(chain_files(dir, &numbers, &count, &err), 0);
    assert_int_equal(count, 3);
    assert_true(numbers[0] > 1);
    unsigned middle = numbers[1], last = numbers[2];
    free(numbers);
    whole();
    /* By age, the last one stays in any case. */
    CLEANUP_FREE char *path = path_of(middle);
    struct timeval old[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimes(path, old), 0);
    CLEANUP_FREE char *first = path_of(middle - 1);
    assert_int_equal(utimes(first, old), 0);
    a = open_audit(1, 9, 3600000);
    add(a, "ann");
    audit_close(a);
    assert_int_equal(chain_files(dir, &numbers, &count, &err), 0);
    assert_int_equal(numbers[0], last);
    free(numbers);
    whole();
    CLEANUP_FREE char *more = path_of(last + 1);
    add(a = open_audit(1, 9, 3600000), "ann");
    audit_close(a);
    assert_int_equal(unlink(more), 0);
    broken_at("the file before it is missing");
}

static void half_a_line_of_a_crash_is_taken_away_and_told(void **state)
{
    CLEANUP_FREE char *path = path_of(1);
    CLEANUP_BUF struct buf text = {0};
    struct error err;
    struct audit *a = open_audit(1 << 20, 4, 3600000);
    add(a, "ann");
    audit_close(a);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"time\":\"20", 11), 11);
    close(fd);
    assert_int_equal(whole(), 2);
    a = open_audit(1 << 20, 4, 3600000);
    add(a, "bob");
    audit_close(a);
    assert_int_equal(whole(), 4);
    assert_int_equal(file_read(path, 1 << 20, &text, &err), 0);
    assert_non_null(strstr(text.data, "11 bytes that a crash had cut off"));
}

static void a_file_of_something_else_is_refused(void **state)
{
    CLEANUP_FREE char *path = path_of(1);
    struct error err;
    struct audit *a;
    struct audit_options o = {.dir = dir, .server = "s1", .file_bytes = 1000, .files_most = 2, .keep_ms = 1000};
    assert_int_equal(file_write(path, "hello\n", 6, 0600, &err), 0);
    assert_int_equal(audit_open(&a, &o, &err), -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_non_null(strstr(err.text, "move it away"));
}

static void *writer(void *arg)
{
    for (int i = 0; i < 200; i++)
        add(arg, "thread");
    return NULL;
}

static void threads_write_one_chain(void **state)
{
    struct audit *a = open_audit(20000, 1000, 3600000);
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, a), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    audit_close(a);
    unsigned *numbers;
    size_t count;
    struct error err;
    assert_int_equal(chain_files(dir, &numbers, &count, &err), 0);
    free(numbers);
    assert_int_equal(whole(), 800 + count);
}

/* --- sinks --- */

static struct audit *open_with_sink(const struct audit_sink_options *sink)
{
    struct audit *a;
    struct error err;
    struct audit_options o = {.dir = dir, .server = "s1", .file_bytes = 1 << 20, .files_most = 4, .keep_ms = 3600000};
    if (audit_sink_open(&o.sink, sink, &err) || audit_open(&a, &o, &err))
        fail_msg("%s", err.text);
    return a;
}

static void the_command_gets_all_lines_in_order(void **state)
{
    struct launcher *launcher;
    struct error err;
    CLEANUP_FREE char *command = mem_printf("cat > %s/copy", dir), *copy = mem_printf("%s/copy", dir), *file = path_of(1);
    CLEANUP_BUF struct buf said = {0}, written = {0};
    assert_int_equal(launcher_new(&launcher, &err), 0);
    struct audit *a = open_with_sink(&(struct audit_sink_options){.command = command, .launcher = launcher});
    for (int i = 0; i < 500; i++)
        add(a, "ann");
    assert_int_equal(audit_dropped(a), 0);
    audit_close(a);
    /* It was closed after the last line, so the command may still be writing: all is there when it has all. */
    assert_int_equal(file_read(file, 1 << 22, &written, &err), 0);
    const char *first = strchr(written.data, '\n') + 1;
    while (said.len != written.len - (size_t)(first - written.data)) {
        assert_int_equal(file_read(copy, 1 << 22, &said, &err), 0);
        poll(NULL, 0, 1);
    }
    assert_string_equal(said.data, first);
    launcher_free(launcher);
}

static void a_command_that_does_not_read_holds_nobody_up(void **state)
{
    struct launcher *launcher;
    struct error err;
    assert_int_equal(launcher_new(&launcher, &err), 0);
    struct audit *a = open_with_sink(&(struct audit_sink_options){.command = "exec sleep 5 > /dev/null 2>&1", .launcher = launcher});
    CLEANUP_FREE char *path = mem_alloc(2001);
    memset(path, 'x', 2000);
    struct audit_record r = {.kind = "token", .who = "ann", .method = "POST", .path = path, .status = 200};
    int n = 0;
    for (; !audit_dropped(a); n++)
        assert_int_equal(audit_write(a, &r, &err), 0);
    assert_true(n > 1000);
    audit_close(a);
    assert_true(whole() > 1000);
    launcher_free(launcher);
}

static void syslog_gets_messages(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[4096] = "";
    snprintf(address.sun_path, sizeof address.sun_path, "%s/log", dir);
    struct audit *a = open_with_sink(&(struct audit_sink_options){.syslog = address.sun_path});
    add(a, "early");                         /* nobody listens yet: it waits */
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    add(a, "later");
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_memory_equal(text, "<110>1 20", 9);
    assert_non_null(strstr(text, " mentat-server "));
    assert_non_null(strstr(text, " audit - {\"time\":"));
    assert_non_null(strstr(text, "\"who\":\"early\""));
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "\"who\":\"later\""));
    audit_close(a);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_chain_goes_on_over_restarts, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_is_done_to_it_shows, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_line_that_is_taken_out_shows, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(files_follow_each_other_and_old_ones_go, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(half_a_line_of_a_crash_is_taken_away_and_told, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_file_of_something_else_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(threads_write_one_chain, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_command_gets_all_lines_in_order, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_command_that_does_not_read_holds_nobody_up, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(syslog_gets_messages, make_dir, remove_dir),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
