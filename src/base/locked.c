#include "base/locked.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

void *locked_new(size_t n)
{
    void *p = mmap(NULL, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    INVARIANT(p != MAP_FAILED);
    (void)mlock(p, n);
    (void)madvise(p, n, MADV_DONTDUMP);
    return p;
}

void locked_free(void *p, size_t n)
{
    if (!p)
        return;
    explicit_bzero(p, n);
    munmap(p, n ? n : 1);
}
