#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define SERIAL "/dev/ttyS0"
#define OUT_SIZE (16 * FRAME_MAX)

static struct {
    int fd;
    bool vsock;
    struct frame_reader reader;
    uint8_t out[OUT_SIZE];
    size_t begin, n;
} line = {.fd = -1};

static int vsock_open(void)
{
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = FRAME_VSOCK_PORT};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&host, sizeof host) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int serial_open(void)
{
    struct termios t;
    int fd = open(SERIAL, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && tcgetattr(fd, &t) == 0) {
        cfmakeraw(&t);
        t.c_cflag |= CLOCAL;
        cfsetspeed(&t, B115200);
        tcsetattr(fd, TCSANOW, &t);
    }
    return fd;
}

/* The host's end of a vsock connection is gone: the serial line is always there. Nothing is said on one that is broken. */
static void lost(void)
{
    if (line.fd >= 0)
        close(line.fd);
    /* A machine whose memory is copied, and the copy, lose their connections and can make new ones. */
    bool was_vsock = line.vsock;
    line.fd = was_vsock ? vsock_open() : -1;
    line.vsock = line.fd >= 0;
    if (line.vsock)
        fcntl(line.fd, F_SETFL, O_NONBLOCK);
    else if (was_vsock)
        line.fd = serial_open();
    line.reader.n = 0;
    if (line.fd >= 0 && line_has_room(1))
        line_send_numbers(FRAME_READY, 0, 1, (uint32_t[]){FRAME_VERSION});
    if (line.fd < 0)
        line.n = 0;
}

int line_open(const struct drive *d, char *why)
{
    if (d->vsock)
        line.fd = vsock_open();
    line.vsock = line.fd >= 0;
    if (line.fd < 0)
        line.fd = serial_open();
    if (line.fd < 0)
        return why_errno(why, "no way to the host: " SERIAL);
    fcntl(line.fd, F_SETFL, O_NONBLOCK);
    return 0;
}

int line_fd(void)
{
    return line.fd;
}

bool line_has_room(unsigned frames)
{
    return OUT_SIZE - line.n >= (size_t)frames * FRAME_MAX;
}

bool line_waiting(void)
{
    return line.n > 0;
}

void line_write(void)
{
    while (line.n) {
        ssize_t n = write(line.fd, line.out + line.begin, line.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            lost();
        if (n <= 0)
            return;
        line.begin += (size_t)n;
        line.n -= (size_t)n;
    }
    line.begin = 0;
}

void line_send(enum frame_kind kind, uint8_t stream, uint32_t id, const void *data, size_t n)
{
    struct frame f = {.kind = (uint8_t)kind, .stream = stream, .id = id, .data = data, .n = n};
    while (line.fd >= 0 && !line_has_room(1)) {
        struct pollfd p = {.fd = line.fd, .events = POLLOUT};
        poll(&p, 1, -1);
        line_write();
    }
    if (line.fd < 0)
        return;
    if (line.begin + line.n + FRAME_MAX > OUT_SIZE) {
        memmove(line.out, line.out + line.begin, line.n);
        line.begin = 0;
    }
    line.n += frame_encode(&f, line.out + line.begin + line.n);
}

void line_send_numbers(enum frame_kind kind, uint32_t id, unsigned n, const uint32_t *numbers)
{
    uint8_t data[16];
    for (unsigned i = 0; i < n && i < sizeof data / 4; i++)
        frame_put_u32(data + 4 * (size_t)i, numbers[i]);
    line_send(kind, 0, id, data, 4 * (size_t)n);
}

void line_read(const struct frame_events *events, void *arg)
{
    uint8_t bytes[4096];
    ssize_t n = read(line.fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lost();
        return;
    }
    frame_read(&line.reader, bytes, (size_t)n, events, arg);
    /* Secrets may have been among it. */
    explicit_bzero(bytes, (size_t)n);
    explicit_bzero(line.reader.bytes + line.reader.n, sizeof line.reader.bytes - line.reader.n);
}
