/* Sink: a second place for the audit's lines, beside the files: the host's syslog, or a command that reads them. A thread of its
 * own hands them on, so that nobody waits for it; what does not fit into its queue meanwhile is left out, counted and told. A
 * line comes at least once: one that a command may not have read comes again to the next one. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct audit_sink;
struct launcher;

struct audit_sink_options {
    const char *syslog;          /* the socket to which lines go as messages by RFC 5424; NULL: to the command */
    const char *command;         /* for sh -c, fed on its stdin; started again a second after it ended */
    struct launcher *launcher;   /* which starts it */
};

int audit_sink_open(struct audit_sink **out, const struct audit_sink_options *options, struct error *err);
/* Hands on what is queued, for at most two seconds. NULL does nothing. */
void audit_sink_close(struct audit_sink *s);
/* Any thread; never waits. The line is without its end. */
void audit_sink_add(struct audit_sink *s, const char *line, size_t len);
/* How many lines were left out since the start. */
uint64_t audit_sink_dropped(struct audit_sink *s);
