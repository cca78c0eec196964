/* Error: what went wrong, as a code for programs and a text for people. */
#pragma once

/* One row for each code: name on the wire, HTTP status, exit status of mt. */
enum error_code {
    ERROR_NONE,
    ERROR_INVALID,        /* the input is wrong; the text says what to do */
    ERROR_NOT_FOUND,
    ERROR_EXISTS,
    ERROR_CONFLICT,       /* the object changed meanwhile, or its state does not allow this */
    ERROR_DENIED,         /* not allowed */
    ERROR_UNAUTHENTICATED,
    ERROR_TOO_LARGE,
    ERROR_TOO_MANY,       /* a limit of requests or connections was hit */
    ERROR_UNAVAILABLE,    /* no leader, no peer, shutting down: nothing was done, try again */
    ERROR_UNKNOWN_OUTCOME,/* the write may or may not have been applied; repeat it with its idempotency key */
    ERROR_TIMEOUT,
    ERROR_NO_SPACE,       /* the disk is full */
    ERROR_UNSUPPORTED,
    ERROR_CANCELLED,
    ERROR_CORRUPT,        /* stored or received bytes are damaged */
    ERROR_SYSTEM,         /* an operating-system call failed */
    ERROR_INTERNAL,
    ERROR_CODE_COUNT
};

/* A plain value: no ownership, safe to copy. Fallible functions return 0 and leave it alone, or return -1 with it set. */
struct error {
    enum error_code code;
    char text[512];
};

/* Sets *err (err may be NULL) and returns -1, so that `return error_set(err, …)` reads well. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, with ": <strerror(errnum)>" added and the code chosen from errnum (ENOENT, ENOSPC, EACCES, …; else
 * ERROR_SYSTEM). errnum may be an errno or a negative libuv status. */
int error_set_errno(struct error *err, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that is set already. Returns -1. */
int error_context(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *error_code_name(enum error_code code);          /* "not_found" */
enum error_code error_code_from_name(const char *name);     /* ERROR_INTERNAL when unknown */
int error_http_status(enum error_code code);                /* 404 */
enum error_code error_code_from_http_status(int status);

/* A broken invariant: message with place, then abort(). Never for bad input. */
#define INVARIANT(cond) ((cond) ? (void)0 : invariant_failed(#cond, __FILE__, __LINE__))
_Noreturn void invariant_failed(const char *what, const char *file, int line);
