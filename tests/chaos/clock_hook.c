/* A wall clock that a test can step. Linked into the programs that tests/chaos runs, and into no others: the linker's
 * --wrap leads their calls of the C library's clock here. The offset (nanoseconds, int64_t) stands in the file `clock`
 * beside the program, so that a shim, which is started without an environment, has its agent's clock. Monotonic clocks
 * are left alone, as a step of a host's clock leaves them alone. */
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
time_t __wrap_time(time_t *out);
int __wrap_gettimeofday(struct timeval *tv, void *zone);

static const _Atomic int64_t *offset;

__attribute__((constructor)) static void find_offset(void)
{
    char path[PATH_MAX + 8];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (!slash)
        return;
    memcpy(slash, "/clock", sizeof "/clock");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        offset = map;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
    int rc = __real_clock_gettime(clock, ts);
    if (rc || !offset || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return rc;
    int64_t ns = ts->tv_sec * SECOND + ts->tv_nsec + atomic_load(offset);
    ts->tv_sec = ns / SECOND;
    ts->tv_nsec = ns % SECOND;
    return 0;
}

time_t __wrap_time(time_t *out)
{
    struct timespec ts;
    __wrap_clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int __wrap_gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec ts;
    __wrap_clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return 0;
}
