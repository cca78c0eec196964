#include "../cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/store.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

struct world {
    char dir[64];
    uv_loop_t loop;
    struct store *store;
    int durable;
    struct buf seen;
};

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    strcpy(w->dir, "/tmp/mentat-store-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    uv_loop_init(&w->loop);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    for (const char *const *name = (const char *const[]){"store.mdb", "agent.lock", NULL}; *name; name++) {
        CLEANUP_FREE char *path = mem_printf("%s/%s", w->dir, *name);
        unlink(path);
    }
    rmdir(w->dir);
    buf_free(&w->seen);
    free(w);
    return 0;
}

static void open_store(struct world *w)
{
    struct error err = {0};
    if (store_open(w->dir, &w->loop, &w->store, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_store(struct world *w)
{
    store_close(w->store);
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void wait_durable(struct world *w)
{
    int before = w->durable;
    store_when_durable(w->store, count, &w->durable);
    while (w->durable == before)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static int see(void *ctx, const char *key, const void *value, size_t len, struct error *err)
{
    buf_printf(ctx, "%s=%.*s;", key, (int)len, (const char *)value);
    return 0;
}

static const char *contents(struct world *w, enum store_table table)
{
    struct error err = {0};
    buf_clear(&w->seen);
    if (store_load(w->store, table, see, &w->seen, &err) < 0)
        fail_msg("%s", err.text);
    return w->seen.data ? w->seen.data : "";
}

static void put(struct world *w, const char *key, const char *value)
{
    store_put(w->store, STORE_ALLOCS, key, value, strlen(value));
}

static void what_was_put_is_there_again_in_order_and_by_table(void **state)
{
    struct world *w = *state;
    open_store(w);
    put(w, "b", "2");
    put(w, "a", "old");
    put(w, "a", "1");
    put(w, "c", "3");
    store_put(w->store, STORE_META, "z", "meta", 4);
    wait_durable(w);
    store_delete(w->store, STORE_ALLOCS, "b");
    store_delete(w->store, STORE_ALLOCS, "never there");
    put(w, "d", "");
    close_store(w);
    open_store(w);
    assert_string_equal(contents(w, STORE_ALLOCS), "a=1;c=3;d=;");
    assert_string_equal(contents(w, STORE_META), "z=meta;");
    assert_string_equal(contents(w, STORE_SERVICES), "");
    close_store(w);
}

static void what_was_durable_survives_a_kill(void **state)
{
    struct world *w = *state;
    pid_t pid = fork();
    if (!pid) {
        struct world child = *w;
        uv_loop_init(&child.loop);
        open_store(&child);
        for (int i = 0; i < 1000; i++) {
            char key[16];
            snprintf(key, sizeof(key), "%04d", i);
            put(&child, key, "x");
        }
        wait_durable(&child);
        put(&child, "late", "perhaps");
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    open_store(w);
    const char *text = contents(w, STORE_ALLOCS);
    assert_non_null(strstr(text, "0000=x;"));
    assert_non_null(strstr(text, "0999=x;"));
    close_store(w);
}

static void a_second_agent_is_refused(void **state)
{
    struct world *w = *state;
    open_store(w);
    struct error err = {0};
    struct store *second;
    assert_int_equal(store_open(w->dir, &w->loop, &second, &err), -1);
    assert_int_equal(err.code, ERROR_CONFLICT);
    close_store(w);
}

static void expect_corrupt(struct world *w)
{
    struct error err = {0};
    struct store *s = NULL;
    int rc = store_open(w->dir, &w->loop, &s, &err);
    if (!rc) {
        buf_clear(&w->seen);
        rc = store_load(s, STORE_ALLOCS, see, &w->seen, &err);
        store_close(s);
    }
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_non_null(strstr(err.text, "store.mdb"));
}

static void fill(struct world *w)
{
    open_store(w);
    char big[8000];
    memset(big, 'v', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    put(w, "key", big);
    wait_durable(w);
    close_store(w);
}

static void a_store_that_was_cut_off_is_a_clear_error(void **state)
{
    struct world *w = *state;
    fill(w);
    CLEANUP_FREE char *path = mem_printf("%s/store.mdb", w->dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 4096), 0);
    expect_corrupt(w);
}

/* The page is whole as far as LMDB looks: its head is there, the entries are zeros. */
static void a_page_that_lost_its_end_is_a_clear_error_when_it_is_in_use(void **state)
{
    struct world *w = *state;
    open_store(w);
    put(w, "a", "1");
    put(w, "b", "2");
    wait_durable(w);
    close_store(w);
    CLEANUP_FREE char *path = mem_printf("%s/store.mdb", w->dir);
    CLEANUP_BUF struct buf whole = {0};
    assert_int_equal(file_read(path, 1 << 20, &whole, NULL), 0);
    unsigned refused = 0;
    for (size_t page = 2; page < whole.len / 4096; page++) {
        struct error err = {0};
        assert_int_equal(file_write(path, whole.data, page * 4096 + 100, 0600, &err), 0);
        if (store_open(w->dir, &w->loop, &w->store, &err) < 0) {
            assert_int_equal(err.code, ERROR_CORRUPT);
            refused++;
            continue;
        }
        assert_string_equal(contents(w, STORE_ALLOCS), "a=1;b=2;");
        close_store(w);
    }
    assert_true(refused > 0);
}

static void a_store_whose_last_pages_are_free_opens_again(void **state)
{
    struct world *w = *state;
    open_store(w);
    char key[16];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof(key), "%04d", i);
            put(w, key, "some value that takes a little room in a page");
        }
        wait_durable(w);
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof(key), "%04d", i);
            store_delete(w->store, STORE_ALLOCS, key);
        }
        wait_durable(w);
    }
    close_store(w);
    open_store(w);
    assert_string_equal(contents(w, STORE_ALLOCS), "");
    close_store(w);
}

static void a_store_with_a_foreign_header_is_a_clear_error(void **state)
{
    struct world *w = *state;
    fill(w);
    CLEANUP_FREE char *path = mem_printf("%s/store.mdb", w->dir);
    int fd = open(path, O_WRONLY);
    char junk[8192];
    memset(junk, 0x5a, sizeof(junk));
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
    close(fd);
    expect_corrupt(w);
}

static void a_flipped_bit_in_a_value_is_a_clear_error(void **state)
{
    struct world *w = *state;
    fill(w);
    CLEANUP_FREE char *path = mem_printf("%s/store.mdb", w->dir);
    CLEANUP_BUF struct buf file = {0};
    assert_int_equal(file_read(path, 1 << 24, &file, NULL), 0);
    char *at = memmem(file.data, file.len, "vvvvvvvvvvvvvvvvvvvv", 20);
    assert_non_null(at);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "w", 1, at - file.data + 100), 1);
    close(fd);
    expect_corrupt(w);
}

static void on_guard(uv_timer_t *t)
{
    fail_msg("the store did not go on");
}

/* RLIMIT_FSIZE stands for a full disk: writes beyond it fail. */
static void a_full_disk_is_told_and_writing_goes_on_by_itself(void **state)
{
    struct world *w = *state;
    signal(SIGXFSZ, SIG_IGN);
    open_store(w);
    put(w, "before", "1");
    wait_durable(w);
    int changes = 0;
    store_on_change(w->store, count, &changes);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    CLEANUP_FREE char *big = mem_alloc(200000);
    memset(big, 'x', 199999);
    put(w, "big", big);
    put(w, "small", "first");
    int durable = 0;
    store_when_durable(w->store, count, &durable);
    while (!changes)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_non_null(store_failing(w->store));
    assert_int_equal(durable, 0);
    put(w, "small", "second");
    setrlimit(RLIMIT_FSIZE, &old);
    /* The store alone does not keep a loop alive. */
    uv_timer_t keep;
    uv_timer_init(&w->loop, &keep);
    uv_timer_start(&keep, on_guard, 20000, 0);
    while (!durable)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&keep, NULL);
    assert_null(store_failing(w->store));
    assert_int_equal(changes, 2);
    store_delete(w->store, STORE_ALLOCS, "big");
    close_store(w);
    open_store(w);
    assert_string_equal(contents(w, STORE_ALLOCS), "before=1;small=second;");
    close_store(w);
}

int main(void)
{
    log_init("test", LOG_FATAL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_is_there_again_in_order_and_by_table, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_durable_survives_a_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_agent_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_was_cut_off_is_a_clear_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_that_lost_its_end_is_a_clear_error_when_it_is_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_whose_last_pages_are_free_opens_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_with_a_foreign_header_is_a_clear_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_bit_in_a_value_is_a_clear_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_told_and_writing_goes_on_by_itself, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
