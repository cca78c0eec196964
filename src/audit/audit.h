/* Audit: the file of who did what, as a chain (chain.h). Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct audit;
struct audit_sink;

struct audit_options {
    const char *dir;             /* made when it is not there */
    const char *server;          /* in each line */
    uint64_t file_bytes;         /* after so many a new file is begun */
    unsigned files_most;         /* so many are kept, this one too; at least 2 */
    int64_t keep_ms;             /* and none whose last line is older */
    struct audit_sink *sink;     /* gets each line too, also one that the files have no room for; taken over; NULL: none */
};

/* What is written of one request. NULL texts are left out. */
struct audit_record {
    const char *request;         /* its id */
    const char *kind, *who, *token;   /* "token", the name, the token's id */
    const char *peer;
    const char *method, *path;
    const char *job;             /* of the body, where the path names none; NULL: none */
    int status;                  /* of the answer; 101: a stream that was begun */
    const char *error;
    bool handed_on;              /* by another server, which has its own line */
};

/* Goes on where the last file ends; the rest of a line that a crash cut off is taken away, and that is written. */
int audit_open(struct audit **out, const struct audit_options *options, struct error *err);
void audit_close(struct audit *a);       /* NULL does nothing */
/* Appends; the line is the kernel's when this returns, so that it outlives the process. -1 with err: it is not written. */
int audit_write(struct audit *a, const struct audit_record *r, struct error *err);
/* A line that says something of the file itself. */
int audit_note(struct audit *a, const char *text, struct error *err);
/* How many lines the sink did not get; 0 for NULL. */
uint64_t audit_dropped(struct audit *a);
/* Whether the last line could not be written. */
bool audit_failing(struct audit *a);
