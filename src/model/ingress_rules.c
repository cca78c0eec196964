#include "model/ingress_rules.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789-_"
#define LABEL_MAX 63
#define BASE64URL "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
#define CHALLENGE_MAX 512

const char *ingress_host_problem(const char *host)
{
    const char *rest = text_has_prefix(host, "*.") ? host + 2 : host;
    size_t all = strlen(rest);
    if (strlen(host) > INGRESS_HOST_MAX)
        return "is too long: a host name has at most 253 characters";
    if (strchr(rest, '*'))
        return "can have `*` only as its whole first label: `*.example.com`";
    if (strpbrk(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        return "must be in lower case; requests in any case are served";
    if (strpbrk(rest, ":/"))
        return "must be a host name alone, without scheme, port and path";
    for (size_t i = 0; i < all; i++)
        if (rest[i] & 0x80)
            return "must be as clients send it: the `xn--` form of a name with other letters than a to z";
    if (all > 1 && rest[all - 1] == '.' && rest[all - 2] != '.')
        return "must not end with a dot; requests that have one there are served";
    for (;; rest++) {
        size_t n = strspn(rest, LABEL);
        if (!n || n > LABEL_MAX || rest[0] == '-' || rest[n - 1] == '-' || (rest[n] && rest[n] != '.'))
            return "is not a host name: use letters, digits, hyphens and dots";
        rest += n;
        if (!*rest)
            return NULL;
    }
}

static bool has_dot_part(const char *path)
{
    for (const char *part = path; (part = strchr(part, '/')); part++) {
        size_t n = strcspn(part + 1, "/");
        if ((n == 1 || n == 2) && !strncmp(part + 1, "..", n))
            return true;
    }
    return false;
}

static bool has_bad_escape(const char *path)
{
    for (const char *at = path; (at = strchr(at, '%')); at++)
        if (strspn(at + 1, "0123456789abcdefABCDEF") < 2)
            return true;
    return false;
}

const char *ingress_path_problem(const char *path)
{
    if (path[0] != '/')
        return "must begin with /";
    if (strlen(path) > INGRESS_PATH_MAX)
        return "is too long: at most 512 characters are possible";
    if (strpbrk(path, "?#"))
        return "must be a path alone: what follows `?` or `#` does not say which service a request is for";
    if (path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~%!$&*+,=:@")])
        return "may hold letters, digits and /-._~%!$&*+,=:@ only; write other characters as %XX, as clients send them";
    if (has_bad_escape(path))
        return "has a `%` without two hexadecimal digits; write the character itself as %25";
    if (strstr(path, "//"))
        return "must not have two slashes in a row";
    if (has_dot_part(path))
        return "must not have `.` or `..` as a part: clients leave them out before they ask";
    if (path[strlen(path) - 1] == '*')
        return "must not end with `*`: it is for all paths below it as it is";
    return NULL;
}

const char *ingress_header_problem(const char *name)
{
    if (!*name || strlen(name) > INGRESS_HEADER_MAX || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")])
        return "is not the name of a header: use letters, digits, `-` and `_`, at most 64";
    return NULL;
}

bool ingress_challenge_ok(const struct acme_challenge *a)
{
    return a->host && a->token && a->answer && !ingress_host_problem(a->host) && *a->token && *a->answer
           && strlen(a->token) <= CHALLENGE_MAX && strlen(a->answer) <= CHALLENGE_MAX
           && !a->token[strspn(a->token, BASE64URL)] && !a->answer[strspn(a->answer, BASE64URL ".")];
}

bool ingress_problem_next(const char **at, char **service, char **part)
{
    static const char between[] = "; " INGRESS_OF;
    const char *from = *at, *name = from + strlen(INGRESS_OF);
    if (!*from)
        return false;
    bool of_one = text_has_prefix(from, INGRESS_OF) && strstr(name, ": ");
    const char *end = of_one ? strstr(name, between) : NULL;
    size_t len = end ? (size_t)(end - from) : strlen(from);
    *service = of_one ? mem_strndup(name, (size_t)(strstr(name, ": ") - name)) : NULL;
    *part = mem_strndup(from, len);
    *at = end ? end + strlen("; ") : from + len;
    return true;
}

char *ingress_problem_in_short(const char *part)
{
    const char *words = text_has_prefix(part, INGRESS_PROXY) ? strstr(part, ": ") : NULL;
    return mem_strndup(part, words ? (size_t)(words - part) : strlen(part));
}

char *ingress_claim(const struct ingress *i)
{
    if (i->protocol != PROTOCOL_HTTP)
        return mem_printf("tcp:%" PRId64, i->listen);
    const char *path = i->path ? i->path : "/";
    return mem_printf("%s%s%s", i->host, path, path[strlen(path) - 1] == '/' ? "" : "/");
}
