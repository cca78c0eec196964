/* Roff: the pieces of a manual page, in the man(7) macros. */
#pragma once
#include "base/buf.h"

/* Title and NAME. section: 1 for commands, 5 for files, 8 for daemons. */
void roff_page(struct buf *out, const char *name, int section, const char *summary);
void roff_heading(struct buf *out, const char *title);         /* a section: "OPTIONS" */
void roff_subheading(struct buf *out, const char *title);
/* Paragraphs: an empty line stands between them, lines that begin with a blank are an example and stay as they are, and
 * what is between backquotes is set in bold. */
void roff_text(struct buf *out, const char *text);
/* An entry of a list: what it is called, and what it means. */
void roff_item(struct buf *out, const char *term, const char *meaning);
