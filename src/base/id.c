#include "base/id.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"

void id_format(char out[static ID_LEN + 1], uint64_t random)
{
    snprintf(out, ID_LEN + 1, "%012" PRIx64, random & UINT64_C(0xffffffffffff));
}

char *id_new(void)
{
    uint64_t random;
    random_system(&random, sizeof random);
    char *id = mem_alloc(ID_LEN + 1);
    id_format(id, random);
    return id;
}

bool id_valid(const char *s)
{
    return strlen(s) == ID_LEN && strspn(s, "0123456789abcdef") == ID_LEN;
}
