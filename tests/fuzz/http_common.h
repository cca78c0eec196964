/* Feeds bytes to a parser in pieces whose sizes come from the bytes themselves, and checks what must hold: the events
 * are the same whatever the pieces are. */
#pragma once
#include "net/http_parse.h"

/* Aborts when something does not hold. */
void http_fuzz(enum http_parse_side side, const unsigned char *data, size_t size);
