#include "join/token.h"

#include <string.h>

#include "base/buf.h"
#include "net/tls.h"

#define TEXT_MOST 2048

static int wrong(struct error *err)
{
    return error_set(err, ERROR_INVALID, "this is no join token; `mt cluster token` or `mt node token` makes one");
}

/* "ID.SECRET" or "ID.SECRET.HASH". */
static bool parse_head(const char *head, struct join_token_text *out)
{
    const char *dot = strchr(head, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    if (!dot || dot == head || !dot[1] || second == dot + 1)
        return false;
    out->id = mem_strndup(head, (size_t)(dot - head));
    out->secret = second ? mem_strndup(dot + 1, (size_t)(second - dot - 1)) : mem_strdup(dot + 1);
    out->ca_hash = second ? mem_strdup(second + 1) : NULL;
    return !second || (strlen(out->ca_hash) == TLS_HASH_LEAST && !out->ca_hash[strspn(out->ca_hash, "0123456789abcdef")]);
}

int join_token_parse(const char *text, struct join_token_text *out, struct error *err)
{
    *out = (struct join_token_text){0};
    const char *at = strchr(text, '@');
    CLEANUP_FREE char *head = at ? mem_strndup(text, (size_t)(at - text)) : NULL;
    bool good = at && at[1] && strlen(text) <= TEXT_MOST && parse_head(head, out);
    for (const char *p = good ? at + 1 : ""; *p; p += *p == ',') {
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
    free(t->ca_hash);
    str_list_clear(&t->addresses);
    *t = (struct join_token_text){0};
}

char *join_token_format(const struct join_token_text *t)
{
    struct buf out = {0};
    buf_printf(&out, "%s.%s", t->id, t->secret);
    if (t->ca_hash)
        buf_printf(&out, ".%.*s", TLS_HASH_LEAST, t->ca_hash);
    buf_add_char(&out, '@');
    for (uint32_t i = 0; i < t->addresses.n; i++)
        buf_printf(&out, "%s%s", i ? "," : "", t->addresses.v[i]);
    return buf_steal(&out);
}
