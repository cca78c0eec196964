#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int http_status;
} codes[ERROR_CODE_COUNT] = {
    [ERROR_NONE] = {"none", 200},
    [ERROR_INVALID] = {"invalid", 400},
    [ERROR_NOT_FOUND] = {"not_found", 404},
    [ERROR_EXISTS] = {"exists", 409},
    [ERROR_CONFLICT] = {"conflict", 409},
    [ERROR_DENIED] = {"denied", 403},
    [ERROR_UNAUTHENTICATED] = {"unauthenticated", 401},
    [ERROR_TOO_LARGE] = {"too_large", 413},
    [ERROR_TOO_MANY] = {"too_many", 429},
    [ERROR_UNAVAILABLE] = {"unavailable", 503},
    [ERROR_UNKNOWN_OUTCOME] = {"unknown_outcome", 504},
    [ERROR_TIMEOUT] = {"timeout", 408},
    [ERROR_NO_SPACE] = {"no_space", 507},
    [ERROR_UNSUPPORTED] = {"unsupported", 501},
    [ERROR_CANCELLED] = {"cancelled", 499},
    [ERROR_CORRUPT] = {"corrupt", 500},
    [ERROR_SYSTEM] = {"system", 500},
    [ERROR_INTERNAL] = {"internal", 500},
};

int error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    if (!err)
        return -1;
    /* The arguments may point into the old text. */
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err->code = code;
    memcpy(err->text, text, sizeof text);
    return -1;
}

static enum error_code code_from_errno(int errnum)
{
    switch (errnum) {
    case ENOENT: return ERROR_NOT_FOUND;
    case EEXIST: return ERROR_EXISTS;
    case ENOSPC:
    case EDQUOT: return ERROR_NO_SPACE;
    case EACCES:
    case EPERM: return ERROR_DENIED;
    case ETIMEDOUT: return ERROR_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE: return ERROR_UNAVAILABLE;
    case ECANCELED: return ERROR_CANCELLED;
    default: return ERROR_SYSTEM;
    }
}

int error_set_errno(struct error *err, int errnum, const char *fmt, ...)
{
    if (!err)
        return -1;
    if (errnum < 0)
        errnum = -errnum;
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return error_set(err, code_from_errno(errnum), "%s: %s", text, strerror(errnum));
}

int error_context(struct error *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return error_set(err, err->code, "%s: %s", text, err->text);
}

const char *error_code_name(enum error_code code)
{
    return code < ERROR_CODE_COUNT ? codes[code].name : "internal";
}

enum error_code error_code_from_name(const char *name)
{
    for (enum error_code code = 0; code < ERROR_CODE_COUNT; code++)
        if (!strcmp(codes[code].name, name))
            return code;
    return ERROR_INTERNAL;
}

int error_http_status(enum error_code code)
{
    return code < ERROR_CODE_COUNT ? codes[code].http_status : 500;
}

enum error_code error_code_from_http_status(int status)
{
    for (enum error_code code = 0; code < ERROR_CODE_COUNT; code++)
        if (codes[code].http_status == status)
            return code;
    return ERROR_INTERNAL;
}

void invariant_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "level=fatal msg=\"broken invariant\" invariant=\"%s\" at=%s:%d\n", what, file, line);
    abort();
}
