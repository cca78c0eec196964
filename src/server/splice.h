/* Splice: two streams joined, bytes of each to the other, neither faster than the other takes them. */
#pragma once
#include <sys/queue.h>

#include "net/stream.h"

struct splice;
LIST_HEAD(splice_list, splice);

/* Takes over both streams; ends when both directions ended or one stream broke. */
void splice_start(struct splice_list *list, struct stream *a, struct stream *b);
/* Closes all; they leave the list as their streams end. */
void splice_close_all(struct splice_list *list);
