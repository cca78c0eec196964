/* Archives of images: any bytes, plain or packed, are read to their end or refused; paths come out clean, and no more is
 * unpacked than the budget. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/vm_tar.h"
#include "base/error.h"
#include "base/mem.h"

#define BUDGET (1 << 20)

static void check_path(const char *path)
{
    INVARIANT(path[0] != '/');
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        INVARIANT(n > 0 && strncmp(p, "..", n > 2 ? n : 2) != 0 && strncmp(p, ".", n) != 0);
        p += n + (p[n] == '/');
    }
}

/* So that what is changed in a header is looked at: with the checksum that it should have. */
static void checksums_set(uint8_t *bytes, size_t size)
{
    for (uint8_t *h = bytes; (size_t)(h - bytes) + 512 <= size; h += 512) {
        unsigned sum = 8 * ' ';
        if (memcmp(h + 257, "ustar", 5) != 0)
            continue;
        for (int i = 0; i < 512; i++)
            sum += i >= 148 && i < 156 ? 0 : h[i];
        char text[16];
        snprintf(text, sizeof text, "%06o", sum);
        memcpy(h + 148, text, 7);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE uint8_t *copy = mem_dup(data, size);
    checksums_set(copy, size);
    int64_t budget = BUDGET, taken = 0;
    char bytes[4096], packed[SHA256_TEXT_SIZE], unpacked[SHA256_TEXT_SIZE];
    struct error err = {0};
    struct tar_entry e;
    int fd = memfd_create("tar", MFD_CLOEXEC), rc;
    INVARIANT(fd >= 0 && write(fd, copy, size) == (ssize_t)size);
    struct stream_in *s = stream_in_open(fd, 0, (int64_t)size, &budget);
    struct tar_in in = {.in = s};
    while ((rc = tar_in_next(&in, &e, &err)) > 0) {
        check_path(e.path);
        if (e.type == '1')
            check_path(e.link);
        for (ssize_t n; (n = tar_in_read(&in, bytes, sizeof bytes, &err)) != 0; taken += n)
            if (n < 0)
                break;
        if (err.code)
            break;
    }
    INVARIANT(rc >= 0 || err.code);
    INVARIANT(taken <= BUDGET);
    if (!err.code)
        stream_in_finish(s, packed, unpacked, &err);
    tar_in_clear(&in);
    stream_in_close(s);
    close(fd);
    return 0;
}
