/* Secrets come over the line, never by a drive: u32 length of all that follows, then records of u8 kind and u32 length
 * (FRAME_SECRETS_…). The host sends the next piece when this one was taken, so a line that holds little loses nothing.
 * The first time it sends all there are, and the service starts after that; later, files that have changed. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_HEADER = 5 };

static struct {
    int dir;                         /* with `user` */
    const struct process_user *user; /* NULL: not begun */
    uint8_t *bytes;                  /* of the pieces so far; NULL: none came */
    size_t size, n;
    bool failed;                     /* what still follows is passed over */
    bool there;
} secrets;

int secrets_begin(const struct drive *d, const struct process_user *user, char *why)
{
    char options[64];
    snprintf(options, sizeof options, "mode=0700,uid=%u,gid=%u", user->uid, user->gid);
    if (directories_make(d->secrets_dir, why) < 0)
        return -1;
    if (mount("secrets", d->secrets_dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0 ||
        (secrets.dir = open(d->secrets_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return why_errno(why, "cannot make %s for secrets", d->secrets_dir);
    secrets.user = user;
    return 0;
}

/* In one step: who reads it has the old one or the new one. */
static int file_replace(const char *name, const uint8_t *bytes, size_t n, char *why)
{
    char fresh[PATH_MAX];
    snprintf(fresh, sizeof fresh, ".%s.new", name);
    unlinkat(secrets.dir, fresh, 0);
    int fd = openat(secrets.dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
    bool good = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fchown(fd, secrets.user->uid, secrets.user->gid) == 0
        && renameat(secrets.dir, fresh, secrets.dir, name) == 0;
    int result = good ? 0 : why_errno(why, "cannot write the secret file %s", name);
    if (fd >= 0)
        close(fd);
    if (!good)
        unlinkat(secrets.dir, fresh, 0);
    return result;
}

static int record_take(struct drive *d, uint8_t kind, const uint8_t *data, size_t n, char *why)
{
    const char *text = (const char *)data;
    size_t length = strnlen(text, n);
    if (length == n)
        return why_set(why, "a secret's record is damaged");
    if (kind == FRAME_SECRETS_FILE && *text && strcmp(text, ".") && strcmp(text, "..") && !strchr(text, '/'))
        return file_replace(text, data + length + 1, n - length - 1, why);
    /* What it has when it starts is what its commands have, too. */
    char *pair = kind == FRAME_SECRETS_ENV && !secrets.there ? strdup(text) : NULL;
    const char *wrong = pair ? drive_text_add(&d->env, pair) : NULL;
    return wrong ? why_set(why, "%s", wrong) : 0;
}

static int records_take(struct drive *d, char *why)
{
    const uint8_t *p = secrets.bytes;
    size_t left = secrets.n;
    while (left) {
        size_t n = left >= RECORD_HEADER ? frame_get_u32(p + 1) : 0;
        if (left < RECORD_HEADER || n > left - RECORD_HEADER)
            return why_set(why, "the host's secrets are damaged");
        if (record_take(d, p[0], p + RECORD_HEADER, n, why) < 0)
            return -1;
        p += RECORD_HEADER + n;
        left -= RECORD_HEADER + n;
    }
    return 0;
}

static void pieces_drop(void)
{
    if (secrets.bytes)
        explicit_bzero(secrets.bytes, secrets.size);
    free(secrets.bytes);
    secrets.bytes = NULL;
    secrets.size = secrets.n = 0;
}

/* The first piece says how long they are, so that no copy is left behind by growing. */
static int piece_take(const struct frame *f, char *why)
{
    size_t head = secrets.bytes ? 0 : 4;
    if (head) {
        secrets.size = frame_u32(f, 0);
        if (f->n < head || secrets.size > FRAME_SECRETS_MAX)
            return why_set(why, "the secrets of a service are %u MB at most", FRAME_SECRETS_MAX >> 20);
        if (!(secrets.bytes = malloc(secrets.size + 1)))
            return why_set(why, "there is no memory for its secrets");
    }
    if (f->n - head > secrets.size - secrets.n)
        return why_set(why, "the host's secrets are damaged");
    memcpy(secrets.bytes + secrets.n, f->data + head, f->n - head);
    secrets.n += f->n - head;
    return 0;
}

int secrets_frame(const struct frame *f, struct drive *d, char *why)
{
    bool last = f->stream == 0, passed_over = secrets.failed || !secrets.user;
    int result = passed_over ? 0 : piece_take(f, why);
    if (result == 0 && last && !passed_over) {
        result = records_take(d, why);
        secrets.there |= result == 0;
    }
    if (result < 0 || last)
        pieces_drop();
    secrets.failed = !last && (secrets.failed || result < 0);
    line_send_numbers(FRAME_TAKEN, 0, 1, (uint32_t[]){(uint32_t)f->n});
    return result;
}

bool secrets_there(void)
{
    return secrets.there;
}
