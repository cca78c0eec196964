/* Logs: rotation within bounds, a full disk, and readers that see each byte once. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "agent/logfile.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "groups.h"
#include "task_world.h"

struct reading {
    struct log_reader *reader;
    struct buf data;
    bool ended;
    struct error error;
    size_t want;
};

static void on_data(void *arg, const void *bytes, size_t n)
{
    struct reading *r = arg;
    buf_add(&r->data, bytes, n);
}

static void on_end(void *arg, const struct error *err)
{
    struct reading *r = arg;
    r->ended = true;
    if (err)
        r->error = *err;
}

static const struct log_events reading_events = {.data = on_data, .end = on_end};

static bool has_ended(void *arg) { return ((struct reading *)arg)->ended; }
static bool has_enough(void *arg) { return ((struct reading *)arg)->data.len >= ((struct reading *)arg)->want; }

static void read_all(struct world *w, const char *dir, struct log_query query, struct reading *r)
{
    *r = (struct reading){0};
    r->reader = log_reader_open(&w->loop, dir, &query, &reading_events, r);
    assert_true(world_wait(w, has_ended, r));
    assert_int_equal(r->error.code, ERROR_NONE);
    log_reader_close(r->reader);
    buf_reserve(&r->data, 1);
}

#define LINE_BYTES 52

/* A writer without a task around it. */
static void writer_open(struct world *w, struct log_writer *writer, char dir[static 128], char logs[static 160], int files)
{
    snprintf(dir, 128, "%s/alloc", w->dir);
    mkdir(dir, 0755);
    snprintf(logs, 160, "%s/logs", dir);
    log_writer_init(writer, logs, LOG_STDOUT, files, 1);
}

static void writer_lines(struct log_writer *writer, int from, int to, int64_t time_ms)
{
    for (int i = from; i < to; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "line %06d of a log that is about fifty bytes wide\n", i);
        log_writer_add(writer, line, (size_t)n, time_ms);
    }
}

static uint64_t folder_bytes(const char *dir)
{
    DIR *d = opendir(dir);
    uint64_t sum = 0;
    struct stat st;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
            sum += (uint64_t)st.st_size;
    if (d)
        closedir(d);
    return sum;
}

static void fifty_megabytes_stay_within_bounds_and_end_complete(void **state)
{
    struct probe p;
    struct reading r;
    probe_init(*state, &p, "seq -f 'this is line number %08.0f of very many' 1 1300000; echo end");
    p.logs.max_files = 3;
    p.logs.max_mb = 2;
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 0);
    CLEANUP_FREE char *dir = mem_printf("%s/logs", p.dir);
    assert_true(folder_bytes(dir) <= 3 * (2u << 20));
    assert_true(folder_bytes(dir) > 2u << 20);
    read_all(*state, p.dir, (struct log_query){.tail = 3}, &r);
    assert_string_equal(r.data.data, "this is line number 01299999 of very many\nthis is line number 01300000 of very many\nend\n");
    buf_free(&r.data);
    probe_end(&p);
}

static long times_woken(const struct probe *p)
{
    int shim = 0;
    long times = -1;
    assert_int_equal(sscanf(p->handle, "exec1 shim=%d", &shim), 1);
    CLEANUP_FREE char *path = mem_printf("/proc/%d/status", shim);
    CLEANUP_BUF struct buf text = {0};
    assert_int_equal(file_read(path, 1 << 16, &text, NULL), 0);
    const char *line = strstr(text.data, "\nvoluntary_ctxt_switches:");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "\nvoluntary_ctxt_switches: %ld", &times), 1);
    return times;
}

/* Its shim may wake twice in each rest of 5 ms, for its end and for what came: however fast the machine is, and the task. */
static void line_after_line_wakes_nobody_for_each(void **state)
{
    struct probe p;
    probe_init(*state, &p, "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; echo > done; while [ ! -e go ]; do sleep 0.01; done");
    CLEANUP_FREE char *go = mem_printf("%s/task/go", p.dir);
    int64_t began_at = time_monotonic_ms();
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    assert_true(probe_wait_text(&p, "task/done", "\n"));
    assert_true(times_woken(&p) <= 50 + 2 * (time_monotonic_ms() - began_at) / 5);
    assert_int_equal(file_write(go, "", 0, 0644, NULL), 0);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 0);
    CLEANUP_BUF struct buf log = {0}, expected = {0};
    for (int i = 0; i < 30000; i++)
        buf_printf(&expected, "line %d\n", i);
    probe_log(&p, LOG_STDOUT, &log);
    assert_string_equal(log.data, expected.data);
    probe_end(&p);
}

static void tail_counts_lines_across_files(void **state)
{
    char dir[128], logs[160];
    struct log_writer writer;
    struct reading r;
    writer_open(*state, &writer, dir, logs, 5);
    writer_lines(&writer, 0, 30000, 1000);
    log_writer_add(&writer, "no end", 6, 1000);
    log_writer_close(&writer);
    read_all(*state, dir, (struct log_query){.tail = 1}, &r);
    assert_string_equal(r.data.data, "no end");
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = 25001}, &r);
    assert_int_equal(r.data.len, 25000 * LINE_BYTES + 6);
    assert_memory_equal(r.data.data, "line 005000 ", 12);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = 0}, &r);
    assert_int_equal(r.data.len, 0);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = 1000000}, &r);
    assert_int_equal(r.data.len, 30000 * LINE_BYTES + 6);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = -1, .stream = LOG_STDERR}, &r);
    assert_int_equal(r.data.len, 0);
    buf_free(&r.data);
}

/* Cut off after each number of bytes, the rest follows; what was rotated away meanwhile is passed over. */
static void from_goes_on_where_a_reader_was_cut_off(void **state)
{
    char dir[128], logs[160];
    struct log_writer writer;
    struct reading all, rest;
    writer_open(*state, &writer, dir, logs, 5);
    writer_lines(&writer, 0, 30000, 1000);
    log_writer_close(&writer);
    read_all(*state, dir, (struct log_query){.tail = -1}, &all);
    for (size_t cut = 0; cut < all.data.len; cut += 150001) {
        struct log_position from = {0, cut};
        read_all(*state, dir, (struct log_query){.from = &from, .tail = 1, .since_ms = 900000}, &rest);
        assert_int_equal(rest.data.len, all.data.len - cut);
        assert_memory_equal(rest.data.data, all.data.data + cut, rest.data.len);
        buf_free(&rest.data);
    }
    read_all(*state, dir, (struct log_query){.from = &(struct log_position){0, all.data.len}}, &rest);
    assert_int_equal(rest.data.len, 0);
    buf_free(&rest.data);
    read_all(*state, dir, (struct log_query){.from = &(struct log_position){99, 5}}, &rest);
    assert_int_equal(rest.data.len, 0);
    buf_free(&rest.data);
    CLEANUP_FREE char *first = mem_printf("%s/stdout.0.log", logs);
    struct stat st;
    assert_int_equal(stat(first, &st), 0);
    assert_int_equal(unlink(first), 0);
    read_all(*state, dir, (struct log_query){.from = &(struct log_position){0, 10}}, &rest);
    assert_int_equal(rest.data.len, all.data.len - (size_t)st.st_size);
    buf_free(&rest.data);
    buf_free(&all.data);
}

static void since_begins_at_its_time(void **state)
{
    char dir[128], logs[160];
    struct log_writer writer;
    struct reading r;
    writer_open(*state, &writer, dir, logs, 5);
    writer_lines(&writer, 0, 10, 100000);
    writer_lines(&writer, 10, 20, 200000);
    writer_lines(&writer, 20, 30000, 300000);
    writer_lines(&writer, 30000, 30010, 400000);
    log_writer_close(&writer);
    read_all(*state, dir, (struct log_query){.tail = -1, .since_ms = 150000}, &r);
    assert_int_equal(r.data.len, (30010 - 10) * LINE_BYTES);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = -1, .since_ms = 400000}, &r);
    assert_int_equal(r.data.len, 10 * LINE_BYTES);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = 3, .since_ms = 150000}, &r);
    assert_int_equal(r.data.len, 3 * LINE_BYTES);
    buf_free(&r.data);
    read_all(*state, dir, (struct log_query){.tail = -1, .since_ms = 500000}, &r);
    assert_int_equal(r.data.len, 0);
    buf_free(&r.data);
}

static void writer_continues_after_a_restart(void **state)
{
    char dir[128], logs[160];
    struct log_writer writer;
    struct reading r;
    writer_open(*state, &writer, dir, logs, 5);
    writer_lines(&writer, 0, 25000, 1000);
    log_writer_close(&writer);
    log_writer_init(&writer, logs, LOG_STDOUT, 5, 1);
    writer_lines(&writer, 25000, 25010, 2000);
    log_writer_close(&writer);
    read_all(*state, dir, (struct log_query){.tail = -1}, &r);
    assert_int_equal(r.data.len, 25010 * LINE_BYTES);
    buf_free(&r.data);
}

static void follower_sees_each_byte_once_across_rotations(void **state)
{
    struct world *w = *state;
    char dir[128], logs[160];
    struct log_writer writer;
    struct reading r = {0};
    writer_open(w, &writer, dir, logs, 50);
    r.reader = log_reader_open(&w->loop, dir, &(struct log_query){.tail = 0, .follow = true}, &reading_events, &r);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    for (int i = 0; i < 100; i++) {
        writer_lines(&writer, i * 1000, (i + 1) * 1000, 1000 + i);
        uv_run(&w->loop, UV_RUN_NOWAIT);
        if (i % 7 == 3)
            log_reader_pause(r.reader, true);
        if (i % 7 == 5)
            log_reader_pause(r.reader, false);
        r.want = i % 7 == 6 ? (size_t)(i + 1) * 1000 * LINE_BYTES : 0;
        assert_true(world_wait(w, has_enough, &r));
    }
    log_reader_pause(r.reader, false);
    log_reader_finish(r.reader);
    assert_true(world_wait(w, has_ended, &r));
    assert_int_equal(r.data.len, 100000 * LINE_BYTES);
    for (int i = 0; i < 100000; i++) {
        char head[16];
        snprintf(head, sizeof head, "line %06d ", i);
        assert_memory_equal(r.data.data + (size_t)i * LINE_BYTES, head, 12);
    }
    log_reader_close(r.reader);
    log_writer_close(&writer);
    buf_free(&r.data);
}

static void follower_of_a_task_sees_its_lines_as_they_come(void **state)
{
    struct world *w = *state;
    struct probe p;
    struct reading r = {0};
    probe_init(w, &p, "while [ ! -e go ]; do sleep 0.01; done; echo first; while [ ! -e go2 ]; do sleep 0.01; done; echo second");
    r.reader = log_reader_open(&w->loop, p.dir, &(struct log_query){.tail = 10, .follow = true}, &reading_events, &r);
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    CLEANUP_FREE char *go = mem_printf("%s/task/go", p.dir);
    CLEANUP_FREE char *go2 = mem_printf("%s/task/go2", p.dir);
    file_write(go, "", 0, 0644, NULL);
    r.want = 6;
    assert_true(world_wait(w, has_enough, &r));
    assert_string_equal(r.data.data, "first\n");
    file_write(go2, "", 0, 0644, NULL);
    assert_true(probe_wait_exited(&p));
    log_reader_finish(r.reader);
    assert_true(world_wait(w, has_ended, &r));
    assert_string_equal(r.data.data, "first\nsecond\n");
    log_reader_close(r.reader);
    buf_free(&r.data);
    probe_end(&p);
}

static void full_disk_drops_and_counts_and_goes_on(void **state)
{
    struct world *w = *state;
    struct probe p;
    if (geteuid() != 0)
        skip();
    probe_init(w, &p, "head -c 3000000 /dev/zero | tr '\\0' x; echo > full; while [ ! -e go ]; do sleep 0.01; done; "
               "echo after; exit 6");
    CLEANUP_FREE char *logs = mem_printf("%s/logs", p.dir);
    CLEANUP_FREE char *ballast = mem_printf("%s/logs/ballast", p.dir);
    CLEANUP_FREE char *go = mem_printf("%s/task/go", p.dir);
    /* When the ballast is gone there is room for all that a pipe may hold then. */
    if (!world_mount(w, logs, "size=4m"))
        skip();
    char *filler = mem_alloc(3600 << 10);
    FILE *f = fopen(ballast, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(filler, 1, 3600 << 10, f), 3600 << 10);
    fclose(f);
    free(filler);
    probe_start(&p);
    assert_true(probe_wait_text(&p, "task/full", "\n"));
    assert_false(p.exited);
    unlink(ballast);
    file_write(go, "", 0, 0644, NULL);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 6);
    CLEANUP_BUF struct buf log = {0};
    probe_log(&p, 0, &log);
    /* What was still in the pipe when room came back stands after the note. */
    const char *note = strstr(log.data, "\n[mentat: ");
    assert_non_null(note);
    unsigned long long dropped = strtoull(note + strlen("\n[mentat: "), NULL, 10);
    static const char rest[] = " bytes of output were dropped: No space left on device]\n";
    const char *end = strstr(note, rest);
    assert_non_null(end);
    end += strlen(rest);
    size_t late = strspn(end, "x");
    assert_string_equal(end + late, "after\n");
    assert_int_equal(strspn(log.data, "x"), note - log.data);
    assert_int_equal((size_t)(note - log.data) + dropped + late, 3000000);
    probe_end(&p);
}

static void exit_status_survives_a_full_disk(void **state)
{
    struct probe p;
    if (geteuid() != 0)
        skip();
    probe_init(*state, &p, "cat /dev/zero > fill; echo lost; exit 5");
    if (!world_mount(*state, p.dir, "size=1m"))
        skip();
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_true(p.how.known);
    assert_int_equal(p.how.code, 5);
    probe_end(&p);
}

int run_log_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fifty_megabytes_stay_within_bounds_and_end_complete, world_open, world_close),
        cmocka_unit_test_setup_teardown(line_after_line_wakes_nobody_for_each, world_open, world_close),
        cmocka_unit_test_setup_teardown(tail_counts_lines_across_files, world_open, world_close),
        cmocka_unit_test_setup_teardown(from_goes_on_where_a_reader_was_cut_off, world_open, world_close),
        cmocka_unit_test_setup_teardown(since_begins_at_its_time, world_open, world_close),
        cmocka_unit_test_setup_teardown(writer_continues_after_a_restart, world_open, world_close),
        cmocka_unit_test_setup_teardown(follower_sees_each_byte_once_across_rotations, world_open, world_close),
        cmocka_unit_test_setup_teardown(follower_of_a_task_sees_its_lines_as_they_come, world_open, world_close),
        cmocka_unit_test_setup_teardown(full_disk_drops_and_counts_and_goes_on, world_open, world_close),
        cmocka_unit_test_setup_teardown(exit_status_survives_a_full_disk, world_open, world_close),
    };
    return cmocka_run_group_tests_name("agent_logs", tests, NULL, NULL);
}
