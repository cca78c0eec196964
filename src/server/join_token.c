#include "server/join_token.h"

#include <string.h>

#include "base/buf.h"
#include "base/id.h"
#include "server/secret.h"

#define TEXT_MOST 2048

static int wrong(struct error *err)
{
    return error_set(err, ERROR_INVALID, "this is no join token; `mt cluster token` on a server of the cluster makes one");
}

int join_token_parse(const char *text, struct join_token_text *out, struct error *err)
{
    *out = (struct join_token_text){0};
    const char *dot = strchr(text, '.'), *at = strchr(text, '@');
    if (strlen(text) > TEXT_MOST || !dot || !at || at < dot || dot == text || at == dot + 1 || !at[1])
        return wrong(err);
    out->id = mem_strndup(text, (size_t)(dot - text));
    out->secret = mem_strndup(dot + 1, (size_t)(at - dot - 1));
    for (const char *p = at + 1; *p; p += *p == ',') {
        size_t n = strcspn(p, ",");
        CLEANUP_FREE char *address = mem_strndup(p, n);
        if (n)
            str_list_add(&out->addresses, address);
        p += n;
    }
    if (out->addresses.n)
        return 0;
    join_token_clear(out);
    return wrong(err);
}

void join_token_clear(struct join_token_text *t)
{
    free(t->id);
    free(t->secret);
    str_list_clear(&t->addresses);
    *t = (struct join_token_text){0};
}

void join_token_new(struct join_token_text *out)
{
    char secret[SECRET_SIZE];
    secret_new(secret);
    *out = (struct join_token_text){.id = id_new(), .secret = mem_strdup(secret)};
}

char *join_token_format(const struct join_token_text *t)
{
    struct buf out = {0};
    buf_printf(&out, "%s.%s@", t->id, t->secret);
    for (uint32_t i = 0; i < t->addresses.n; i++)
        buf_printf(&out, "%s%s", i ? "," : "", t->addresses.v[i]);
    return buf_steal(&out);
}
