/* Splice: two streams joined, bytes of each to the other, neither faster than the other takes them. */
#pragma once
#include <sys/queue.h>

#include "net/stream.h"
#include "server/access_table.h"

struct splice;
LIST_HEAD(splice_list, splice);

/* Takes over both streams; ends when both directions ended or one stream broke. holder: by whose token, held; NULL: none. */
void splice_start(struct splice_list *list, struct stream *a, struct stream *b, struct access_holder *holder);
/* Closes those whose token was revoked. */
void splice_close_revoked(struct splice_list *list);
/* Closes all; they leave the list as their streams end. */
void splice_close_all(struct splice_list *list);
