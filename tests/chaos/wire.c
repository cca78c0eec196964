/* A cable between a host's network namespace and the bridge's, which can hold frames back: what netem does where the
 * kernel has it. One end is a tap in each; the taps are gone when this process is.
 *
 * usage: chaos-wire HOST_NAMESPACE_FILE HOST_TAP BRIDGE_TAP
 *
 * A line "MIN MAX" on stdin: from now on each frame is held for between MIN and MAX milliseconds, in both directions,
 * and none overtakes another. The answer on stdout is how many frames were held since the line before. It ends with
 * its stdin. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MOST 65536
#define HELD_MOST 20000          /* frames in one direction; a switch's buffers end somewhere too */
#define READ_MOST 64             /* frames in a row from one end */

struct frame {
    STAILQ_ENTRY(frame) link;
    int64_t due_us;
    size_t len;
    char data[];
};

struct direction {
    STAILQ_HEAD(, frame) frames;
    size_t held;
    int64_t last_due_us;
};

static long delay_min_ms, delay_max_ms, held_count;
static int ends[2];
static struct direction directions[2];       /* [i]: into ends[i] */

static int64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int tap_open(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        err(1, "tap %s", name);
    return fd;
}

/* A frame that an end does not take (it is down, say) is lost, as on any cable. */
static void forward(int into, const char *data, size_t len)
{
    ssize_t n = write(ends[into], data, len);
    (void)n;
}

static void take(int into, const char *data, size_t len, int64_t now)
{
    struct direction *d = &directions[into];
    if (!delay_max_ms && STAILQ_EMPTY(&d->frames)) {
        forward(into, data, len);
        return;
    }
    if (d->held >= HELD_MOST)
        return;
    struct frame *f = malloc(sizeof *f + len);
    if (!f)
        err(1, "memory");
    int64_t delay_us = delay_min_ms * 1000 + random() % ((delay_max_ms - delay_min_ms) * 1000 + 1);
    f->due_us = now + delay_us > d->last_due_us ? now + delay_us : d->last_due_us;
    f->len = len;
    memcpy(f->data, data, len);
    d->last_due_us = f->due_us;
    d->held++;
    held_count += delay_max_ms > 0;
    STAILQ_INSERT_TAIL(&d->frames, f, link);
}

static void take_all(int from, int64_t now)
{
    static char data[FRAME_MOST];
    for (int i = 0; i < READ_MOST; i++) {
        ssize_t n = read(ends[from], data, sizeof data);
        if (n <= 0)
            return;
        take(!from, data, (size_t)n, now);
    }
}

/* Sends what is due; returns when the next one is, INT64_MAX for never. */
static int64_t release(int into, int64_t now)
{
    struct direction *d = &directions[into];
    struct frame *f;
    while ((f = STAILQ_FIRST(&d->frames)) && f->due_us <= now) {
        forward(into, f->data, f->len);
        STAILQ_REMOVE_HEAD(&d->frames, link);
        d->held--;
        free(f);
    }
    return f ? f->due_us : INT64_MAX;
}

static bool obey(void)
{
    char line[64];
    if (!fgets(line, sizeof line, stdin))
        return false;
    long min, max;
    if (sscanf(line, "%ld %ld", &min, &max) != 2 || min < 0 || max < min || max > 60000)
        errx(1, "not MIN MAX in milliseconds: %s", line);
    delay_min_ms = min;
    delay_max_ms = max;
    printf("%ld\n", held_count);
    held_count = 0;
    return fflush(stdout) == 0;
}

static void run(void)
{
    for (int64_t next = INT64_MAX;;) {
        int64_t wait_us = next == INT64_MAX ? -1 : next - now_us();
        struct timespec wait = {.tv_nsec = 0};
        if (wait_us > 0) {
            wait.tv_sec = wait_us / 1000000;
            wait.tv_nsec = wait_us % 1000000 * 1000;
        }
        struct pollfd fds[] = {{ends[0], POLLIN, 0}, {ends[1], POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (ppoll(fds, 3, next == INT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR)
            err(1, "ppoll");
        if (fds[2].revents && !obey())
            return;
        int64_t now = now_us();
        for (int i = 0; i < 2; i++)
            if (fds[i].revents)
                take_all(i, now);
        int64_t due[] = {release(0, now), release(1, now)};
        next = due[0] < due[1] ? due[0] : due[1];
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        errx(2, "usage: %s HOST_NAMESPACE_FILE HOST_TAP BRIDGE_TAP", argv[0]);
    for (int i = 0; i < 2; i++)
        STAILQ_INIT(&directions[i].frames);
    ends[0] = tap_open(argv[3]);
    int host = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (host < 0 || setns(host, CLONE_NEWNET))
        err(1, "%s", argv[1]);
    ends[1] = tap_open(argv[2]);
    setvbuf(stdin, NULL, _IONBF, 0);         /* poll must see what was not read yet */
    puts("up");
    if (fflush(stdout))
        err(1, "stdout");
    run();
    return 0;
}
