/* A guest whose memory is copied, and one that is such a copy. HOLD: the service stands still, whatever was said so far goes to
 * the host, then nothing is said any more, so that the copy has nothing half said. GO: it goes on, with a seed of its own.
 * IDENTITY, in a copy: it becomes somebody else, before it goes on.
 *
 * The guest waits for one of these without a bound: it cannot know which of the two it is, and a copy must not go on as if it
 * were the first. The host's own bounds end the wait: GO comes however the copying went. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_SIZE (8 + FRAME_SEED_SIZE)
#define ENVIRONMENT_DIR "/run/mentat"
#define ENVIRONMENT_FILE ENVIRONMENT_DIR "/environment"

void clock_set(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    clock_settime(CLOCK_REALTIME, &t);
}

/* Two copies must not draw the same numbers: the kernel takes the seed for full entropy, and draws anew from it at once. */
static int entropy_take(const uint8_t *seed, char *why)
{
    struct { struct rand_pool_info head; uint8_t bytes[FRAME_SEED_SIZE]; } pool = {
        .head = {.entropy_count = FRAME_SEED_SIZE * 8, .buf_size = FRAME_SEED_SIZE}};
    int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    memcpy(pool.head.buf, seed, FRAME_SEED_SIZE);
    int result = fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? why_errno(why, "/dev/random") : 0;
    explicit_bzero(&pool, sizeof pool);
    if (fd >= 0)
        close(fd);
    return result;
}

/* HEAD_SIZE bytes: the time and a seed. */
static int head_take(const uint8_t *bytes, char *why)
{
    clock_set((uint64_t)frame_get_u32(bytes + 4) << 32 | frame_get_u32(bytes));
    return entropy_take(bytes + 8, why);
}

int go_frame(const struct frame *f, char *why)
{
    return f->n < HEAD_SIZE ? why_set(why, "GO: it is not complete") : head_take(f->data, why);
}

/* Its environment cannot be changed from outside; here the program finds what it would be. */
static void environment_write(const struct drive *d, const struct process_user *user)
{
    mkdir(ENVIRONMENT_DIR, 0755);
    unlink(ENVIRONMENT_FILE);
    int fd = open(ENVIRONMENT_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    for (size_t i = 0; fd >= 0 && i < d->env.n; i++)
        if (write(fd, d->env.v[i], strlen(d->env.v[i])) < 0 || write(fd, "\n", 1) < 0)
            break;
    if (fd >= 0 && fchown(fd, user->uid, user->gid) < 0)
        unlink(ENVIRONMENT_FILE);
    if (fd >= 0)
        close(fd);
}

/* The texts of d borrow from the bytes, which stay. */
static int identity_take(const uint8_t *bytes, size_t n, struct drive *d, const struct process_user *user, char *why)
{
    struct drive fresh;
    const char *wrong = n < HEAD_SIZE ? "it is not complete" : drive_decode(bytes + HEAD_SIZE, n - HEAD_SIZE, &fresh);
    if (wrong)
        return why_set(why, "the new identity: %s", wrong);
    if (head_take(bytes, why) < 0)
        return -1;
    drive_clear(d);
    *d = fresh;
    if (address_change(d, why) < 0)
        return -1;
    environment_write(d, user);
    return 0;
}

int identity_frame(const struct frame *f, struct drive *d, const struct process_user *user, char *why)
{
    static uint8_t *bytes;
    static size_t n;
    uint8_t *more = n + f->n <= DRIVE_MAX + HEAD_SIZE ? realloc(bytes, n + f->n + 1) : NULL;
    if (!more)
        return why_set(why, "the new identity: it is too large");
    bytes = more;
    memcpy(bytes + n, f->data, f->n);
    n += f->n;
    if (f->stream)
        return 0;
    int result = identity_take(bytes, n, d, user, why);
    bytes = NULL;                    /* the drive's, if it was one */
    n = 0;
    return result < 0 ? -1 : 1;
}
