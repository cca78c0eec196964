/* The sanitizers of this build notice what they are for, and their reports arrive: this program runs itself with a
 * mistake in it, without environment and output as the agent's shims are, and looks for the report. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/* --- mistakes --- */

static int *volatile shared;

#ifdef __SANITIZE_ADDRESS__
static void read_too_far(void)
{
    shared = mem_alloc(4 * sizeof *shared);
    shared[0] = shared[4];
}

static void lose_memory(void)
{
    shared = mem_alloc(77);
    shared = NULL;
}

static void overflow(void)
{
    volatile int n = __INT_MAX__;
    n = n + 1;
}
#endif

#ifdef __SANITIZE_THREAD__
static void *count(void *unused)
{
    for (int i = 0; i < 1000; i++)
        ++*shared;
    return NULL;
}

static void race(void)
{
    pthread_t other;
    shared = mem_alloc(sizeof *shared);
    pthread_create(&other, NULL, count, NULL);
    count(NULL);
    pthread_join(other, NULL);
    free(shared);
}
#endif

static const struct {
    const char *name, *report;
    void (*make)(void);
} mistakes[] = {
#ifdef __SANITIZE_ADDRESS__
    {"read_too_far", "heap-buffer-overflow", read_too_far},
    {"lose_memory", "detected memory leaks", lose_memory},
    {"overflow", "signed integer overflow", overflow},
#endif
#ifdef __SANITIZE_THREAD__
    {"race", "data race", race},
#endif
};

/* --- the tests --- */

static pid_t start(const char *mistake)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    execle("/proc/self/exe", "test-sanitizer", mistake, (char *)NULL, (char *[]){NULL});
    _exit(0);
}

static void each_mistake_is_noticed_and_its_report_arrives(void **state)
{
    assert_true(ARRAY_LEN(mistakes) > 0);
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
        int status;
        CLEANUP_BUF struct buf text = {0};
        struct error err = {0};
        pid_t pid = start(mistakes[i].name);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(status != 0);
        CLEANUP_FREE char *path = mem_printf(REPORTS "/report.%d", (int)pid);
        if (file_read(path, 1 << 20, &text, &err))
            fail_msg("%s: no report: %s", mistakes[i].name, err.text);
        assert_non_null(strstr(text.data, mistakes[i].report));
        assert_int_equal(unlink(path), 0);
    }
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < ARRAY_LEN(mistakes); i++)
        if (!strcmp(argv[1], mistakes[i].name)) {
            mistakes[i].make();
            return 0;
        }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_noticed_and_its_report_arrives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
